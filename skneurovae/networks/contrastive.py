"""Contrastive network: an encoder of short windows and losses on parts of its embedding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skneurovae.common.randomness import rand, randn
from skneurovae.networks.attention import twice_differentiable
from skneurovae.networks.base import LatentNetwork
from skneurovae.networks.convolutional import (
    NETWORKS,
    NeuronTable,
    make_core,
    receptive_field,
)
from skneurovae.objectives import LossTerms
from skneurovae.objectives.contrastive import (
    Temperature,
    contrastive_loss,
    goodness_of_fit,
    log_ratios,
    unit_vectors,
)

__all__ = ["Augmentation", "ContrastiveNetwork", "PairBatch", "Part"]

LONGEST_RAMP = 10  # epochs


@dataclass(frozen=True)
class Part:
    """One objective on a slice of the embedding.

    Parameters
    ----------
    start, stop : int
        Components.
    weight : float
        Of its loss in the sum.
    within : bool
        Negatives of a reference come from its own session only.
    """

    start: int
    stop: int
    weight: float = 1.0
    within: bool = False


@dataclass(frozen=True)
class Augmentation:
    """How training windows are changed, each by itself.

    Parameters
    ----------
    noise : float
        Standard deviation of Gaussian noise, in standard deviations of each neuron.
    dropout : float
        Probability that a neuron is missing from a window.
    amplitude : float
        Windows are scaled by a factor drawn from 1 - amplitude to 1 + amplitude.
    """

    noise: float = 0.0
    dropout: float = 0.0
    amplitude: float = 0.0

    @property
    def active(self):
        """Whether anything is changed."""
        return bool(self.noise or self.dropout or self.amplitude)

    def __call__(self, traces, missing):
        """Change windows of shape (length, M, N), time first."""
        new = {"device": traces.device, "dtype": traces.dtype}
        seen = torch.ones_like(traces) if missing is None else 1 - missing
        if self.amplitude:
            factor = 2 * rand(1, traces.shape[1], 1, **new) - 1
            traces = traces * (1 + self.amplitude * factor)
        if self.noise:
            traces = traces + self.noise * randn(*traces.shape, **new)
        if self.dropout:
            kept = rand(1, *traces.shape[1:], **new) >= self.dropout
            seen = seen * kept
            missing = 1 - seen
        return traces * seen, missing


@dataclass
class PairBatch:
    """Time steps of recordings that are compared with each other.

    Parameters
    ----------
    strips : Strips
        Recordings, with standardized traces.
    steps : list of Tensor of int64, shape (3, S, n)
        For each part of the embedding references, positives and negatives of S sessions; see
        `skneurovae.recordings.pairs.PairSampler.draw`.
    """

    strips: object
    steps: list[Tensor]


class ContrastiveNetwork(LatentNetwork):
    """Encoder of windows of traces, trained to tell positive pairs from negative ones.

    Parameters
    ----------
    n_neurons : int
        Rows of the table of neurons.
    n_components : int
    network : str
        Key of `skneurovae.networks.convolutional.NETWORKS`.
    hidden_dim : int
    parts : tuple of (start, stop, weight, within)
        See `Part`.
    objective, gamma, similarity
        See `skneurovae.objectives.contrastive`.
    temperature : float
    min_temperature : float or None
        Learned with this floor, if given.
    unit_slices : tuple of (start, stop)
        Slices of the embedding that `encode` returns with length 1.
    n_layers, n_heads, dropout
        Of the attention network.
    augmentation : (float, float, float), default=(0, 0, 0)
        Noise, dropout of neurons, amplitude; see `Augmentation`.
    jacobian_penalty : float, default=0.0
        Weight of half the squared Frobenius norm of the Jacobian of the embedding, which rises
        along a line over the first fifth of the epochs, at most 10.
    n_alike : int, default=1
        Neurons of a typical recording.
    """

    def __init__(
        self, n_neurons, n_components, *, network, hidden_dim, parts, objective, gamma, similarity,
        temperature, min_temperature, unit_slices, n_layers, n_heads, dropout,
        augmentation=(0.0, 0.0, 0.0), jacobian_penalty=0.0, n_alike=1,
    ):  # fmt: skip
        super().__init__()
        self.n_neurons, self.n_components = n_neurons, n_components
        self.left, self.right = receptive_field(network)
        width = n_components if network == "linear" else hidden_dim
        self.table = NeuronTable(n_neurons, NETWORKS[network][2], width, n_alike)
        self.core = make_core(
            network, width, n_components, n_layers=n_layers, n_heads=n_heads, dropout=dropout
        )
        self.parts = [Part(*part) for part in parts]
        self.objective, self.gamma, self.similarity = objective, gamma, similarity
        self.temperatures = nn.ModuleList(
            Temperature(temperature, min_temperature) for _ in self.parts
        )
        self.unit_slices = unit_slices
        self.augmentation = Augmentation(*augmentation)
        self.target_penalty = self.penalty = jacobian_penalty

    @property
    def window(self):
        """Time steps that the embedding of one step depends on."""
        return self.left + self.right

    # -- embedding ---------------------------------------------------------------------------------

    def encode(self, batch):
        """Embedding of every time step of every window, (B, T, K); at edges the edge is repeated.

        Unlike `LatentNetwork.encode` there is no variance.
        """
        n_windows, n_timesteps = batch.valid.shape
        steps = torch.arange(-self.left, n_timesteps + self.right - 1, device=batch.valid.device)
        last = batch.valid.sum(1) - 1
        index = steps[:, None].clamp(min=0).minimum(last)
        sets, of = torch.unique(batch.neurons, dim=0, return_inverse=True)
        result = batch.traces.new_zeros(n_windows, n_timesteps, self.n_components)
        for number, rows in enumerate(sets):
            inside, known = (of == number).nonzero()[:, 0], rows >= 0
            traces, observed = batch.traces, batch.shown
            if len(sets) > 1:  # what has the same neurons, of which all are known, is not copied
                traces, observed = traces[inside], observed[inside]
            if not bool(known.all()):
                traces, observed = traces[..., known], observed[..., known]
            features = self.table.along(traces, observed, rows[known], index[:, inside])
            for layer in self.core:
                features = layer(features)
            result[inside] = features.transpose(0, 1)
        return self.finish(result)

    def finish(self, embedding):
        """Embedding with the slices that are to have length 1 brought to it."""
        if not self.unit_slices:
            return embedding
        pieces = [unit_vectors(embedding[..., slice(*span)]) for span in self.unit_slices]
        return torch.cat(pieces, -1)

    def prepare(self, strips):
        """Standardize the traces of strips, in place."""
        for number, (traces, rows) in enumerate(zip(strips.traces, strips.neurons)):
            seen = torch.ones_like(traces) if strips.missing is None else 1 - strips.missing[number]
            strips.traces[number] = self.table.standardize(traces, seen > 0, rows)
        return strips

    def embed(self, strips, steps, augmentation=None):
        """Embedding of some time steps of prepared strips.

        What windows share is computed once: a layer runs over all recordings as long as these have
        fewer time steps than the windows.

        Parameters
        ----------
        strips : Strips
        steps : Tensor of int64
        augmentation : Augmentation, default=None

        Returns
        -------
        Tensor of shape (*steps.shape, n_components)
        """
        return self.finish(self._embed(strips, steps, augmentation))

    def _embed(self, strips, steps, augmentation):
        """What `finish` makes the embedding of."""
        position = strips.window[steps.reshape(-1)]
        n, total, length = len(position), strips.n_padded, self.window - self.table.kernel + 1
        order = None
        if augmentation is None and total < n * length:
            features, dense = self._all_features(strips), True
        else:
            features, order = self.window_features(strips, position, augmentation)
            dense = False
        for layer in self.core:
            if dense and layer.shrink and total >= n * (length - layer.shrink):
                features, dense = _gather(features, position, length), False
            features = layer(features)
            length -= layer.shrink
        features = (_gather(features, position, 1) if dense else features)[0]
        if order is not None:
            features = torch.empty_like(features).index_copy(0, order, features)
        return features.view(*steps.shape, -1)

    def _all_features(self, strips):
        """First layer over all sessions end to end; no rows are added after the last one."""
        pieces = []
        for number, (traces, rows) in enumerate(zip(strips.traces, strips.neurons)):
            if pieces:  # rows that no window reads keep the numbers of the others in place
                pieces.append(pieces[-1].new_zeros(self.table.kernel - 1, *pieces[-1].shape[1:]))
            missing = None if strips.missing is None else strips.missing[number][:, None]
            pieces.append(self.table(traces[:, None], missing, rows))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def window_features(self, strips, position, augmentation=None):
        """First layer over windows, session by session, and which of `position` they are."""
        pieces, order = strips.windows(position, self.window)
        features = []
        for session, traces, missing in pieces:
            if augmentation is not None:
                traces, missing = augmentation(traces, missing)
            features.append(self.table(traces, missing, strips.neurons[session]))
        return features[0] if len(features) == 1 else torch.cat(features, 1), order

    # -- objectives --------------------------------------------------------------------------------

    def loss(self, batch):
        """Weighted sum of the objectives of all parts, and of the penalty."""
        augmented = self.training and self.augmentation.active
        sizes = [steps.numel() for steps in batch.steps]
        steps = torch.cat([steps.reshape(-1) for steps in batch.steps])
        embedding = self._embed(batch.strips, steps, self.augmentation if augmented else None)
        if self.similarity != "cosine":  # which makes lengths 1 itself
            embedding = self.finish(embedding)
        total, bits = 0.0, []
        for number, piece in enumerate(embedding.split(sizes)):
            piece = piece.view(*batch.steps[number].shape, -1)
            ratios, n_negatives = self.ratios(piece, number)
            loss = contrastive_loss(ratios, self.objective, self.gamma).mean()
            total = total + self.parts[number].weight * loss
            bits.append(goodness_of_fit(ratios.detach(), n_negatives))
        parts = {"bits": torch.stack(bits)}
        if self.target_penalty and self.training:
            norm = self.squared_jacobian(batch, create_graph=True)
            parts["jacobian"] = norm
            total = total + self.penalty * norm
        parts["temperature"] = torch.stack([1 / scale() for scale in self.temperatures])
        return LossTerms(total, parts)

    def ratios(self, triples, number):
        """Log ratios of a part from embeddings (3, S, n, K), and the number of negatives."""
        part = self.parts[number]
        if (part.start, part.stop) != (0, self.n_components):  # the gradient of a slice is a copy
            triples = triples[..., part.start : part.stop]
        triples = triples.float()
        if not part.within:
            triples = triples.flatten(1, 2)
        scale = self.temperatures[number]()
        ratios = log_ratios(*triples, similarity=self.similarity, scale=scale)
        return ratios, triples.shape[-2]

    def goodness(self, triples):
        """Bits over chance of each part, from embeddings (3, S, n, K) for each."""
        return torch.stack(
            [goodness_of_fit(*self.ratios(piece, number)) for number, piece in enumerate(triples)]
        )

    def jacobian(self, strips, steps, create_graph=False):
        """Derivatives of the finished embedding by the standardized traces of the windows.

        They are 0 where nothing was observed.

        Parameters
        ----------
        strips : Strips
        steps : Tensor of int64, shape (n,)
        create_graph : bool, default=False
            Whether the result can be differentiated.

        Yields
        ------
        session : int
        which : Tensor of int64, shape (m,)
            Entries of `steps` in that session.
        derivatives : Tensor of shape (n_components, window, m, N)
        """
        position = strips.window[steps]
        pieces, order = strips.windows(position, self.window)
        order = torch.arange(len(steps), device=steps.device) if order is None else order
        first = 0
        for session, traces, missing in pieces:
            traces = traces.requires_grad_()
            with twice_differentiable():
                features = self.table(traces, missing, strips.neurons[session])
                for layer in self.core:
                    features = layer(features)
                outputs = self.finish(features[0]).sum(0)
            rows = [
                torch.autograd.grad(
                    output, traces, create_graph=create_graph, retain_graph=True
                )[0]
                for output in outputs
            ]  # fmt: skip
            which = order[first : first + traces.shape[1]]
            first += traces.shape[1]
            derivatives = torch.stack(rows)
            yield session, which, derivatives if missing is None else derivatives * (1 - missing)

    def squared_jacobian(self, batch, create_graph=False):
        """Half the squared Frobenius norm of the Jacobian, mean over references of the batch."""
        steps = torch.cat([steps[0].reshape(-1) for steps in batch.steps])
        total = sum(
            derivatives.square().sum()
            for _, _, derivatives in self.jacobian(batch.strips, steps, create_graph)
        )
        return 0.5 * total / len(steps)

    def anneal(self, epoch, max_iter):
        """Raise the weight of the penalty along a line, to its full size at the end of the ramp.

        The ramp is as long as the warm-up of the learning rate: early stopping, which judges by
        the full weight, does not count these epochs either.
        """
        ramp = max(1.0, min(LONGEST_RAMP, max_iter / 5))
        self.penalty = self.target_penalty * min(1.0, (epoch + 1) / ramp)

    def freeze(self, n_neurons):
        """Train nothing but the rows of neurons from `n_neurons` on."""
        self.table.n_frozen = n_neurons
        for parameter in self.parameters():
            parameter.requires_grad_(parameter is self.table.weight)
        self.table.missing.requires_grad_(True)

    def parameter_groups(self, weight_decay):
        """See `LatentNetwork`; while rows are frozen nothing decays."""
        return super().parameter_groups(0.0 if self.table.n_frozen else weight_decay)


def _gather(features, position, length):
    """Windows of features of whole recordings (total, 1, C), as (length, M, C)."""
    index = position + torch.arange(length, device=position.device)[:, None]
    return features[:, 0].index_select(0, index.reshape(-1)).view(*index.shape, -1)
