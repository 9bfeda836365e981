"""Recordings written to HDF5 files, in full or not at all."""

from __future__ import annotations

import os
import re
import stat
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np

from skneurovae.recordings.check import check_recordings
from skneurovae.recordings.recording import Recording

FORMAT, VERSION = "skneurovae", 1
UNWRITABLE = re.compile("[\0\ud800-\udfff]")
ARRAYS = ("traces", "behavior", "stimulus", "identities")


def save_h5(path, recordings, *, behavior_names=None, stimulus_names=None):
    """Write recordings to an HDF5 file, which is replaced if it exists.

    What `load_h5` reads from the file is the same to the bit: values, NaN, float32 or float64,
    identities (strings or integers), session and rate.

    Parameters
    ----------
    path : str or path-like
        A symbolic link stays one: the file that it points to is replaced.
    recordings : list of Recording
        Or any other form that `check_recordings` takes.
    behavior_names, stimulus_names : sequence of str, default=None
        One name per channel, so that `load_h5` can select by name.

    Raises
    ------
    ValueError, TypeError
        If the recordings are malformed, the names do not fit, or a text or a rate cannot be
        written exactly.
    OSError
        If the file cannot be written.

    Notes
    -----
    The file appears under its name once it is complete and on the disk. Until then, and after any
    error or interrupt, a former file stays as it was, and nothing else is left behind. The new file
    keeps the permissions of the former.

    Layout: attributes `format` = "skneurovae" and `version`; datasets `behavior_name` and
    `stimulus_name`; one group `recordings/<number>` each, with those of the datasets `traces`,
    `behavior`, `stimulus` and `identities` that there are, time first, and attributes `session` and
    `rate_hz`.
    """
    given = list(recordings) if isinstance(recordings, list) else [recordings]
    recordings, _ = check_recordings(recordings, reset=False)
    names = {
        "behavior": _check_names("behavior", behavior_names, recordings),
        "stimulus": _check_names("stimulus", stimulus_names, recordings),
    }
    for index, recording in enumerate(recordings):
        _check_texts(f"session of recording {index}", [recording.session])
        _check_rate(recording.rate_hz, index)
    for index, item in enumerate(given):
        _check_texts(f"identities of recording {index}", _labels(item))
    with _replacing(path) as unfinished, h5py.File(unfinished, "w") as file:
        file.attrs.update(format=FORMAT, version=VERSION)
        for name, texts in names.items():
            if texts is not None:
                file[f"{name}_name"] = np.array(texts, dtype=h5py.string_dtype())
        for number, recording in enumerate(recordings):
            _write(file.create_group(f"recordings/{number:06d}"), recording)


def _write(group, recording):
    for name in ARRAYS:
        array = getattr(recording, name)
        if array is not None:
            text = array.dtype.kind == "U"
            group.create_dataset(
                name,
                data=array.astype(object) if text else array,
                dtype=h5py.string_dtype() if text else array.dtype,
            )
    if recording.session is not None:
        group.attrs["session"] = str(recording.session)
    if recording.rate_hz is not None:
        group.attrs["rate_hz"] = float(recording.rate_hz)


def _check_names(kind, names, recordings):
    if names is None:
        return None
    if isinstance(names, str):
        raise TypeError(f"{kind}_names must be a sequence of strings, got {names!r}.")
    names = list(names)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{kind}_names must hold strings, got {name!r} among them.")
    _check_texts(f"{kind}_names", names)
    channels = [getattr(r, kind) for r in recordings]
    widths = {array.shape[1] for array in channels if array is not None}
    if widths != {len(names)}:
        raise ValueError(
            f"{kind}_names has {len(names)} names; {kind} has {max(widths, default=0)} channels."
        )
    return names


def _labels(item):
    """Names of neurons as given; in arrays of strings NumPy has dropped every NUL at the end."""
    is_recording = isinstance(item, Recording)
    if is_recording and item.identities is not None:
        return item.identities
    return getattr(item.traces if is_recording else item, "columns", None)


def _check_rate(rate, index):
    if rate is None:
        return
    try:
        exact = not isinstance(rate, bool) and float(rate) == rate
    except OverflowError:
        exact = False
    if not exact:
        raise ValueError(
            f"rate_hz of recording {index} must be a number that a 64-bit float holds exactly, "
            f"got {type(rate).__name__} {str(rate)[:50]}."
        )


def _check_texts(what, texts):
    for text in () if texts is None else np.asarray(texts, dtype=object).ravel():
        if isinstance(text, str) and UNWRITABLE.search(text):
            raise ValueError(
                f"{what} must hold no NUL and no lone surrogate, which HDF5 files cannot hold; "
                f"got {text[:50]!r}."
            )


@contextmanager
def _replacing(path):
    """Give the path of a new file in the same folder that takes the place of `path` at the end."""
    target = Path(os.path.realpath(path))
    old = target.stat() if target.exists() else None
    if old is None and target.is_symlink():
        raise ValueError(f"{path}: a symbolic link that leads in a circle.")
    if old is not None and not stat.S_ISREG(old.st_mode):
        raise OSError(f"{path}: not a file, which could be replaced.")
    if old is not None and not os.access(target, os.W_OK):
        raise PermissionError(f"{path}: may not be written.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: no such folder.")
    unfinished = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        # Private at first, if it takes the place of a file that others may not read.
        mode = 0o666 if old is None else 0o600
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        if old is not None:
            with suppress(OSError, AttributeError):  # of another owner, or no owners (Windows)
                os.chown(unfinished, old.st_uid, old.st_gid)
            unfinished.chmod(stat.S_IMODE(old.st_mode))
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
