"""Mean and spread of what is observed, and whether it varies at all; always summed in float64."""

from __future__ import annotations

import numpy as np

# What rounding alone may move the values of a constant, relative to the largest of them.
ROUNDING = {8: 1e-12, 4: 1e-6}  # by bytes of the type
DEAD = 1e-6  # spread of a neuron, in that of the others, below which it is taken for rounding


def varies(columns):
    """Which columns are more than a constant, its rounding, and NaN.

    This one function decides it everywhere: nothing is ever divided by the spread of a column that
    it calls constant. Rounding is that of the type of the columns, so give them as they came.

    Parameters
    ----------
    columns : ndarray of shape (n_timesteps, ...)
        NaN = not observed.

    Returns
    -------
    ndarray of bool of shape (...)

    Examples
    --------
    >>> import numpy as np
    >>> varies(np.array([[0.1, 0.1, 1.0], [0.1, 0.2, np.nan]]))
    array([False,  True, False])
    """
    low, high = _range(np.asarray(columns))
    return _moves(low, high, np.asarray(columns).dtype)


def observed_mean(values):
    """Mean over the first axis of entries that are not NaN.

    Parameters
    ----------
    values : ndarray of shape (n_timesteps, ...)

    Returns
    -------
    ndarray of float64, shape (...)
        NaN, without a warning, where nothing is observed.
    """
    observed = ~np.isnan(values)
    total = np.where(observed, values, 0.0).sum(0, dtype=float)
    return np.where(observed.any(0), total / np.maximum(observed.sum(0), 1), np.nan)


def moments_by_row(tables, rows, n_rows):
    """Mean and standard deviation of the observed entries of every row of a model's tables.

    Parameters
    ----------
    tables : list of ndarray of shape (n_timesteps, n_columns)
        NaN = not observed.
    rows : list of int arrays of shape (n_columns,)
        Row of each column.
    n_rows : int

    Returns
    -------
    mean : ndarray of float64, shape (n_rows,)
        0 for a row without data.
    std : ndarray of float64, shape (n_rows,)
        Exactly 0 for a row that does not vary, or has no data.
    """
    count, total, square = np.zeros((3, n_rows))
    low, high = np.full(n_rows, np.inf), np.full(n_rows, -np.inf)
    observed = [~np.isnan(table) for table in tables]
    for table, row, seen in zip(tables, rows, observed):
        np.add.at(count, row, seen.sum(0))
        np.add.at(total, row, np.where(seen, table, 0.0).sum(0, dtype=float))
        for extreme, ufunc, value in zip((low, high), (np.minimum, np.maximum), _range(table)):
            ufunc.at(extreme, row, value)
    mean = total / np.maximum(count, 1)
    with np.errstate(over="ignore"):  # of constants beyond 1e154, whose spread is not asked for
        for table, row, seen in zip(tables, rows, observed):
            np.add.at(square, row, (np.where(seen, table - mean[row], 0.0) ** 2).sum(0))
    coarsest = min((t.dtype for t in tables), key=lambda t: t.itemsize, default=np.dtype(float))
    std = np.sqrt(square / np.maximum(count, 1))
    return mean, np.where(_moves(low, high, coarsest), std, 0.0)


def largest_by_row(tables, rows, n_rows):
    """Largest observed entry of every row of a model's tables; -inf for a row without data.

    Parameters
    ----------
    tables, rows, n_rows
        As of `moments_by_row`.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
    """
    largest = np.full(n_rows, -np.inf)
    for table, row in zip(tables, rows):
        known = row >= 0
        np.maximum.at(largest, row[known], _range(table[:, known])[1])
    return largest


def column_moments(columns):
    """Mean and standard deviation of the observed entries of each column.

    Parameters
    ----------
    columns : ndarray of shape (n_timesteps, n_columns)

    Returns
    -------
    mean, std : ndarray of float64, shape (n_columns,)
        As `moments_by_row` has them.
    """
    n_columns = columns.shape[1]
    return moments_by_row([columns], [np.arange(n_columns)], n_columns)


def variance_of_sums(count, total, square):
    """Variance from sums of standardized entries; exactly 0 where it is but rounding.

    Parameters
    ----------
    count, total, square : ndarray
        Number of entries, their sum and the sum of their squares.

    Returns
    -------
    ndarray
    """
    count = np.maximum(count, 1)
    mean = total / count
    variance = square / count - mean**2
    # The difference of two sums keeps half of their digits, and what is dead has a unit of 1.
    return np.where(variance > DEAD**2 + 1e-10 * mean**2, variance, 0.0)


def standardization(tables, rows, n_rows):
    """What to subtract from each neuron and to divide it by, float64 of shape (n_rows,) each.

    As `moments_by_row`, with units as `neuron_units` gives them.
    """
    mean, std = moments_by_row(tables, rows, n_rows)
    return mean, neuron_units(std)


def neuron_units(std):
    """What to divide neurons by: the standard deviation, or of a dead one that of the others.

    Parameters
    ----------
    std : ndarray of shape (n_neurons,)
        Standard deviations, all in one unit.

    Returns
    -------
    ndarray of shape (n_neurons,)
        Positive. In place of that of a neuron that `is_dead` stands the median of the others, 1 if
        there are none.
    """
    dead = is_dead(std)
    return np.where(dead, np.median(std[~dead]) if not dead.all() else 1.0, std)


def is_dead(std):
    """Which neurons do not vary, or a millionth as much as the others.

    What moves those is rounding, as a filter or a change of type leaves it. Divided by that, such a
    neuron would be as loud as any other, and beyond all bounds if it woke up.

    Parameters
    ----------
    std : ndarray of shape (n_neurons,)
        Standard deviations, all in one unit.

    Returns
    -------
    ndarray of bool of shape (n_neurons,)
    """
    alive = std[std > 0]
    return std <= (DEAD * np.median(alive) if len(alive) else 0.0)


def unit_of(std):
    """What to divide by: the standard deviation, or 1 where it is 0."""
    return np.where(std > 0, std, 1.0)


def own_moments(recording):
    """Observed mean and standard deviation of each neuron of a recording.

    Returns
    -------
    mean, std : ndarray of shape (n_neurons,), in the dtype of the traces
        0 where a neuron was never observed.
    """
    dtype = recording.traces.dtype
    return tuple(part.astype(dtype) for part in column_moments(recording.traces))


def _range(values):
    """Least and largest observed value over the first axis; inf and -inf where there is none."""
    observed = ~np.isnan(values)
    low = np.where(observed, values, np.inf).min(0, initial=np.inf)
    return low, np.where(observed, values, -np.inf).max(0, initial=-np.inf)


def _moves(low, high, dtype):
    """Whether values between `low` and `high` are more than a constant with its rounding."""
    tolerance = ROUNDING[8] if dtype.kind != "f" or dtype.itemsize >= 8 else ROUNDING[4]
    with np.errstate(over="ignore", invalid="ignore"):
        # Halves, as the difference of two huge numbers is infinite.
        half = high / 2 - low / 2
        return half > tolerance * np.maximum(np.abs(low), np.abs(high)) / 2
