"""Precision-weighted pooling: an exact linear belief, refined by a transformer over time.

The network starts as the linear-Gaussian model it is given: its corrections, to the latents and to
the traces, end in layers that are zero at first.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from skneurovae.common.randomness import Dropout
from skneurovae.networks.attention import TemporalTransformer
from skneurovae.networks.behavior import BehaviorBasis
from skneurovae.networks.belief import (
    Marginals,
    dynamic_belief,
    natural_parameters,
    static_belief,
)
from skneurovae.networks.variational import Posterior, VariationalNetwork, hidden_entries
from skneurovae.objectives import (
    LossTerms,
    StandardNormal,
    StationaryAR1,
    bounded_above,
    get_likelihood,
    masked_sum,
    soft_cap,
)


class PrecisionNetwork(VariationalNetwork):
    """Behavior-conditioned VAE on a linear-Gaussian belief.

    Parameters
    ----------
    n_neurons : int
        Rows of the table of neurons.
    behavior_kinds : tuple of str
        Of each channel of behavior; see `BehaviorBasis`.
    n_components : int
    lags : tuple of int
        Time steps by which functions of behavior are shifted to become further channels of the
        belief, and inputs of the decoder. Empty where there is no behavior.
    prior : {"ar1", "normal"}
    likelihood, elbo_weight, beta, free_bits
        See `VariationalNetwork`.
    noise : {"neuron", "heteroscedastic", "fixed"}
        Scale of the likelihood: learned per neuron; that and a term that varies over time; or one
        standard deviation of the neuron.
    shrinkage : float
        Precision of the Gaussian prior on the residual read-out of each neuron, in time steps.
    model_dim, n_layers, n_heads, hidden_dim : int
    dropout : float
    causal : bool

    Attributes
    ----------
    refining : bool
        Whether the transformer moves the belief; without, the decoder rests on it as it is.
    """

    def __init__(
        self, n_neurons, behavior_kinds, *, n_components, lags, prior, likelihood, noise,
        elbo_weight, beta, free_bits, shrinkage, model_dim, n_layers, n_heads, hidden_dim, dropout,
        causal,
    ):  # fmt: skip
        super().__init__(n_neurons, likelihood, elbo_weight, beta, free_bits)
        K, Q = n_components, len(behavior_kinds)
        self.lags, self.causal, self.noise, self.refining = tuple(lags), causal, noise, True
        self.basis = BehaviorBasis(behavior_kinds, lags) if Q else None
        n_now = self.basis.n_functions + Q if Q else 0
        n_lagged = self.basis.n_outputs if Q else 0
        n_rows = n_neurons + n_lagged
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
        # What an entry tells of the decoder's output, in squared units of it.
        self.register_buffer("information", torch.ones(n_neurons))
        self.register_buffer("ceiling", torch.full((n_neurons,), torch.inf))  # of log rates
        self.register_buffer("n_entries", torch.ones(()))
        self.register_buffer("shrinkage", torch.tensor(float(shrinkage)))
        self.prior = StationaryAR1(K, 1.0) if prior == "ar1" else StandardNormal(K)

        self.embed = nn.Linear(2 * K + n_now, model_dim)
        self.transformer = TemporalTransformer(
            model_dim, n_layers, n_heads, dropout, causal=causal, feedforward=2
        )
        self.refine = _zeroed(nn.Linear(model_dim, 2 * K))
        if Q:
            self.drive = _two_layers(n_lagged + Q, hidden_dim, dropout)
        self.features = _two_layers(K + hidden_dim * (Q > 0), hidden_dim, dropout)
        width = K + hidden_dim + hidden_dim * (Q > 0)
        self.read_out = nn.Parameter(torch.zeros(n_neurons, width))
        learned = self.likelihood.has_scale and noise != "fixed"
        self.log_scale = nn.Parameter(torch.zeros(n_neurons), requires_grad=learned)
        if noise == "heteroscedastic":
            self.scale_read_out = nn.Parameter(torch.zeros(n_neurons, width))

    @torch.no_grad()
    def prepare(self, batch):
        """Functions of behavior and the belief, which rests on constants; see `LatentNetwork`."""
        batch = dataclasses.replace(batch, prepared=self._functions(batch))
        marginals = self.belief(batch).marginals(batch.valid)
        kept = {n: v for n, v in batch.prepared.items() if n != "lagged_seen"}
        return dataclasses.replace(batch, prepared=kept | vars(marginals))

    def _functions(self, batch):
        """What the networks see of behavior: lagged, at this time step, and what is missing."""
        if self.basis is None:
            return {}
        if batch.prepared is not None:
            return batch.prepared
        seen = batch.behavior_shown & batch.valid[..., None]
        lagged, lagged_seen = self.basis(batch.behavior, seen, self.lags)
        now, _ = self.basis(batch.behavior, seen, (0,))
        missing = (~seen).to(now.dtype)
        return {
            "lagged": lagged, "lagged_seen": lagged_seen, "now": torch.cat([now, missing], -1),
            "missing": missing,
        }  # fmt: skip

    def posterior(self, batch):
        """Posterior of the latents given what the batch shows, a `Posterior`."""
        prepared = batch.prepared or {}
        if "factor" in prepared:
            names = (field.name for field in dataclasses.fields(Marginals))
            belief = Marginals(**{name: prepared[name] for name in names})
        else:
            belief = self.belief(batch)
        if not self.refining:
            return Posterior(belief, belief.mean, torch.zeros_like(belief.mean))
        tokens = [belief.mean, belief.variance.sqrt()]
        if self.basis is not None:
            tokens.append(self._functions(batch)["now"])
        tokens = torch.cat(tokens, -1)
        features = self.transformer(self.embed(tokens), batch.valid, batch.padded)
        refined = self.refine(features)
        shift, log_stretch = refined.to(belief.mean.dtype).chunk(2, -1)
        return Posterior(belief, belief.mean + shift, log_stretch.clamp(-3.0, 3.0))

    def loss(self, batch):
        """See `VariationalNetwork.loss`; of the decoder alone where the belief is not refined."""
        if self.refining:
            return super().loss(batch)
        posterior = self.posterior(batch)
        _, log_prob = self._log_probs(posterior, batch)
        scored = hidden_entries(batch)
        hidden = -masked_sum(log_prob, scored) / scored.sum().clamp(min=1)
        penalty = self.penalty()
        return LossTerms(hidden + penalty, {"hidden": hidden, "penalty": penalty})

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
        if self.basis is None:
            return rows, values, observed
        behavior = self._functions(batch)
        values = torch.cat([values, behavior["lagged"]], -1)
        observed = torch.cat([observed, behavior["lagged_seen"]], -1)
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
        inputs = [latents]
        if self.basis is not None:
            behavior = self._functions(batch)
            driven = self.drive(torch.cat([behavior["lagged"], behavior["missing"]], -1))
            inputs.append(driven.to(latents.dtype).expand(*latents.shape[:-1], -1))
        features = self.features(torch.cat(inputs, -1)).to(latents.dtype)
        features = torch.cat([*inputs, features], -1)
        standard = latents @ self.decoder_loadings[rows].mT + features @ self.read_out[rows].mT
        unit = self.unit(batch)
        location = self.output_offset[rows][:, None] + unit * standard
        if self.likelihood.has_log_link:
            location = bounded_above(location, self.ceiling[rows][:, None])
        if not self.likelihood.has_scale:
            return location, None
        log_scale = -soft_cap(-self.log_scale[rows][:, None], 5.0)  # a silent neuron's stays finite
        if self.noise == "heteroscedastic":
            varying = features @ self.scale_read_out[rows].mT
            log_scale = log_scale + 2 * torch.tanh(varying / 2)
        return location, log_scale if self.likelihood.is_count else log_scale + unit.log()

    @torch.no_grad()
    def count_with(self, likelihood, excess):
        """Change the likelihood of counts to "negative_binomial", of these dispersions."""
        self.likelihood = get_likelihood(likelihood)
        self.log_scale.copy_(excess.clamp(0.01, 10.0).log())
        self.log_scale.requires_grad_(self.likelihood.has_scale)

    def penalty(self):
        """Gaussian prior on each neuron's residual read-out, as strong as that on its loadings."""
        precision = self.shrinkage * self.information[:, None]
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


def _two_layers(n_inputs, width, dropout):
    return nn.Sequential(
        nn.Linear(n_inputs, width), nn.GELU(), Dropout(dropout),
        nn.Linear(width, width), nn.GELU(), Dropout(dropout),
    )  # fmt: skip


def _zeroed(layer):
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
