"""A computation that neither sees nor changes how the caller has set PyTorch up."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import wraps

import torch

from skneurovae.common.randomness import own_defaults

__all__ = ["isolated", "isolation"]

_KINDS = ("cpu", "cuda", "mps")


@contextmanager
def isolation():
    """In this thread: gradients are taken, nothing is cast, float32 and the CPU are the defaults.

    The caller may be under ``torch.no_grad()``, ``torch.inference_mode()`` or autocast, or may have
    set another default dtype or device. Nothing that other threads see is changed; random numbers
    are the affair of `skneurovae.common.randomness`.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))  # and gradients are on
        for kind in _KINDS:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        usual = torch.get_default_dtype() == torch.float32
        if not usual or torch.get_default_device().type != "cpu":
            stack.enter_context(own_defaults())  # which every call would have to go through
        yield


def isolated(method):
    """Run a method in `isolation`; every public entry of an estimator with a network needs it."""

    @wraps(method)
    def alone(*args, **kwargs):
        with isolation():
            return method(*args, **kwargs)

    return alone
