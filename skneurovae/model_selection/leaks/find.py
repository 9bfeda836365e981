"""Find what would let a model see in training, or in its input, what it is scored on."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations, pairwise

import numpy as np

from skneurovae.model_selection.leaks.copies import changed_copies
from skneurovae.model_selection.leaks.equal import equal_recordings, name_key
from skneurovae.model_selection.leaks.fitted import fitted_models
from skneurovae.model_selection.leaks.inputs import input_leaks
from skneurovae.model_selection.leaks.leak import Leak, readable
from skneurovae.model_selection.leaks.pieces import continued, near_in_time, scaled_together
from skneurovae.model_selection.leaks.prepared import prepare
from skneurovae.model_selection.leaks.sessions import mixed_sessions
from skneurovae.model_selection.leaks.sides import Sides
from skneurovae.model_selection.leaks.stacks import stacks, target_columns
from skneurovae.model_selection.leaks.targets import identity_leaks, target_leaks
from skneurovae.recordings import check_recordings

ENTRIES = 2e7  # of all recordings together; of more, some neurons are taken
N_OBJECTS = 100  # that are one; of more, neighbors in the list are paired
N_VIEWS = 20_000  # pairs of interwoven views of memory that are looked at


def find_leaks(X, splits, *, y=None, groups=None, models=()):
    """Leaks of a comparison that can be seen in its data, splits and models.

    Parameters
    ----------
    X : list of Recording, of arrays or of DataFrames
    splits : iterable of (train, test)
        Indices into `X`.
    y : list of arrays, default=None
        What is decoded.
    groups : sequence, default=None
        Label of the independent unit of each recording.
    models : sequence of estimators, default=()

    Returns
    -------
    leaks : list of Leak
        Certain ones first, at most five of each kind; the last of five counts the others.

    Notes
    -----
    What is compared, and how strong the evidence must be, is written in ``docs/comparing.md``,
    which also names what can't be seen here: features selected with test data, hyperparameters
    tuned on the test recordings, and more.
    """
    if _rows_of_one_recording(X):
        return [
            Leak(
                "rows",
                "X is one array, whose rows would be split: neighbors in time would stand on both "
                "sides. Cut it with segment(X, length, gap) and split the list.",
            )
        ]
    X = list(X)
    recordings, _ = check_recordings(X)
    sides = Sides(list(splits), len(recordings))
    names = [_names(recording) for recording in recordings]
    leaks = [
        *fitted_models(models),
        *_given_away(X, recordings, y),
        *_copies(X, recordings, names, sides),
        *_groups(groups, sides),
        *(mixed_sessions(X, recordings, sides) if groups is None else ()),
        *near_in_time(X, sides),
        *scaled_together(recordings, names, sides),
    ]
    if not any(leak.kind in ("overlap", "neighbors in time") for leak in leaks):
        leaks += continued(recordings, names, sides)
    return readable(leaks)


def _rows_of_one_recording(X):
    return not isinstance(X, list) and getattr(X, "ndim", 2) == 2


def _names(recording):
    """What tells the neurons of a recording apart: identities, or columns where there is none."""
    if recording.identities is None:
        return list(range(recording.n_neurons))
    unknown, counts, names = recording.identities.dtype.type(), defaultdict(int), []
    for column, label in enumerate(recording.identities.tolist()):
        counts[label] += 1
        names.append((label, counts[label]) if label != unknown else column)
    return names


def _given_away(X, recordings, y):
    targets = target_columns(y, recordings)
    # Of the views of a splitter, those of one fold hold all columns.
    indices = [i for i, item in enumerate(X) if getattr(item, "fold", None) in (None, 0)]
    for stack in stacks(recordings, targets, indices):
        yield from input_leaks(stack, recordings[stack.members[0]].identities)
        yield from target_leaks(stack)
    yield from identity_leaks(recordings, targets)


# -- recordings in train and test ------------------------------------------------------------------


def _copies(X, recordings, names, sides):
    """One recording on both sides: in memory, in numbers, or changed."""
    known = set()
    for fold, index in np.argwhere(sides.train & sides.test).tolist():
        yield Leak("shared recording", f"recording {index} is in train and test of fold {fold}.")
    for a, b in _shared_memory(X, recordings):
        if sides.apart(a, b):
            known.add((a, b))
            yield Leak("shared recording", f"recordings {a} and {b} share data, in train and test.")
    tables, names = _part(recordings, names)
    columns = prepare(tables)
    for (a, b), what in sorted(equal_recordings(tables, names, columns).items()):
        if (a, b) in known or not sides.apart(a, b) or _views_of_one(X, a, b):
            continue
        known.add((a, b))
        yield Leak(
            "overlap",
            f"recordings {a} and {b} hold the same samples ({what}), in train and test; give each "
            "sample to one of them.",
        )
    found = changed_copies(
        columns, names, sides, lambda a, b: (a, b) in known or _views_of_one(X, a, b)
    )
    for a, b, alike, certain in found:
        what = "the nearest" if alike.half else "what is new in each"
        yield Leak(
            "copy",
            f"recordings {a} and {b}, in train and test, {'are' if certain else 'look like'} one "
            f"recording{alike.how}: {what} time step correlates by {alike.new:.3f} (median over "
            f"neurons; {alike.bits:.0f} bits beyond chance). Keep one of them.",
            certain,
        )


def _part(recordings, names):
    """Traces and names, of some neurons only where there are very many entries.

    Half of them are chosen by name and half by content, as a copy may have either.
    """
    n_timesteps = sum(r.n_timesteps for r in recordings)
    most = max(int(ENTRIES / n_timesteps), 8)
    tables, kept_names = [], []
    for recording, own in zip(recordings, names):
        kept = np.arange(recording.n_neurons)
        if recording.n_neurons > most:
            single = np.nan_to_num(recording.traces).astype(np.float32).view(np.uint32)
            content = single.sum(0, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            by_name = np.argsort([name_key(name) for name in own])[: most // 2]
            kept = np.union1d(by_name, np.argsort(content)[: most - most // 2])
        tables.append(recording.traces[:, kept])
        kept_names.append([own[k] for k in kept])
    return tables, kept_names


def _shared_memory(X, recordings):
    """Pairs of recordings that are one object, or views of common memory."""
    objects = defaultdict(list)
    for index, item in enumerate(X):
        objects[id(item)].append(index)
    pairs = {
        pair
        for same in objects.values()
        for pair in (combinations(same, 2) if len(same) <= N_OBJECTS else pairwise(same))
    }
    bounds = [_bounds(r.traces) for r in recordings]
    order = sorted(range(len(bounds)), key=bounds.__getitem__)
    looked = 0
    for place, a in enumerate(order):
        for b in order[place + 1 :]:
            if bounds[b][0] >= bounds[a][1] or looked >= N_VIEWS:
                break
            looked += 1
            if _share_memory(recordings[a].traces, recordings[b].traces):
                pairs.add((min(a, b), max(a, b)))
    return sorted(pairs)


def _bounds(array):
    """First address of an array, and the one after its last."""
    reach = [(n - 1) * step for n, step in zip(array.shape, array.strides)]
    begin = array.__array_interface__["data"][0] + sum(min(r, 0) for r in reach)
    return begin, begin + sum(abs(r) for r in reach) + array.itemsize


def _share_memory(a, b):
    try:
        return np.shares_memory(a, b, max_work=10_000)
    except np.exceptions.TooHardError:
        return np.may_share_memory(a, b)


def _views_of_one(X, a, b):
    return _held_out_inside(X[a], X[b]) or _held_out_inside(X[b], X[a])


def _held_out_inside(a, b):
    """A training and a test view of one recording, whose held-out entries training lacks."""
    held_out, fold = getattr(b, "held_out", None), getattr(a, "fold", None)
    if held_out is None or fold is None or fold != b.fold or a.traces.shape != b.traces.shape:
        return False
    return bool(np.isnan(np.asarray(a.traces)[held_out]).all())


# -- units that belong on one side -----------------------------------------------------------------


def _groups(groups, sides):
    if groups is None:
        return
    members = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    for group, own in members.items():
        if sides.across(own):
            a, b = _example(own, sides)
            yield Leak(
                "group",
                f"recordings {a} and {b}, in train and test, are of one group, {group!r}; split by "
                "group, for instance with GroupKFold.",
            )


def _example(members, sides):
    """A recording that trains and one that tests, among some of which this is so."""
    fold = (sides.train[:, members].any(1) & sides.test[:, members].any(1)).argmax()
    a = next(i for i in members if sides.train[fold, i])
    return tuple(sorted((a, next(i for i in members if sides.test[fold, i]))))
