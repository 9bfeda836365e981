"""The skeleton of sequential VAEs: inputs, two encoders, generator, observation, two priors.

A trial has a static latent f and, at every step (or once per segment), a dynamic latent z. LFADS,
DSAE and FHVAE are choices of the six slots; see `skneurovae.networks.sequential_models`.
"""

from __future__ import annotations

import torch
from torch import nn

from skneurovae.common.randomness import dropout, rand_like, randn
from skneurovae.networks.base import LatentNetwork
from skneurovae.networks.sequential_inference import Path, PosteriorAverages
from skneurovae.objectives import (
    LossTerms,
    apply_free_bits,
    beta_at,
    bounded_above,
    free_bits_at,
    get_likelihood,
    masked_sum,
)

_SMALLEST_MEAN = 1e-3  # of a silent neuron, whose logarithm must exist
TABLES = ("read_in", "read_out", "bias", "log_scale")  # one row per neuron, learned
UNITS = ("offset", "scale", "ceiling")  # one row per neuron, measured


class SequentialNetwork(PosteriorAverages, LatentNetwork):
    """Six slots and the bound.

    Parameters
    ----------
    n_neurons, n_stimuli : int
        Rows of the tables of neurons; channels of external input.
    read_in_dim, n_factors, static_dim, dynamic_dim : int
        Channels of the read-in; factors; static and dynamic latents.
    static_encoder : nn.Module
        ``(values, lengths) -> Normal`` of shape (B, static_dim).
    dynamic_encoder : nn.Module
        ``(values, static, lengths) -> drive``, a `Normal` of shape (B, steps, dynamic_dim), or
        what the generator makes one of while it runs.
    generator : nn.Module
        Its one method is ``unroll(static, drive, stimulus, noise) -> Unrolled``.
    static_prior, dynamic_prior : nn.Module
        With `kl` and `sample`; see `skneurovae.objectives`.
    likelihood : str
        See `skneurovae.objectives.get_likelihood`.
    beta_static, beta_dynamic, warmup, free_bits : float
        Weights of the divergences (1 is the bound), the share of epochs over which they rise from
        0, and the floor of each component in nats, per window or per time step.
    dropout, coordinated_dropout : float
        Of the inputs; see `inputs`.
    """

    segment_latent = False  # whether z is one vector per window
    first_dynamic = 0  # first time step that has a z
    trained_when_frozen = TABLES

    def __init__(
        self, n_neurons, n_stimuli, *, read_in_dim, n_factors, static_dim, dynamic_dim,
        static_encoder, dynamic_encoder, generator, static_prior, dynamic_prior, likelihood,
        beta_static, beta_dynamic, warmup, free_bits, dropout, coordinated_dropout,
    ):  # fmt: skip
        super().__init__()
        self.n_neurons, self.likelihood = n_neurons, get_likelihood(likelihood)
        self.static_dim, self.dynamic_dim = static_dim, dynamic_dim
        self.static_encoder, self.dynamic_encoder = static_encoder, dynamic_encoder
        self.generator = generator
        self.static_prior, self.dynamic_prior = static_prior, dynamic_prior
        self.beta_static, self.beta_dynamic, self.warmup = beta_static, beta_dynamic, warmup
        self.target_free_bits, self.free_bits, self.ramp = free_bits, free_bits, 1.0
        self.dropout, self.coordinated_dropout = dropout, coordinated_dropout
        self.n_frozen = 0  # rows that are not trained
        self.freeze_core = False  # whether only rows are trained
        self.read_in = nn.Parameter(randn(n_neurons, read_in_dim) / n_neurons**0.5)
        self.read_out = nn.Parameter(randn(n_neurons, n_factors) / n_factors**0.5)
        self.bias = nn.Parameter(torch.zeros(n_neurons))
        if self.likelihood.has_scale:
            self.log_scale = nn.Parameter(torch.zeros(n_neurons))
        self.register_buffer("offset", torch.zeros(n_neurons))
        self.register_buffer("scale", torch.ones(n_neurons))
        self.register_buffer("ceiling", torch.full((n_neurons,), torch.inf))  # of log rates
        self.register_buffer("stimulus_offset", torch.zeros(n_stimuli))
        self.register_buffer("stimulus_scale", torch.ones(n_stimuli))

    # Slot 1: inputs

    def inputs(self, batch):
        """What both encoders read, and which entries it was made of.

        Entries that are not shown, and in training those that coordinated dropout draws, are
        replaced by the mean of their neuron before anything else; the others grow by 1 / (1 -
        rate). Columns of one identity are drawn together. Each neuron then adds its row of the
        read-in.

        Returns
        -------
        values : Tensor of shape (B, T, read_in_dim)
        kept : Tensor of bool, shape (B, T, N)

        References
        ----------
        Keshtkaran & Pandarinath (2019), Enabling hyperparameter optimization in sequential
        autoencoders for spiking neural data (coordinated dropout).
        """
        rows = batch.neurons.clamp(min=0)
        kept = batch.shown & (batch.neurons >= 0)[:, None] & batch.valid[..., None]
        gain = batch.gain[:, None, None]
        if self.training and self.coordinated_dropout:
            chance = batch.one_per_identity(rand_like(batch.traces))
            kept = kept & (chance >= self.coordinated_dropout)
            gain = gain / (1 - self.coordinated_dropout)
        offset, scale = self.offset[rows][:, None], self.scale[rows][:, None]
        # Chosen before any arithmetic: whatever stands under the mask, it reaches nothing.
        values = (torch.where(kept, batch.traces, offset) - offset) * (gain / scale)
        values = dropout(values, self.dropout, self.training)
        return values @ self._rows("read_in", rows), kept

    def stimulus(self, batch):
        """External input in units of its spread over the training data, with dropout."""
        values = (batch.stimulus - self.stimulus_offset) / self.stimulus_scale
        values = torch.where(batch.valid[..., None], values, 0.0)
        return dropout(values, self.dropout, self.training)

    # Slot 5: observation

    def decode(self, latents, batch):
        """See `LatentNetwork.decode`; `latents` are factors, and counts have log rates."""
        rows = batch.neurons.clamp(min=0)
        location = latents @ self._rows("read_out", rows).transpose(1, 2)
        location = location + self._rows("bias", rows)[:, None]
        unit = self.scale[rows][:, None]
        if self.likelihood.has_log_link:
            location = bounded_above(location, self.ceiling[rows][:, None])
        else:
            location = self.offset[rows][:, None] + unit * location
        if not self.likelihood.has_scale:
            return location, None
        log_scale = 5 * torch.tanh(self._rows("log_scale", rows)[:, None] / 5)
        return location, log_scale if self.likelihood.has_log_link else log_scale + unit.log()

    def _rows(self, table, rows):
        """Rows of a table; those of before do not train while the model only grows."""
        values = getattr(self, table)[rows]
        if not self.n_frozen:
            return values
        fixed = rows < self.n_frozen
        fixed = fixed[..., None] if values.ndim > fixed.ndim else fixed
        return torch.where(fixed, values.detach(), values)

    # Slots 2 to 4

    def run(self, values, valid, stimulus, static_noise=None, dynamic_noise=None):
        """Encode, draw and generate; posterior means where noise is None. Returns a `Path`."""
        lengths = valid.sum(1)
        static = self.static_encoder(values, lengths)
        sample = static.draw(static_noise)
        drive = self.dynamic_encoder(values, sample, lengths)
        made = self.generator.unroll(sample, drive, stimulus, dynamic_noise)
        return Path(**vars(made), static=static, static_sample=sample, steps=self._steps(valid))

    def _steps(self, valid):
        """Steps of z: (B, 1) if there is one per window, else (B, T)."""
        if self.segment_latent:
            return torch.ones_like(valid[:, :1])
        time = torch.arange(valid.shape[1], device=valid.device)
        return valid & (time >= self.first_dynamic)

    def _noise(self, valid):
        """Fresh standard normal numbers for a training step, of f and of z."""
        shape = self._steps(valid).shape
        return (
            randn(len(valid), self.static_dim, device=valid.device, dtype=self.scale.dtype),
            randn(*shape, self.dynamic_dim, device=valid.device, dtype=self.scale.dtype),
        )

    # Slot 6: priors

    def static_kl(self, path, batch):
        """Divergence of q(f), (B, static_dim)."""
        return self.static_prior.kl(path.static.mean, path.static.log_variance)

    def dynamic_kl(self, path):
        """Divergence of q(z) along the sample that was decoded, (B, dynamic_dim)."""
        return self.dynamic_prior.kl(
            path.dynamic.mean, path.dynamic.log_variance, path.steps, path.sample
        )

    def extras(self, path, batch):
        """Further named terms of the loss, per observed entry; none by default."""
        return {}

    # The objective

    def loss(self, batch):
        """Minus the bound in nats per observed entry; `LossTerms`.

        Under coordinated dropout only entries that the encoders did not see count, so that none
        can be copied; their mean stands for that of all observed entries.
        """
        values, kept = self.inputs(batch)
        noise = self._noise(batch.valid)
        path = self.run(values, batch.valid, self.stimulus(batch), *noise)
        log_prob = self.likelihood.log_prob(batch.traces, *self.decode(path.factors, batch))
        scored = batch.observed & (batch.neurons >= 0)[:, None]
        n_scored = scored.sum().clamp(min=1)
        only_hidden = self.training and self.coordinated_dropout > 0
        target = scored & ~kept if only_hidden else scored
        nll = -masked_sum(log_prob, target) / target.sum().clamp(min=1)
        static, dynamic = self.static_kl(path, batch), self.dynamic_kl(path)
        kl_static = self._charge(static, len(static)) / n_scored
        kl_dynamic = self._charge(dynamic, path.steps.sum().clamp(min=1)) / n_scored
        extras = self.extras(path, batch)
        loss = (
            nll
            + self.ramp * (self.beta_static * kl_static + self.beta_dynamic * kl_dynamic)
            + sum(extras.values())
        )
        parts = {
            "nll": nll,
            "kl_static": static.sum() / n_scored,
            "kl_dynamic": dynamic.sum() / n_scored,
            "kl_static_per_component": static.mean(0),
            "kl_dynamic_per_component": dynamic.sum(0) / path.steps.sum().clamp(min=1),
            **{name: torch.as_tensor(value) for name, value in extras.items()},
        }
        return LossTerms(loss, parts)

    def _charge(self, kl, count):
        """Sum of a divergence (B, D), each component at least at its floor."""
        return (apply_free_bits(kl.sum(0) / count, self.free_bits) * count).sum()

    @torch.no_grad()
    def evaluate(self, batch):
        """Error of what is hidden: minus log p for counts and positive traces, else squared.

        One sum and one count per neuron of a window, (B, N) each.
        """
        hidden = batch.hidden & (batch.neurons >= 0)[:, None]
        parameters = self.decode(self.mean_path(batch).factors, batch)
        if self.likelihood.has_log_link:
            error = -self.likelihood.log_prob(batch.traces, *parameters)
        else:
            unit = self.scale[batch.neurons.clamp(min=0)][:, None]
            error = ((batch.traces - self.likelihood.mean(*parameters)) / unit).square()
        return masked_sum(error, hidden, 1), hidden.sum(1)

    # Training

    def anneal(self, epoch, max_iter):
        """Raise the weights of the divergences, and switch on free bits."""
        self.ramp = beta_at(epoch, max_iter, 1.0, self.warmup)
        self.free_bits = free_bits_at(epoch, max_iter, self.target_free_bits)

    def parameter_groups(self, weight_decay):
        """Matrices decay, but neither rows of neurons nor what belongs to a prior."""
        kept = {n: p for n, p in self.named_parameters() if p.requires_grad}
        if self.freeze_core:
            kept = {n: p for n, p in kept.items() if n in self.trained_when_frozen}
        free = {n for n, p in kept.items() if p.ndim < 2 or n in TABLES or "prior" in n}
        return [
            {"params": [p for n, p in kept.items() if n not in free], "weight_decay": weight_decay},
            {"params": [p for n, p in kept.items() if n in free], "weight_decay": 0.0},
        ]

    @torch.no_grad()
    def set_units(self, offset, scale, new):
        """Means and standard deviations of the neurons of rows `new`; read-outs start there."""
        like = {"dtype": self.scale.dtype, "device": self.scale.device}
        offset, scale = torch.as_tensor(offset, **like), torch.as_tensor(scale, **like)
        self.offset[new], self.scale[new] = offset[new], scale[new]
        if self.likelihood.has_log_link:
            self.bias[new] = offset[new].clamp(min=_SMALLEST_MEAN).log()
            if self.likelihood.has_scale:
                self.log_scale[new] = -1.0

    def modulation(self, standard, rows):
        """What the read-out has to give for traces in units of their neurons, (n_steps, n_rows).

        Of a log link the logarithm of the trace over its mean, with a tenth of the mean added to
        both, or mean counts of few trials would make it too large where none is seen.
        """
        if not self.likelihood.has_log_link:
            return standard
        relative = self.scale[rows] / self.offset[rows].clamp(min=_SMALLEST_MEAN) * standard
        return torch.log1p((relative / 1.1).clamp(min=-1 / 1.1))
