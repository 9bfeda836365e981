"""Places of an HDF5 file at which its library would never come to an end."""

from __future__ import annotations

import os

START = b"GCOL\1\0\0\0"  # signature and version of a heap, in which strings of any length lie
BLOCK = 2**20  # bytes that are searched at once


def check_heaps(path, n_bytes_of_sizes):
    """Refuse a damaged heap of strings that HDF5 would read forever.

    HDF5 steps from object to object by their sizes. With a size of 0 or beyond the heap it may step
    on the spot or back (releases up to 2.0 at least). A single wrong byte is enough for that.

    Parameters
    ----------
    path : str or path-like
    n_bytes_of_sizes : int
        Bytes in which the file writes a size.

    Raises
    ------
    ValueError
        If there is such a heap.

    Notes
    -----
    Source: HDF5 File Format Specification, section III.E, "Disk Format: Level 1E - Global Heap".
    """
    # Heaps do not overlap: all together cannot hold more objects than fit into the file.
    steps_left = os.path.getsize(path) // 8
    header = -(-(8 + n_bytes_of_sizes) // 8) * 8  # of a heap as of an object
    with open(path, "rb") as file:
        for start in _find(file):
            file.seek(start)
            size = _number(file.read(header)[8 : 8 + n_bytes_of_sizes])
            position = header
            while position + header <= size:
                file.seek(start + position)
                head = file.read(header)
                length = _number(head[8 : 8 + n_bytes_of_sizes])
                if len(head) < header:
                    break  # beyond the end of the file, of which HDF5 tells
                step = header + -(-length // 8) * 8 if _number(head[:2]) else length
                steps_left -= 1
                if step == 0 or position + step > size or steps_left < 0:
                    raise ValueError(f"damaged at byte {start + position}, in a heap of strings.")
                position += step


def _find(file):
    """Every place at which a heap starts."""
    position, window = 0, b""
    while True:
        file.seek(position)
        block = file.read(BLOCK)
        if not block:
            return
        begin, window = position - len(window), window + block
        place = window.find(START)
        while place >= 0:
            yield begin + place
            place = window.find(START, place + 1)
        position += len(block)
        window = window[1 - len(START) :]


def _number(text):
    return int.from_bytes(text, "little")
