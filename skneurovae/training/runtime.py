"""Device of a fit."""

from __future__ import annotations

import torch

__all__ = ["resolve_device"]


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
