"""How the weight of the KL term changes over the epochs of a fit.

Both schedules are pure functions of the epoch. A schedule that reads back the value it wrote
the epoch before shrinks it geometrically instead of raising it.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["apply_free_bits", "beta_at", "free_bits_at"]


def beta_at(epoch: int, max_iter: int, beta: float, warmup: float = 0.3) -> float:
    """Weight of the KL term in an epoch: a linear rise from 0, then `beta`.

    Parameters
    ----------
    epoch : int
        Epoch, counted from 0.
    max_iter : int
        Number of epochs of the whole fit.
    beta : float
        Weight after the rise. 1 makes the loss the negative evidence lower bound.
    warmup : float, default=0.3
        Fraction of `max_iter` over which the weight rises, rounded to whole epochs. Where that
        is no epoch at all, `beta` holds from the start.

    Returns
    -------
    float
        The weight, between 0 and `beta`.

    Examples
    --------
    >>> [beta_at(epoch, max_iter=10, beta=1.0, warmup=0.4) for epoch in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    rise = round(warmup * max_iter)
    return beta if epoch >= rise else beta * epoch / rise


def free_bits_at(epoch: int, max_iter: int, free_bits: float) -> float:
    """Floor of the KL of a component in an epoch: 0 at first, then `free_bits`.

    Parameters
    ----------
    epoch : int
        Epoch, counted from 0.
    max_iter : int
        Number of epochs of the whole fit.
    free_bits : float
        Floor after the first tenth of the epochs (at least three of them, if there are as many), in
        nats per time step.

    Returns
    -------
    float
        The floor, in nats per time step.

    Examples
    --------
    >>> [free_bits_at(epoch, max_iter=100, free_bits=0.01) for epoch in (0, 9, 10)]
    [0.0, 0.0, 0.01]
    """
    return free_bits if epoch >= min(max(3, round(0.1 * max_iter)), max_iter) else 0.0


def apply_free_bits(kl_per_component: Tensor, floor: float) -> Tensor:
    """Charge every component at least `floor`, so that small KL terms are not pushed to zero.

    Parameters
    ----------
    kl_per_component : Tensor of shape (n_components,)
        KL averaged over windows and time steps. Averaging comes first: the floor is on what a
        component carries over the data, not on single steps, which are free to carry nothing.
    floor : float
        Smallest charge, in the units of `kl_per_component`. At 0 nothing is changed, so that a
        sampled KL, which may fall below 0, stays unbiased.

    Returns
    -------
    Tensor of shape (n_components,)
        The charged KL. Components under the floor get no gradient.

    References
    ----------
    Kingma et al. (2016), Improved variational inference with inverse autoregressive flow.
    """
    return kl_per_component.clamp(min=floor) if floor > 0 else kl_per_component
