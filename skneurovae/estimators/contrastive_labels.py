"""Labels that make pairs: those that are no numbers get one each, and those given as `y`."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral

import numpy as np

from skneurovae.common.missing import float_array, missing_entries, plain_array
from skneurovae.recordings import Recording
from skneurovae.recordings.check import kind_of

NEAREST = {"time_delta", "delta", "delta_normal"}  # which look for the closest number


def take_targets(X, y, behavior):
    """Take `y` for behavior.

    Parameters
    ----------
    X, y, behavior
        As in `fit`, `y` not None.

    Returns
    -------
    behavior : array or list

    Raises
    ------
    ValueError
        If there is behavior besides, or `y` has another number of entries than `X`.
    """
    many = kind_of(X) != "array"
    inside = many and any(getattr(item, "behavior", None) is not None for item in X)
    if behavior is not None or inside:
        raise ValueError(
            f"y and {'the recordings' if inside else 'behavior='} both hold what pairs are made "
            "of; leave one out (y=None, or recordings with behavior=None)."
        )
    if many and len(y) != len(X):
        raise ValueError(f"y has {len(y)} entries; X has {len(X)} recordings.")
    return list(y) if many else y


def label_channels(behavior, X, conditional, circular):
    """Channels that are labels by what they hold: integers, booleans or strings, not floats.

    On a circle, and where pairs are made by nearness alone, integers are numbers too.

    Parameters
    ----------
    behavior, X
        As in `fit`.
    conditional, circular
        Parameters of the estimator.

    Returns
    -------
    tuple of int
    """
    parts = [{"conditional": conditional}] if isinstance(conditional, str) else conditional
    kinds = {part.get("conditional") for part in parts if isinstance(part, Mapping)}
    tables = [table for table in map(_table, _entries(X, behavior)) if table is not None]
    labels = []
    for channel in range(max((table.shape[1] for table in tables), default=0)):
        columns = [table[:, channel] for table in tables if channel < table.shape[1]]
        if all(map(_is_whole, columns)) and not NEAREST & kinds:
            labels += [] if channel in (circular or {}) else [channel]
        elif any(_first_text(column) is not None for column in columns):
            labels.append(channel)
    return tuple(labels)


def number_labels(X, behavior, discrete):
    """Give labels that are no numbers a number each, the same in all recordings.

    Parameters
    ----------
    X, behavior
        As in `fit`.
    discrete : sequence of int, "all" or None
        Channels that hold labels.

    Returns
    -------
    X, behavior
        The same with numbers for labels; what is missing is NaN.

    Raises
    ------
    ValueError
        If a channel holds strings and is not in `discrete`.
    """
    inside = [getattr(item, "behavior", None) for item in X] if kind_of(X) == "list" else []
    tables = [_table(entry) for entry in (*inside, *_entries(X, behavior))]
    given = [table for table in tables if table is not None]
    if all(table.dtype.kind not in "OUS" for table in given):
        return X, behavior
    numbers = [np.full(table.shape, np.nan) for table in given]
    for channel in range(max(table.shape[1] for table in given)):
        held = [(n, t[:, channel]) for n, t in zip(numbers, given) if channel < t.shape[1]]
        if isinstance(discrete, str) or channel in (discrete or ()):
            names = {v for _, c in held for v in c[~missing_entries(c)].tolist()}
            codes = {name: float(code) for code, name in enumerate(sorted(names, key=str))}
            for new, column in held:
                new[:, channel] = [codes.get(value, np.nan) for value in column.tolist()]
            continue
        for new, column in held:
            text = _first_text(column)
            if text is not None:
                raise ValueError(
                    f"behavior channel {channel} holds the label {text!r}; labels need their "
                    "channel in discrete."
                )
            new[:, channel] = float_array(column)
    filled = iter(numbers)
    new = [None if table is None else next(filled) for table in tables]
    if any(entry is not None for entry in inside):
        X = [
            item.replace(behavior=value) if isinstance(item, Recording) else item
            for item, value in zip(X, new)
        ]
    outside = new[len(inside) :]
    if behavior is None:
        return X, None
    return X, outside[0] if kind_of(X) == "array" else outside


def _entries(X, behavior):
    """Behavior of each recording, as far as it is given apart from `X`."""
    if behavior is None:
        return []
    return [behavior] if kind_of(X) == "array" else list(behavior)


def _table(behavior):
    """Behavior as a plain array with one row per time step, None if there is none."""
    table = None if behavior is None else plain_array(behavior)
    if table is None or table.ndim not in (1, 2):
        return None  # what is malformed is told where recordings are checked
    return table.reshape(len(table), -1) if len(table) else None


def _is_whole(column):
    """Whether all that is not missing is an integer or a boolean."""
    if column.dtype.kind != "O":
        return column.dtype.kind in "iub"
    kept = column[~missing_entries(column)].tolist()
    return bool(kept) and all(isinstance(value, (Integral, np.bool_)) for value in kept)


def _first_text(column):
    """First entry that is a string, None if there is none."""
    if column.dtype.kind not in "OUS":
        return None
    return next((v for v in column.tolist() if isinstance(v, (str, bytes)) and len(v)), None)
