"""Random numbers of our own: PyTorch's generators are shared by all threads and by the caller."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = [
    "Dropout", "dropout", "exponential_like", "generator_on", "own_defaults", "poisson", "rand",
    "rand_like", "randint", "randn", "randn_like", "randperm", "seeded", "standard_gamma",
    "uniform",
]  # fmt: skip

_here = threading.local()  # `generators` of this thread, by device; absent outside of `seeded`


@contextmanager
def seeded(seed):
    """Draw from generators of this seed, in this thread; afterwards from those of before.

    Every device has a generator of its own, with the stream that ``torch.manual_seed(seed)`` would
    give it. Outside of this context all functions here draw from PyTorch's global generators.

    Parameters
    ----------
    seed : int
    """
    before = getattr(_here, "generators", None)
    _here.generators = _Generators(seed)
    try:
        yield
    finally:
        _here.generators = before


class _Generators(dict):
    """Generator of each device, made when it is first asked for."""

    def __init__(self, seed):
        super().__init__()
        self.seed = seed

    def __missing__(self, device):
        place = torch.empty(0, device=device).device  # of "cuda", "cuda:0": one stream for both
        known = place != device
        self[device] = self[place] if known else torch.Generator(place).manual_seed(self.seed)
        return self[device]


def generator_on(device):
    """The generator to draw with on a device; None = PyTorch's global one."""
    generators = getattr(_here, "generators", None)
    return None if generators is None else generators[torch.device(device)]


def rand(*shape, device="cpu", dtype=torch.float32, generator=None):
    """Uniform numbers from 0 to 1, as `torch.rand`."""
    generator = generator or generator_on(device)
    return torch.rand(shape, device=device, dtype=dtype, generator=generator)


def rand_like(values):
    """Uniform numbers from 0 to 1 in the shape of `values`."""
    return torch.empty_like(values).uniform_(generator=generator_on(values.device))


def uniform(*shape, low, high):
    """Uniform numbers from `low` to `high`, on the CPU: weights of a layer at the start."""
    return torch.empty(shape, device="cpu", dtype=torch.float32).uniform_(
        low, high, generator=generator_on("cpu")
    )


def randn(*shape, device="cpu", dtype=torch.float32):
    """Standard normal numbers, as `torch.randn`."""
    return torch.randn(shape, device=device, dtype=dtype, generator=generator_on(device))


def randn_like(values):
    """Standard normal numbers in the shape of `values`."""
    return torch.empty_like(values).normal_(generator=generator_on(values.device))


def exponential_like(values):
    """Exponential numbers of mean 1 in the shape of `values`."""
    return torch.empty_like(values).exponential_(generator=generator_on(values.device))


def randint(low, high, shape, device="cpu"):
    """Integers from `low` to below `high`, as `torch.randint`."""
    return torch.randint(low, high, shape, device=device, generator=generator_on(device))


def randperm(n, generator=None):
    """The numbers below `n` in an order that is drawn, on the CPU."""
    return torch.randperm(n, device="cpu", generator=generator or generator_on("cpu"))


def poisson(rates):
    """Poisson counts of these rates."""
    return torch.poisson(rates, generator=generator_on(rates.device))


def standard_gamma(shape):
    """Gamma numbers of scale 1 and of these shapes, positive.

    `torch.distributions.Gamma` draws them the same way, but from no generator of one's own.
    """
    drawn = torch._standard_gamma(shape, generator=generator_on(shape.device))
    return drawn.clamp_(min=torch.finfo(drawn.dtype).tiny)


def dropout(values, rate, training=True):
    """Zero each entry with probability `rate` and divide the others by 1 - `rate`."""
    if not (training and rate):
        return values
    if rate == 1:
        return torch.zeros_like(values)
    if values.device.type == "cpu":
        kept, rate = _kept(values, rate)
    else:
        kept = torch.empty_like(values).bernoulli_(1 - rate, generator=generator_on(values.device))
    return values * kept.div_(1 - rate)


def _kept(values, rate):
    """Which entries dropout on a CPU keeps, as 0 and 1, and the rate, rounded to 1 / 65536.

    Four entries share one draw of 64 bits, which takes a tenth of the time of `bernoulli_`.
    """
    draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64)
    draws.random_(-(2**63), None, generator=generator_on("cpu"))
    limit = min(round(rate * 65536), 65535)
    kept = draws.view(torch.int16)[: values.numel()].view(values.shape) >= limit - 32768
    return kept.to(values.dtype), limit / 65536


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` with `dropout`."""

    def forward(self, values: Tensor) -> Tensor:
        """Values, with dropout in training."""
        return dropout(values, self.p, self.training)


@contextmanager
def own_defaults():
    """In this thread: float32 and the CPU where nothing else is said, and generators of `seeded`.

    PyTorch makes its layers in the caller's default dtype, on the caller's default device and from
    the global generators. The first can only be changed for the whole process. Every network is
    made in this context; it serves as a decorator too.
    """
    with _OwnDefaults():
        yield


class _OwnDefaults(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in _FLOATS or func in _AS_GIVEN or func in _INTEGERS:
            given = (*args, *kwargs.values())
            if kwargs.get("device") is None:
                kwargs["device"] = given[0].device if isinstance(given[0], Tensor) else "cpu"
            floats = func in _FLOATS or (func in _AS_GIVEN and _holds_floats(given))
            if floats and kwargs.get("dtype") is None:
                kwargs["dtype"] = torch.float32
        if func in _DRAWS and kwargs.get("generator") is None:
            kwargs["generator"] = generator_on(kwargs["device"])
        elif func in _DRAWS_IN_PLACE and kwargs.get("generator") is None:
            tensor = args[0] if args else kwargs["tensor"]
            kwargs["generator"] = generator_on(tensor.device)
        return func(*args, **kwargs)


# What makes numbers of the default dtype: always, or if it is given Python's floats.
_FLOATS = {
    torch.empty, torch.zeros, torch.ones, torch.eye, torch.linspace, torch.rand, torch.randn,
}  # fmt: skip
_AS_GIVEN = {torch.tensor, torch.as_tensor, torch.full, torch.arange, torch.scalar_tensor}
_INTEGERS = {torch.randint, torch.randperm}
_DRAWS = {torch.rand, torch.randn, torch.randint, torch.randperm}
_DRAWS_IN_PLACE = {
    Tensor.uniform_, Tensor.normal_, nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_,
}  # fmt: skip


def _holds_floats(data):
    if isinstance(data, (list, tuple)):
        return any(map(_holds_floats, data))
    return isinstance(data, float) and not isinstance(data, np.generic)  # which know their dtype
