"""Tables of pandas and polars, neither of which is imported."""

from __future__ import annotations


def like_frame(item, values):
    """Values in a table with the columns of another one.

    Parameters
    ----------
    item : DataFrame of pandas or polars, or anything else
    values : ndarray of shape (n_rows, n_columns)

    Returns
    -------
    DataFrame or ndarray
        Values as they are where `item` is no table.
    """
    library = type(item).__module__.partition(".")[0]
    if library == "pandas" and hasattr(item, "columns"):
        return type(item)(values, index=item.index, columns=item.columns)
    if library == "polars" and hasattr(item, "columns"):
        return type(item)(values, schema=item.columns)
    return values
