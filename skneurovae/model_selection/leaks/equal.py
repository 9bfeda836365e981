"""Recordings that hold the same numbers, found by hashing, in a few passes over all entries.

Equal numbers are evidence as far as they surprise. An entry tells ``-log2 p`` bits, with p how
often this value of this neuron occurs; where values recur, as counts do, p is taken given the value
one step before, and no smaller than how often trials have this value at this time step. So silent
bins, slow coarse values, identical ramps and responses locked to a stimulus tell next to nothing,
and a stretch of time counts only if chance would not bring it about twice in all the data.
"""

from __future__ import annotations

import zlib

import numpy as np

MARGIN = 20  # bits beyond what chance brings about somewhere in all the data
LONGEST = 256  # time steps of a stretch
N_KEYS = 1_000_000  # of single neurons; of more, those with the smallest keys are taken
SHARE = 0.5  # of the neurons of the smaller recording that must be equal
N_MATCHES = 8  # of a stretch that occurs more often
N_TRIALS = 8  # from which on responses that are locked to a time step can be told


def equal_recordings(tables, names, columns):
    """Pairs of recordings that hold the same samples somewhere.

    Parameters
    ----------
    tables : list of ndarray of shape (n_timesteps, n_neurons)
        NaN = not observed.
    names : list of list
        What tells the neurons of each table apart.
    columns : list of Columns
        Which learn what their values tell.

    Returns
    -------
    dict of (int, int) to str
        What they share, by pair, smaller index first.
    """
    numbers = _split(_numbers(np.concatenate([t.ravel() for t in tables])), tables)
    entries, bits = _entries(numbers, tables, names, columns)
    for own, told in zip(columns, bits):
        own.told = told.sum(0)
        own.turned.told = own.told
    found = {}
    _same_columns(numbers, bits, found)
    _same_rows(entries, bits, found)
    _same_wholes(entries, bits, found)
    return found


def mix(keys):
    """Scramble 64-bit keys (the finalizer of splitmix64; Steele, Lea & Flood 2014)."""
    keys = keys.astype(np.uint64)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def _split(flat, tables):
    """Parts of a flat array in the shapes of tables."""
    parts = np.split(flat, np.cumsum([t.size for t in tables])[:-1])
    return [part.reshape(t.shape) for part, t in zip(parts, tables)]


