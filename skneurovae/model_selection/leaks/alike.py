"""How alike two recordings are: correlation of what is new in each time step, in any alignment.

All lags are tried, forward, backward and with time stretched, neurons paired by name or column
and, where that fails, each with the one that follows it best. Evidence is counted in bits,
``-log2(1 - r^2) / 2`` per neuron and independent time step, and weighed against the number of
alignments tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from skneurovae.model_selection.leaks.equal import MARGIN
from skneurovae.model_selection.leaks.interleaved import interleaved
from skneurovae.model_selection.leaks.prepared import inflation, information

SUSPECTED = 0.8  # median correlation, over the neurons of the smaller recording, of what is new
CERTAIN = 0.99
SAFE = 1.5 * MARGIN  # bits, as what is capped to so many alignments is not quite independent
STRETCH = 5  # largest ratio of lengths


@dataclass(frozen=True)
class Likeness:
    """How alike two recordings are in their best alignment.

    Parameters
    ----------
    new : float
        Median correlation of what is new in each time step, over the neurons of the smaller
        recording; 0 for those without a partner.
    linear : float
        The same of the traces as they are.
    bits : float
        Evidence beyond what the best of all alignments has by chance.
    locked : bool
        Whether they go forward together from the first time step, as trials do.
    how : str
        What was changed, as far as it shows.
    half : bool, default=False
        Whether each has every other time step of one recording.
    """

    new: float
    linear: float
    bits: float
    locked: bool
    how: str
    half: bool = False


NOTHING = Likeness(0.0, 0.0, -np.inf, True, "")


def likeness(one, other, names, other_names, n_pairs=1):
    """Best `Likeness` over lags, directions, stretches of time and pairings of neurons.

    Parameters
    ----------
    one, other : Columns
    names, other_names : list
    n_pairs : int, default=1
        Pairs of recordings among which the best is looked for.

    Returns
    -------
    Likeness
    """
    ways = [("", one, other), (" reversed in time", one.turned, other)]
    n, m = len(one.scores), len(other.scores)
    if n != m and max(n, m) <= STRETCH * min(n, m):
        for length, change in ((min(n, m), averaged), (max(n, m), interpolated)):
            both = [_of_length(columns, length, change) for columns in (one, other)]
            ways.append((" with time stretched", *both))
    common = common_columns(names, other_names)
    best = NOTHING
    for how, first, second in ways:
        for pairing in (common, None) if len(common) else (None,):
            found = _in_one_way(first, second, pairing, n_pairs, how)
            if found.new > best.new + 0.01:
                best = found
            if best.new > CERTAIN and best.bits > 0:
                return best
    return best


def common_columns(names, other_names):
    """Columns of the same neurons in two recordings, ndarray of int of shape (n_common, 2)."""
    own = {name: k for k, name in enumerate(names)}
    pairs = [(own[name], k) for k, name in enumerate(other_names) if name in own]
    return np.array(pairs, dtype=int).reshape(-1, 2)


def alternating(one, other, names, other_names, n_pairs=1):
    """`Likeness` of recordings that hold every other time step of one; `NOTHING` if they do not."""
    r, bits = interleaved(one, other, common_columns(names, other_names))
    bits -= np.log2(2 * n_pairs) + MARGIN
    how = ", of which each has every other time step"
    return Likeness(r, r, bits, False, how, half=True) if r else NOTHING


def _in_one_way(one, other, common, n_pairs, how):
    """Likeness at the best lag, with neurons paired by name, or freely where `common` is None."""
    if common is None:
        lag = _best_lag(one.crowd, other.crowd)
    else:
        lag = _best_lag(one.white[:, common[:, 0]], other.white[:, common[:, 1]])
    a, b = (_unit(part) for part in _overlapping(one.white, other.white, lag))
    fewest = max(min((a != 0).any(0).sum(), (b != 0).any(0).sum()), 1)
    tried = 0.0
    if common is None:
        r = np.abs(a.T @ b)
        partner = r.argmax(1)
        tried = 2 * np.log2(max(b.shape[1], 1))
        told = (r.argmax(0)[partner] == np.arange(len(r))) & (one.told > 2 * tried)
        common = np.stack([np.arange(len(r)), partner], 1)[told]
        r = r[common[:, 0], common[:, 1]]
        how += " with neurons in another order"
    else:
        r = np.abs((a[:, common[:, 0]] * b[:, common[:, 1]]).sum(0))
    new = _median(r, fewest)
    if new < SUSPECTED:
        return NOTHING
    steps = len(a) / inflation(one.memory, other.memory)
    told = np.minimum(
        *(np.broadcast_to(c.told, c.modal.shape)[k] for c, k in zip((one, other), common.T))
    )
    told = told * len(a) / len(one.scores)  # few events cannot tell more
    bits = (np.minimum(information(r) * steps, told) - tried).sum() * one.independence
    need = np.log2(max(n_pairs, 1) * 4 * (len(one.scores) + len(other.scores))) + SAFE
    first, second = _overlapping(one.values, other.values, lag)
    linear = correlations(first[:, common[:, 0]], second[:, common[:, 1]])
    locked = lag == 0 and how == ""
    how += f" shifted by {abs(lag)} time steps" if lag else ""
    return Likeness(new, _median(np.abs(linear), fewest), float(bits - need), locked, how)


def _median(r, n):
    """Median of the n largest of some correlations, 0 for those that lack."""
    return float(np.median(np.sort(np.append(r, np.zeros(max(n - len(r), 0))))[::-1][:n]))


def correlations(first, second):
    """Correlation of each column of two tables over what both observe; 0 where one is constant."""
    both = ~(np.isnan(first) | np.isnan(second))
    n = np.maximum(both.sum(0), 1)
    x, y = (np.where(both, part, 0.0) for part in (first, second))
    x, y = (np.where(both, part - part.sum(0) / n, 0.0) for part in (x, y))
    norm = np.sqrt((x**2).sum(0)) * np.sqrt((y**2).sum(0))
    return (x * y).sum(0) / np.where(norm > 0, norm, np.inf)


def _best_lag(first, second):
    """Lag at which columns correlate most, by the sum of their squared correlations."""
    n, m = len(first), len(second)
    size = next_fast_len(n + m - 1, real=True)
    spectrum = np.conj(rfft(first, size, axis=0)) * rfft(second, size, axis=0)
    lags = np.arange(-(n - 1), m)
    overlap = np.minimum(n, m - lags) - np.maximum(0, -lags)
    power = (irfft(spectrum, size, axis=0)[lags] ** 2).sum(1) / overlap
    power[overlap < max(min(8, n, m), 0.25 * min(n, m))] = -1.0
    return int(lags[power.argmax()])


def _overlapping(first, second, lag):
    """The common stretch of two tables, the second of which is late by `lag`."""
    begin, end = max(0, -lag), min(len(first), len(second) - lag)
    return first[begin:end], second[begin + lag : end + lag]


def _unit(table):
    """Centered columns of length 1; 0 where nothing varies."""
    centered = table - table.mean(0)
    norm = np.sqrt((centered**2).sum(0))
    return centered / np.where(norm > 1e-9, norm, np.inf)


def _of_length(columns, length, change):
    if len(columns.scores) == length:
        return columns
    seen = change(columns.observed.astype(float), length)
    values = change(np.where(columns.observed, columns.values, 0.0), length)
    values = np.where(seen > 0.5, values / np.maximum(seen, 0.5), np.nan)
    scores = np.where(seen > 0.5, change(columns.scores, length), 0.0)
    return columns.having(values, scores.astype(np.float32))


def averaged(table, n_bins):
    """Means over equal stretches of time, which may begin and end within a time step."""
    edges = np.linspace(0, len(table), n_bins + 1)
    whole = np.minimum(edges.astype(int), len(table) - 1)
    total = np.vstack([np.zeros((1, table.shape[1])), np.cumsum(table, axis=0)])
    until = total[whole] + (edges - whole)[:, None] * table[whole]
    return np.diff(until, axis=0) * (n_bins / len(table))


def interpolated(table, length):
    """Linear interpolation to another number of time steps from the first to the last."""
    place = np.linspace(0, len(table) - 1, length)
    below = np.minimum(place.astype(int), max(len(table) - 2, 0))
    above = np.minimum(below + 1, len(table) - 1)
    return table[below] + (place - below)[:, None] * (table[above] - table[below])
