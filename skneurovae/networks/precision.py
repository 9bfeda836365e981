"""Precision-weighted pooling: an exact linear belief, refined by a transformer over time.

The network starts as the linear-Gaussian model it is given: both of its corrections, to the latents
and to the traces, end in layers that are zero at first.
"""

from __future__ import annotations

import torch
from torch import nn

from skneurovae.common.randomness import Dropout
from skneurovae.networks.attention import TemporalTransformer
from skneurovae.networks.belief import dynamic_belief, natural_parameters, static_belief
from skneurovae.networks.variational import Posterior, VariationalNetwork
from skneurovae.objectives import StandardNormal, StationaryAR1, soft_cap


class PrecisionNetwork(VariationalNetwork):
    """Behavior-conditioned VAE on a linear-Gaussian belief.

    Parameters
    ----------
    n_neurons, n_behaviors : int
        Rows of the table of neurons; behavior channels Q.
    n_components : int
    lags : tuple of int
        Time steps by which behavior is shifted to become a further channel of the belief; positive:
        behavior before the neural activity. Empty where there is no behavior.
    prior : {"ar1", "normal"}
    likelihood, beta, free_bits
        See `VariationalNetwork`.
    noise : {"neuron", "heteroscedastic", "fixed"}
        Scale of the likelihood: learned per neuron; that and a term that varies over time; or one
        standard deviation of the neuron.
    shrinkage : float
        Precision of the Gaussian prior on the residual read-out of each neuron, in time steps.
    model_dim, n_layers, n_heads, hidden_dim : int
    dropout : float
    causal : bool
    """

    def __init__(
        self, n_neurons, n_behaviors, *, n_components, lags, prior, likelihood, noise, beta,
        free_bits, shrinkage, model_dim, n_layers, n_heads, hidden_dim, dropout, causal,
    ):  # fmt: skip
        super().__init__(n_neurons, n_behaviors, likelihood, beta, free_bits)
        K, Q = n_components, n_behaviors
        self.lags, self.causal, self.noise = tuple(lags), causal, noise
        n_rows = n_neurons + Q * len(self.lags)
        # The linear model, in units of each channel's standard deviation.
        self.register_buffer("loadings", torch.zeros(n_rows, K))
        self.register_buffer("center", torch.zeros(n_rows))
        self.register_buffer("psi", torch.ones(n_rows))
        self.register_buffer("phi", torch.zeros(K))
        self.register_buffer("evidence", torch.ones(n_rows))
        # Units: what the encoder subtracts and divides by; what the decoder's output is in.
        for name, size in (("input", n_neurons), ("output", n_neurons)):
            self.register_buffer(f"{name}_offset", torch.zeros(size))
            self.register_buffer(f"{name}_scale", torch.ones(size))
        self.register_buffer("decoder_loadings", torch.zeros(n_neurons, K))
        self.register_buffer("n_entries", torch.ones(()))
        self.register_buffer("shrinkage", torch.tensor(float(shrinkage)))
        self.prior = StationaryAR1(K, 1.0) if prior == "ar1" else StandardNormal(K)

        self.embed = nn.Linear(2 * K + 2 * Q, model_dim)
        self.transformer = TemporalTransformer(model_dim, n_layers, n_heads, dropout, causal=causal)
        self.refine = _zeroed(nn.Linear(model_dim, 2 * K))
        self.features = nn.Sequential(
            nn.Linear(K + 2 * Q, hidden_dim), nn.GELU(), Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim), nn.GELU(), Dropout(dropout),
        )  # fmt: skip
        self.read_out = nn.Parameter(torch.zeros(n_neurons, K + hidden_dim))
        learned = self.likelihood.has_scale and noise != "fixed"
        self.log_scale = nn.Parameter(torch.zeros(n_neurons), requires_grad=learned)
        if noise == "heteroscedastic":
            self.scale_read_out = nn.Parameter(torch.zeros(n_neurons, K + hidden_dim))

    def posterior(self, batch):
        """Posterior of the latents given what the batch shows, a `Posterior`."""
        belief = self.belief(batch)
        deviation = belief.covariance.diagonal(dim1=-2, dim2=-1).sqrt().expand_as(belief.mean)
        tokens = torch.cat([belief.mean, deviation, *self._behavior(batch)], -1)
        refined = self.refine(self.transformer(self.embed(tokens), batch.valid))
        shift, log_stretch = refined.to(belief.mean.dtype).chunk(2, -1)
        return Posterior(belief, belief.mean + shift, log_stretch.clamp(-3.0, 3.0))

    @torch.no_grad()
    def belief(self, batch):
        """Exact posterior under the linear model alone."""
        # Half precision would not survive the factorizations.
        with torch.autocast(batch.traces.device.type, enabled=False):
            rows, values, observed = self._channels(batch)
            natural = natural_parameters(
                values - self.center[rows][:, None],
                observed,
                self.loadings[rows],
                (self.psi / self.evidence)[rows],
            )
            if bool(self.phi.any()):
                return dynamic_belief(*natural, self.phi, causal=self.causal)
            return static_belief(*natural)

    def _channels(self, batch):
        """Neurons and lagged behavior as rows, standardized values and what is seen of them."""
        known = batch.neurons >= 0
        rows = batch.neurons.clamp(min=0)
        values = self._encoded(batch.traces) - self.input_offset[rows][:, None]
        values = values / self.input_scale[rows][:, None]
        observed = batch.shown & known[:, None]
        if not self.lags:
            return rows, values, observed
        behavior, missing = self._behavior(batch)
        seen = missing == 0
        values = torch.cat([values, *(shifted(behavior, lag) for lag in self.lags)], -1)
        observed = torch.cat([observed, *(shifted(seen, lag) for lag in self.lags)], -1)
        # Behavior of the last steps must not tell of padding, from which a smoother would hear it.
        observed = observed & batch.valid[..., None]
        extra = torch.arange(self.n_neurons, len(self.loadings), device=rows.device)
        return torch.cat([rows, extra.expand(len(rows), -1)], 1), values, observed

    def _encoded(self, traces):
        """Counts enter the belief by the variance-stabilizing root (Anscombe 1948)."""
        return 2 * torch.sqrt(traces + 0.375) if self.likelihood.is_count else traces

    def decode(self, latents, batch):
        """See `LatentNetwork.decode`; in the units of the traces, log rates for counts."""
        rows = batch.neurons.clamp(min=0)
        features = self.features(torch.cat([latents, *self._behavior(batch)], -1))
        features = torch.cat([latents, features.to(latents.dtype)], -1)
        standard = latents @ self.decoder_loadings[rows].mT + features @ self.read_out[rows].mT
        unit = self.unit(batch)
        location = self.output_offset[rows][:, None] + unit * standard
        if not self.likelihood.has_scale:
            return location, None
        log_scale = -soft_cap(-self.log_scale[rows][:, None], 5.0)  # a silent neuron's stays finite
        if self.noise == "heteroscedastic":
            varying = features @ self.scale_read_out[rows].mT
            log_scale = log_scale + 2 * torch.tanh(varying / 2)
        return location, log_scale if self.likelihood.is_count else log_scale + unit.log()

    def penalty(self):
        """Gaussian prior on each neuron's residual read-out, as strong as that on its loadings."""
        precision = self.shrinkage / self.psi[: self.n_neurons, None]
        return 0.5 * (precision * self.read_out.square()).sum() / self.n_entries

    def unit(self, batch):
        """Standard deviation of each neuron, of shape (B, 1, N); 1 for counts."""
        return self.output_scale[batch.neurons.clamp(min=0)][:, None]

    def parameter_groups(self, weight_decay):
        """The read-out has a prior of its own and does not decay."""
        groups = super().parameter_groups(weight_decay)
        own = [self.read_out]
        groups[0]["params"] = [p for p in groups[0]["params"] if p is not self.read_out]
        return [*groups, {"params": own, "weight_decay": 0.0}]


def shifted(values, lag, fill=0):
    """`values` (B, T, Q) with the entry of time t - lag at t; `fill` where there is none."""
    result = torch.full_like(values, fill)
    n_timesteps = values.shape[1]
    if abs(lag) < n_timesteps:
        if lag >= 0:
            result[:, lag:] = values[:, : n_timesteps - lag]
        else:
            result[:, :lag] = values[:, -lag:]
    return result


def _zeroed(layer):
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
