"""Objects of an HDF5 file, opened without leaving it and looked at before they are read.

A file from elsewhere may point at other files of the machine, may claim any size, and may be
damaged. So links are followed here, not by HDF5; nothing is read whose type, size and storage are
not known; and whatever h5py raises becomes a `ValueError` of one line.
"""

from __future__ import annotations

import math
from contextlib import contextmanager

import h5py
import numpy as np

from skneurovae.recordings.hdf5_chunks import are_known, check_chunks, chunk_size, filters_of

MOST_LINKS = 32  # on the way to one object; more are taken for a loop
LONGEST_TEXT = 2**16  # bytes of an attribute of fixed length
BYTES_PER_TEXT = 64  # that a Python string takes besides its characters


def one_line(message):
    """Text of a message with every character visible and in one line of moderate length."""
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(message)
    )
    return shown if len(shown) <= 400 else f"{shown[:397]}..."


@contextmanager
def _readable(where):
    """Turn whatever h5py raises for a damaged or foreign file into one `ValueError`."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip("'\"").splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{where} cannot be read ({reason}).") from error


def _where(parent, name):
    return f"{str(parent.name).rstrip('/')}/{name}"


def child(group, name):
    """Open what a group holds under a name, without leaving the file.

    Parameters
    ----------
    group : h5py.Group
    name : str
        Without "/".

    Returns
    -------
    h5py.Group, h5py.Dataset, h5py.Datatype or None
        None if there is no such name.

    Raises
    ------
    ValueError
        If a link leads out of the file, in a circle or to nothing.
    """
    where, here, steps, n_links = _where(group, name), group, [name], 0
    while steps:
        step = steps.pop(0)
        if step in ("", "."):
            continue
        if not isinstance(here, h5py.Group):
            raise ValueError(f"{where} is a link through {here.name}, which is not a group.")
        with _readable(where):
            links, key = here.id.links, step.encode()
            kind = links.get_info(key).type if links.exists(key) else None
            target = links.get_val(key).decode() if kind == h5py.h5l.TYPE_SOFT else None
            here = here[step] if kind == h5py.h5l.TYPE_HARD else here
        if kind is None and n_links:
            raise ValueError(f"{where} is a link to what is missing: {_where(here, step)}.")
        if kind is None:
            return None
        if target is not None:
            n_links += 1
            if n_links > MOST_LINKS:
                raise ValueError(f"{where} is a link that leads in a circle.")
            steps = target.split("/") + steps
            here = here.file if target.startswith("/") else here
        elif kind != h5py.h5l.TYPE_HARD:
            raise ValueError(f"{where} is a link out of this file, which is not followed.")
    return here


def child_names(group):
    """Names of what a group holds; a `ValueError` if one is none that HDF5 allows."""
    with _readable(group.name):
        names = list(group)
    for name in names:
        if not isinstance(name, str) or "/" in name or name in ("", "."):
            raise ValueError(f"{group.name} holds a name that is no name in UTF-8: {name!r}.")
    return names


def open_dataset(group, name, shape, holds="numbers"):
    """Open a dataset that is in the file itself, of the given shape and kind.

    Parameters
    ----------
    group : h5py.Group
    name : str
    shape : tuple of int or None
        None = any length.
    holds : {"numbers", "integers", "strings", "strings or integers"}, default="numbers"
        Booleans are numbers.

    Returns
    -------
    h5py.Dataset or None
        None if there is no such name.

    Raises
    ------
    ValueError
        If it is something else, or stored outside of the file.
    """
    found = child(group, name)
    if found is None:
        return None
    where = _where(group, name)
    needed = ", ".join("any" if n is None else str(n) for n in shape)
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{where} is not a dataset; one of shape ({needed}) is needed.")
    with _readable(where):
        # Before all else: HDF5 may open the other files already to tell the shape.
        outside = found.is_virtual or found.external
        dtype = None if outside else found.dtype
        sizes = None if outside else found.shape
    if outside:
        raise ValueError(f"{where} is stored in other files, which are not read.")
    if sizes is None or len(sizes) != len(shape):
        raise ValueError(f"{where} has shape {sizes}; ({needed}) is needed.")
    if any(n not in (None, m) for n, m in zip(shape, sizes)):
        raise ValueError(f"{where} has shape {sizes}; ({needed}) is needed.")
    kinds = "fiub" if holds == "numbers" else "iu" if "integers" in holds else ""
    if not ("strings" in holds if is_text(dtype) else kinds and dtype.kind in kinds):
        raise ValueError(f"{where} must hold {holds}, got {dtype}.")
    return found


def is_text(dtype):
    """Whether a type is that of strings."""
    return h5py.check_string_dtype(dtype) is not None


class Memory:
    """What the contents of a file may still take in memory.

    Parameters
    ----------
    limit : float
        In bytes.
    """

    def __init__(self, limit):
        self.limit, self.taken = limit, 0

    def take(self, n_bytes):
        """Set some bytes aside; a `ValueError` if they are more than are left."""
        self.taken += n_bytes
        if self.taken > self.limit:
            raise ValueError(
                f"takes {self.taken:.3g} bytes in memory or more, but max_bytes is "
                f"{self.limit:.3g}; give more if you trust the file."
            )

    def take_for(self, datasets):
        """Set aside what datasets will take; a `ValueError` also if a chunk is too large."""
        needed = 0
        for dataset in datasets:
            with _readable(dataset.name):
                filters, largest = filters_of(dataset), chunk_size(dataset)
            if not are_known(filters):
                raise ValueError(
                    f"{dataset.name} is packed by filters {filters}, which are not read; "
                    "gzip or lzf, one of them, is."
                )
            if largest > self.limit:
                self.take(largest)
            n_bytes = dataset.dtype.itemsize
            if is_text(dataset.dtype):
                n_bytes += BYTES_PER_TEXT
            elif not _is_single(dataset.dtype):
                n_bytes = max(n_bytes, 8)  # becomes float64
            needed += math.prod(dataset.shape) * n_bytes
        self.take(needed)


def read_floats(dataset):
    """Read a dataset of numbers: float32 as it is, all others as float64."""
    values = read(dataset)
    with np.errstate(over="ignore"):  # infinity is refused where the recordings are checked
        return values.astype(np.float32 if _is_single(values.dtype) else np.float64, copy=False)


def read(dataset):
    """Read a dataset of numbers as they are stored."""
    with _readable(dataset.name):
        check_chunks(dataset)
        return dataset[...]


def read_text(dataset, memory):
    """Read a dataset of strings.

    Parameters
    ----------
    dataset : h5py.Dataset of shape (n,)
    memory : Memory

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If they take more memory than is left, or are not UTF-8.
    """
    # A string may be as long as the file, and all entries may be that one string.
    with _readable(dataset.name):
        size_of_file = dataset.file.id.get_filesize()
        check_chunks(dataset)
        _check_lengths(dataset, size_of_file)
    n_at_once = max(1, int(memory.limit // size_of_file))
    texts = []
    for start in range(0, len(dataset), n_at_once):
        with _readable(dataset.name):
            piece = [bytes(text).decode() for text in dataset[start : start + n_at_once]]
        memory.take(4 * sum(map(len, piece)))
        texts += piece
    return texts


def _check_lengths(dataset, most):
    """Refuse texts that claim more bytes than `most`, which HDF5 would set aside before it looks.

    Up to 4 GiB each. Those of attributes and of datasets in chunks cannot be seen from here.
    """
    start, n_bytes = dataset.id.get_offset(), dataset.id.get_storage_size()
    if start is None or h5py.check_string_dtype(dataset.dtype).length is not None:
        return
    with open(dataset.file.filename, "rb") as file:
        file.seek(start)
        entries = np.frombuffer(file.read(min(n_bytes, most)), np.uint8).reshape(len(dataset), -1)
    if entries[:, :4].copy().view("<u4").max(initial=0) > most:
        raise ValueError("a text claims to be longer than the file")


def read_attribute(holder, name, *, text=False):
    """Read an attribute that is one string or one number.

    Parameters
    ----------
    holder : h5py.Group
    name : str
    text : bool, default=False

    Returns
    -------
    str, int, float or None
        None if there is none.

    Raises
    ------
    ValueError
        If it is something else.
    """
    where = f"attribute {name} of {holder.name}"
    with _readable(where):
        if name not in holder.attrs:
            return None
        found = holder.attrs.get_id(name)
        shape, dtype = found.shape, found.dtype
    one = shape is not None and math.prod(shape) == 1 and dtype.itemsize <= LONGEST_TEXT
    if not one or (not is_text(dtype) if text else dtype.kind not in "fiu"):
        kind = "string" if text else "number"
        raise ValueError(f"{where} must be one {kind}, got shape {shape} of {dtype}.")
    with _readable(where):
        value = np.asarray(holder.attrs[name]).reshape(()).item()
        if not text:
            return value
        # h5py hides what is not UTF-8 in lone surrogates.
        return (value if isinstance(value, bytes) else value.encode()).decode()


def _is_single(dtype):
    return dtype.kind == "f" and dtype.itemsize == 4
