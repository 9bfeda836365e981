"""Compressed chunks of HDF5 datasets, which must unpack to exactly what they claim.

HDF5 unpacks whatever a chunk holds, be it gigabytes; and if it holds too little, HDF5 reads on in
the memory behind it, or crashes there (releases up to 2.0 at least).
"""

from __future__ import annotations

import math
import zlib

DEFLATE, SHUFFLE, CHECKSUM, LZF = 1, 2, 3, 32000  # numbers of filters; deflate is gzip's
N_BYTES_OF_CHECKSUM = 4


def filters_of(dataset):
    """Numbers of the filters of a dataset, in the order of writing."""
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]


def are_known(filters):
    """Whether `check_chunks` knows how chunks with these filters unpack."""
    packing = [place for place, number in enumerate(filters) if number in (DEFLATE, LZF)]
    if not packing:
        return set(filters) <= {SHUFFLE, CHECKSUM}
    before, after = filters[: packing[0]], filters[packing[0] + 1 :]
    return set(before) <= {SHUFFLE, CHECKSUM} and set(after) <= {CHECKSUM}


def chunk_size(dataset):
    """Bytes that one chunk claims to hold, 0 if the dataset is not in chunks."""
    if dataset.chunks is None:
        return 0
    size = dataset.dtype.itemsize
    if dataset.dtype.kind == "O":  # text of any length is a length and a place in a heap
        size = 8 + dataset.file.id.get_create_plist().get_sizes()[0]
    return math.prod(dataset.chunks) * size


def check_chunks(dataset):
    """Refuse a chunk that does not unpack to what it claims.

    Parameters
    ----------
    dataset : h5py.Dataset
        With filters that `are_known`.

    Raises
    ------
    ValueError
        If there is such a chunk.
    """
    filters, size = filters_of(dataset), chunk_size(dataset)
    if not size:
        return
    n = len(filters)
    place = next((i for i, number in enumerate(filters) if number in (DEFLATE, LZF)), n)
    size += N_BYTES_OF_CHECKSUM * filters[:place].count(CHECKSUM)
    n_added = N_BYTES_OF_CHECKSUM * filters[place:].count(CHECKSUM)
    chunks = []
    dataset.id.chunk_iter(chunks.append)
    most = dataset.file.id.get_filesize()
    for chunk in chunks:
        # A chunk that would not become smaller is stored as it is, and has that filter's bit.
        if chunk.size > most or chunk.filter_mask not in (0, 1 << place):
            raise ValueError("a chunk is damaged")
        unpacked = chunk.size - n_added
        if place < n and not chunk.filter_mask:
            packed = dataset.id.read_direct_chunk(chunk.chunk_offset)[1][:unpacked]
            unpacked = (_size_of_deflated if filters[place] == DEFLATE else _size_of_lzf)(
                packed, size
            )
        if unpacked != size:
            raise ValueError(f"a chunk does not hold the {size} bytes that it claims")


def _size_of_deflated(packed, most):
    """Bytes that data of the deflate filter unpack to, or `most` + 1 if they are more."""
    return len(zlib.decompressobj().decompress(packed, most + 1))


def _size_of_lzf(packed, most):
    """The same of the LZF filter: literal runs, and references to what was before."""
    place, size = 0, 0
    while place < len(packed) and size <= most:
        control = packed[place]
        if control < 32:
            place, size = place + control + 2, size + control + 1
        elif control < 224:
            place, size = place + 2, size + (control >> 5) + 2
        else:
            place, size = place + 3, size + packed[place + 1] + 9
    return size if place == len(packed) else -1
