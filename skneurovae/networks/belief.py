"""Exact linear-Gaussian belief over latents: every observed entry adds its natural parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from skneurovae.common.randomness import randn_like


@dataclass
class Belief:
    """Gaussian over latents, jointly over time.

    It factorizes backward in time: z_t given z_{t+1} is normal with a mean that `gain` carries from
    z_{t+1} and with covariance `conditional`. Where steps are independent, `gain` is 0 and
    `conditional` is `covariance`.

    Attributes
    ----------
    mean : Tensor of shape (B, T, K)
    covariance, gain, conditional : Tensor of shape (B, T, K, K)
        T is 1 where all time steps share them.
    lag_covariance : Tensor of shape (B, T, K)
        Cov(z_t, z_{t+1}) of each component with itself, 0 at the last time step.
    """

    mean: Tensor
    covariance: Tensor
    gain: Tensor
    conditional: Tensor
    lag_covariance: Tensor

    @property
    def variance(self):
        """Marginal variances, of shape (B, T, K)."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).expand_as(self.mean)

    def marginals(self, valid):
        """All that training needs, computed once: a `Marginals`."""
        factor = _factor(self.covariance)
        return Marginals(self.mean, factor, self.lag_covariance, self.entropy(valid))

    def entropy(self, valid):
        """Terms of shape (B, T) that sum to the joint entropy of the `valid` steps (B, T)."""
        last = valid & ~torch.nn.functional.pad(valid[:, 1:], (0, 1))
        covariance = torch.where(last[..., None, None], self.covariance, self.conditional)
        logdet = 2 * _factor(covariance).diagonal(dim1=-2, dim2=-1).log().sum(-1)
        entropy = 0.5 * (self.mean.shape[-1] * (1 + math.log(2 * math.pi)) + logdet)
        return torch.where(valid, entropy, 0.0)

    def sample_deviation(self):
        """Draw z - mean jointly over time, of shape (B, T, K)."""
        shape = self.mean.shape
        factor = _factor(self.conditional).expand(*shape, -1)
        draws = (factor @ randn_like(self.mean)[..., None])[..., 0]
        if not bool(self.gain.any()):
            return draws
        path = [draws[:, -1]]
        for t in range(shape[1] - 2, -1, -1):
            path.append(draws[:, t] + (self.gain[:, t] @ path[-1][..., None])[..., 0])
        return torch.stack(path[::-1], 1)

    def marginal_factor(self):
        """Cholesky factor of `covariance`, of shape (B, T, K, K)."""
        return _factor(self.covariance).expand(*self.mean.shape, -1)


@dataclass
class Marginals:
    """A belief without the links between its time steps, of which no joint path can be drawn.

    Attributes
    ----------
    mean, lag_covariance : Tensor of shape (B, T, K)
        See `Belief`.
    factor : Tensor of shape (B, T, K, K)
        Cholesky factor of the covariance of each time step; T is 1 where all share it.
    entropies : Tensor of shape (B, T)
        See `Belief.entropy`.
    """

    mean: Tensor
    factor: Tensor
    lag_covariance: Tensor
    entropies: Tensor

    @property
    def variance(self):
        """Marginal variances, of shape (B, T, K)."""
        return self.factor.square().sum(-1).expand_as(self.mean)

    def entropy(self, valid):
        """Terms that sum to the joint entropy; see `Belief.entropy`."""
        return self.entropies

    def marginal_factor(self):
        """Cholesky factor of the covariance, of shape (B, T, K, K)."""
        return self.factor.expand(*self.mean.shape, -1)


def _factor(covariance):
    K = covariance.shape[-1]
    jitter = 1e-6 * torch.eye(K, dtype=covariance.dtype, device=covariance.device)
    return torch.linalg.cholesky(covariance + jitter)


