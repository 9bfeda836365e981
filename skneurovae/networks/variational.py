"""What variational networks share: a Gaussian posterior, the bound and its expectations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from skneurovae.common.randomness import randn_like
from skneurovae.networks.base import LatentNetwork
from skneurovae.networks.belief import Belief
from skneurovae.objectives import (
    LossTerms,
    apply_free_bits,
    beta_at,
    free_bits_at,
    get_likelihood,
    masked_sum,
)


@dataclass
class Posterior:
    """q(z): the belief moved to `mean` and stretched by exp(`log_stretch`) in each component.

    All of it stays Gaussian, with the correlations of the belief, so the KL is closed form.
    """

    belief: Belief
    mean: Tensor  # (B, T, K)
    log_stretch: Tensor  # (B, T, K)

    @property
    def variance(self):
        """Marginal variances, of shape (B, T, K)."""
        marginal = self.belief.covariance.diagonal(dim1=-2, dim2=-1)
        return marginal * torch.exp(2 * self.log_stretch)

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
    n_neurons, n_behaviors : int
        Rows of the table of neurons; behavior channels Q.
    likelihood : str
        See `skneurovae.objectives.get_likelihood`.
    beta, free_bits : float
        Weight of the KL (1 is the bound), and its floor per component and time step in nats.

    Attributes
    ----------
    behavior_offset, behavior_scale : Tensor of shape (n_behaviors,)
        What behavior is standardized by.
    """

    def __init__(self, n_neurons, n_behaviors, likelihood, beta, free_bits):
        super().__init__()
        self.register_buffer("behavior_offset", torch.zeros(n_behaviors))
        self.register_buffer("behavior_scale", torch.ones(n_behaviors))
        self.n_neurons = n_neurons
        self.likelihood = get_likelihood(likelihood)
        self.target_beta, self.target_free_bits = beta, free_bits
        self.beta, self.free_bits = beta, free_bits

    def encode(self, batch):
        """See `LatentNetwork.encode`."""
        posterior = self.posterior(batch)
        return posterior.mean, posterior.variance.log()

    def _behavior(self, batch):
        """Standardized behavior, 0 where missing, and the flags that say where that is."""
        seen = batch.behavior_shown & batch.valid[..., None]
        behavior = (batch.behavior - self.behavior_offset) / self.behavior_scale
        return torch.where(seen, behavior, 0.0), (~seen).to(behavior.dtype)

    def penalty(self):
        """Minus the log prior of weights, per observed entry of the training data."""
        return 0.0

    def loss(self, batch):
        """Minus the bound on shown and hidden entries from what is shown, per observed entry.

        With q(z) from the shown entries alone, E_q log p(hidden | z) is a lower bound on
        log p(hidden | shown), and the ELBO of shown entries one on log p(shown): with weight 1
        each they bound the log probability of all entries.
        """
        posterior = self.posterior(batch)
        log_prob = self.likelihood.log_prob(batch.traces, *self.decode(posterior.draw(), batch))
        scored = _scored(batch)
        n_scored, n_steps = scored.sum().clamp(min=1), batch.valid.sum()
        shown = -masked_sum(log_prob, scored & batch.shown) / n_scored
        hidden = -masked_sum(log_prob, scored & ~batch.shown) / n_scored
        kl = posterior.kl(self.prior, batch.valid).sum()
        # The joint KL of correlated components has no shares, so their floor is one for all.
        floor = self.free_bits * posterior.mean.shape[-1]
        charged = apply_free_bits(kl / n_steps, floor) * n_steps / n_scored
        penalty = self.penalty()
        loss = hidden + shown + self.beta * charged + penalty
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

        Latents are integrated out by cubature: exact where the decoder is linear. Squares are of
        distances from what the posterior mean decodes to, in units of the neurons: others would
        overflow, or hide a small spread around a large mean. Rates, which must not become negative
        by rounding, are added up as they are.
        """
        posterior, unit = self.posterior(batch), self.unit(batch)
        center = 0.0
        if not self.likelihood.has_log_link:
            center = self.likelihood.mean(*self.decode(posterior.mean, batch))
        count, shift, square = 0, 0.0, 0.0
        for latents in posterior.cubature():
            parameters = self.decode(latents, batch)
            moved = (self.likelihood.mean(*parameters) - center) / unit
            noise = self.likelihood.std(*parameters) / unit
            shift, square = shift + moved, square + moved.square() + noise.square()
            count += 1
        shift = shift / count
        return center + unit * shift, unit * (square / count - shift.square()).clamp(min=0).sqrt()

    @torch.no_grad()
    def evaluate(self, batch):
        """Error of hidden neurons: squared, in units of their variance; for counts, minus log p.

        One sum and one count per neuron of a window, (B, N) each.
        """
        hidden = _scored(batch) & ~batch.shown
        if self.likelihood.is_count:
            parameters = self.decode(self.posterior(batch).mean, batch)
            error = -self.likelihood.log_prob(batch.traces, *parameters)
        else:
            error = ((batch.traces - self.predictive(batch)[0]) / self.unit(batch)).square()
        return masked_sum(error, hidden, 1), hidden.sum(1)

    def anneal(self, epoch, max_iter):
        """Raise beta and switch on free bits as documented for CeNeuroVAE."""
        self.beta = beta_at(epoch, max_iter, self.target_beta)
        self.free_bits = free_bits_at(epoch, max_iter, self.target_free_bits)


def _scored(batch):
    return batch.observed & (batch.neurons >= 0)[:, None]
