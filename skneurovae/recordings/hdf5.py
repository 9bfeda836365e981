"""Recordings in HDF5 files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from skneurovae.recordings.check import check_recordings
from skneurovae.recordings.recording import Recording

FORMAT, VERSION = "skneurovae", 1
ARRAYS = ("traces", "behavior", "stimulus", "identities")


def save_h5(path, recordings, *, behavior_names=None):
    """Write recordings to an HDF5 file, which is replaced if it exists.

    Parameters
    ----------
    path : str or path-like
    recordings : list of Recording
        Or any other form that `check_recordings` takes.
    behavior_names : sequence of str, default=None
        One name per channel of behavior, so that `load_h5` can select by name.

    Raises
    ------
    ValueError, TypeError
        If the recordings are malformed or the names do not fit; nothing is written then.

    Notes
    -----
    Layout: attributes `format` = "skneurovae" and `version`; dataset `behavior_name`; one group
    `recordings/<number>` each, with those of the datasets `traces`, `behavior`, `stimulus` and
    `identities` that there are, time first, and attributes `session` and `rate_hz`.
    """
    recordings, _ = check_recordings(recordings, reset=False)
    if behavior_names is not None:
        widths = {r.behavior.shape[1] for r in recordings if r.behavior is not None}
        if widths != {len(behavior_names)}:
            raise ValueError(
                f"behavior_names has {len(behavior_names)} names; behavior has "
                f"{max(widths, default=0)} channels."
            )
    with h5py.File(path, "w") as file:
        file.attrs.update(format=FORMAT, version=VERSION)
        if behavior_names is not None:
            file["behavior_name"] = np.array(behavior_names, dtype=h5py.string_dtype())
        for number, recording in enumerate(recordings):
            group = file.create_group(f"recordings/{number:06d}")
            for name in ARRAYS:
                array = getattr(recording, name)
                if array is not None:
                    text = array.dtype.kind == "U"
                    group.create_dataset(
                        name,
                        data=array.astype(object) if text else array,
                        dtype=h5py.string_dtype() if text else array.dtype,
                    )
            for name in ("session", "rate_hz"):
                if getattr(recording, name) is not None:
                    group.attrs[name] = getattr(recording, name)


def load_h5(path, *, identities="label", behaviors=None):
    """Read recordings from an HDF5 file in one of three layouts.

    1. As `save_h5` writes it.
    2. Groups `recordings/<id>` with `X` (n_neurons, n_timesteps), optional mask `M` of that shape
       (nonzero = observed), behavior `B` (n_behaviors, n_timesteps), identities `I` and `I_class`
       (n_neurons,), which index the root's `label_name` and `class_name` (entry 0 = unknown); the
       root's `behavior_name` and attribute `sampling_rate_hz`.
    3. CeNeuroVAE's: groups `data/<id>` with `X`, `M`, `B` and `I` as in 2. `B` is divided by the
       root's `B_norm_divisor` (n_behaviors,).

    Other datasets in these groups, such as trial numbers, are not read.

    Parameters
    ----------
    path : str or path-like
    identities : {"label", "class"}, default="label"
        Names of single neurons, or (layout 2) of their classes, where left and right are one.
    behaviors : sequence of str, default=None
        Channels of behavior to keep, by their name in the file and in this order; all by default.

    Returns
    -------
    list of Recording
        In the order of the groups. In layouts 2 and 3 `session` is the name of the group,
        identities are strings ("" = unknown), and traces and behavior are turned time first.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds no recordings, an array is missing or has a wrong shape, or a name is unknown.
    """
    if identities not in ("label", "class"):
        raise ValueError(f"identities must be 'label' or 'class', got {identities!r}.")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not a readable HDF5 file ({error}).") from error
    try:
        with file:
            return _read_file(file, identities, behaviors)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _read_file(file, identities, behaviors):
    ours = file.attrs.get("format") == FORMAT
    if ours and file.attrs.get("version") != VERSION:
        raise ValueError(
            f"version {file.attrs.get('version')} of the format; this release reads {VERSION}."
        )
    root = next((name for name in ("recordings", "data") if name in file), None)
    if root is None or not isinstance(file[root], h5py.Group) or len(file[root]) == 0:
        raise ValueError("no recordings; needed are groups recordings/<id> or data/<id>.")
    for group in file[root].values():
        if not isinstance(group, h5py.Group):
            raise ValueError(f"{group.name} is not a group; each recording is one.")
    channels = _select(file, behaviors)
    if ours:
        if identities != "label":
            raise ValueError("identities='class' needs I_class, which this layout does not have.")
        recordings = [_read_ours(group) for group in file[root].values()]
    else:
        names = _names(file, f"{identities}_name")
        recordings = [_read_neurons_first(g, identities, names) for g in file[root].values()]
        if "B_norm_divisor" in file:
            recordings = [_normalize(r, file["B_norm_divisor"][...]) for r in recordings]
    if channels is not None:
        recordings = [_keep(r, channels) for r in recordings]
    return check_recordings(recordings, reset=False)[0]


def _read_ours(group):
    """Recording that `save_h5` wrote."""
    arrays = {name: group[name][...] for name in ARRAYS if name in group}
    if "traces" not in arrays:
        raise ValueError(f"{group.name} has no traces.")
    if h5py.check_string_dtype(arrays.get("identities", arrays["traces"]).dtype):
        arrays["identities"] = group["identities"].asstr()[...].astype(str)
    session, rate = group.attrs.get("session"), group.attrs.get("rate_hz")
    return Recording(**arrays, session=session, rate_hz=None if rate is None else float(rate))


def _read_neurons_first(group, identities, names):
    """Recording of the layouts 2 and 3, behavior not yet normalized."""
    if "X" not in group:
        raise ValueError(f"{group.name} has no traces X.")
    traces = _read(group, "X", (None, None))
    n_neurons, n_timesteps = traces.shape
    mask = _read(group, "M", (n_neurons, n_timesteps))
    if mask is not None:
        traces = np.where(mask != 0, traces, np.nan)
    behavior = _read(group, "B", (None, n_timesteps))
    key = "I" if identities == "label" else "I_class"
    index = _read(group, key, (n_neurons,))
    if index is None and identities == "class":
        raise ValueError(f"identities='class' needs {group.name}/I_class, which is missing.")
    return Recording(
        np.ascontiguousarray(traces.T),
        behavior=None if behavior is None else np.ascontiguousarray(behavior.T),
        identities=None if index is None else _name_neurons(group, key, index, names),
        session=group.name.split("/")[-1],
        rate_hz=_rate(group.file),
    )


def _read(group, name, shape):
    """Dataset of the given shape (None = any length), None if there is none."""
    if name not in group:
        return None
    found = getattr(group[name], "shape", ())
    if len(found) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found)):
        needed = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{group.name}/{name} has shape {found}; ({needed}) is needed.")
    return group[name][...]


def _name_neurons(group, key, index, names):
    if names is None:
        raise ValueError(f"{group.name}/{key} needs names at the root, which are missing.")
    if index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= len(names):
        raise ValueError(
            f"{group.name}/{key} must hold integers from 0 to {len(names) - 1}, one per name; "
            f"got {index.min()} to {index.max()}."
        )
    return np.array(["", *names[1:]], dtype=str)[index]


def _names(file, name):
    """Strings of a dataset at the root, None if there is none."""
    if name not in file:
        return None
    if h5py.check_string_dtype(file[name].dtype) is None:
        raise ValueError(f"/{name} must hold strings, got {file[name].dtype}.")
    return file[name].asstr()[...].tolist()


def _select(file, behaviors):
    """Channels of behavior by name."""
    if behaviors is None:
        return None
    names = _names(file, "behavior_name")
    if names is None:
        raise ValueError("behaviors cannot be selected: the file has no behavior_name.")
    unknown = [name for name in behaviors if name not in names]
    if isinstance(behaviors, str) or unknown or not len(behaviors):
        raise ValueError(
            f"behaviors must be a list of some of {', '.join(names)}; got {behaviors!r}."
        )
    return [names.index(name) for name in behaviors]


def _keep(recording, channels):
    if recording.behavior is None:
        return recording
    return recording.replace(behavior=recording.behavior[:, channels])


def _normalize(recording, divisor):
    if recording.behavior is None:
        return recording
    if divisor.shape != recording.behavior.shape[1:] or not (divisor != 0).all():
        raise ValueError(
            f"/B_norm_divisor must hold {recording.behavior.shape[1]} nonzero numbers, "
            f"got {divisor}."
        )
    return recording.replace(behavior=recording.behavior / divisor)


def _rate(file):
    rate = file.attrs.get("sampling_rate_hz")
    return None if rate is None else float(rate)
