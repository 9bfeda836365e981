"""The warning that data look wrong, told once per call."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from contextvars import ContextVar

_TOLD = ContextVar("told", default=None)  # of this thread and task alone


class DataWarning(UserWarning):
    """Data have the right form, but look as if something else was meant; the text says what to do.

    To silence it where all is as it should be::

        warnings.simplefilter("ignore", skneurovae.DataWarning)
    """


def tell(message):
    """Warn of data, at the line that called this package.

    Parameters
    ----------
    message : str
        One line: what was found, and what to do.
    """
    told = _TOLD.get()
    if told is not None:
        if message in told:
            return
        told.add(message)
    warnings.warn(message, DataWarning, stacklevel=level_of_caller())


def level_of_caller():
    """`stacklevel` by which `warnings.warn` names the line that called this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and _package(frame) in ("skneurovae", "sklearn"):
        frame, level = frame.f_back, level + 1
    return level


@contextmanager
def each_once():
    """In this block, tell the same only once: for what asks a model for predictions many times."""
    if _TOLD.get() is not None:
        yield
        return
    token = _TOLD.set(set())
    try:
        yield
    finally:
        _TOLD.reset(token)


def _package(frame):
    return frame.f_globals.get("__name__", "").partition(".")[0]
