"""Training of a decoder by itself, on beliefs as they are and single time steps in random order."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from skneurovae.common.randomness import rand, randperm
from skneurovae.networks.variational import hidden_entries
from skneurovae.objectives import masked_sum
from skneurovae.recordings.batches import make_batches
from skneurovae.recordings.windows import draw_windows

LONG = 8000  # time steps of training, from which on the learning rate is as given
STRIPS, STRIP_LENGTH = 8, 32  # of shuffled time steps, in a batch
MOST_STEPS, MOST_ENTRIES = 2**14, 2**23  # of windows that are prepared at a time


def slowed(settings, n_timesteps):
    """Settings with a lower learning rate for short recordings, which are soon overfitted."""
    rate = settings.learning_rate * min(1.0, (n_timesteps / LONG) ** 0.5)
    return dataclasses.replace(settings, learning_rate=rate)


def step_batches(store, network, hiding, window_length, n_passes):
    """Function that gives batches of single time steps, drawn from windows prepared anew.

    Parameters
    ----------
    store : RecordingStore
    network : LatentNetwork
        What it prepares of a window must be all that its loss needs.
    hiding : HidingSchedule
    window_length : int
    n_passes : int
        How often the time steps of an epoch are gone through, in another order each time.

    Returns
    -------
    callable
        With the number of batches, about, as its attribute `n_steps`.
    """
    widest = max(store.n_neurons) * window_length
    n_windows = max(1, min(MOST_STEPS // window_length, MOST_ENTRIES // widest))

    def batches():
        plan = draw_windows(store.lengths, window_length, rand(len(store.lengths)).tolist())
        plan = plan[randperm(len(plan)).numpy()[:n_windows]]
        for block in make_batches(plan, store, n_windows, shuffle=True):
            prepared = network.prepare(hiding.hide(store.batch(block)))
            for _ in range(n_passes):
                strips = shuffled_strips(prepared)
                strips = strips[randperm(len(strips))]
                for chosen in strips.tensor_split(math.ceil(len(strips) / STRIPS)):
                    yield prepared.take_steps(*chosen.unbind(-1))

    plan = draw_windows(store.lengths, window_length, [0.5] * len(store.lengths))
    steps = np.bincount(plan[:, 0], plan[:, 2] - plan[:, 1])
    n_strips = min(1, n_windows / len(plan)) * np.maximum(1, steps // STRIP_LENGTH).sum()
    batches.n_steps = n_passes * max(1, math.ceil(n_strips / STRIPS))
    return batches


def shuffled_strips(batch):
    """Valid time steps of a batch, shuffled within each recording and cut into strips.

    Returns
    -------
    strips : Tensor of int64, shape (n_strips, STRIP_LENGTH, 2), on the CPU
        Window and place in it of each time step. What does not fill a strip is left out, but of a
        recording of less than one strip, of which some steps stand in it again.
    """
    windows, steps = batch.valid.cpu().nonzero(as_tuple=True)
    owners = batch.recording.cpu()[windows]
    strips = []
    for owner in owners.unique():
        own = (owners == owner).nonzero()[:, 0]
        own = own[randperm(len(own))]
        if len(own) < STRIP_LENGTH:
            own = own.repeat(math.ceil(STRIP_LENGTH / len(own)))
        own = own[: len(own) // STRIP_LENGTH * STRIP_LENGTH].view(-1, STRIP_LENGTH)
        strips.append(torch.stack([windows[own], steps[own]], -1))
    return torch.cat(strips)


@torch.no_grad()
def dispersion_of(network, batches):
    """How much counts of hidden entries vary around their prediction.

    Returns
    -------
    dispersion : float
        Variance over that of Poisson counts, median over neurons; NaN where nothing fires.
    excess : Tensor of shape (n_neurons,)
        Variance beyond that of Poisson counts, over the squared mean, at least 0.
    """
    network.eval()
    squared, expected, square = torch.zeros(3, network.n_neurons, dtype=torch.float64)
    for batch in batches():
        hidden = hidden_entries(batch)
        rates = network.predicted(batch)
        for sums, values in (
            (squared, (batch.traces - rates).square()), (expected, rates), (square, rates.square())
        ):  # fmt: skip
            total = masked_sum(values, hidden, 1).cpu().double()
            sums.index_add_(0, batch.neurons.clamp(min=0).flatten().cpu(), total.flatten())
    fires = expected > 0
    ratio = squared[fires] / expected[fires]
    excess = (squared - expected) / square.clamp(min=1e-12)
    return float(ratio.median()) if len(ratio) else math.nan, excess.clamp(min=0)
