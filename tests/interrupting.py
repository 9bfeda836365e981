"""Ctrl-C at any time: an exception at the n-th call of a function of the package."""

import inspect
import sys
from contextlib import contextmanager
from pathlib import Path

import skneurovae

PACKAGE = str(Path(skneurovae.__file__).parent)


@contextmanager
def interrupt_at(number, exception=KeyboardInterrupt):
    """Raise `exception` at the `number`-th call, counted from 1; yields the count so far.

    Generators are left out: what is raised while one is closed goes nowhere.
    """
    count = [0]

    def watch(frame, event, argument):
        code = frame.f_code
        inside = code.co_filename.startswith(PACKAGE) and not code.co_flags & inspect.CO_GENERATOR
        if event == "call" and inside:
            count[0] += 1
            if count[0] == number:
                raise exception

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield count
    finally:
        sys.setprofile(before)


def n_calls(function, *arguments):
    """How often functions of the package are called when `function` is."""
    with interrupt_at(None) as count:
        function(*arguments)
    return count[0]