def _numbers(values):
    """A key for each value in single precision, so that copies of another type are equal."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32) + np.float32(0.0)  # -0 is 0
    return mix(single.view(np.uint32).astype(np.uint64) + np.uint64(1))


def name_key(name):
    """A number for the name or column of a neuron, the same in every process."""
    return zlib.crc32(repr(name).encode()) + (zlib.adler32(repr(name).encode()) << 32)


def _entries(numbers, tables, names, columns):
    """Keys of name and value, and bits that each entry tells, (n_timesteps, n_neurons) each."""
    place = {}
    labels = [np.array([place.setdefault(name, len(place)) for name in own]) for own in names]
    salt = mix(np.array([name_key(name) for name in place], dtype=np.uint64))
    label = np.concatenate([np.tile(own, len(t)) for own, t in zip(labels, tables)])
    observed = np.concatenate([c.observed.ravel() for c in columns])
    n_observed = np.bincount(label[observed], minlength=len(place))
    keys = mix(np.concatenate([n.ravel() for n in numbers]) ^ salt[label])
    fine = [c.distinct > 0.5 * np.maximum(c.observed.sum(0), 1) for c in columns]
    recurs = np.concatenate([np.tile(~own, len(t)) for own, t in zip(fine, tables)])
    recording = mix(np.repeat(np.arange(len(tables)), [t.size for t in tables]))
    recurs |= _occurrences(mix(keys + recording)) > 2
    p = _occurrences(keys) / np.maximum(n_observed[label], 1)
    if recurs.any():
        before = [np.vstack([np.zeros_like(e[:1]), e[:-1]]) for e in _split(keys, tables)]
        before = mix(np.concatenate([b.ravel() for b in before])[recurs] ^ salt[label[recurs]])
        now = keys[recurs]
        given = _occurrences(mix(before + now * np.uint64(3))) / _occurrences(before)
        n_trials = np.bincount(np.concatenate(labels), minlength=len(place))[label[recurs]]
        step = np.concatenate([np.repeat(np.arange(len(t)), t.shape[1]) for t in tables])[recurs]
        same = _occurrences(mix(now + mix(step.astype(np.uint64)))) - 2  # the pair itself
        locked = np.where(n_trials >= N_TRIALS, same / np.maximum(n_trials - 2, 1), 0.0)
        p[recurs] = np.maximum(given, locked)
    told = observed & np.concatenate([np.tile(c.tells, len(c.observed)) for c in columns])
    bits = np.where(told, -np.log2(np.clip(p, 1e-9, 1.0)), 0.0)
    return _split(np.where(observed, keys, np.uint64(0)), tables), _split(bits, tables)


def _occurrences(keys):
    """How often each key occurs among all, or somewhat more: some keys share a counter.

    There are four counters or more per key, so that no sorting is needed.
    """
    power = min(max(int(4 * len(keys)).bit_length(), 8), 25)
    counter = (keys >> np.uint64(64 - power)).astype(np.int64)
    return np.bincount(counter, minlength=1 << power)[counter]


def _same_rows(entries, bits, found):
    """Stretches of time in which all neurons are equal, in the order of their names or columns."""
    rows = np.concatenate([e.sum(1, dtype=np.uint64) for e in entries])
    told = np.concatenate([b.sum(1) for b in bits])
    owner = np.repeat(np.arange(len(entries)), [len(e) for e in entries])
    keys, place, length = _stretches(rows, told, owner)
    i, j = _matches(keys, owner[place])
    pairs = np.stack([owner[place[i]], owner[place[j]]])
    pairs, counts = np.unique(pairs, axis=1, return_counts=True)
    for a, b, count in zip(*pairs.tolist(), counts.tolist()):
        if count > 1:
            found.setdefault((a, b), f"{count + length - 1} time steps")


def _same_columns(numbers, bits, found):
    """Stretches of time in which single neurons are equal, whatever their names and order.

    All at one displacement: transients that decay alike occur at any.
    """
    lengths = np.concatenate([np.full(n.shape[1], len(n)) for n in numbers])
    column = np.repeat(np.arange(len(lengths)), lengths)
    step = np.arange(len(column)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    recording = np.repeat(np.arange(len(numbers)), [n.shape[1] for n in numbers])[column]
    told = np.concatenate([b.T.ravel() for b in bits])
    keys, place, _ = _stretches(np.concatenate([n.T.ravel() for n in numbers]), told, column)
    i, j = (place[side] for side in _matches(keys, recording[place]))
    shared = np.stack([recording[i], recording[j], step[j] - step[i], column[i]])
    shared = np.unique(shared, axis=1)[:3]  # a neuron counts once
    pairs, counts = np.unique(shared, axis=1, return_counts=True)
    telling = [max(int((b > 0).any(0).sum()), 1) for b in bits]
    for a, b, _, count in zip(*pairs.tolist(), counts.tolist()):
        fewest = min(telling[a], telling[b])
        if count >= max(SHARE * fewest, min(2, fewest)):
            found.setdefault((a, b), f"{min(count, fewest)} neurons")


def _same_wholes(entries, bits, found):
    """Recordings that are equal as a whole, with too few time steps for a telling stretch."""
    keys = np.array([mix(e.ravel() + _places(e.size)).sum(dtype=np.uint64) for e in entries])
    told = np.array([b.sum() for b in bits])
    kept = np.flatnonzero(told >= 2 * np.log2(len(keys)) + MARGIN)
    for i, j in zip(*_matches(keys[kept], kept)):
        found.setdefault((int(kept[i]), int(kept[j])), "all time steps")


def _places(n):
    return mix(np.arange(1, n + 1, dtype=np.uint64))


def _stretches(keys, told, owner):
    """Keys of stretches of time that tell enough, where they begin, and how long they all are.

    Lengths double until a typical stretch tells enough.
    """
    need = 2 * np.log2(len(keys)) + MARGIN
    longest = min(LONGEST, int(np.bincount(owner).max()))
    length, total, keys = 1, told.copy(), mix(keys)
    while 2 * length <= longest and told.sum() * length < need * np.count_nonzero(told):
        keys = keys + np.roll(keys, -length) * np.uint64(2 * length + 1)
        total = total + np.roll(total, -length)
        length *= 2
    inside = np.arange(len(keys)) + length <= len(keys)
    inside &= owner == np.roll(owner, 1 - length)
    kept = np.flatnonzero(inside & (total >= need))
    if len(kept) > N_KEYS:  # copies lose the same ones
        kept = kept[np.argpartition(mix(keys[kept]), N_KEYS)[:N_KEYS]]
    return keys[kept], kept, length


def _matches(keys, owner):
    """Places with equal keys and different owners, the smaller owner first.

    Where many have one key, each is matched with the next few only.
    """
    order = np.lexsort((owner, keys))
    keys, owner = keys[order], owner[order]
    first, second = [], []
    for apart in range(1, N_MATCHES + 1):
        equal = (keys[apart:] == keys[:-apart]) & (owner[apart:] != owner[:-apart])
        first.append(order[:-apart][equal])
        second.append(order[apart:][equal])
    return np.concatenate(first), np.concatenate(second)
