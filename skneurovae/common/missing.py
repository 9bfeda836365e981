"""What is missing, in whatever dress it comes, and arrays in which it is NaN or None.

Missing are NaN, None, `pandas.NA`, NaT, `numpy.ma.masked` and the empty string; so are the masked
entries of a masked array and the nulls of nullable columns of pandas and polars. Neither of the two
is imported: their objects turn into arrays by themselves.
"""

from __future__ import annotations

from numbers import Number

import numpy as np

# What would become floats, were it turned into an array as it is, where something is missing.
WHOLE = ("category", "int", "uint")


def is_missing(value):
    """Whether a single value is missing.

    Parameters
    ----------
    value : object

    Returns
    -------
    bool
    """
    if value is None or value is np.ma.masked or type(value).__name__ == "NAType":
        return True
    if isinstance(value, (str, bytes)):
        return len(value) == 0
    # Only NaN and NaT differ from themselves.
    differs = value != value
    return isinstance(differs, (bool, np.bool_)) and bool(differs)


def missing_entries(values):
    """Which entries of an array are missing.

    Parameters
    ----------
    values : ndarray of any dtype

    Returns
    -------
    ndarray of bool of the same shape
    """
    kind = values.dtype.kind
    if isinstance(values, np.ma.MaskedArray):
        return np.ma.getmaskarray(values) | missing_entries(values.data)
    if kind in "fc":
        return np.isnan(values)
    if kind in "mM":
        return np.isnat(values)
    if kind in "US":
        return values == values.dtype.type()
    if kind == "O":
        found = [is_missing(value) for value in values.ravel()]
        return np.array(found, dtype=bool).reshape(values.shape)
    return np.zeros(values.shape, dtype=bool)


def plain_array(values):
    """Plain array in which what is missing is NaN among floats and None among all else.

    Parameters
    ----------
    values : array, masked array, DataFrame, Series, or nested list of values

    Returns
    -------
    ndarray
        Of numbers, strings or times where nothing is missing, of float where numbers are all that
        is there and one is a float, else of objects. An array that is all of this already is
        returned as it is.

    Raises
    ------
    ValueError
        If the parts of a nested list differ in shape.
    """
    if isinstance(values, np.ma.MaskedArray):
        masked, values = np.ma.getmaskarray(values), np.asarray(values.data)
        if masked.any():
            floats = values.dtype.kind in "fc"
            values = values.copy() if floats else values.astype(object)
            values[masked] = np.nan if floats else None
    elif isinstance(values, (list, tuple)):
        values = _from_list(values)
    elif hasattr(values, "columns") and hasattr(values, "dtypes"):
        values = _from_frame(values)
    elif _is_column_of_whole_numbers(values):
        values = _from_list(list(values))
    values = np.asarray(values)
    if values.dtype.kind in "US":
        empty = missing_entries(values)
        if empty.any():
            values = values.astype(object)
            values[empty] = None
    return _native(values) if values.dtype.kind == "O" else values


def float_array(values):
    """Array of float64 in which what is missing is NaN.

    Parameters
    ----------
    values : array, masked array, DataFrame, Series, or nested list of numbers

    Returns
    -------
    ndarray of float64

    Raises
    ------
    ValueError, TypeError
        If an entry is no number.
    """
    return plain_array(values).astype(np.float64, copy=False)


def _from_list(values):
    """Array of a nested list, whose parts may be masked arrays, Series or lists themselves."""
    if not any(map(_has_entries, values)):
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array
    parts = [plain_array(value) if _has_entries(value) else np.array(None) for value in values]
    shapes = sorted({part.shape for part in parts})
    if len(shapes) > 1:
        raise ValueError(f"its parts have shapes {shapes[0]} and {shapes[1]}.")
    # NumPy would turn a number next to a string into a string, and NaN into "nan".
    alike = len({part.dtype.kind for part in parts}) == 1
    return np.stack(parts if alike else [part.astype(object) for part in parts])


def _has_entries(value):
    return isinstance(value, (list, tuple)) or np.ndim(value) > 0


def _is_column_of_whole_numbers(values):
    kind = getattr(values, "dtype", None)
    return not isinstance(kind, (np.dtype, type(None))) and str(kind).lower().startswith(WHOLE)


def _from_frame(frame):
    """Array of a table; where all its columns are single precision, so is what becomes of them."""
    values = np.asarray(frame)
    if values.dtype.kind != "O" or {str(kind).lower() for kind in frame.dtypes} != {"float32"}:
        return values
    return _native(values).astype(np.float32)


def _native(values):
    """Array of objects as one of numbers or strings if it can be, else with None for missing."""
    missing = missing_entries(values)
    kept = values[~missing].tolist()
    numbers = all(isinstance(value, (Number, np.bool_)) for value in kept)
    if not missing.any():
        simple = numbers or all(isinstance(value, str) for value in kept)
        return np.array(kept).reshape(values.shape) if simple else values
    if numbers and (not kept or any(isinstance(value, (float, np.floating)) for value in kept)):
        filled = np.full(values.shape, np.nan)
        filled[~missing] = kept
        return filled
    values = values.copy()
    values[missing] = None
    return values
