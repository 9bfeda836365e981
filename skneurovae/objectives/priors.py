"""Priors of latent components over time, and exact divergences from them.

Components are independent. Each is a Gaussian Markov chain of mean zero and variance one,

    z_1 ~ N(0, 1),    z_t | z_{t-1} ~ N(phi z_{t-1}, 1 - phi^2),

where phi = 0 is the standard normal at every step. Unit variance costs nothing, because a decoder
scales its latents anyway, and keeps the components comparable.

Every expectation is of the prior *given the posterior's past*. Scoring posterior samples under a
roll-out of the prior's own samples instead charges phi^2 / (1 - phi^2) nats per step even where
the posterior is the prior, and so punishes the very structure that the prior describes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skneurovae.common.randomness import randn

__all__ = ["MarkovPrior", "StandardNormal", "StationaryAR1"]

_LOG_2PI = math.log(2 * math.pi)


class MarkovPrior(nn.Module):
    """What the priors share; subclasses give `phi` and `innovation_variance`.

    In every method `valid` of shape (n_windows, n_timesteps) marks real time steps. A chain starts
    anew, with the stationary variance, at each valid step that follows none; what stands at other
    steps, be it NaN, reaches neither value nor gradient. Results are in nats, summed over time.

    Attributes
    ----------
    phi : Tensor of shape (n_components,)
        Correlation of neighboring time steps.
    innovation_variance : Tensor of shape (n_components,)
        ``1 - phi ** 2``, the variance that a step adds.
    """

    def cross_entropy(
        self, mean: Tensor, variance: Tensor, lag_covariance: Tensor | None, valid: Tensor
    ) -> Tensor:
        """``-E_q[log p(z)]`` of a Gaussian q, of every time step, in closed form.

        Parameters
        ----------
        mean, variance : Tensor of shape (n_windows, n_timesteps, n_components)
            Marginal means and variances of q.
        lag_covariance : Tensor of shape (n_windows, n_timesteps, n_components) or None
            ``Cov_q(z_t, z_{t+1})``, at the entry of the earlier step; the last entry is ignored.
            None = 0, steps independent under q.
        valid : Tensor of bool, of shape (n_windows, n_timesteps)
            Real time steps.

        Returns
        -------
        Tensor of shape (n_windows, n_timesteps, n_components)
            At each time step, 0 where it is not valid.
        """
        mean, variance = _keep(mean, valid), _keep(variance, valid)
        return self._step_cross_entropy(
            mean, variance, _delay(mean), _delay(variance), lag_covariance, valid
        )

    def kl(
        self, mean: Tensor, log_variance: Tensor, valid: Tensor, sample: Tensor | None = None
    ) -> Tensor:
        """``KL(q || p)``, in closed form where the steps of q are independent of each other.

        Parameters
        ----------
        mean, log_variance : Tensor of shape (n_windows, n_timesteps, n_components)
            Of q.
        valid : Tensor of bool, of shape (n_windows, n_timesteps)
            Real time steps.
        sample : Tensor of shape (n_windows, n_timesteps, n_components), default=None
            For a q that is itself sequential; see `conditional_kl`, which is what it then gives.

        Returns
        -------
        Tensor of shape (n_windows, n_components)
        """
        if sample is not None:
            return self.conditional_kl(mean, log_variance, sample, valid)
        mean, log_variance = _keep(mean, valid), _keep(log_variance, valid)
        variance = torch.exp(log_variance)
        cross_entropy = self._step_cross_entropy(
            mean, variance, _delay(mean), _delay(variance), None, valid
        )
        return (cross_entropy - _step_entropy(log_variance, valid)).sum(dim=1)

    def conditional_kl(
        self, mean: Tensor, log_variance: Tensor, sample: Tensor, valid: Tensor
    ) -> Tensor:
        """Sum over time of ``KL(q(z_t | z_{<t}) || p(z_t | z_{t-1}))`` along one sample of q.

        For a q that is itself sequential, such as a controller that sees what the generator made
        of its last output. Unbiased for the KL of the whole path, and of low variance because only
        the past is sampled: every step's own KL is exact.

        Parameters
        ----------
        mean, log_variance : Tensor of shape (n_windows, n_timesteps, n_components)
            Of ``q(z_t | z_{<t})``, as they were computed along `sample`.
        sample : Tensor of shape (n_windows, n_timesteps, n_components)
            The very draw that the model consumed. A fresh one would pair each mean with a past
            that it did not follow from.
        valid : Tensor of bool, of shape (n_windows, n_timesteps)
            Real time steps.

        Returns
        -------
        Tensor of shape (n_windows, n_components)
        """
        mean, log_variance = _keep(mean, valid), _keep(log_variance, valid)
        past = _delay(_keep(sample, valid))
        cross_entropy = self._step_cross_entropy(
            mean, torch.exp(log_variance), past, torch.zeros_like(past), None, valid
        )
        return (cross_entropy - _step_entropy(log_variance, valid)).sum(dim=1)

    @torch.no_grad()
    def sample(self, n_windows: int, n_timesteps: int) -> Tensor:
        """Draw paths, with the random numbers of `skneurovae.common.randomness`.

        Parameters
        ----------
        n_windows, n_timesteps : int
            How many paths, and how long.

        Returns
        -------
        Tensor of shape (n_windows, n_timesteps, n_components)
            On the device and in the dtype of the module, without gradient.
        """
        phi, scale = self.phi, self.innovation_variance.sqrt()
        path = randn(
            n_windows, n_timesteps, len(phi), device=phi.device, dtype=phi.dtype
        ) * torch.cat([torch.ones_like(scale)[None], scale.expand(n_timesteps - 1, -1)])
        # After each pass a step holds the innovations of twice as many steps before it, so that
        # the recursion over time takes log2(n_timesteps) passes.
        reach = 1
        while reach < n_timesteps:
            path = path + phi**reach * _delay(path, reach)
            reach *= 2
        return path

    def _step_cross_entropy(self, mean, variance, past_mean, past_variance, lag_covariance, valid):
        """``-E_q[log p(z_t | z_{t-1})]`` per step, from the moments of z_t and z_{t-1} under q."""
        linked = valid & F.pad(valid[:, :-1], (1, 0))
        phi = torch.where(linked[..., None], self.phi, 0.0)
        innovation_variance = torch.where(linked[..., None], self.innovation_variance, 1.0)
        spread = variance + phi.square() * past_variance
        if lag_covariance is not None:
            # The entry of step t - 1 belongs to a link into step t; others may hold anything.
            spread = spread - 2 * phi * _keep(_delay(lag_covariance), linked)
        square = (mean - phi * past_mean).square() + spread
        nats = 0.5 * (_LOG_2PI + innovation_variance.log() + square / innovation_variance)
        return torch.where(valid[..., None], nats, 0.0)


class StandardNormal(MarkovPrior):
    """Every time step N(0, 1), independently of the others.

    Parameters
    ----------
    n_components : int
        Number of latent components.
    """

    phi: Tensor

    def __init__(self, n_components: int):
        super().__init__()
        self.register_buffer("phi", torch.zeros(n_components), persistent=False)

    @property
    def innovation_variance(self) -> Tensor:
        """Variance that a step adds: 1; (n_components,)."""
        return torch.ones_like(self.phi)


class StationaryAR1(MarkovPrior):
    """Components that forget exponentially: correlation ``exp(-lag / time_constant)``.

    Parameters
    ----------
    n_components : int
        Number of latent components.
    time_constant : float or sequence of n_components floats, default=10.0
        Time constants at the start, in time steps, positive.
    trainable : bool, default=True
        Whether the time constants are learned, one per component, through their logarithm (which
        weight decay should leave alone: it would pull them toward one time step).

    Raises
    ------
    ValueError
        If a time constant is not positive and finite.

    References
    ----------
    Sussillo et al. (2016), LFADS: latent factor analysis via dynamical systems (the prior of the
    inferred inputs).
    """

    def __init__(
        self,
        n_components: int,
        time_constant: float | Sequence[float] = 10.0,
        trainable: bool = True,
    ):
        super().__init__()
        start = torch.as_tensor(time_constant, dtype=torch.float32)
        if not (torch.isfinite(start) & (start > 0)).all():
            raise ValueError(
                f"time_constant must be positive and finite, got {time_constant!r} time steps"
            )
        self.log_time_constant = nn.Parameter(
            start.log().expand(n_components).clone(), requires_grad=trainable
        )

    @property
    def time_constant(self) -> Tensor:
        """Time constants in time steps; (n_components,)."""
        return self.log_time_constant.exp()

    @property
    def phi(self) -> Tensor:
        """Correlation of neighboring time steps; (n_components,)."""
        return torch.exp(-1 / self.time_constant)

    @property
    def innovation_variance(self) -> Tensor:
        """Variance that a step adds, ``1 - phi ** 2``; (n_components,)."""
        # Squaring phi first would leave few digits of float32 at long time constants.
        return -torch.expm1(-2 / self.time_constant)


def _delay(values: Tensor, n_steps: int = 1) -> Tensor:
    """Values of `n_steps` earlier, zeros before the start; time is the second dimension."""
    return F.pad(values[:, :-n_steps], (0, 0, n_steps, 0))


def _keep(values: Tensor, steps: Tensor) -> Tensor:
    """Zero where `steps` is False, before any arithmetic could carry a NaN into the gradient."""
    return torch.where(steps[..., None], values, 0.0)


def _step_entropy(log_variance: Tensor, valid: Tensor) -> Tensor:
    """Entropy of every step's normal distribution."""
    return _keep(0.5 * (_LOG_2PI + 1 + log_variance), valid)
