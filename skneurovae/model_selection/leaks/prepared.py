"""Traces as normal scores and whitened, so that chance alone makes their correlations small.

Two slow traces correlate by chance. Ranks turned into normal scores forget unit, offset and every
increasing function of a trace; a prediction from the past that is taken away leaves what is new in
each time step. New values of unrelated recordings correlate with a standard deviation of about
1 / sqrt(number of time steps): this is the null from the autocorrelation of the recordings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtri

from skneurovae.common.moments import varies

ORDER = 3  # time steps from which a step is predicted
NOISE = 1e-3  # of the variance: what is smaller, such as rounding, is not amplified by whitening
N_LAGS = 30  # of the autocorrelation that whitening has left
N_QUANTILES = 6  # of a crowd


@dataclass
class Columns:
    """What is known of the columns of a table, time first.

    Attributes
    ----------
    values : ndarray of float, shape (n_timesteps, n_columns)
        NaN = not observed.
    scores : ndarray of float32, same shape
        Normal scores of mean 0 and variance 1; 0 where nothing is observed, and in columns that are
        constant or a straight line, which tell nothing.
    modal : ndarray of int, shape (n_columns,)
        How often the most frequent value occurs.
    distinct : ndarray of int, shape (n_columns,)
        Number of different values.
    filters : list of ndarray
        Of `prediction_filters`.
    told : ndarray of shape (n_columns,)
        Bits that the values tell; as many as one likes until somebody has counted them.
    """

    values: np.ndarray
    scores: np.ndarray
    modal: np.ndarray
    distinct: np.ndarray
    filters: list
    told: np.ndarray | float = np.inf

    @cached_property
    def observed(self):
        """Entries that are not NaN, ndarray of bool of the shape of the values."""
        return ~np.isnan(self.values)

    @cached_property
    def rare(self):
        """Entries of each column that differ from its most frequent value."""
        return self.observed.sum(0) - self.modal

    @cached_property
    def white(self):
        """Whitened scores, of mean 0 and variance 1 in each column that tells anything."""
        return whitened(self.scores[None], self.observed[None], self.filters)[0]

    @cached_property
    def crowd(self):
        """Quantiles over columns of what is new, (n_timesteps, N_QUANTILES)."""
        return crowds(self.white[None])[0]

    @cached_property
    def tells(self):
        """Columns that vary, ndarray of bool."""
        return (self.scores != 0).any(0)

    @cached_property
    def turned(self):
        """The same columns, reversed in time."""
        return self.having(self.values[::-1], self.scores[::-1])

    def having(self, values, scores):
        """Columns with other values and scores, and else as these."""
        return Columns(values, scores, self.modal, self.distinct, self.filters, self.told)

    @cached_property
    def memory(self):
        """Autocorrelation that whitening has left, over all columns, at lags from 1 to N_LAGS."""
        power = float((self.white**2).sum())
        n_lags = min(N_LAGS, len(self.white) // 4) if power else 0
        rho = [np.vdot(self.white[:-k], self.white[k:]) / power for k in range(1, n_lags + 1)]
        return np.append(rho, np.zeros(N_LAGS - n_lags))

    @cached_property
    def independence(self):
        """Share of the columns that are independent: participation ratio of their correlations."""
        white = self.white[:, self.tells]
        n = white.shape[1]
        if n < 2:
            return 1.0
        squares = ((white.T @ white / len(white)) ** 2).sum()
        return float(n / max(squares - n * (n - 1) / len(white), n))  # less what chance adds


def prepare(tables, filters=None, noise=NOISE):
    """Columns of tables, whitened by one filter for all.

    Parameters
    ----------
    tables : list of ndarray of shape (n_timesteps, n_columns)
        NaN = not observed.
    filters : list of ndarray, default=None
        Of `prediction_filters`; None makes them for these tables.
    noise : float, default=NOISE

    Returns
    -------
    list of Columns
    """
    by_shape = {}
    for index, table in enumerate(tables):
        by_shape.setdefault(table.shape, []).append(index)
    scored, products = [], np.zeros((ORDER + 1, ORDER + 1))
    for members in by_shape.values():
        stack = np.stack([tables[i] for i in members])
        scored.append((members, normal_scores(stack)))
        products += _lagged_products(scored[-1][1][0])
    if filters is None:
        filters = prediction_filters(products, noise)
    prepared = [None] * len(tables)
    for members, parts in scored:
        for place, index in enumerate(members):
            prepared[index] = Columns(tables[index], *(part[place] for part in parts), filters)
        for direction in ("white", "turned"):  # many at once, as is fast
            _whiten_together([prepared[i] for i in members], direction)
    return prepared


def _whiten_together(columns, direction):
    if len(columns) == 1:
        return
    if direction == "turned":
        columns = [c.turned for c in columns]
    scores = np.stack([c.scores for c in columns])
    white = whitened(scores, np.stack([c.observed for c in columns]), columns[0].filters)
    for own, new, crowd in zip(columns, white, crowds(white)):
        own.white, own.crowd = new, crowd


def normal_scores(tables):
    """Normal scores of many tables of one shape; the other values are those of `Columns`.

    Parameters
    ----------
    tables : ndarray of shape (n_tables, n_timesteps, n_columns)

    Returns
    -------
    scores, modal, distinct : ndarrays with a first axis of n_tables
    """
    observed = ~np.isnan(tables)
    n_observed = observed.sum(1, keepdims=True)
    order = np.argsort(tables, axis=1)
    ordered = np.take_along_axis(tables, order, 1)
    begins = np.ones(tables.shape, dtype=bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ends = np.ones(tables.shape, dtype=bool)
    ends[:, :-1] = begins[:, 1:]
    steps = np.arange(tables.shape[1], dtype=np.int32)[:, None]
    first = np.maximum.accumulate(np.where(begins, steps, 0), 1)
    last = np.minimum.accumulate(np.where(ends, steps, len(steps))[:, ::-1], 1)[:, ::-1]
    known = steps < n_observed  # NaN is sorted to the end
    share = ((first + last + 1) / 2) / np.maximum(n_observed, 1)
    scores = np.zeros(tables.shape, dtype=np.float32)
    np.put_along_axis(scores, order, ndtri(np.where(known, share, 0.5)).astype(np.float32), 1)
    scores = _standardized(scores, observed) * ~straight(tables)[:, None]
    modal = np.where(known, last - first + 1, 0).max(1)
    return scores, modal, (begins & known).sum(1)


def _standardized(tables, observed):
    """Tables of mean 0 and variance 1 in each column that varies, 0 where nothing is observed."""
    n_observed = np.maximum(observed.sum(1, keepdims=True), 1).astype(tables.dtype)
    tables = np.where(observed, tables, 0)
    tables -= tables.sum(1, keepdims=True) / n_observed
    tables *= observed
    std = np.sqrt((tables**2).sum(1, keepdims=True) / n_observed)
    # What single precision leaves of a constant is no variation.
    least = 1e-6 if tables.dtype == np.float32 else 0.0
    return tables / np.where(std > least, std, np.inf)


def linear_columns(columns, noise=NOISE):
    """The same columns with standardized values in place of normal scores, and their own filter."""
    values = columns.values[None].astype(float)
    scores = np.clip(_standardized(values, ~np.isnan(values)), -8, 8) * columns.tells
    filters = prediction_filters(_lagged_products(scores), noise)
    scores = scores[0].astype(np.float32)
    return Columns(columns.values, scores, columns.modal, columns.distinct, filters)


def straight(tables):
    """Columns that are a straight line or constant, apart from rounding.

    Parameters
    ----------
    tables : ndarray of shape (n_tables, n_timesteps, n_columns)

    Returns
    -------
    ndarray of bool, shape (n_tables, n_columns)
    """
    observed = ~np.isnan(tables)
    last = tables.shape[1] - 1
    ends = observed.argmax(1)[:, None], last - observed[:, ::-1].argmax(1)[:, None]
    low, high = (np.take_along_axis(tables, end, 1) for end in ends)
    steps = np.arange(last + 1)[:, None] - ends[0]
    line = low + (high - low) * steps / np.maximum(ends[1] - ends[0], 1)
    off = np.max(np.abs(tables - line), axis=1, initial=0.0, where=observed)
    swapped = np.moveaxis(tables, 1, 0)
    return (off <= 1e-6 * _spread(tables, observed)) | ~varies(swapped)


def _spread(tables, observed):
    """Largest less smallest observed value over time; -inf where there is none."""
    low = np.min(tables, axis=1, initial=np.inf, where=observed)
    return np.max(tables, axis=1, initial=-np.inf, where=observed) - low


def _lagged_products(scores):
    """Sums of the products of a time step and those before it, over tables and columns."""
    n = max(scores.shape[1] - ORDER, 0)
    late = [scores[:, ORDER - k :][:, :n] for k in range(ORDER + 1)]
    return np.array([[(a * b).sum(dtype=float) for a in late] for b in late])


def prediction_filters(products, noise=NOISE):
    """Filters that subtract from a step its prediction from the 0, 1, ... steps before.

    Predictions are those of least squares, which do well also where a column hardly returns to its
    mean.

    Parameters
    ----------
    products : ndarray of shape (ORDER + 1, ORDER + 1)
        Sums of products of time steps, the latest first.
    noise : float, default=NOISE
        Share of the variance below which nothing is told apart from noise.

    Returns
    -------
    list of ndarray
        Filter k has k + 1 entries, the latest step first, and gives filtered values of one
        variance.
    """
    least = noise * max(np.diag(products).max(), 1e-12)
    products = products + least * np.eye(len(products))
    filters = []
    for order in range(len(products)):
        past = slice(1, order + 1)
        weights = np.linalg.solve(products[past, past], products[past, 0])
        error = products[0, 0] - weights @ products[past, 0]
        filters.append(np.append(1.0, -weights) / np.sqrt(max(error, least)))
    return filters


def whitened(scores, observed, filters):
    """What is new in each time step.

    Parameters
    ----------
    scores, observed : ndarrays of shape (n_tables, n_timesteps, n_columns)
    filters : list of ndarray

    Returns
    -------
    ndarray of float32, same shape
        Of mean 0 and variance 1 in each column that tells anything; 0 where nothing is observed.
    """
    white = np.empty(scores.shape, dtype=np.float32)
    for order, taps in enumerate(filters):  # the first steps have a shorter past
        stop = scores.shape[1] if order == len(filters) - 1 else min(order + 1, scores.shape[1])
        n = max(stop - order, 0)
        past = (np.float32(tap) * scores[:, order - k :][:, :n] for k, tap in enumerate(taps))
        white[:, order:stop] = sum(past)
    return np.clip(_standardized(white, observed), -4, 4)


def crowds(white):
    """Quantiles over neurons of what is new, whatever its sign: the same in any order of neurons.

    Parameters
    ----------
    white : ndarray of shape (n_tables, n_timesteps, n_neurons)

    Returns
    -------
    ndarray of shape (n_tables, n_timesteps, N_QUANTILES)
        Of mean 0 and variance 1 over time.
    """
    ranked = np.sort(np.abs(white), axis=2)
    place = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES * (ranked.shape[2] - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, ranked.shape[2] - 1)
    part = (place - below).astype(np.float32)
    values = ranked[:, :, below] + part * (ranked[:, :, above] - ranked[:, :, below])
    return _standardized(values, np.ones(values.shape, dtype=bool))


def inflation(one, other):
    """Factor by which what is left of autocorrelation raises the variance of correlations.

    ``1 + 2 sum_k rho_one(k) rho_other(k)`` (Bartlett 1946), with `Columns.memory`.
    """
    return max(1.0, 1 + 2 * float(one @ other))


def information(correlation):
    """Bits per independent sample that a correlation r tells, ``-log2(1 - r^2) / 2``."""
    r = np.minimum(np.abs(np.asarray(correlation, dtype=float)), 1 - 1e-9)
    return -0.5 * np.log2(1 - r**2)
