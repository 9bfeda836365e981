"""Pieces of one recording that are too near in time, or were scaled together before cutting."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from scipy.stats import chi2

from skneurovae.common.moments import observed_mean
from skneurovae.metrics import decay_time
from skneurovae.model_selection.leaks.leak import Leak

CHANCE = 1e-6  # that pieces in a list continue each other
EXACTLY = 1e-5  # mean and standard deviation of what was standardized as a whole
RATIO = 0.25  # of squared deviations to those that chance would give


def near_in_time(X, sides):
    """Pieces on both sides of a split whose distance is known and shorter than their memory.

    Parameters
    ----------
    X : list
        Of which the items that know their source and start are looked at.
    sides : Sides

    Yields
    ------
    Leak
    """
    sources = defaultdict(list)
    for index, piece in enumerate(X):
        if hasattr(piece, "start") and hasattr(piece, "stop"):
            sources[piece.session, piece.source].append(index)
    for members in sources.values():
        members.sort(key=lambda i: (X[i].start, X[i].stop))
        decays = {}
        for place, a in enumerate(members):
            for b in members[place + 1 :]:
                distance = X[b].start - X[a].stop
                if distance < 0:
                    continue
                if b not in decays:
                    decays[b] = decay_time(X[b].traces)
                if distance >= decays[b]:
                    break
                if sides.apart(a, b):
                    yield Leak(
                        "neighbors in time",
                        f"recordings {min(a, b)} and {max(a, b)}, in train and test, are "
                        f"{distance} time steps apart, but traces stay correlated for about "
                        f"{decays[b]}: give segment a longer gap.",
                        certain=False,
                    )


def continued(recordings, names, sides):
    """Pieces of a list that go on where the one before ends, on both sides of a split.

    The distance of the last time step of a piece from the first one of the next is compared with
    that from the first ones of all others, each relative to how far apart the two pieces are on
    average: neither a common start of all trials nor a drift over the session looks like it.

    Parameters
    ----------
    recordings : list of Recording
    names : list of list
        What tells the neurons of each recording apart.
    sides : Sides

    Yields
    ------
    Leak
    """
    n = len(recordings)
    if n < 8 or any(own != names[0] for own in names):
        return
    first, last, mean, power = (
        np.array(part) for part in zip(*(_ends(recording.traces) for recording in recordings))
    )
    unit = np.sqrt(np.maximum((power - mean**2).mean(0), 0))
    used = (unit > 0) & np.isfinite(first).all(0) & np.isfinite(last).all(0)
    if not used.any():
        return
    first, last, mean = (part[:, used] / unit[used] for part in (first, last, mean))
    spread = (power[:, used] / unit[used] ** 2 - mean**2).sum(1)
    apart = _squared_distances(last, first)
    usual = _squared_distances(mean, mean) + spread[:, None] + spread
    relative = np.where(np.eye(n, dtype=bool), np.nan, apart / np.maximum(usual, 1e-12))
    pairs = np.arange(n - 1)
    near = relative[pairs, pairs + 1]
    rank = (relative[:-1] <= near[:, None]).sum(1) / (n - 1)
    chance = chi2.sf(-2 * np.log(rank).sum(), 2 * (n - 1))
    split = [i for i in pairs.tolist() if sides.apart(i, i + 1)]
    if chance < CHANCE and split and np.median(near) < 0.5:
        yield Leak(
            "neighbors in time",
            f"recordings {split[0]} and {split[0] + 1}, and {len(split) - 1} more pairs in train "
            f"and test, go on where the other ends (chance {chance:.0e}): cut them with "
            "segment(X, length, gap), and filter after cutting.",
            certain=False,
        )


def _ends(traces):
    """First and last time step, mean and mean square of each neuron."""
    return traces[0], traces[-1], observed_mean(traces), observed_mean(np.square(traces))


def _squared_distances(a, b):
    return (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T


def scaled_together(recordings, names, sides):
    """Traces that were standardized over pieces on both sides of a split.

    Pieces that were standardized one by one have mean 0 each; pieces of a recording that was
    standardized as a whole have it together, nearly, where a gap or a tail was dropped. Statistics
    of training alone leave the mean of all pieces where chance puts it.

    Parameters
    ----------
    recordings : list of Recording
    names : list of list
    sides : Sides

    Yields
    ------
    Leak
    """
    groups = defaultdict(list)
    for index, recording in enumerate(recordings):
        groups[recording.session, tuple(names[index])].append(index)
    for (session, _), members in groups.items():
        if len(members) < 2 or not sides.across(members):
            continue
        if _standardized_as_one([recordings[i].traces for i in members], session is not None):
            who = f"recordings {members[0]} to {members[-1]}"
            who = who if session is None else f"session {session!r}"
            yield Leak(
                "scaling",
                f"traces of {who} have mean 0 and standard deviation 1 over train and test pieces "
                "together: scale after the split, or leave it to the model.",
                certain=False,
            )


def _standardized_as_one(tables, dropped):
    """Whether mean and variance are 0 and 1 together, exactly or, if some was `dropped`, nearly."""
    counts = np.array([(~np.isnan(t)).sum(0) for t in tables], dtype=float)
    sums = np.array([np.nansum(t, axis=0, dtype=float) for t in tables])
    squares = np.array([np.nansum(np.square(t, dtype=float), axis=0) for t in tables])
    total = counts.sum(0)
    varies = total > 0
    varies &= np.where(varies, squares.sum(0) / np.maximum(total, 1), 0) > 0
    if not varies.any():
        return False
    counts, sums, squares = counts[:, varies], sums[:, varies], squares[:, varies]
    total = total[varies]
    mean, power = sums.sum(0) / total, squares.sum(0) / total
    known = np.maximum(counts, 1)
    deviations = [(sums / known, mean, 0.0), (squares / known, power, 1.0)]
    # Pieces that have mean 0 each were standardized one by one, which is no leak.
    if np.abs(sums / known).max() < 1e-2:
        return False
    if all(np.abs(value - aim).max() < EXACTLY for _, value, aim in deviations):
        return True
    if not dropped:
        return False
    return all(
        ((value - aim) ** 2).sum() < RATIO * (pieces.var(0, ddof=1) / len(tables)).sum()
        for pieces, value, aim in deviations
    )
