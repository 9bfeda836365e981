"""Whether neurons have other levels in other recordings."""

from __future__ import annotations

import numpy as np

from skneurovae.common.moments import column_moments, unit_of

__all__ = ["column_levels", "levels_differ", "measured_levels", "steps_per_sample"]

LEAST_STEPS = 20  # observed time steps of a neuron in a recording, below which no gain is measured


def levels_differ(recordings, rows):
    """Whether labeled neurons differ more between recordings than within them.

    In most identities that at least two recordings hold: the variance over recordings of their
    means, beyond what chance gives slow traces, is larger than that within recordings, or their
    standard deviations differ, typically, by more than a factor of 2. Recordings of one session are
    trials, whose means differ by what the neurons do, and so are recordings without identities: of
    these nothing is made.

    Parameters
    ----------
    recordings : list of Recording
    rows : list of ndarray of int

    Returns
    -------
    bool
    """
    sessions = [r.session for r in recordings if r.session is not None]
    if len(set(sessions)) < len(sessions):
        return False
    measured = [
        measured_levels(r, np.where(_labeled(r), row, -1)) for r, row in zip(recordings, rows)
    ]
    owners = np.concatenate([row for row, *_ in measured])
    means, stds, counts = (np.concatenate([m[i] for m in measured]) for i in (1, 2, 3))
    # A slow trace has another mean in each short piece by chance.
    samples = counts / steps_per_sample(recordings)
    good = (counts >= LEAST_STEPS) & (stds > 0)
    ratios, spreads = [], []
    for owner in np.unique(owners[good]):
        own = good & (owners == owner)
        if own.sum() > 1:
            within = stds[own] ** 2
            chance = (within / samples[own]).mean(), (0.5 / samples[own]).mean()
            ratios.append((means[own].var(ddof=1) - chance[0]) / within.mean())
            spreads.append(np.log(stds[own]).var(ddof=1) - chance[1])
    if not ratios:
        return False
    return bool(np.median(ratios) > 1 or np.median(spreads) > np.log(2) ** 2)


def _labeled(recording):
    """Which neurons have an identity."""
    if recording.identities is None:
        return np.zeros(recording.n_neurons, dtype=bool)
    identities = np.asarray(recording.identities)
    return identities != ("" if identities.dtype.kind in "UO" else 0)


def steps_per_sample(recordings):
    """Time steps per independent sample, as if traces forgot exponentially."""
    products, squares = 0.0, 0.0
    for recording in recordings:
        mean, std = column_moments(recording.traces)
        moved = (recording.traces - mean) / unit_of(std)
        products += np.nansum(moved[1:] * moved[:-1])
        squares += np.nansum(moved**2)
    correlation = np.clip(products / max(squares, 1e-12), 0.0, 0.99)
    return float((1 + correlation) / (1 - correlation))


def measured_levels(recording, row):
    """Row, mean, spread and number of observed entries of each known neuron that is observed."""
    mean, std, count = column_levels(recording.traces)
    kept = (row >= 0) & (count > 0)
    return row[kept], mean[kept], std[kept], count[kept]


def column_levels(traces):
    mean, std = column_moments(traces)
    return mean, std, (~np.isnan(traces)).sum(0)