def natural_parameters(values, observed, loadings, noise):
    """Sum the evidence of the observed channels.

    Parameters
    ----------
    values : Tensor of shape (B, T, C)
        Channels less their offset; anything where not observed.
    observed : Tensor of shape (B, T, C)
    loadings : Tensor of shape (B, C, K)
    noise : Tensor of shape (B, C)

    Returns
    -------
    information : Tensor of shape (B, T, K)
        r_t = sum over n of m_nt L_n (x_nt - mu_n) / psi_n.
    precision : Tensor of shape (B, T, K, K)
        sum over n of m_nt L_n L_n' / psi_n. T is 1 where no window's mask changes in time.
    """
    weighted = loadings / noise[..., None]
    information = torch.where(observed, values, 0.0) @ weighted
    if bool((observed == observed[:, :1]).all()):
        observed = observed[:, :1]  # one factorization serves the window
    outer = (weighted[..., :, None] * loadings[..., None, :]).flatten(-2)
    precision = observed.to(outer.dtype) @ outer
    return information, precision.unflatten(-1, (loadings.shape[-1],) * 2)


def static_belief(information, precision):
    """Belief when latents are independent over time: z_t = (I + precision_t)^-1 r_t."""
    K = information.shape[-1]
    identity = torch.eye(K, dtype=precision.dtype, device=precision.device)
    covariance = torch.cholesky_inverse(torch.linalg.cholesky(identity + precision))
    mean = (covariance @ information[..., None])[..., 0]
    zero = torch.zeros_like(covariance)
    return Belief(mean, covariance, zero, covariance, torch.zeros_like(mean))


def dynamic_belief(information, precision, phi, *, causal=False):
    """Belief under stationary AR(1) latents: Kalman filter, and RTS smoother unless `causal`.

    Parameters
    ----------
    information, precision
        As `natural_parameters` returns them.
    phi : Tensor of shape (K,)
        Autocorrelation of each component from one time step to the next.
    causal : bool
        Stop at the filter: the belief at t rests on entries up to t. The filtered marginals are
        then taken as independent over time.

    Returns
    -------
    Belief

    Source: Kalman 1960; Rauch, Tung & Striebel 1965.
    """
    n_timesteps, K = information.shape[1:]
    identity = torch.eye(K, dtype=phi.dtype, device=phi.device)
    innovation = torch.diag(1 - phi.square())
    prior, expected = identity.expand(len(information), K, K), torch.zeros_like(information[:, 0])
    priors, covariances, means = [], [], []
    steps = precision.expand(-1, n_timesteps, -1, -1).unbind(1)
    for evidence, seen in zip(information.unbind(1), steps, strict=True):
        updated = torch.linalg.solve(identity + prior @ seen, prior)
        updated = (updated + updated.mT) / 2
        error = evidence - (seen @ expected[..., None])[..., 0]
        mean = expected + (updated @ error[..., None])[..., 0]
        priors.append(prior)
        covariances.append(updated)
        means.append(mean)
        prior = phi[:, None] * updated * phi + innovation
        expected = phi * mean
    covariance, mean = torch.stack(covariances, 1), torch.stack(means, 1)
    if causal or n_timesteps == 1:
        zero = torch.zeros_like(covariance)
        return Belief(mean, covariance, zero, covariance, torch.zeros_like(mean))
    priors = torch.stack(priors[1:], 1)
    gain = torch.linalg.solve(priors, phi[:, None] * covariance[:, :-1]).mT
    # What z_t is given z_{t+1} does not depend on z_{t+1}'s own posterior: all steps at once.
    conditional = covariance[:, :-1] - gain @ priors @ gain.mT
    shift = mean[:, :-1] - (gain @ (phi * mean[:, :-1])[..., None])[..., 0]
    smoothed, spreads = [means[-1]], [covariances[-1]]
    lags = [torch.zeros_like(means[-1])]
    for t in range(n_timesteps - 2, -1, -1):
        cross = gain[:, t] @ spreads[-1]
        lags.append(cross.diagonal(dim1=-2, dim2=-1))
        smoothed.append(shift[:, t] + (gain[:, t] @ smoothed[-1][..., None])[..., 0])
        spreads.append(conditional[:, t] + cross @ gain[:, t].mT)
    last = covariance[:, -1:]
    return Belief(
        mean=torch.stack(smoothed[::-1], 1),
        covariance=torch.stack(spreads[::-1], 1),
        gain=torch.cat([gain, torch.zeros_like(last)], 1),
        conditional=torch.cat([conditional, last], 1),
        lag_covariance=torch.stack(lags[::-1], 1),
    )
