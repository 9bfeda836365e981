"""Recordings of the same neurons put after each other, so that short trials tell enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from skneurovae.common.missing import missing_entries, plain_array
from skneurovae.common.moments import varies
from skneurovae.model_selection.leaks.prepared import straight

EXACT = 1 - 1e-6  # correlation; single precision leaves more
SHORT = 100  # time steps; shorter recordings are put after each other
N_ALONE = 20  # longer ones of the same neurons; more are put after each other too
GAP = 20  # time steps without data between them, which no lag crosses
ENTRIES = 3e5  # of the traces of a stack; the rest of longer ones is left out
LEAST = 1000  # time steps that are kept in any case


@dataclass
class Stack:
    """Recordings of the same neurons after each other.

    Attributes
    ----------
    members : list of int
        Their indices.
    spans : list of slice
        Where each lies; gaps between them are NaN.
    tables : dict of str to ndarray of shape (n_timesteps, n_columns)
        "traces", and where there are any "behavior", "stimulus", "target" (numbers) and "labels"
        (a column for each class, 1 where it is the one).
    """

    members: list
    spans: list
    tables: dict

    @property
    def who(self):
        """The recordings in words."""
        if len(self.members) == 1:
            return f"recording {self.members[0]}"
        return f"recordings {self.members[0]}, {self.members[1]} ... ({len(self.members)} in all)"

    @property
    def n_lags(self):
        """Largest lag at which columns may be compared."""
        return GAP if len(self.members) > 1 else len(self.tables["traces"]) // 3

    def informs(self, name):
        """Columns of a table that are no straight line in every recording."""
        parts = [self.tables[name][span] for span in self.spans]
        bends = np.any([~straight(part[None])[0] for part in parts], axis=0)
        return bends | ~np.any([varies(part) for part in parts], axis=0)


def stacks(recordings, targets, indices):
    """Stacks of recordings of the same neurons; few and long ones stay alone.

    Parameters
    ----------
    recordings : list of Recording
    targets : list of (ndarray or None, ndarray or None)
        Of `target_columns`.
    indices : iterable of int
        Which of them to take.

    Returns
    -------
    list of Stack
    """
    groups, members = {}, []
    for index in indices:
        recording = recordings[index]
        names = None if recording.identities is None else tuple(recording.identities.tolist())
        parts = recording.behavior, recording.stimulus, *targets[index]
        widths = [0 if part is None else part.shape[1] for part in parts]
        key = (recording.session, recording.n_neurons, names, *widths)
        groups.setdefault(key, []).append(index)
    for same in groups.values():
        alone = [i for i in same if recordings[i].n_timesteps >= SHORT and len(same) <= N_ALONE]
        together = [i for i in same if i not in alone]
        members += [[i] for i in alone] + ([together] if together else [])
    return [_stack(recordings, targets, own) for own in members]


def _stack(recordings, targets, members):
    parts, spans, begin = {}, [], 0
    most = max(LEAST, ENTRIES / recordings[members[0]].n_neurons)
    for index in members:
        recording = recordings[index]
        kept = min(recording.n_timesteps, int(most - begin))
        if kept <= 0:
            break
        spans.append(slice(begin, begin + kept))
        begin += kept + GAP
        tables = {
            "traces": recording.traces, "behavior": recording.behavior,
            "stimulus": recording.stimulus, "target": targets[index][0],
            "labels": targets[index][1],
        }  # fmt: skip
        for name, table in tables.items():
            if table is not None:
                padded = np.full((kept + GAP, table.shape[1]), np.nan)
                padded[:kept] = table[:kept]
                parts.setdefault(name, []).append(padded)
    tables = {name: np.concatenate(part)[:-GAP] for name, part in parts.items()}
    return Stack(members[: len(spans)], spans, tables)


def target_columns(y, recordings, most_classes=10):
    """What is decoded, as columns of numbers and as a column for each class.

    Parameters
    ----------
    y : list or None
        An array, or a single value, for each recording.
    recordings : list of Recording
    most_classes : int, default=10
        Numbers with more different values are no classes.

    Returns
    -------
    list of (ndarray or None, ndarray or None)
    """
    if y is None:
        return [(None, None)] * len(recordings)
    targets = [plain_array(value) for value in y]
    targets = [
        np.broadcast_to(target, (r.n_timesteps, *target.shape)) if target.ndim == 0 else target
        for target, r in zip(targets, recordings)
    ]
    fits = [len(target) == r.n_timesteps for target, r in zip(targets, recordings)]
    targets = [t.reshape(len(t), -1) if ok else None for t, ok in zip(targets, fits)]
    values = [t[~missing_entries(t)] for t in targets if t is not None and t.shape[1] == 1]
    classes = set().union(*(set(np.unique(v).tolist()) for v in values if v.dtype.kind != "O"))
    numbers = [
        None if t is None or t.dtype.kind not in "fiub" else t.astype(float) for t in targets
    ]
    if not 2 <= len(classes) <= most_classes:
        return [(number, None) for number in numbers]
    ordered = sorted(classes, key=repr)
    labels = [
        np.stack([t[:, 0] == c for c in ordered], 1) * 1.0
        if t is not None and t.shape[1] == 1 else None
        for t in targets
    ]  # fmt: skip
    return list(zip(numbers, labels))


def by_lag(first, second, n_lags):
    """Correlations of all columns of two tables at lags from -n_lags to n_lags.

    Parameters
    ----------
    first, second : ndarrays of shape (n_timesteps, n), (n_timesteps, m)
        Of mean 0 and variance 1; 0 where nothing is observed.
    n_lags : int

    Returns
    -------
    ndarray of shape (2 * n_lags + 1, n, m)
        Positive lags: the second follows the first.
    """
    size = next_fast_len(len(first) + n_lags, real=True)
    one, other = rfft(first, size, axis=0), rfft(second, size, axis=0)
    products = [
        irfft(np.conj(one) * other[:, [m]], size, axis=0)[np.arange(-n_lags, n_lags + 1)]
        for m in range(second.shape[1])
    ]
    norms = np.outer(*(np.sqrt((part**2).sum(0)) for part in (first, second)))
    return np.stack(products, 2) / np.where(norms > 0, norms, np.inf)


def shifted(first, second, lag):
    """Rows of two tables of one length, the second of which is late by `lag`."""
    n = len(first)
    begin, end = max(0, -lag), min(n, n - lag)
    return first[begin:end], second[begin + lag : end + lag]


def correlation(first, second):
    """Correlation of two columns over what is observed in both; 0 where one does not vary."""
    both = ~(np.isnan(first) | np.isnan(second))
    if both.sum() < 3:
        return 0.0
    x, y = first[both] - first[both].mean(), second[both] - second[both].mean()
    norm = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / norm) if norm > 1e-300 else 0.0
