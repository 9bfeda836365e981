"""Whether Ctrl-C ends a training early, so that a fit returns what it has so far."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["interrupts_end_training", "interrupts_go_on"]

_GO_ON = ContextVar("interrupts_go_on", default=False)  # of this thread and task alone


@contextmanager
def interrupts_go_on():
    """In this block every `KeyboardInterrupt` goes on to the caller.

    For whoever fits models to compare them: half-trained ones must not be scored.
    """
    token = _GO_ON.set(True)
    try:
        yield
    finally:
        _GO_ON.reset(token)


def interrupts_end_training():
    """Whether a `KeyboardInterrupt` ends the training, and no more."""
    return not _GO_ON.get()
