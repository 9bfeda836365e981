"""Device and random numbers of a fit."""

from __future__ import annotations

from contextlib import contextmanager

import torch

__all__ = ["resolve_device", "seeded"]


def resolve_device(device="auto"):
    """Choose where to compute.

    Parameters
    ----------
    device : str or torch.device, default="auto"
        "auto" takes CUDA where there is one, then MPS, then the CPU. Else "cpu", "mps", "cuda" or
        "cuda:1".

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If there is no such device here.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        return torch.device("cuda" if n_cuda else "mps" if has_mps else "cpu")
    here = [*["mps"] * has_mps, *["cuda"] * (n_cuda > 0), *(f"cuda:{i}" for i in range(n_cuda))]
    if str(device) not in ("cpu", *here):
        raise ValueError(
            f"device={str(device)!r} is not available; use one of {['auto', 'cpu', *here]}."
        )
    return torch.device(device)


@contextmanager
def seeded(seed, device):
    """Seed the random numbers of the CPU and of a device, and put back what was there afterwards.

    ``torch.manual_seed`` would also seed devices that are not in use, and leave them changed.

    Parameters
    ----------
    seed : int
    device : torch.device or str
        The device that the computation uses.
    """
    device = torch.device(device)
    module = {"cuda": torch.cuda, "mps": torch.mps}.get(device.type)
    where = (device,) if device.type == "cuda" else ()
    states = torch.get_rng_state(), module and module.get_rng_state(*where)
    try:
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(states[0])
        if module:
            module.set_rng_state(states[1], *where)
