"""Likelihoods of traces given a decoder's linear predictor.

All six have one face. `location` and `log_scale` broadcast against `traces`, so one scale per
neuron of shape (n_neurons,) serves traces of shape (n_windows, n_timesteps, n_neurons). They hold
no state and run in the dtype and on the device of what they are given.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from skneurovae.common.randomness import (
    exponential_like,
    poisson,
    rand_like,
    randn_like,
    standard_gamma,
)
from skneurovae.objectives.masked import soft_cap

__all__ = [
    "Gamma",
    "Gaussian",
    "Huber",
    "Likelihood",
    "NegativeBinomial",
    "Poisson",
    "StudentT",
    "get_likelihood",
]

_LOG_2PI = math.log(2 * math.pi)


class Likelihood:
    """The common face of the likelihoods.

    Attributes
    ----------
    is_count : bool
        Whether traces are counts per bin, and `location` the log of their mean.
    has_log_link : bool
        Whether `location` is the log of the mean: of counts, and of positive traces.
    has_scale : bool
        Whether `log_scale` is used; it may be None otherwise.
    """

    is_count = False
    has_log_link = False
    has_scale = True

    def log_prob(self, traces: Tensor, location: Tensor, log_scale: Tensor | None = None) -> Tensor:
        """Log density, or log probability of counts, of every sample.

        Parameters
        ----------
        traces : Tensor
            Samples, in the units of the recording; NaN = not observed.
        location : Tensor
            Linear predictor: the center, or for counts the log of the mean count per bin.
        log_scale : Tensor, default=None
            Log of the scale, or for the negative binomial of the dispersion.

        Returns
        -------
        Tensor
            In nats, of the broadcast shape. NaN where `traces` are not finite, with a gradient of
            exactly zero there, so that `masked_sum` leaves no trace of them.
        """
        # Half-precision predictors of an autocast region would lose the digits that cancel below.
        dtype = torch.promote_types(traces.dtype, location.dtype)
        finite = torch.isfinite(traces)
        log_prob = self._log_prob(
            torch.where(finite, traces, 0).to(dtype),
            location.to(dtype),
            None if log_scale is None else log_scale.to(dtype),
        )
        return torch.where(finite, log_prob, math.nan)

    def mean(self, location: Tensor, log_scale: Tensor | None = None) -> Tensor:
        """Expected traces, in the units of the recording.

        Parameters
        ----------
        location, log_scale : Tensor
            As in `log_prob`.

        Returns
        -------
        Tensor
            Of the shape of `location`.
        """
        return location

    def std(self, location: Tensor, log_scale: Tensor | None = None) -> Tensor:
        """Standard deviation of the traces, in the units of the recording.

        It is never made of squares in these units, which traces above 1e19 have not in float32.

        Parameters
        ----------
        location, log_scale : Tensor
            As in `log_prob`.

        Returns
        -------
        Tensor
            Of the broadcast shape.
        """
        location, log_scale = torch.broadcast_tensors(location, log_scale)
        return math.sqrt(self._unit_variance) * torch.exp(log_scale)

    @torch.no_grad()
    def sample(self, location: Tensor, log_scale: Tensor | None = None) -> Tensor:
        """Draw traces, with the random numbers of `skneurovae.common.randomness`.

        Parameters
        ----------
        location, log_scale : Tensor
            As in `log_prob`.

        Returns
        -------
        Tensor
            Of the broadcast shape, without gradient.
        """
        location, log_scale = torch.broadcast_tensors(location, log_scale)
        return location + torch.exp(log_scale) * self._unit_sample(location)


class Gaussian(Likelihood):
    """Normal density; `log_scale` is the log standard deviation."""

    _unit_variance = 1.0

    def _log_prob(self, traces, location, log_scale):
        residual = (traces - location) * torch.exp(-log_scale)
        return -0.5 * (residual.square() + _LOG_2PI) - log_scale

    def _unit_sample(self, like):
        return randn_like(like)


class Huber(Likelihood):
    """Density proportional to ``exp(-huber(residual / scale))``, with the knee at one scale.

    A normal center with exponential tails: single large transients pull on it no harder than a
    residual of one scale does. Because it is normalized, its scale can be learned.

    References
    ----------
    Huber (1964), Robust estimation of a location parameter.
    """

    # Masses of the unnormalized center and of both tails, at unit scale.
    _center = math.sqrt(2 * math.pi) * math.erf(math.sqrt(0.5))
    _tails = 2 * math.exp(-0.5)
    _log_norm = math.log(_center + _tails)
    # Second moments: center - tails from the center, 5 * tails from the tails.
    _unit_variance = (_center + 4 * _tails) / (_center + _tails)

    def _log_prob(self, traces, location, log_scale):
        distance = (traces - location).abs() * torch.exp(-log_scale)
        near = distance.clamp(max=1.0)
        return -near * (distance - 0.5 * near) - self._log_norm - log_scale

    def _unit_sample(self, like):
        near = math.sqrt(2) * torch.erfinv((2 * rand_like(like) - 1) * math.erf(math.sqrt(0.5)))
        far = (1 + exponential_like(like)) * randn_like(like).sign()
        share = self._center / (self._center + self._tails)
        return torch.where(rand_like(like) < share, near, far)


class StudentT(Likelihood):
    """Student's t with four degrees of freedom; `log_scale` is the log of its scale.

    The pull of a residual on `location` falls off again beyond two scales, so that an artifact
    is all but ignored, while the variance is still finite (twice the squared scale).
    """

    df = 4.0
    _unit_variance = df / (df - 2)
    _log_norm = 0.5 * math.log(df * math.pi) + math.lgamma(df / 2) - math.lgamma((df + 1) / 2)

    def _log_prob(self, traces, location, log_scale):
        residual = (traces - location) * torch.exp(-log_scale)
        tail = 0.5 * (self.df + 1) * torch.log1p(residual.square() / self.df)
        return -tail - self._log_norm - log_scale

    def _unit_sample(self, like):
        half_df = torch.full_like(like, self.df / 2)
        return randn_like(like) * _unit_gamma(half_df).rsqrt()


class _LogLink(Likelihood):
    """Traces that are not negative, with the log of their mean as location."""

    has_log_link = True
    # e^10 counts per bin: far above any recording, far below where exp overflows.
    _log_rate_knee = 10.0

    def _log_rate(self, location):
        return soft_cap(location, self._log_rate_knee)

    def mean(self, location, log_scale=None):
        """Expected traces, such as counts per bin; see `Likelihood.mean`."""
        return torch.exp(self._log_rate(location))


class Gamma(_LogLink):
    """Positive traces of mean m and variance ``exp(log_scale) * m ** 2``.

    For what is positive and continuous, such as deconvolved calcium signals; zero is refused by
    the estimators, since the density there is 0 or infinite. The log of the squared coefficient
    of variation is capped softly at plus and minus 6, which keeps one precise neuron, or a silent
    one, from ruling the loss.
    """

    _log_scale_knee = 6.0

    def _log_rate(self, location):
        # The density divides by the mean: it must not vanish either.
        knee = self._log_rate_knee
        return -soft_cap(-super()._log_rate(location), knee)

    def _capped(self, log_scale):
        knee = self._log_scale_knee
        return -soft_cap(-soft_cap(log_scale, knee), knee)

    def _log_prob(self, traces, location, log_scale):
        log_rate = self._log_rate(location)
        shape = torch.exp(-self._capped(log_scale))
        positive = torch.where(traces > 0, traces, 1.0)
        log_ratio = torch.log(positive) - log_rate
        log_prob = (
            shape * (torch.log(shape) + log_ratio - torch.exp(log_ratio))
            - torch.lgamma(shape)
            - torch.log(positive)
        )
        # Outside of the support nothing has a density; NaN is what `masked_sum` leaves out.
        return torch.where(traces > 0, log_prob, math.nan)

    def std(self, location, log_scale):
        """Standard deviation of the traces; see `Likelihood.std`."""
        return torch.exp(0.5 * self._capped(log_scale)) * self.mean(location)

    @torch.no_grad()
    def sample(self, location, log_scale):
        """Draw traces; see `Likelihood.sample`."""
        mean, log_scale = torch.broadcast_tensors(self.mean(location), log_scale)
        return mean * _unit_gamma(torch.exp(-self._capped(log_scale)))


class _Count(_LogLink):
    """Counts per bin."""

    is_count = True


class Poisson(_Count):
    """Poisson counts; `location` is the log of the mean count per bin.

    The normalizer is the exact ``lgamma``; Stirling's formula, which losses often use in its
    place, is off by 0.04 nats for a count of two, and by that the evidence lower bound.
    """

    has_scale = False

    def _log_prob(self, traces, location, log_scale):
        log_rate = self._log_rate(location)
        return traces * log_rate - torch.exp(log_rate) - torch.lgamma(traces + 1)

    def std(self, location, log_scale=None):
        """Standard deviation of the counts, the root of their mean; see `Likelihood.std`."""
        return self.mean(location).sqrt()

    @torch.no_grad()
    def sample(self, location, log_scale=None):
        """Draw counts; see `Likelihood.sample`."""
        return poisson(self.mean(location))


class NegativeBinomial(_Count):
    """Overdispersed counts of mean m and variance ``m + exp(log_scale) * m ** 2``.

    The log dispersion is capped softly at plus and minus 12: below, no recording could tell the
    law from the Poisson; above, it spreads wider than any recording.

    References
    ----------
    Cameron & Trivedi (2013), Regression analysis of count data (there "NB2").
    """

    _log_dispersion_knee = 12.0

    def _log_dispersion(self, log_scale):
        knee = self._log_dispersion_knee
        return -soft_cap(-soft_cap(log_scale, knee), knee)

    def _log_prob(self, traces, location, log_scale):
        log_rate = self._log_rate(location)
        log_dispersion = self._log_dispersion(log_scale)
        shape = torch.exp(-log_dispersion)
        log1p_ratio = F.softplus(log_rate + log_dispersion)
        return (
            traces * log_rate
            - torch.lgamma(traces + 1)
            - (traces + shape) * log1p_ratio
            + _log_rising_ratio(traces, shape)
        )

    def std(self, location, log_scale):
        """Standard deviation of the counts; see `Likelihood.std`."""
        mean = self.mean(location)
        return (mean + torch.exp(self._log_dispersion(log_scale)) * mean.square()).sqrt()

    @torch.no_grad()
    def sample(self, location, log_scale):
        """Draw counts as Poisson counts of a gamma distributed rate; see `Likelihood.sample`."""
        mean, log_scale = torch.broadcast_tensors(self.mean(location), log_scale)
        log_dispersion = self._log_dispersion(log_scale)
        return poisson(mean * _unit_gamma(torch.exp(-log_dispersion)))


def _unit_gamma(shape: Tensor) -> Tensor:
    """Gamma draws of mean one."""
    return standard_gamma(shape) / shape


def _log_rising_ratio(counts: Tensor, shape: Tensor) -> Tensor:
    """``lgamma(counts + shape) - lgamma(shape) - counts * log(shape)``, near 0 for large shapes.

    Taken literally the difference of two huge numbers loses all digits in float32 as the law
    nears the Poisson. From 10 on Stirling's series is exact to float32, and its large parts
    cancel on paper.
    """
    small, large = shape.clamp(max=10.0), shape.clamp(min=10.0)
    literal = torch.lgamma(counts + small) - torch.lgamma(small) - counts * torch.log(small)

    def remainder(z):
        return (1 / 12 - (1 / 360 - 1 / 1260 / z.square()) / z.square()) / z

    series = (
        (counts + large - 0.5) * torch.log1p(counts / large)
        - counts
        + remainder(counts + large)
        - remainder(large)
    )
    return torch.where(shape < 10.0, literal, series)


_LIKELIHOODS = {
    "gaussian": Gaussian,
    "huber": Huber,
    "student_t": StudentT,
    "gamma": Gamma,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}


def get_likelihood(name: str) -> Likelihood:
    """The likelihood of a name.

    Parameters
    ----------
    name : {"gaussian", "huber", "student_t", "gamma", "poisson", "negative_binomial"}
        Which one.

    Returns
    -------
    Likelihood
        A new instance.

    Raises
    ------
    ValueError
        If there is no likelihood of that name.
    """
    if name not in _LIKELIHOODS:
        raise ValueError(f"likelihood must be one of {sorted(_LIKELIHOODS)}, got {name!r}")
    return _LIKELIHOODS[name]()
