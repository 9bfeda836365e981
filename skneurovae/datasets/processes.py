"""What simulators share. Private."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter


def ar1(rng, n_timesteps, time_constants):
    """Stationary AR(1) processes of unit variance, one column per time constant (in steps)."""
    phi = np.exp(-1 / np.asarray(time_constants))
    shocks = rng.standard_normal((n_timesteps, len(phi))) * np.sqrt(1 - phi**2)
    shocks[0] /= np.sqrt(1 - phi**2)
    return np.column_stack([lfilter([1], [1, -p], shock) for p, shock in zip(phi, shocks.T)])


def check_ranges(ranges):
    """Refuse arguments out of their range.

    Parameters
    ----------
    ranges : list of (name, value, low, high)
        Both bounds are allowed.

    Raises
    ------
    ValueError
        That names the argument.
    """
    for name, value, low, high in ranges:
        if not low <= value <= high:
            raise ValueError(f"{name} must lie between {low} and {high}; got {value}.")
