"""Recordings read from HDF5 files in one of three layouts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import h5py
import numpy as np

from skneurovae.recordings.check import check_recordings
from skneurovae.recordings.hdf5_heaps import check_heaps
from skneurovae.recordings.hdf5_objects import (
    Memory,
    child,
    child_names,
    is_text,
    one_line,
    open_dataset,
    read,
    read_attribute,
    read_floats,
    read_text,
)
from skneurovae.recordings.hdf5_saving import FORMAT, VERSION
from skneurovae.recordings.recording import Recording

LEAST_LIMIT = 2**30  # bytes in memory that any file may take by default
USUAL_EXPANSION = 100  # times the size of the file that a larger file may take by default


def load_h5(path, *, identities="label", behaviors=None, stimuli=None, max_bytes=None):
    """Read recordings from an HDF5 file in one of three layouts.

    1. As `save_h5` writes it.
    2. Groups `recordings/<id>` with `X` (n_neurons, n_timesteps), optional mask `M` of that shape
       (nonzero = observed), behavior `B` (n_behaviors, n_timesteps), stimulus `S` (n_stimuli,
       n_timesteps), identities `I` and `I_class` (n_neurons,), which index the root's `label_name`
       and `class_name` (entry 0 = unknown); the root's `behavior_name`, `stimulus_name` and
       attribute `sampling_rate_hz`.
    3. CeNeuroVAE's: groups `data/<id>` with `X`, `M`, `B` and `I` as in 2. `B` is divided by the
       root's `B_norm_divisor` (n_behaviors,).

    Other datasets in these groups, such as trial numbers, are not read. `B` or `S` of shape
    (0, n_timesteps), without channels, is none.

    Parameters
    ----------
    path : str or path-like
    identities : {"label", "class"}, default="label"
        Names of single neurons, or (layout 2) of their classes, where left and right are one.
    behaviors : sequence of str, default=None
        Channels of behavior to keep, by their name in the file and in this order; all by default.
    stimuli : sequence of str, default=None
        The same of the stimulus. An empty list leaves it out: estimators want it in all recordings
        or in none, and never NaN.
    max_bytes : int, default=None
        Memory that the recordings may take, with masks and names; a small file can claim any. By
        default 1 GiB, or 100 times the size of the file if that is more. Of a file that would take
        more no array is read. Reading takes up to twice the largest recording besides.

    Returns
    -------
    list of Recording
        In the order of the groups, in which "worm 2" is before "worm 10". In layouts 2 and 3
        `session` is the name of the group, identities are strings ("" = unknown), and traces,
        behavior and stimulus are turned time first.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        In one line that begins with the path: if it holds no recordings, an array is missing or
        has a wrong shape or type, a name is unknown, or the file is damaged, too large, or refers
        to other files, which are never read.
    """
    if identities not in ("label", "class"):
        raise ValueError(f"identities must be 'label' or 'class', got {identities!r}.")
    if max_bytes is not None and not (isinstance(max_bytes, Real) and max_bytes > 0):
        raise ValueError(f"max_bytes must be a positive number or None, got {max_bytes!r}.")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    default = max(LEAST_LIMIT, USUAL_EXPANSION * os.path.getsize(path))
    memory = Memory(default if max_bytes is None else max_bytes)
    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: not a readable HDF5 file ({one_line(error)}).") from error
    try:
        with file:
            check_heaps(path, file.id.get_create_plist().get_sizes()[1])
            return _read_file(file, identities, behaviors, stimuli, memory)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {one_line(error)}") from error


def _read_file(file, identities, behaviors, stimuli, memory):
    ours = read_attribute(file, "format", text=True) == FORMAT
    version = read_attribute(file, "version") if ours else VERSION
    if version != VERSION:
        raise ValueError(f"version {version} of the format; this release reads {VERSION}.")
    root, groups = _groups(file)
    layout = _Saved() if ours else _NeuronsFirst.of_file(file, root, identities, memory)
    if ours and identities != "label":
        raise ValueError("identities='class' needs I_class, which this layout does not have.")
    kept = {
        "behavior": _select(file, "behavior", behaviors, memory),
        "stimulus": _select(file, "stimulus", stimuli, memory),
    }
    memory.take_for(d for group in groups.values() for d in layout.datasets(group).values())
    recordings = []
    for name, group in groups.items():
        recording = layout.read(name, group, layout.datasets(group), memory)
        recordings.append(_keep(recording, kept, group.name))
    return check_recordings(recordings, reset=False)[0]


def _groups(file):
    """Name of the group that holds recordings, and these by name, in natural order."""
    found = {name: child(file, name) for name in ("recordings", "data")}
    root = next((name for name in found if found[name] is not None), "recordings")
    parent = found[root]
    names = child_names(parent) if isinstance(parent, h5py.Group) else []
    if not names:
        raise ValueError("no recordings; needed are groups recordings/<id> or data/<id>.")
    groups = {name: child(parent, name) for name in sorted(names, key=_natural)}
    for name, group in groups.items():
        if not isinstance(group, h5py.Group):
            raise ValueError(f"/{root}/{name} is not a group; each recording is one.")
    return root, groups


def _natural(name):
    """Key by which "worm 2" is before "worm 10"."""
    parts = re.split("([0-9]+)", name)
    digits = [part.lstrip("0") for part in parts[1::2]]
    # By length first, because Python refuses to make integers of thousands of digits.
    parts[1::2] = [(len(number), number) for number in digits]
    return parts, name


class _Saved:
    """Layout 1."""

    def datasets(self, group):
        """Datasets of a recording by field, opened and looked at."""
        found = {
            name: open_dataset(group, name, (None, None))
            for name in ("traces", "behavior", "stimulus")
        }
        if found["traces"] is None:
            raise ValueError(f"{group.name} has no traces.")
        n_neurons = found["traces"].shape[1]
        found["identities"] = open_dataset(group, "identities", (n_neurons,), "strings or integers")
        return {name: dataset for name, dataset in found.items() if dataset is not None}

    def read(self, _, group, datasets, memory):
        """Recording that `save_h5` wrote."""
        labels = datasets.pop("identities", None)
        arrays = {name: read_floats(dataset) for name, dataset in datasets.items()}
        if labels is not None:
            text = is_text(labels.dtype)
            arrays["identities"] = read_text(labels, memory) if text else read(labels)
        rate = read_attribute(group, "rate_hz")
        return Recording(
            **arrays,
            session=read_attribute(group, "session", text=True),
            rate_hz=None if rate is None else float(rate),
        )


@dataclass(frozen=True)
class _NeuronsFirst:
    """Layouts 2 and 3."""

    names: list | None  # of identities
    index: str  # dataset that points to them
    has_stimulus: bool  # layout 2
    divisor: np.ndarray | None  # of behavior
    rate: float | None

    @classmethod
    def of_file(cls, file, root, identities, memory):
        """What the root tells about all recordings."""
        divisor = open_dataset(file, "B_norm_divisor", (None,))
        if divisor is not None:
            memory.take_for([divisor])
        rate = read_attribute(file, "sampling_rate_hz")
        return cls(
            names=_names(file, f"{identities}_name", memory),
            index="I" if identities == "label" else "I_class",
            has_stimulus=root == "recordings",
            divisor=None if divisor is None else read_floats(divisor),
            rate=None if rate is None else float(rate),
        )

    def datasets(self, group):
        """Datasets of a recording by name, opened and looked at."""
        traces = open_dataset(group, "X", (None, None))
        if traces is None:
            raise ValueError(f"{group.name} has no traces X.")
        n_neurons, n_timesteps = traces.shape
        found = {
            "X": traces,
            "M": open_dataset(group, "M", (n_neurons, n_timesteps)),
            "B": open_dataset(group, "B", (None, n_timesteps)),
            "index": open_dataset(group, self.index, (n_neurons,), "integers"),
        }
        if self.has_stimulus:
            found["S"] = open_dataset(group, "S", (None, n_timesteps))
        if found["index"] is None and self.index == "I_class":
            raise ValueError(f"identities='class' needs {group.name}/I_class, which is missing.")
        return {name: dataset for name, dataset in found.items() if dataset is not None}

    def read(self, session, group, datasets, memory):
        """Recording of one group."""
        arrays = {name: read_floats(datasets[name]) for name in "XBS" if name in datasets}
        traces = arrays["X"]
        if "M" in datasets:
            mask = read(datasets["M"])
            if np.isnan(mask).any():
                raise ValueError(f"{group.name}/M holds NaN; 0 or 1 (observed) is needed.")
            traces[mask == 0] = np.nan
        labels = None
        if "index" in datasets:
            where = f"{group.name}/{self.index}"
            labels = self._labels(where, read(datasets["index"]), memory)
        return Recording(
            np.ascontiguousarray(traces.T),
            behavior=self._normalize(_channels(arrays.get("B"))),
            stimulus=_channels(arrays.get("S")),
            identities=labels,
            session=session,
            rate_hz=self.rate,
        )

    def _labels(self, where, index, memory):
        if self.names is None:
            raise ValueError(f"{where} needs names at the root, which are missing.")
        low, high = (int(index.min()), int(index.max())) if index.size else (0, 0)
        if low < 0 or high >= len(self.names):
            raise ValueError(
                f"{where} must hold integers from 0 to {len(self.names) - 1}, one per name; "
                f"got {low} to {high}."
            )
        labels = [self.names[i] if i else "" for i in index.tolist()]
        memory.take(4 * len(labels) * max(map(len, labels), default=0))
        return np.array(labels, dtype=str)

    def _normalize(self, behavior):
        if behavior is None or self.divisor is None:
            return behavior
        divisor, n_channels = self.divisor, behavior.shape[1]
        usable = np.isfinite(divisor).all() and (divisor != 0).all()
        if divisor.shape != (n_channels,) or not usable:
            raise ValueError(
                f"/B_norm_divisor must hold {n_channels} nonzero numbers, all finite; "
                f"got {divisor.tolist()}."
            )
        with np.errstate(over="ignore"):  # infinity is refused where the recordings are checked
            return behavior / divisor


def _channels(array):
    """Behavior or stimulus time first, None if there are no channels."""
    return None if array is None or len(array) == 0 else np.ascontiguousarray(array.T)


def _names(file, name, memory):
    """Strings of a dataset at the root, None if there is none."""
    dataset = open_dataset(file, name, (None,), "strings")
    if dataset is None:
        return None
    memory.take_for([dataset])
    return read_text(dataset, memory)


def _select(file, kind, wanted, memory):
    """Number of channels that there are, and those wanted by name; None for all of them."""
    if wanted is None:
        return None
    plural = {"behavior": "behaviors", "stimulus": "stimuli"}[kind]
    listed = hasattr(wanted, "__iter__") and not isinstance(wanted, str)
    if kind == "stimulus" and listed and not len(wanted):
        return 0, []
    names = _names(file, f"{kind}_name", memory)
    if names is None:
        raise ValueError(f"{plural} cannot be selected: the file has no {kind}_name.")
    if not listed or not len(wanted) or any(names.count(name) != 1 for name in wanted):
        raise ValueError(f"{plural} must be a list of some of {', '.join(names)}; got {wanted!r}.")
    return len(names), [names.index(name) for name in wanted]


def _keep(recording, kept, where):
    for kind, selection in kept.items():
        array = getattr(recording, kind)
        if selection is None or array is None:
            continue
        n_names, channels = selection
        if channels and array.shape[1] != n_names:
            raise ValueError(
                f"{kind} of {where} has {array.shape[1]} channels, but {kind}_name {n_names} names."
            )
        recording = recording.replace(**{kind: array[:, channels] if channels else None})
    return recording
