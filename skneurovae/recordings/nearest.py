"""Search for the nearest of many values, with ties drawn uniformly."""

from __future__ import annotations

import torch
from scipy.spatial import cKDTree

from skneurovae.common.randomness import rand

__all__ = ["Nearest", "pick"]


def pick(count):
    """Integers below each entry of `count`, uniformly drawn; 0 where `count` is 0."""
    chance = rand(*count.shape, device=count.device, dtype=_float(count.device))
    # Rounding must not reach the count itself.
    return (chance * count).long().minimum(count - 1).clamp(min=0)


class Nearest:
    """Items with values, of which one with the nearest value is drawn.

    One-dimensional values are sorted and searched where they are; others are in a KD-tree in main
    memory. Either takes a time logarithmic in the number of different values.

    Parameters
    ----------
    ids : Tensor of int64, shape (n,)
        Items.
    values : Tensor of shape (n_all, d)
        Value of item i in row i; with d = 0 all are alike.
    """

    def __init__(self, ids, values):
        if values.shape[1]:
            self.values, inverse, self.count = torch.unique(
                values[ids], dim=0, return_inverse=True, return_counts=True
            )
        else:
            self.values, inverse = values[:1], torch.zeros_like(ids)
            self.count = ids.new_tensor([len(ids)])
        order = torch.argsort(inverse, stable=True)
        self.ids, self.first = ids[order], self.count.cumsum(0) - self.count
        # Where each item stands, for it not to be drawn for itself.
        self.position = torch.full((len(values),), -1, device=ids.device)
        self.position[self.ids] = torch.arange(len(ids), device=ids.device)
        self.tree = cKDTree(self.values.cpu().numpy()) if values.shape[1] > 1 else None

    def draw(self, queries, excluded):
        """Draw one of the items nearest to each query.

        Parameters
        ----------
        queries : Tensor of shape (m, d)
        excluded : Tensor of int64, shape (m,)
            An item that is not drawn for the query, in or out of the items here.

        Returns
        -------
        Tensor of int64, shape (m,)
            -1 where there is no other item.
        """
        own = self.position[excluded]
        group, second = self._two_nearest(queries)
        inside = (own >= self.first[group]) & (own < self.first[group] + self.count[group])
        alone = inside & (self.count[group] == 1)
        group = torch.where(alone, second, group)
        inside &= ~alone
        place = self.first[group] + pick(self.count[group] - inside.long())
        place = place + (inside & (place >= own)).long()
        return torch.where(alone & (second < 0), -1, self.ids[place])

    def _two_nearest(self, queries):
        """Groups of equal values, the nearest and the next, which is -1 where there is one."""
        n = len(self.values)
        if n == 1:
            group = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
            return group, group - 1
        if self.tree is not None:
            distance, groups = self.tree.query(queries.cpu().numpy(), k=2)
            distance = torch.as_tensor(distance, device=queries.device)
            groups = torch.as_tensor(groups, device=queries.device)
        else:
            values = self.values[:, 0].contiguous()
            right = torch.searchsorted(values, queries[:, 0].contiguous())
            near = right[:, None] + torch.arange(-2, 2, device=queries.device)
            gap = (values[near.clamp(0, n - 1)] - queries).abs()
            gap = torch.where((near >= 0) & (near < n), gap, torch.inf)
            distance, chosen = gap.topk(2, 1, largest=False)
            groups = near.gather(1, chosen)
        # Halfway between two values neither is preferred.
        coin = rand(len(groups), device=queries.device) < 0.5
        swap = (distance[:, 0] == distance[:, 1]) & coin
        return torch.where(swap[:, None], groups.flip(1), groups).T


def _float(device):
    return torch.float32 if device.type == "mps" else torch.float64
