"""Sums under a mask, and values that do not overflow."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["masked_sum", "soft_cap"]


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
