"""Record the warnings of one thread, and leave those of all others as they are.

`warnings.catch_warnings` exchanges the filters of the whole process and puts them back on leaving,
so that of two threads one may lose the warnings of the other, or leave its filters behind.
"""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager


class _InRecordingThreads(type):
    """Type of a category that holds all warnings in threads that record, and none elsewhere."""

    def __subclasscheck__(cls, category):
        return bool(_records.get(threading.get_ident()))


class _Recorded(Warning, metaclass=_InRecordingThreads):
    """What the one filter of all recorders matches."""


_lock = threading.Lock()
_records = {}  # lists of the recorders of each thread, the innermost last
_shown_before = None  # how warnings were shown before the first recorder came


@contextmanager
def own_warnings():
    """Record every warning of this thread while the block runs.

    Nothing is shown, and none is left out because it was shown before. Other threads go on as
    before, and filters are as they were when the last block is left. Of a block that the code
    inside opens with `warnings.catch_warnings`, the warnings are its own.

    Yields
    ------
    list of str
        Texts of the warnings so far.
    """
    told, thread = [], threading.get_ident()
    _enter(thread, told)
    try:
        yield told
    finally:
        _leave(thread, told)


def _enter(thread, told):
    global _shown_before
    with _lock:
        if not _records:
            if warnings.showwarning is not _show:  # as a block that was left late may put it back
                _shown_before = warnings.showwarning
            warnings.showwarning = _show
            warnings.simplefilter("always", _Recorded)
        _records.setdefault(thread, []).append(told)


def _leave(thread, told):
    with _lock:
        own = _records[thread]
        own[:] = [record for record in own if record is not told]
        if not own:
            del _records[thread]
        if not _records:
            warnings.filters[:] = [f for f in warnings.filters if f[2] is not _Recorded]
            if warnings.showwarning is _show:
                warnings.showwarning = _shown_before


def _show(message, category, filename, lineno, file=None, line=None):
    own = _records.get(threading.get_ident())
    if own:
        own[-1].append(str(message))
    else:
        _shown_before(message, category, filename, lineno, file, line)
