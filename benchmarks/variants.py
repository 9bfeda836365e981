"""NeuroBehaviorVAE with parts that it does not have, for benchmarks/ablation.py.

They take the linear start of NeuroBehaviorVAE. None is part of the package: what they gain is in
docs/results.md.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from skneurovae import NeuroBehaviorVAE
from skneurovae.networks.belief import dynamic_belief, natural_parameters, static_belief
from skneurovae.networks.precision import PrecisionNetwork
from skneurovae.networks.variational import Posterior

N_QUERIES = 4  # of the attention over neurons
LARGEST = 5.0  # standard deviations, beyond which a value says no more to it
N_ITERATIONS = 5  # of EM for the gains of a recording; in training, of a window, two must do
LATENT_WEIGHT = 50.0  # time steps for which the prior of a latent's gain, 1, stands
NEURON_SPREAD = 0.3  # prior standard deviation of a neuron's gain around 1


class AttentionNetwork(PrecisionNetwork):
    """Learned queries attend over the neurons of each time step, beside the belief.

    The token of a neuron is E + x V: x is its standardized value, E and V are linear in a vector
    that its identity has, which is started from its loadings. Scores and values are then sums of a
    part per neuron and of x times another, so that no tensor has time, neurons and features at
    once. What is pooled enters the transformer through a layer that starts at zero.
    """

    def __init__(self, n_neurons, n_behaviors, *, n_components, model_dim, **options):
        super().__init__(
            n_neurons, n_behaviors, n_components=n_components, model_dim=model_dim, **options
        )
        self.from_loadings = nn.Linear(n_components, model_dim)
        self.deviation = nn.Parameter(torch.zeros(n_neurons, model_dim))
        self.key = nn.Linear(model_dim, 2 * model_dim)
        self.value = nn.Linear(model_dim, 2 * model_dim)
        self.queries = nn.Parameter(torch.randn(N_QUERIES, model_dim) / model_dim**0.5)
        self.add = nn.Linear(N_QUERIES * model_dim, model_dim)
        nn.init.zeros_(self.add.weight)
        nn.init.zeros_(self.add.bias)

    def pool(self, batch):
        """What the queries gather, (B, T, N_QUERIES model_dim); 0 where no neuron is shown."""
        n_neurons = batch.neurons.shape[1]
        rows, values, observed = self._channels(batch)
        values, observed = values[..., :n_neurons], observed[..., :n_neurons]
        values = torch.where(observed, values, 0.0).clamp(-LARGEST, LARGEST)
        loadings = self.loadings[: self.n_neurons]
        identity = self.from_loadings(loadings / loadings.square().mean().sqrt().clamp(min=1e-6))
        identity = (identity + self.deviation)[rows[:, :n_neurons]]
        scores = [(k @ self.queries.T).mT[:, None] for k in self.key(identity).chunk(2, -1)]
        scores = scores[0] + values[:, :, None] * scores[1]  # (B, T, N_QUERIES, N)
        shown = observed[:, :, None]
        weights = scores.masked_fill(~shown, torch.finfo(scores.dtype).min).softmax(-1)
        weights = torch.where(shown, weights, 0.0)  # where none is shown the softmax is uniform
        parts = self.value(identity).chunk(2, -1)
        flat = weights.flatten(1, 2) @ parts[0]
        flat = flat + (weights * values[:, :, None]).flatten(1, 2) @ parts[1]
        return flat.unflatten(1, (-1, N_QUERIES)).flatten(2)

    def posterior(self, batch):
        """As without, with what is pooled added to the input of the transformer."""
        belief = self.belief(batch)
        deviation = belief.covariance.diagonal(dim1=-2, dim2=-1).sqrt().expand_as(belief.mean)
        tokens = torch.cat([belief.mean, deviation, *self._behavior(batch)], -1)
        features = self.embed(tokens) + self.add(self.pool(batch))
        refined = self.refine(self.transformer(features, batch.valid))
        shift, log_stretch = refined.to(belief.mean.dtype).chunk(2, -1)
        return Posterior(belief, belief.mean + shift, log_stretch.clamp(-3.0, 3.0))


@dataclass
class Gains:
    """What a recording scales its latents (B, K) and its neurons (B, N) by."""

    latents: Tensor
    neurons: Tensor

    def to(self, batch):
        """The same gains for every window of `batch`."""
        return Gains(
            *(
                g.to(batch.traces).expand(len(batch.traces), -1)
                for g in (self.latents, self.neurons)
            )
        )


class GainedNetwork(PrecisionNetwork):
    """The latents of a recording are z = g u, where u has the prior of the latents.

    g is the fixed point of EM on the shown entries: with S the expected sum of squares of the
    whitened innovations of z, and w the weight of the prior in time steps, g^2 = (w + S) / (w + T).
    In the belief, and for the decoder, that is to scale loadings by g; the KL is that of u.
    """

    of_latents, of_neurons = True, False

    def gains(self, batch):
        """Gains of the windows of `batch`, from its shown entries unless it brings its own."""
        if not hasattr(batch, "gains"):  # which `replace` drops, so other masks have other gains
            batch.gains = self.estimate_gains(batch)
        return batch.gains

    @torch.no_grad()
    def belief(self, batch):
        """Exact posterior of u under the linear model and the gains."""
        with torch.autocast(batch.traces.device.type, enabled=False):
            return self._believe(*self._centered(batch), self.gains(batch))

    @torch.no_grad()
    def estimate_gains(self, batch):
        """EM, a few steps from gains of 1."""
        values, observed, loadings, noise = self._centered(batch)
        n_windows, n_neurons = batch.neurons.shape
        gains = Gains(
            values.new_ones(n_windows, loadings.shape[-1]), values.new_ones(n_windows, n_neurons)
        )
        shown = observed[..., :n_neurons].to(values.dtype)
        for _ in range(2 if self.training else N_ITERATIONS):
            belief = self._believe(values, observed, loadings, noise, gains)
            new = copy.copy(gains)
            if self.of_latents:
                power = gains.latents.square() * self._power(belief, batch.valid)
                n_steps = batch.valid.sum(1, keepdim=True)
                new.latents = ((LATENT_WEIGHT + power) / (LATENT_WEIGHT + n_steps)).sqrt()
            if self.of_neurons:
                scaled = loadings[:, :n_neurons] * gains.latents[:, None]
                signal = belief.mean @ scaled.mT
                outer = (scaled[..., :, None] * scaled[..., None, :]).flatten(-2)
                square = signal.square() + belief.covariance.flatten(-2) @ outer.mT
                weight = shown / noise[:, None, :n_neurons]
                target = torch.where(observed, values, 0.0)[..., :n_neurons]
                prior = NEURON_SPREAD**-2
                new.neurons = (prior + (weight * target * signal).sum(1)) / (
                    prior + (weight * square).sum(1)
                )
            gains = new
        return gains

    def _centered(self, batch):
        rows, values, observed = self._channels(batch)
        values = values - self.center[rows][:, None]
        return values, observed, self.loadings[rows], (self.psi / self.evidence)[rows]

    def _believe(self, values, observed, loadings, noise, gains):
        n_others = loadings.shape[1] - gains.neurons.shape[1]  # behavior
        neurons = nn.functional.pad(gains.neurons, (0, n_others), value=1.0)
        scaled = loadings * gains.latents[:, None] * neurons[..., None]
        natural = natural_parameters(values, observed, scaled, noise)
        if bool(self.phi.any()):
            return dynamic_belief(*natural, self.phi)
        return static_belief(*natural)

    def _power(self, belief, valid):
        """Expected sum of squares of the whitened innovations of u, (B, K); T under the prior."""
        mean = belief.mean
        second = mean.square() + belief.covariance.diagonal(dim1=-2, dim2=-1)
        product = mean[:, :-1] * mean[:, 1:] + belief.lag_covariance[:, :-1]
        step = second[:, 1:] + self.phi.square() * second[:, :-1] - 2 * self.phi * product
        step = torch.where(valid[:, 1:, None], step / (1 - self.phi.square()), 0.0)
        return second[:, 0] + step.sum(1)

    def encode(self, batch):
        """Mean and log variance of z."""
        mean, log_variance = super().encode(batch)
        gains = self.gains(batch).latents[:, None]
        return mean * gains, log_variance + 2 * gains.log()

    def decode(self, latents, batch):
        """As without, from z = g u, and each neuron's deviation from its offset times its gain."""
        gains = self.gains(batch)
        location, log_scale = super().decode(latents * gains.latents[:, None], batch)
        if self.of_neurons:
            offset = self.output_offset[batch.neurons.clamp(min=0)][:, None]
            location = offset + gains.neurons[:, None] * (location - offset)
        return location, log_scale


