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
    leaks = [*_model_leaks(models), *_input_leaks(recordings, y), *_scaling(recordings)]
    rows = [_row_hashes(r.traces) for r in recordings]
    pairs = {}
    for train, test in splits:
        pairs.update({(int(a), int(b)): None for a in train for b in test})
    for a, b in pairs:
        leaks += _pair_leaks(X, recordings, rows, groups, a, b)
    return sorted(leaks, key=lambda leak: not leak.certain)


def _rows_of_one_recording(X):
    return not isinstance(X, list) and getattr(X, "ndim", 2) == 2


def _pair_leaks(X, recordings, rows, groups, a, b):
    """Leaks between recording `a` for training and `b` for testing."""
    one, other = recordings[a], recordings[b]
    if X[a] is X[b] or np.may_share_memory(one.traces, other.traces):
        yield Leak("shared recording", f"recordings {a} and {b} share data, in train and test.")
        return
    same = _overlap(rows[a], rows[b]) or _overlap(*_column_hashes(one, other))
    if same and not _held_out_inside(X[a], X[b]):
        yield Leak(
            "overlap",
            f"recordings {a} (train) and {b} (test) hold the same samples; give each sample to one "
            "of them.",
        )
        return
    distance = _gap(X[a], X[b])
    if distance is not None:
        correlated = decay_time(recordings[b].traces)
        if distance < correlated:
            yield Leak(
                "neighbors in time",
                f"recordings {a} (train) and {b} (test) are {distance} time steps apart, but "
                f"traces stay correlated for about {correlated}: give segment a longer gap.",
                certain=False,
            )
    if groups is not None and groups[a] == groups[b]:
        yield Leak(
            "group",
            f"recordings {a} (train) and {b} (test) are of one group, {groups[a]!r}; split by "
            "group, for instance with GroupKFold.",
        )


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


def _row_hashes(traces):
    """A number for each time step, 0 for one that tells nothing (constant, or nearly unseen)."""
    filled = np.nan_to_num(np.asarray(traces, dtype=np.float32), nan=0.0)
    hashes = np.array([hash(row.tobytes()) for row in np.ascontiguousarray(filled)])
    _, index, count = np.unique(hashes, return_inverse=True, return_counts=True)
    telling = (count[index] == 1) & (np.ptp(filled, axis=1) > 0)
    return np.where(telling, hashes, 0)


def _column_hashes(a, b):
    """Numbers for the values that the neurons of two recordings share, by name or by column.

    They find one recording in another that shows only some of its neurons.
    """
    if a.identities is not None and b.identities is not None:
        common, first, second = np.intersect1d(a.identities, b.identities, return_indices=True)
        kept = common != common.dtype.type()
        first, second = first[kept], second[kept]
    elif a.identities is None and b.identities is None:
        first = second = np.arange(min(a.n_neurons, b.n_neurons))
    else:
        return np.zeros(0), np.zeros(0)
    if len(first) in (0, a.n_neurons) and len(second) == b.n_neurons:
        return np.zeros(0), np.zeros(0)
    return _row_hashes(a.traces[:, first]), _row_hashes(b.traces[:, second])


def _overlap(a, b):
    """Whether `RUN` telling time steps of both are equal at one displacement."""
    common, first, second = np.intersect1d(a[a != 0], b[b != 0], return_indices=True)
    if len(common) < RUN:
        return False
    displacement = np.flatnonzero(a != 0)[first] - np.flatnonzero(b != 0)[second]
    return np.unique(displacement, return_counts=True)[1].max() >= RUN


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
        columns = defaultdict(list)
        for n, column in enumerate(traces.T):
            if not np.isnan(column).all() and np.nanstd(column) > 0:
                columns[column.tobytes()].append(n)
        twins = next((same for same in columns.values() if len(same) > 1), None)
        labels = recording.identities
        if twins and (
            labels is None or len({labels[n] for n in twins} - {labels.dtype.type()}) != 1
        ):
            yield Leak(
                "twin neurons",
                f"neurons {twins} of recording {index} are equal: one gives the other away when it "
                "is hidden. Keep one, or give both one identity.",
            )
        if behavior is None:
            continue
        copies = [
            q for q, b in enumerate(behavior.T) if b.astype(traces.dtype).tobytes() in columns
        ]
        if copies:
            yield Leak(
                "behavior copies a trace",
                f"behavior channel {copies[0]} of recording {index} equals a neuron's trace, which "
                "would be predicted from itself.",
            )
        target = None if y is None else np.asarray(y[index], dtype=float).reshape(len(traces), -1)
        if target is not None and any(
            np.array_equal(t, b, equal_nan=True) and np.nanstd(t) > 0
            for t in target.T for b in behavior.T
        ):  # fmt: skip
            yield Leak(
                "behavior as target",
                f"y of recording {index} is also its behavior, which an encoder sees; leave it out "
                "of the recordings, or score with decoding_score, which hides it.",
            )


def _scaling(recordings):
    """Traces that were standardized over the whole of a recording, later cut or scored."""
    sessions = defaultdict(list)
    for index, recording in enumerate(recordings):
        sessions[recording.session if recording.session is not None else index].append(recording)
    for name, parts in sessions.items():
        if len({r.n_neurons for r in parts}) > 1 or sum(r.n_timesteps for r in parts) < 3:
            continue
        traces = np.concatenate([r.traces for r in parts])
        varies = ~np.isnan(traces).all(0)
        mean, std = (f(traces[:, varies].astype(float), axis=0) for f in (np.nanmean, np.nanstd))
        unit = (np.abs(std - 1) < 1e-3) | (np.abs(std - np.sqrt(1 - 1 / len(traces))) < 1e-5)
        if len(parts) > 1 and len(mean) and (np.abs(mean) < 1e-3).all() and unit.all():
            yield Leak(
                "scaling",
                f"traces of session {name!r} have mean 0 and standard deviation 1 over train and "
                "test pieces together: scale after the split, or leave it to the model.",
                certain=False,
            )
