"""Smooth functions of behavior at several lags, which saturate where training ends."""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = ["N_FUNCTIONS", "BehaviorBasis", "shifted"]

# Functions of one channel. "linear" is the channel itself, kept within its range in training.
N_FUNCTIONS = {"linear": 1, "bounded": 7, "angle": 6}
N_BUMPS = N_FUNCTIONS["bounded"] - 1


class BehaviorBasis(nn.Module):
    """Functions of each channel of behavior, standardized, in a fixed order of channels and lags.

    A bounded channel gives itself and bumps of raised cosines, evenly spread over its range; an
    angle gives the sine and cosine of its first three multiples.

    Parameters
    ----------
    kinds : sequence of {"linear", "bounded", "angle"}
        One per channel.
    lags : tuple of int
        Time steps by which the functions are shifted; positive: behavior before what it drives.

    Attributes
    ----------
    low, high : Tensor of shape (n_channels,)
        Range of each channel in training, to which values are clipped.
    offset, scale : Tensor of shape (n_functions,)
        Mean and standard deviation of each function in training.

    References
    ----------
    Pillow et al. (2008), Spatio-temporal correlations and visual signalling in a complete neuronal
    population (raised cosine bumps).
    """

    def __init__(self, kinds, lags):
        super().__init__()
        self.kinds, self.lags = tuple(kinds), tuple(lags)
        self.n_functions = sum(N_FUNCTIONS[kind] for kind in self.kinds)
        owner = [q for q, kind in enumerate(self.kinds) for _ in range(N_FUNCTIONS[kind])]
        self.owner = torch.tensor(owner, dtype=torch.int64)  # channel of each function
        self.register_buffer("low", torch.zeros(len(self.kinds)))
        self.register_buffer("high", torch.ones(len(self.kinds)))
        self.register_buffer("offset", torch.zeros(self.n_functions))
        self.register_buffer("scale", torch.ones(self.n_functions))

    @property
    def n_copies(self):
        """In how many functions and lags a sample of a channel stands, on average."""
        return self.n_outputs / len(self.kinds)

    @property
    def n_outputs(self):
        """Number of functions times number of lags."""
        return self.n_functions * len(self.lags)

    def functions(self, behavior):
        """Values of the functions, (..., n_functions), of behavior (..., n_channels)."""
        values = []
        for q, kind in enumerate(self.kinds):
            channel = behavior[..., q]
            if kind == "angle":
                multiples = [k * channel for k in (1, 2, 3)]
                values += [f(angle) for angle in multiples for f in (torch.cos, torch.sin)]
                continue
            low, high = self.low[q], self.high[q]
            place = (torch.minimum(torch.maximum(channel, low), high) - low) / (high - low)
            values.append(place)
            if kind == "bounded":
                # Of twice the distance between centers to each side: their sum is smooth.
                distance = place * (N_BUMPS - 1) - torch.arange(
                    N_BUMPS, dtype=place.dtype, device=place.device
                ).view(-1, *[1] * place.ndim)
                bumps = 0.5 + 0.5 * torch.cos(math.pi * (distance / 2).clamp(-1, 1))
                values += list(bumps)
        return torch.stack(values, -1)

    def forward(self, behavior, seen, lags):
        """Functions of behavior at some lags.

        Parameters
        ----------
        behavior : Tensor of shape (B, T, n_channels)
            Anything where not seen.
        seen : Tensor of bool, like `behavior`
        lags : sequence of int

        Returns
        -------
        values : Tensor of shape (B, T, n_functions * len(lags))
            Lag by lag; 0 where not seen.
        seen : Tensor of bool, like `values`
        """
        behavior = torch.where(seen, behavior, 0.0)
        values = (self.functions(behavior) - self.offset) / self.scale
        seen = seen[..., self.owner.to(seen.device)]
        values = torch.where(seen, values, 0.0)
        return (
            torch.cat([shifted(values, lag) for lag in lags], -1),
            torch.cat([shifted(seen, lag) for lag in lags], -1),
        )


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