class NeuronGainedNetwork(GainedNetwork):
    """Each neuron's loading times a gain of the recording, 1 for a neuron that is not shown."""

    of_latents, of_neurons = False, True


class GainedAttentionNetwork(GainedNetwork, AttentionNetwork):
    """Both: gains of the latents, and attention over neurons."""


class VariantVAE(NeuroBehaviorVAE):
    """NeuroBehaviorVAE with another network; only `neuron_encoder="precision"`."""

    network_type = PrecisionNetwork

    def _check_parameters(self):
        super()._check_parameters()
        if self.neuron_encoder != "precision":
            raise ValueError(f"neuron_encoder must be 'precision', got {self.neuron_encoder!r}.")

    def _new_network(self, arguments):
        arguments = {k: v for k, v in arguments.items() if k != "neuron_encoder"}
        return self.network_type(**arguments)


class AttentionVAE(VariantVAE):
    """Attention pooling."""

    network_type = AttentionNetwork


class GainedVAE(VariantVAE):
    """Gains of a recording, in training of each window, in inference of the whole recording."""

    network_type = GainedNetwork

    def _check_parameters(self):
        super()._check_parameters()
        if self.causal:
            raise ValueError("causal=True: gains rest on the whole recording.")

    def _infer(self, recordings, rows, function):
        results = []
        for recording, row in zip(recordings, rows):
            store = self._store([recording], [row], torch.device("cpu"), torch.float64)
            whole = store.batch([[0, 0, recording.n_timesteps]])
            gains = copy.deepcopy(self.network_).cpu().double().eval().estimate_gains(whole)
            results += super()._infer([recording], [row], partial(_with, gains, function))
        return results


class NeuronGainedVAE(GainedVAE):
    """Gains of single neurons."""

    network_type = NeuronGainedNetwork


class GainedAttentionVAE(GainedVAE):
    """Gains of the latents and attention pooling."""

    network_type = GainedAttentionNetwork


def _with(gains, function, network, batch):
    batch.gains = gains.to(batch)
    return function(network, batch)
