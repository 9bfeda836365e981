"""What training hides from the encoder, so that it learns to do without."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from numbers import Real

import torch

from skneurovae.common.randomness import rand

__all__ = ["HidingSchedule", "check_shares"]


def check_shares(name, bounds):
    """Refuse what is no pair of shares in order.

    Parameters
    ----------
    name : str
        For the message.
    bounds : (float, float)

    Raises
    ------
    ValueError
        If these are not two numbers with 0 <= low <= high <= 1.
    """
    numbers = len(bounds) == 2 and all(isinstance(bound, Real) for bound in bounds)
    if not numbers or not 0 <= bounds[0] <= bounds[1] <= 1:
        raise ValueError(f"{name} must be (low, high) with 0 <= low <= high <= 1, got {bounds}.")


@dataclass(frozen=True)
class HidingSchedule:
    """Rates at which neurons, spans of time and behavior are hidden.

    Whole neurons are what co-smoothing asks for, and whole time steps what prediction of the future
    does; spans are contiguous because a single hidden time step of a slow signal is given away by
    its neighbors. Every window has rates of its own, so that one network meets few and many missing
    neurons alike.

    Parameters
    ----------
    neurons : (float, float), default=(0.1, 0.6)
        Bounds of the share of neurons that is hidden over a whole window.
    spans : (float, float), default=(0.0, 0.2)
        Bounds of the share of entries that is hidden in spans of single neurons.
    bins : (float, float), default=(0.0, 0.0)
        Bounds of the share of time steps that is hidden in spans of all neurons together. In a
        window that would have nothing left one neuron is spared.
    span_length : (int, int), default=(4, 16)
        Bounds of the length of a span, in time steps. Overlapping spans make longer ones.
    behavior : float, default=0.3
        Probability that a behavior channel is hidden over a whole window.
    all_behavior : float, default=0.0
        Probability that all of its behavior is.
    everything : float, default=0.1
        Probability that all neurons of a window are hidden, so that traces are learned to follow
        from behavior alone. Only in windows with behavior, of which one channel then stays.

    Raises
    ------
    ValueError
        If a share or probability is not within 0 and 1, or bounds are in the wrong order.
    """

    neurons: tuple[float, float] = (0.1, 0.6)
    spans: tuple[float, float] = (0.0, 0.2)
    bins: tuple[float, float] = (0.0, 0.0)
    span_length: tuple[int, int] = (4, 16)
    behavior: float = 0.3
    all_behavior: float = 0.0
    everything: float = 0.1

    def __post_init__(self):
        for name in ("neurons", "spans", "bins"):
            check_shares(name, getattr(self, name))
        shortest, longest = self.span_length
        if not 1 <= shortest <= longest:
            raise ValueError(
                f"span_length must be (low, high) with 1 <= low <= high, got {(shortest, longest)}."
            )
        for name in ("behavior", "all_behavior", "everything"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}.")

    def hide(self, batch, generator=None):
        """Draw what an encoder may see.

        Unless all neurons of a window are hidden, something of at least one stays shown.

        Parameters
        ----------
        batch : Batch
            What it shows is the most that stays shown.
        generator : torch.Generator, default=None
            On the device of the batch; that of `skneurovae.common.randomness` by default.

        Returns
        -------
        Batch
            The same data with less `shown` and `behavior_shown`.
        """

        def uniform(*shape):
            return rand(*shape, device=batch.traces.device, generator=generator)

        n_windows, n_behaviors = len(batch.shown), batch.behavior.shape[2]

        # One draw per identity: a twin that stays shown would give the hidden one away.
        rows = batch.neurons.clamp(min=0)
        chance = uniform(n_windows, int(rows.max()) + 1).gather(1, rows)
        spared = _one_of(batch.shown.any(1), chance)[:, None]
        drop = chance < _between(self.neurons, uniform(n_windows, 1))
        shown = batch.shown & ~drop[:, None]
        for bounds, of_all in ((self.spans, False), (self.bins, True)):
            if bounds[1]:
                rate = _between(bounds, uniform(n_windows, 1, 1))
                shown = shown & ~self._spans(rate, batch, uniform, of_all)
        nothing = ~shown.any((1, 2), keepdim=True)
        shown = shown | (nothing & spared & batch.shown)

        chance = uniform(n_windows, n_behaviors)
        present = batch.behavior_shown.any(1)
        everything = present.any(1, keepdim=True) & (uniform(n_windows, 1) < self.everything)
        drop = chance < self.behavior
        if self.all_behavior:
            drop = drop | (uniform(n_windows, 1) < self.all_behavior)
        drop = drop & ~(everything & _one_of(present, chance))
        return dataclasses.replace(
            batch,
            shown=shown & ~everything[:, None],
            behavior_shown=batch.behavior_shown & ~drop[:, None],
        )

    def _spans(self, rate, batch, uniform, of_all):
        """Entries within spans, each with a probability of about `rate`.

        Of shape (B, T, N), or (B, T, 1) for spans of all neurons together.
        """
        n_windows, n_timesteps, n_neurons = batch.shown.shape
        shortest, longest = self.span_length
        # A time step is spared if no span began on any of the steps from which it would reach it.
        start_rate = -torch.log1p(-rate) * 2 / (shortest + longest)
        # Spans may have begun before the window, or its first steps would be hidden less often.
        before = longest - 1
        shape = n_windows, before + n_timesteps
        chance = (
            uniform(*shape, 1) if of_all else batch.one_per_identity(uniform(*shape, n_neurons))
        )
        # Given that a span starts, where its chance lies below the rate is uniform again.
        length = shortest + torch.floor(chance / start_rate * (longest - shortest + 1))
        time = torch.arange(before + n_timesteps, device=rate.device)[:, None]
        stop = torch.where(chance < start_rate, time + length.clamp(max=longest), 0.0)
        return (stop.cummax(1).values > time)[:, before:]


def _between(bounds, chance):
    low, high = bounds
    return low + (high - low) * chance


def _one_of(present, chance):
    """Mark in each row those of `present` with the largest `chance`, one and its twins; (B, n)."""
    if present.shape[1] == 0:
        return present
    return present & (chance == torch.where(present, chance, -1.0).amax(1, keepdim=True))
