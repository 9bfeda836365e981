"""Data and checks shared by the tests of decoding."""

import numpy as np
import pytest


def slow(n_timesteps, n_channels, seed=0, phi=0.9):
    """Autoregressive series of variance one."""
    x = np.random.default_rng(seed).standard_normal((n_timesteps, n_channels))
    for t in range(1, n_timesteps):
        x[t] = phi * x[t - 1] + np.sqrt(1 - phi**2) * x[t]
    return x


def ring(n_timesteps, seed=0, noise=0.1):
    """Angles that run round and round, and latents on the circle."""
    angle = np.random.default_rng(seed).normal(0, 0.3, n_timesteps).cumsum() % (2 * np.pi)
    latents = np.column_stack([np.cos(angle), np.sin(angle)])
    return angle, latents + noise * np.random.default_rng(seed + 1).standard_normal(latents.shape)


def raises(call, message, kind=ValueError):
    with pytest.raises(kind, match=message) as error:
        call()
    assert "\n" not in str(error.value)
