"""Recordings that hold every other time step of one recording.

They share no number. But each lies half a time step beside the other: for every neuron the two
nearest lags correlate alike, and no less than neighbors within one of them, which are twice as far
apart; the next two lags correlate as lags one and two within one of them on average. Trials that
answer to the same stimulus correlate most at lag 0 and alike on both sides of it.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from skneurovae.model_selection.leaks.prepared import information

N_NEURONS = 8  # at least
N_STEPS = 75  # so that neither trials of one condition nor a slow drift look like it
NEAR = 0.95  # of the correlation between neighboring time steps
OFF = 0.3  # squared deviation from what is expected, relative to its square


def interleaved(one, other, common):
    """Whether two recordings alternate, and the correlation between their nearest time steps.

    Parameters
    ----------
    one, other : Columns
    common : ndarray of int, shape (n_common, 2)
        Columns of the same neurons.

    Returns
    -------
    correlation : float
        Mean over neurons; 0 where they do not alternate.
    bits : float
        That the correlation tells.
    """
    n, m = len(one.scores), len(other.scores)
    if len(common) < N_NEURONS or abs(n - m) > 1 or min(n, m) < N_STEPS:
        return 0.0, 0.0
    told = one.tells[common[:, 0]] & other.tells[common[:, 1]]
    a, b = one.scores[:, common[told, 0]], other.scores[:, common[told, 1]]
    if a.shape[1] < N_NEURONS:
        return 0.0, 0.0
    first, second = ((_at(a, a, lag) + _at(b, b, lag)) / 2 for lag in (1, 2))
    between = (first + second) / 2
    for side in (-1, 1):
        near, beside = _at(a, b, 0), _at(a, b, side)
        outer = _at(a, b, -side), _at(a, b, 2 * side)
        if (
            min(near.mean(), beside.mean()) > NEAR * first.mean()
            and max(r.mean() for r in outer) < first.mean()
            and _off(near, beside) < OFF
            and max(_off(r, between) for r in outer) < OFF
        ):
            steps = len(a) * (1 - first.mean() ** 2) / (1 + first.mean() ** 2)  # independent ones
            return float(near.mean()), float(information(near).sum() * steps * one.independence)
    return 0.0, 0.0


def best_shift(one, other, common):
    """Largest correlation at any lag, mean over neurons: what pairs that do not alternate reach."""
    if not len(common):
        return 0.0
    a, b = one.scores[:, common[:, 0]], other.scores[:, common[:, 1]]
    size = next_fast_len(len(a) + len(b) - 1, real=True)
    products = (np.conj(rfft(a, size, axis=0)) * rfft(b, size, axis=0)).mean(1)
    return float(irfft(products, size).max()) / min(len(a), len(b))


def _off(found, expected):
    return float(((found - expected) ** 2).sum() / max((expected**2).sum(), 1e-12))


def _at(a, b, lag):
    """Correlation of each column with that of another table some time steps later."""
    n = min(len(a), len(b))
    first, second = a[2 : n - 2], b[2 + lag : n - 2 + lag]
    first, second = first - first.mean(0), second - second.mean(0)
    norm = np.sqrt((first**2).sum(0) * (second**2).sum(0))
    return (first * second).sum(0) / np.where(norm > 0, norm, np.inf)
