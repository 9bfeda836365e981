"""Sums under a mask, and values that do not overflow."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["bounded_above", "log_ceiling", "masked_sum", "soft_cap"]


def masked_sum(values: Tensor, mask: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Sum `values` where `mask` is True.

    Multiplying by the mask would turn a NaN under it into a NaN sum; choosing does not. The
    gradient of what is not chosen is zero, which stays zero further back as long as `values` came
    from finite numbers; `Likelihood.log_prob` sees to that for missing traces.

    Parameters
    ----------
    values : Tensor
        Any numbers, also NaN and infinite where `mask` is False.
    mask : Tensor of bool
        True = counted. Broadcasts against `values`.
    dim : int or tuple of int, default=None
        Dimensions to sum over; all by default.

    Returns
    -------
    Tensor
        The sum, 0 where nothing is counted.
    """
    return torch.where(mask, values, 0.0).sum(dim=dim)


def soft_cap(values: Tensor, knee: float) -> Tensor:
    """Leave `values` as they are up to `knee` and let them grow by a logarithm from there.

    ``exp(soft_cap(x, knee))`` is ``exp(x)`` up to the knee and the straight line that continues
    it, ``exp(knee) * (1 + x - knee)``, above: it does not overflow, its gradient neither explodes
    nor vanishes, and every value can still be reached.

    Parameters
    ----------
    values : Tensor
        Any finite numbers.
    knee : float
        Where the logarithm begins.

    Returns
    -------
    Tensor
        Of the shape of `values`, with a continuous derivative.
    """
    return values.clamp(max=knee) + torch.log1p((values - knee).relu())


def bounded_above(log_rates: Tensor, ceiling: Tensor) -> Tensor:
    """Leave log rates as they are up to `ceiling`, and let them exceed it by at most a factor of 2.

    What a network makes of inputs unlike those of its training may be any number; the exponential
    of it would be a rate that no neuron has.

    Parameters
    ----------
    log_rates : Tensor
        Any finite numbers.
    ceiling : Tensor
        Broadcasts against `log_rates`.

    Returns
    -------
    Tensor
        Of the broadcast shape, with a continuous derivative that is positive throughout.
    """
    above = (log_rates - ceiling).relu()
    return torch.minimum(log_rates, ceiling) + math.log(2) * above / (above + math.log(2))


def log_ceiling(largest, is_count):
    """Ceiling of the log rates of neurons from the largest trace of each in training.

    Parameters
    ----------
    largest : ndarray
        -inf where nothing was observed: of such a neuron no rate is refused.
    is_count : bool
        Of counts at least 1 is allowed, also of a neuron that never fired.

    Returns
    -------
    ndarray
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = np.log(np.maximum(largest, 1.0) if is_count else largest)
    return np.where(np.isfinite(largest) & np.isfinite(bound), bound, np.inf)
