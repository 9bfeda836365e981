"""Contrastive objectives: InfoNCE and its focal forms, and the goodness of fit they share."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["Temperature", "contrastive_loss", "goodness_of_fit", "log_ratios", "unit_vectors"]


def unit_vectors(vectors):
    """Vectors of length 1 along the last axis; a vector of length 0 stays, and stays finite.

    Parameters
    ----------
    vectors : Tensor of shape (..., K)

    Returns
    -------
    Tensor of shape (..., K)
    """
    return F.normalize(vectors, dim=-1, eps=1e-8)


def log_ratios(reference, positive, negative, *, similarity, scale):
    """How much more alike references are to their positives than to all negatives.

    Parameters
    ----------
    reference, positive : Tensor of shape (..., n, K)
        Pairs.
    negative : Tensor of shape (..., m, K)
        All of them serve every reference of the same leading index.
    similarity : {"cosine", "euclidean"}
        Of two vectors: the cosine of their angle, or minus the squared distance.
    scale : Tensor or float
        One over the temperature; multiplies the similarity.

    Returns
    -------
    Tensor of shape (..., n)
        ``psi(r, p) - ln sum_j exp psi(r, n_j)``. The positive is not in the sum: minus the mean of
        this is InfoNCE as in CEBRA (Schneider, Lee & Mathis 2023, methods).

    Raises
    ------
    ValueError
        If `similarity` is unknown.
    """
    if similarity == "cosine":
        reference, positive, negative = map(unit_vectors, (reference, positive, negative))
        reference = scale * reference  # rather than every pair
        near = (reference * positive).sum(-1)
        far = reference @ negative.mT
    elif similarity == "euclidean":
        near = -scale * (reference - positive).square().sum(-1)
        squares = reference.square().sum(-1)[..., None] + negative.square().sum(-1)[..., None, :]
        # Rounding must not make a distance negative.
        far = scale * (2 * (reference @ negative.mT) - squares).clamp(max=0)
    else:
        raise ValueError(f"similarity must be 'cosine' or 'euclidean', got {similarity!r}.")
    return near - torch.logsumexp(far, -1)


def contrastive_loss(ratios, objective="infonce", gamma=2.0):
    """Loss of each pair from its log ratio u.

    Parameters
    ----------
    ratios : Tensor
        u, of `log_ratios`.
    objective : {"infonce", "focal", "focal_published"}, default="infonce"
        -u; the focal loss ``-(1 - p)^gamma ln p`` with ``p = sigmoid(u)``, which falls with u
        everywhere; or ``-(1 - p)^gamma u`` as published with CEBRA-Ethan, which has a minimum (for
        gamma = 2 at u = 0.74) and penalizes pairs that are better separated.
    gamma : float, default=2.0
        How much less pairs weigh that are told apart already. Not used by "infonce".

    Returns
    -------
    Tensor, of the shape of `ratios`

    Raises
    ------
    ValueError
        If `objective` is unknown.

    References
    ----------
    Lin et al. (2017), Focal loss for dense object detection, eq. 4.
    """
    if objective == "infonce":
        return -ratios
    if objective not in ("focal", "focal_published"):
        raise ValueError(
            f"objective must be 'infonce', 'focal' or 'focal_published', got {objective!r}."
        )
    weight = torch.sigmoid(-ratios) ** gamma
    return -weight * (F.logsigmoid(ratios) if objective == "focal" else ratios)


def goodness_of_fit(ratios, n_negatives):
    """Bits over chance: ``(ln n_negatives + mean u) / ln 2``.

    Exactly 0 for a collapsed embedding, whatever the number of negatives: with several sessions
    that is the number over which the sum really runs.

    Parameters
    ----------
    ratios : Tensor
        u, of `log_ratios`.
    n_negatives : int
        Negatives that each reference was compared with.

    Returns
    -------
    Tensor of shape ()
    """
    return (math.log(n_negatives) + ratios.mean()) / math.log(2)


class Temperature(nn.Module):
    """Temperature of the similarity, fixed or learned with a floor.

    Parameters
    ----------
    start : float
        Fixed value, or where learning starts.
    floor : float or None
        Learned if given: the least temperature. Without a floor it would fall without end once
        the pairs are told apart.
    """

    def __init__(self, start, floor=None):
        super().__init__()
        log_scale = torch.tensor(-math.log(start))
        self.floor = floor
        if floor is None:
            self.register_buffer("log_scale", log_scale)
        else:
            self.log_scale = nn.Parameter(log_scale)

    def forward(self):
        """One over the temperature, a Tensor of shape ()."""
        scale = self.log_scale.exp()
        return scale if self.floor is None else scale.clamp(max=1 / self.floor)
