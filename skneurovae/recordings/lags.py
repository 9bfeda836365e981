"""Shifts in time within one recording, and contiguous folds of recordings."""

from __future__ import annotations

from numbers import Integral

import numpy as np


def check_lags(lags, name="lags"):
    """Turn `lags` into an array.

    Parameters
    ----------
    lags : int or sequence of int
        In time steps, positive = past. An int n means -n, ..., n.
    name : str, default="lags"
        Of the parameter, for the message.

    Returns
    -------
    ndarray of int of shape (n_lags,)

    Raises
    ------
    ValueError
        If `lags` is negative, empty, not whole or holds a lag twice.
    """
    if isinstance(lags, Integral) and not isinstance(lags, bool) and lags >= 0:
        return np.arange(-lags, lags + 1)
    values = np.asarray(lags)
    whole = values.ndim == 1 and values.size > 0 and values.dtype.kind in "iu"
    if not whole or len(np.unique(values)) < len(values):
        raise ValueError(
            f"{name} must be an int of 0 or more or a list of different ints; got {lags!r}."
        )
    return values.astype(int)


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
