"""Where windows of recordings begin and end, and how what they give is put together again."""

from __future__ import annotations

import numpy as np

__all__ = ["blend_weights", "draw_windows", "plan_windows"]


def plan_windows(lengths, window_length, stride, *, causal=False):
    """Cut recordings into windows that together cover every time step.

    Parameters
    ----------
    lengths : sequence of int
        Number of time steps of each recording.
    window_length : int
        Time steps of a window. A shorter recording is one short window.
    stride : int
        Time steps between the starts of neighboring windows, at most `window_length`.
    causal : bool, default=False
        Without it all windows of a recording are of full length, and the last one is moved back
        until it ends with the recording. With it the last one keeps its start and is cut off, so
        that no window depends on what comes after it.

    Returns
    -------
    plan : ndarray of int64, shape (n_windows, 3)
        Recording, start and stop of each window, ordered by recording and start.

    Raises
    ------
    ValueError
        If `window_length` or `stride` is out of range.

    Examples
    --------
    >>> plan_windows([10, 3], window_length=4, stride=4)
    array([[ 0,  0,  4],
           [ 0,  4,  8],
           [ 0,  6, 10],
           [ 1,  0,  3]])
    """
    if window_length < 1:
        raise ValueError(f"window_length must be at least 1, got {window_length}.")
    if not 1 <= stride <= window_length:
        raise ValueError(
            f"stride must be between 1 and window_length={window_length}, got {stride}: "
            "time steps between windows would be dropped."
        )
    rows = []
    for recording, n_timesteps in enumerate(lengths):
        n_later = -(-max(n_timesteps - window_length, 0) // stride)
        for start in range(0, n_later * stride + 1, stride):
            if not causal:
                start = max(0, min(start, n_timesteps - window_length))
            rows.append((recording, start, min(start + window_length, n_timesteps)))
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def draw_windows(lengths, window_length, offsets):
    """Cut recordings into windows that begin at places of one's choice.

    The windows of a recording follow each other without a gap; the first and the last are moved
    into it, so that all are of full length and together cover every time step.

    Parameters
    ----------
    lengths : sequence of int
        Number of time steps of each recording.
    window_length : int
        Time steps of a window. A shorter recording is one short window.
    offsets : sequence of float
        For each recording a number from 0 to below 1: where, within a window's length, the first
        window would end that begins before the recording.

    Returns
    -------
    plan : ndarray of int64, shape (n_windows, 3)
        As of `plan_windows`.

    Examples
    --------
    >>> draw_windows([10, 3], window_length=4, offsets=[0.5, 0.5])
    array([[ 0,  0,  4],
           [ 0,  2,  6],
           [ 0,  6, 10],
           [ 1,  0,  3]])
    """
    rows = []
    for recording, (n_timesteps, offset) in enumerate(zip(lengths, offsets, strict=True)):
        last = max(n_timesteps - window_length, 0)
        starts = np.arange(int(offset * window_length) - window_length, n_timesteps, window_length)
        for start in np.unique(np.clip(starts, 0, last)).tolist():
            rows.append((recording, start, min(start + window_length, n_timesteps)))
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def blend_weights(rows, n_timesteps, causal=False, context=None):
    """Weight of every time step of every window of one recording in the stitched result.

    Where two windows overlap by at most half of their length, one fades out as the other fades in,
    both along a straight line; a time step near the edge of a window, where it lacks context,
    counts little.

    Parameters
    ----------
    rows : array of int, shape (n_windows, 3)
        The rows of one recording in a plan of `plan_windows`.
    n_timesteps : int
        Length of the recording.
    causal : bool, default=False
        Take each time step from the one window that saw most of its past; nothing is blended.
    context : (int, int), default=None
        Steps before and after a time step that its result depends on, and nothing beyond. Each step
        is then taken from the first window that holds all of them, or all that there are.

    Returns
    -------
    weights : list of ndarray of float64
        One of shape (stop - start,) per window; at every time step they sum to 1.

    Raises
    ------
    ValueError
        If a time step is in no window.

    Examples
    --------
    >>> blend_weights([(0, 0, 4), (0, 2, 6)], 6)
    [array([1.  , 1.  , 0.67, 0.33]), array([0.33, 0.67, 1.  , 1.  ])]
    """
    spans = [(int(start), int(stop)) for _, start, stop in rows]
    if context is not None:
        taken = np.zeros(n_timesteps, dtype=bool)
        weights = []
        for start, stop in spans:
            low = start + context[0] if start else 0
            high = stop - context[1] if stop < n_timesteps else stop
            steps = np.arange(start, stop)
            weights.append(((steps >= low) & (steps < high) & ~taken[start:stop]).astype(float))
            taken[start:stop] |= weights[-1] > 0
    elif causal:
        # Of the windows that hold a time step, the earliest saw most of its past.
        ends = np.maximum.accumulate([0, *(stop for _, stop in spans)])
        weights = [
            (np.arange(start, stop) >= end).astype(float) for (start, stop), end in zip(spans, ends)
        ]
    else:
        # Distances to the nearer edge are straight lines, and shares of two of them add up to 1.
        weights = [
            np.minimum(np.arange(1.0, stop - start + 1), np.arange(stop - start, 0.0, -1))
            for start, stop in spans
        ]
    total = np.zeros(n_timesteps)
    for (start, stop), weight in zip(spans, weights):
        total[start:stop] += weight
    if not total.all():
        raise ValueError(f"rows leave out time step {np.flatnonzero(total == 0)[0]}.")
    return [weight / total[start:stop] for (start, stop), weight in zip(spans, weights)]
