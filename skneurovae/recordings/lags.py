"""Shifts in time within one recording, and contiguous folds of recordings."""

from __future__ import annotations

from numbers import Integral

import numpy as np

LONGEST = 1_000_000  # time steps


def check_lags(lags, name="lags", *, past=False):
    """Turn `lags` into an array.

    Parameters
    ----------
    lags : int or sequence of int
        In time steps, positive = past. An int n means -n, ..., n.
    name : str, default="lags"
        Of the parameter, for the message.
    past : bool, default=False
        An int n means 1, ..., n.

    Returns
    -------
    ndarray of int of shape (n_lags,)

    Raises
    ------
    ValueError
        If `lags` is negative, empty, not whole, holds a lag twice or one beyond a million.
    """
    least = 1 if past else 0
    if isinstance(lags, Integral) and not isinstance(lags, bool) and least <= lags <= LONGEST:
        return np.arange(1 if past else -lags, lags + 1)
    values = np.asarray(lags)
    whole = values.size > 0 and values.dtype.kind in "iu"
    if whole and np.abs(values).max() > LONGEST:
        raise ValueError(f"{name} must be at most {LONGEST} time steps; got {lags!r}.")
    if not whole or values.ndim != 1 or len(np.unique(values)) < len(values):
        raise ValueError(
            f"{name} must be an int of {least} or more or a list of different ints; got {lags!r}."
        )
    return values.astype(int)


def reached(lags, lengths):
    """Which lags stay inside at least one of some recordings; the others have nothing to give.

    Parameters
    ----------
    lags : ndarray of int of shape (n_lags,)
    lengths : sequence of int
        Time steps of the recordings.

    Returns
    -------
    ndarray of bool of shape (n_lags,)
    """
    return np.abs(lags) < max(lengths)


def lagged(values, lags):
    """Values of one recording at several lags.

    Parameters
    ----------
    values : ndarray of shape (n_timesteps, n_channels)
    lags : ndarray of int of shape (n_lags,)
        In time steps; entry t of lag l is ``values[t - l]``.

    Returns
    -------
    ndarray of shape (n_timesteps, n_lags, n_channels)
        NaN beyond both ends of the recording.
    """
    n_timesteps, n_channels = values.shape
    shifted = np.full((n_timesteps, len(lags), n_channels), np.nan)
    for i, lag in enumerate(lags):
        start, stop = max(lag, 0), min(n_timesteps + lag, n_timesteps)
        if start < stop:
            shifted[start:stop, i] = values[start - lag : stop - lag]
    return shifted


def contiguous_folds(lengths, n_folds):
    """Fold of each row of recordings that are stacked in time.

    Every recording is cut into blocks of contiguous time, one per fold: rows drawn at random would
    have their neighbors in the training set.

    Parameters
    ----------
    lengths : sequence of int
        Rows of each recording.
    n_folds : int

    Returns
    -------
    ndarray of int of shape (n_rows,)
    """
    return np.concatenate([np.arange(n) * n_folds // max(n, 1) for n in lengths]).astype(int)
