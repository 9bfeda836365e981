"""Find what would let a model see in training, or in its input, what it is scored on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from sklearn.frozen import FrozenEstimator

from skneurovae.metrics import decay_time
from skneurovae.recordings import check_recordings

RUN = 10  # time steps in a row that two recordings must share to overlap


@dataclass(frozen=True)
class Leak:
    """One leak.

    Parameters
    ----------
    kind : str
        "shared recording", "overlap", "neighbors in time", "group", "scaling", "behavior as
        target", "behavior copies a trace", "twin neurons", "fitted model", "rows".
    message : str
        What leaks, where, and what to do.
    certain : bool
        Whether scores are inflated for sure; otherwise it is a reason to doubt them.
    """

    kind: str
    message: str
    certain: bool = True


def find_leaks(X, splits, *, y=None, groups=None, models=()):
    """Leaks of a comparison that can be seen in its data, splits and models.

    Parameters
    ----------
    X : list of Recording, of arrays or of DataFrames
    splits : list of (train, test)
        Indices into `X`.
    y : list of arrays, default=None
        What is decoded.
    groups : sequence, default=None
        Label of the independent unit of each recording.
    models : sequence of estimators, default=()

    Returns
    -------
    leaks : list of Leak
        One of each kind and pair of recordings at most, certain ones first.

    Notes
    -----
    What can't be seen here: features selected with test data, a filter that ran over a recording
    before it was cut (give `segment` a gap), or hyperparameters tuned on the test recordings.
    """
    if _rows_of_one_recording(X):
        return [
            Leak(
                "rows",
                "X is one array, whose rows would be split: neighbors in time would stand on both "
                "sides. Cut it with segment(X, length, gap) and split the list.",
            )
        ]
    recordings, _ = check_recordings(X)
    splits = [(np.asarray(train), np.asarray(test)) for train, test in splits]
    leaks = [*_model_leaks(models), *_input_leaks(recordings, y), *_scaling(recordings, splits)]
    hashes = _Hashes(recordings)
    # Each pair once: whether a trains and b tests in some fold, or the other way, is one leak.
    pairs = {tuple(sorted((int(a), int(b)))) for train, test in splits for a in train for b in test}
    for a, b in sorted(pairs):
        leaks += _pair_leaks(X, recordings, hashes, groups, a, b)
    return sorted(leaks, key=lambda leak: not leak.certain)


def _rows_of_one_recording(X):
    return not isinstance(X, list) and getattr(X, "ndim", 2) == 2


def _pair_leaks(X, recordings, hashes, groups, a, b):
    """Leaks between recordings `a` and `b`, one of which trains where the other tests."""
    one, other = recordings[a], recordings[b]
    if X[a] is X[b] or _share_memory(one.traces, other.traces):
        yield Leak("shared recording", f"recordings {a} and {b} share data, in train and test.")
        return
    if hashes.overlap(a, b) and not (_held_out_inside(X[a], X[b]) or _held_out_inside(X[b], X[a])):
        yield Leak(
            "overlap",
            f"recordings {a} and {b} hold the same samples, in train and test; give each sample to "
            "one of them.",
        )
        return
    distance = _gap(X[a], X[b])
    if distance is not None:
        correlated = decay_time(other.traces)
        if distance < correlated:
            yield Leak(
                "neighbors in time",
                f"recordings {a} and {b}, in train and test, are {distance} time steps apart, but "
                f"traces stay correlated for about {correlated}: give segment a longer gap.",
                certain=False,
            )
    if groups is not None and groups[a] == groups[b]:
        yield Leak(
            "group",
            f"recordings {a} and {b}, in train and test, are of one group, {groups[a]!r}; split by "
            "group, for instance with GroupKFold.",
        )


def _share_memory(a, b):
    try:
        return np.shares_memory(a, b, max_work=10_000)
    except np.exceptions.TooHardError:
        return np.may_share_memory(a, b)


def _held_out_inside(a, b):
    """A training and a test view of one recording, whose held-out entries training lacks."""
    held_out, fold = getattr(b, "held_out", None), getattr(a, "fold", None)
    if held_out is None or fold is None or fold != b.fold or a.traces.shape != b.traces.shape:
        return False
    return bool(np.isnan(np.asarray(a.traces)[held_out]).all())


def _gap(a, b):
    """Time steps between two pieces of one recording; None if they are not, or overlap."""
    if not (hasattr(a, "start") and hasattr(b, "start")):
        return None
    if (a.session, a.source) != (b.session, b.source):
        return None
    distance = max(b.start - a.stop, a.start - b.stop)
    return distance if distance >= 0 else None


class _Hashes:
    """A number for each time step of each recording, by which overlaps are found."""

    def __init__(self, recordings):
        self.recordings = recordings
        self.names = [_names(recording, index) for index, recording in enumerate(recordings)]
        self.known = {}

    def overlap(self, a, b):
        """Whether telling time steps in a row are equal in both, at one displacement."""
        common = [name for name in self.names[a] if name in self.names[b]]
        if not common:  # other names may hide the same numbers, in the same order
            same = self.recordings[a].n_neurons == self.recordings[b].n_neurons
            return same and _overlap(self._rows(a, None), self._rows(b, None))
        return _overlap(self._rows(a, tuple(common)), self._rows(b, tuple(common)))

    def _rows(self, index, names):
        if (index, names) not in self.known:
            traces = self.recordings[index].traces
            if names is not None:
                traces = traces[:, [self.names[index][name] for name in names]]
            self.known[index, names] = _row_hashes(traces)
        return self.known[index, names]


def _names(recording, index):
    """Column of each neuron by its identity, or by its place where it has none."""
    labels = range(recording.n_neurons) if recording.identities is None else recording.identities
    unknown = None if recording.identities is None else recording.identities.dtype.type()
    return {label: n for n, label in enumerate(labels) if unknown is None or label != unknown}


def _row_hashes(traces):
    """A number for each time step, 0 for one that tells nothing: it stands there twice."""
    filled = np.ascontiguousarray(np.nan_to_num(np.asarray(traces, dtype=np.float32), nan=0.0))
    hashes = np.array([hash(row.tobytes()) for row in filled])
    _, index, count = np.unique(hashes, return_inverse=True, return_counts=True)
    return np.where(count[index] == 1, hashes, 0)


def _overlap(a, b):
    """Whether `RUN` telling time steps of both, or all of a short one, are equal in a row."""
    common, first, second = np.intersect1d(a[a != 0], b[b != 0], return_indices=True)
    least = min(RUN, len(a), len(b))
    if len(common) < max(least, 2):
        return False
    displacement = np.flatnonzero(a != 0)[first] - np.flatnonzero(b != 0)[second]
    return np.unique(displacement, return_counts=True)[1].max() >= least


def _model_leaks(models):
    for model in models:
        parts = [model, *model.get_params(deep=True).values()]
        if any(isinstance(part, FrozenEstimator) for part in parts):
            yield Leak(
                "fitted model",
                f"{type(model).__name__} holds a FrozenEstimator, which was fitted before and may "
                "have seen the test recordings; give the unfitted one.",
            )


def _input_leaks(recordings, y):
    """Targets and neurons that stand in the input under another name."""
    for index, recording in enumerate(recordings):
        traces, behavior = recording.traces, recording.behavior
        twins = _twins(recording)
        if twins:
            yield Leak(
                "twin neurons",
                f"neurons {twins} of recording {index} are equal: one gives the other away when it "
                "is hidden. Keep one, or give both one identity.",
            )
        for q, n in _copies(behavior, traces):
            yield Leak(
                "behavior copies a trace",
                f"behavior channel {q} of recording {index} follows the trace of neuron {n} "
                "exactly, which would be predicted from itself.",
            )
        target = None if y is None else np.asarray(y[index])
        if target is None or target.dtype.kind not in "fiub":
            continue
        target = target.reshape(len(target), -1)
        for name, channels in (("behavior", behavior), ("stimulus", recording.stimulus)):
            if len(target) == len(traces) and _copies(channels, target):
                yield Leak(
                    "behavior as target",
                    f"y of recording {index} is also its {name}, which an encoder sees; leave it "
                    "out of the recordings.",
                )


def _twins(recording):
    """Columns of equal neurons that would not be hidden together; [] if there are none."""
    columns = defaultdict(list)
    for n, column in enumerate(recording.traces.T):
        values, counts = np.unique(column[~np.isnan(column)], return_counts=True)
        # Sparse counts coincide by chance: most entries are the same in all neurons.
        if len(values) > 1 and counts.sum() - counts.max() >= RUN:
            columns[column.tobytes()].append(n)
    for same in columns.values():
        labels = recording.identities
        if len(same) > 1 and (labels is None or len(set(labels[same].tolist())) > 1):
            return same
    return []


def _copies(channels, others):
    """Pairs of columns that are equal up to offset and scale."""
    if channels is None:
        return []
    found = []
    for q, channel in enumerate(np.asarray(channels, dtype=float).T):
        for n, other in enumerate(np.asarray(others, dtype=float).T):
            both = ~np.isnan(channel) & ~np.isnan(other)
            if both.sum() <= 2 or not (np.ptp(channel[both]) and np.ptp(other[both])):
                continue
            if abs(np.corrcoef(channel[both], other[both])[0, 1]) > 1 - 1e-6:
                found.append((q, n))
    return found


def _scaling(recordings, splits):
    """Traces that were standardized over pieces on both sides of a split.

    Pieces that were standardized one by one have mean 0 each; pieces of a recording that was
    standardized as a whole have it together, nearly, where a gap or a tail was dropped.
    """
    sessions = defaultdict(list)
    for index, recording in enumerate(recordings):
        if recording.session is not None:
            sessions[recording.session].append(index)
    for name, members in sessions.items():
        parts = [recordings[i] for i in members]
        across = any(set(members) & set(a) and set(members) & set(b) for a, b in splits)
        if not across or len({r.n_neurons for r in parts}) > 1:
            continue
        traces = np.concatenate([r.traces for r in parts]).astype(float)
        varies = ~np.isnan(traces).all(0)
        mean, std = np.nanmean(traces[:, varies], axis=0), np.nanstd(traces[:, varies], axis=0)
        own = np.array([np.nanmean(r.traces[:, varies].astype(float), axis=0) for r in parts])
        spread = own.std(0).max(initial=0.0)
        # What was dropped moves the mean by less than the pieces differ among themselves.
        near = 1e-3 + 0.5 * spread
        if spread > 1e-2 and (np.abs(mean) < near).all() and (np.abs(std - 1) < near).all():
            yield Leak(
                "scaling",
                f"traces of session {name!r} have mean 0 and standard deviation 1 over train and "
                "test pieces together: scale after the split, or leave it to the model.",
                certain=False,
            )
