"""What variational networks share: a Gaussian posterior, the bound and its expectations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from skneurovae.common.randomness import randn_like
from skneurovae.networks.base import LatentNetwork
from skneurovae.networks.belief import Belief, Marginals
from skneurovae.objectives import (
    LossTerms,
    apply_free_bits,
    beta_at,
    free_bits_at,
    get_likelihood,
    masked_sum,
)

_POISSON = get_likelihood("poisson")


@dataclass
class Posterior:
    """q(z): the belief moved to `mean` and stretched by exp(`log_stretch`) in each component.

    All of it stays Gaussian, with the correlations of the belief, so the KL is closed form.
    """

    belief: Belief | Marginals
    mean: Tensor  # (B, T, K)
    log_stretch: Tensor  # (B, T, K)

    @property
    def variance(self):
        """Marginal variances, of shape (B, T, K)."""
        return self.belief.variance * torch.exp(2 * self.log_stretch)

    @property
    def lag_covariance(self):
        """Cov(z_t, z_{t+1}) of each component, of shape (B, T, K)."""
        later = torch.cat([self.log_stretch[:, 1:], self.log_stretch[:, -1:]], 1)
        return self.belief.lag_covariance * torch.exp(self.log_stretch + later)

    def kl(self, prior, valid):
        """KL(q || prior) at each time step, of shape (B, T); exact for the joint path."""
        cross = prior.cross_entropy(self.mean, self.variance, self.lag_covariance, valid).sum(-1)
        stretch = torch.where(valid, self.log_stretch.sum(-1), 0.0)
        return cross - self.belief.entropy(valid) - stretch

    def draw(self):
        """One draw of z_t at every time step, each from its marginal."""
        noise = randn_like(self.mean)[..., None]
        deviation = (self.belief.marginal_factor() @ noise)[..., 0]
        return self.mean + torch.exp(self.log_stretch) * deviation

    def draw_deviation(self):
        """Draw z - mean jointly over time, of shape (B, T, K)."""
        return torch.exp(self.log_stretch) * self.belief.sample_deviation()

    def cubature(self):
        """Yield 2 K points whose plain average integrates cubics exactly.

        Source: Arasaratnam & Haykin 2009, eq. 30.
        """
        K = self.mean.shape[-1]
        factor = math.sqrt(K) * self.belief.marginal_factor()
        factor = torch.exp(self.log_stretch)[..., None] * factor
        for column in factor.unbind(-1):
            yield self.mean + column
            yield self.mean - column


class VariationalNetwork(LatentNetwork):
    """Network with a Gaussian posterior over latents and one likelihood of all traces.

    A subclass gives `posterior(batch)`, `decode(latents, batch)`, the latent `prior`, and the units
    in which `evaluate` measures errors, `unit(batch)` of shape (B, 1, N).

    Parameters
    ----------
    n_neurons : int
        Rows of the table of neurons.
    likelihood : str
        See `skneurovae.objectives.get_likelihood`.
    elbo_weight : float
        Weight of the bound on what the encoder saw, relative to the log probability of what it did
        not.
    beta, free_bits : float
        Weight of the KL (1 is the bound), and its floor per component and time step in nats.
    """

    def __init__(self, n_neurons, likelihood, elbo_weight, beta, free_bits):
        super().__init__()
        self.elbo_weight = elbo_weight
        self.n_neurons = n_neurons
        self.likelihood = get_likelihood(likelihood)
        self.target_beta, self.target_free_bits = beta, free_bits
        self.beta, self.free_bits = beta, free_bits

    def encode(self, batch):
        """See `LatentNetwork.encode`."""
        posterior = self.posterior(batch)
        return posterior.mean, posterior.variance.log()

    def penalty(self):
        """Minus the log prior of weights, per observed entry of the training data."""
        return 0.0

    def loss(self, batch):
        """Minus the log probability of hidden entries and the bound on shown ones, per entry.

        Hidden entries are predicted as `predictive` does, from the mean of q(z), which rests on
        shown entries alone; shown entries have the evidence lower bound, E_q log p(shown | z) less
        the KL. Under draws of z a read-out could not be sharper than q(z) is wide, and q(z) is wide
        where little is seen.
        """
        posterior = self.posterior(batch)
        of_draw, of_mean = self._log_probs(posterior, batch)
        scored, unseen = _scored(batch), hidden_entries(batch)
        n_scored, n_steps = scored.sum().clamp(min=1), batch.valid.sum()
        shown = -masked_sum(of_draw, scored & batch.shown) / n_scored
        hidden = -masked_sum(of_mean, unseen) / n_scored
        kl = posterior.kl(self.prior, batch.valid).sum()
        # The joint KL of correlated components has no shares, so their floor is one for all.
        floor = self.free_bits * posterior.mean.shape[-1]
        charged = apply_free_bits(kl / n_steps, floor) * n_steps / n_scored
        penalty = self.penalty()
        loss = hidden + self.elbo_weight * (shown + self.beta * charged) + penalty
        with torch.no_grad():
            marginal = self.prior.kl(posterior.mean, posterior.variance.log(), batch.valid)
        parts = {
            "shown": shown,
            "hidden": hidden,
            "kl": kl / n_scored,
            "penalty": torch.as_tensor(penalty),
            "kl_per_component": marginal.sum(0) / n_steps,
        }
        return LossTerms(loss, parts)

    def _log_probs(self, posterior, batch):
        """Log probability of each entry given one draw of z, and under `predictive`, (B, T, N).

        The variance that z adds to a prediction is that of the draw.
        """
        latents = torch.stack([posterior.draw(), posterior.mean])
        location, log_scale = self.decode(latents, batch)
        scales = [log_scale] * 2
        if self.likelihood.has_scale:
            scales = list(log_scale.expand_as(location))
            if not self.likelihood.has_log_link:
                unit = self.unit(batch)
                noise = self.likelihood.std(location[1], scales[1]) / unit
                spread = ((location[0] - location[1]) / unit).detach()
                scales[1] = scales[1] + 0.5 * torch.log1p((spread / noise).square())
        return [self.likelihood.log_prob(batch.traces, *pair) for pair in zip(location, scales)]

    def bound(self, batch):
        """Evidence lower bound of each time step in nats, (B, T); expectations by cubature."""
        posterior = self.posterior(batch)
        total, count = 0.0, 0
        for latents in posterior.cubature():
            log_prob = self.likelihood.log_prob(batch.traces, *self.decode(latents, batch))
            total, count = total + masked_sum(log_prob, _scored(batch), -1), count + 1
        return total / count - posterior.kl(self.prior, batch.valid)

    def predictive(self, batch):
        """Mean and standard deviation of the traces given what the batch shows, each (B, T, N).

        The mean is what the mean of q(z) decodes to, as in training. Around it the latents are
        integrated out by cubature, exact where the decoder is linear. Squares are of distances in
        units of the neurons: others would overflow, or hide a small spread around a large mean.
        """
        posterior, unit = self.posterior(batch), self.unit(batch)
        mean = self.likelihood.mean(*self.decode(posterior.mean, batch))
        square, count = 0.0, 0
        for latents in posterior.cubature():
            parameters = self.decode(latents, batch)
            moved = (self.likelihood.mean(*parameters) - mean) / unit
            noise = self.likelihood.std(*parameters) / unit
            square, count = square + moved.square() + noise.square(), count + 1
        return mean, unit * (square / count).sqrt()

    def predicted(self, batch):
        """The mean of `predictive` alone, of shape (B, T, N)."""
        return self.likelihood.mean(*self.decode(self.posterior(batch).mean, batch))

    @torch.no_grad()
    def evaluate(self, batch):
        """Error of hidden neurons: squared, in units of their variance; of counts, minus log p.

        Of what `predict` gives, and of all counts under the Poisson law, by which they are scored:
        one sum and one count per neuron of a window, (B, N) each.
        """
        hidden, mean = hidden_entries(batch), self.predicted(batch)
        if self.likelihood.is_count:
            error = -_POISSON.log_prob(batch.traces, mean.clamp(min=1e-9).log())
        else:
            error = ((batch.traces - mean) / self.unit(batch)).square()
        return masked_sum(error, hidden, 1), hidden.sum(1)

    def anneal(self, epoch, max_iter):
        """Raise beta and switch on free bits as documented for CeNeuroVAE."""
        self.beta = beta_at(epoch, max_iter, self.target_beta)
        self.free_bits = free_bits_at(epoch, max_iter, self.target_free_bits)


def hidden_entries(batch):
    """Entries of known neurons that the encoder does not see, of shape (B, T, N)."""
    return _scored(batch) & ~batch.shown


def _scored(batch):
    return batch.observed & (batch.neurons >= 0)[:, None]
