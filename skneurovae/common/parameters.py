"""Parameters of estimators as plain Python."""

from __future__ import annotations

from functools import wraps

import numpy as np

__all__ = ["plain", "with_plain_parameters"]


def plain(value):
    """Copy a value with Python's own numbers and lists in place of NumPy's.

    Grids of parameters, such as ``np.arange(2, 4)``, hold NumPy's, which PyTorch does not take as
    sizes, and of which some, ``np.uint8``, count only so far.

    Parameters
    ----------
    value : object
        Containers are searched; what is neither NumPy's nor a container comes back as it is.

    Returns
    -------
    object

    Examples
    --------
    >>> import numpy as np
    >>> plain({"n_components": np.int64(3), "lags": (np.int64(0), np.array([1, 2]))})
    {'n_components': 3, 'lags': (0, [1, 2])}
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(entry) for entry in value)
    return value


def with_plain_parameters(method):
    """Decorate a method of an estimator: while it runs, the parameters are as `plain` makes them.

    Afterwards they are again the very objects that were given, as scikit-learn's `clone` asks.

    Parameters
    ----------
    method : callable
        Such as `fit`; `all_or_nothing` comes before, and puts the parameters back if it fails.

    Returns
    -------
    callable
    """

    @wraps(method)
    def plainly(estimator, *args, **kwargs):
        given = estimator.get_params(deep=False)
        vars(estimator).update(plain(given))
        result = method(estimator, *args, **kwargs)
        vars(estimator).update(given)
        return result

    return plainly
