"""Pairs of recordings, in train and test, that are changed copies of each other.

Every pair is looked at where there are few; of more, those whose short descriptions are most alike,
so that the cost grows little faster than the number of recordings. Trials that answer to the same
stimulus are alike too: a pair must stand out from the pairs that its two recordings make with
others.
"""

from __future__ import annotations

import numpy as np

from skneurovae.model_selection.leaks.alike import (
    CERTAIN,
    alternating,
    averaged,
    common_columns,
    likeness,
)
from skneurovae.model_selection.leaks.equal import mix, name_key
from skneurovae.model_selection.leaks.interleaved import best_shift

EXACT = 0.9999  # correlation of traces as they are, beyond what responses to one stimulus reach
STANDS_OUT = 0.3  # difference of Fisher's z from that of other pairs
ALL_PAIRS = 300  # up to which all are looked at
N_PAIRS = 100  # of more, the most similar
N_OTHERS = 8
N_BINS = 32  # of a description, over the whole recording


def changed_copies(columns, names, sides, skip):
    """Pairs of recordings, apart in the splits, that are likely one recording.

    Parameters
    ----------
    columns : list of Columns
    names : list of list
        What tells the neurons of each recording apart.
    sides : Sides
    skip : callable
        ``skip(a, b)`` is whether a pair needs no look.

    Returns
    -------
    list of (int, int, Likeness, bool)
        Whether it is certain comes last.
    """
    descriptions = _Descriptions(columns, names)
    pairs, n_apart = descriptions.most_similar_pairs(sides)

    def compare(a, b, how=likeness):
        return how(columns[a], columns[b], names[a], names[b], n_apart)

    def usual(a, b, alike):
        """What is no reason to suspect, as others reach it too."""
        similar = descriptions.most_similar(a, b) + descriptions.most_similar(b, a)
        step = max((len(columns) - 2) // N_OTHERS, 1)
        others = [(a, c) for c in range(len(columns)) if c not in (a, b)][::step]
        if alike.locked:  # one of the others may be a further copy, the second one is usual
            return sorted([0.0, 0.0, *(compare(*pair).new for pair in similar)])[-2]
        if not alike.half:  # what is periodic is alike at many lags
            return np.median([0.0, *(compare(*pair).new for pair in others)])
        pairs = [(columns[i], columns[c], names[i], names[c]) for i, c in (*similar, *others)]
        return max([0.0, *(best_shift(i, c, common_columns(own, o)) for i, c, own, o in pairs)])

    found = []
    for a, b in pairs:
        if skip(a, b):
            continue
        alike = compare(a, b)
        if not alike.new:
            alike = compare(a, b, alternating)
        if alike.bits <= 0:
            continue
        distinct = np.median(columns[a].distinct / np.maximum(columns[a].observed.sum(0), 1))
        exact = distinct > 0.5 and alike.linear > EXACT
        bar = 0.0 if exact and alike.locked else usual(a, b, alike)
        if np.arctanh(min(alike.new, EXACT)) - np.arctanh(min(bar, EXACT)) > STANDS_OUT:
            found.append((a, b, alike, exact or alike.new > CERTAIN))
    return found


class _Descriptions:
    """Short descriptions of recordings as wholes, by which similar ones are found quickly."""

    def __init__(self, columns, names):
        self.n = len(columns)
        signs = {tuple(own): _signs(tuple(own)) for own in {tuple(own) for own in names}}
        mixing = [signs[tuple(own)] for own in names]
        self.forward = self._normalized([self._of(c, m) for c, m in zip(columns, mixing)])
        self.backward = self._normalized([self._of(c.turned, m) for c, m in zip(columns, mixing)])

    def _of(self, columns, mixing):
        """Crowd and mixtures of the named neurons, in bins over the whole recording."""
        mixed = columns.white @ mixing
        return averaged(columns.crowd, N_BINS).ravel(), averaged(mixed, N_BINS).ravel()

    def _normalized(self, described):
        """Unit vectors, without what all recordings have in common."""
        parts = []
        for part in zip(*described):
            vectors = np.array(part, dtype=np.float32)
            if self.n >= N_OTHERS:
                vectors = vectors - vectors.mean(0)
            norm = np.linalg.norm(vectors, axis=1, keepdims=True)
            parts.append(vectors / np.where(norm > 0, norm, np.inf))
        return parts

    def _similarity(self, rows):
        """Largest similarity, in any way, of some recordings with all."""
        ways = [
            np.abs(mine[rows] @ theirs.T)
            for mine, *both in zip(self.forward, self.forward, self.backward)
            for theirs in both
        ]
        return np.max(ways, axis=0)

    def most_similar_pairs(self, sides, chunk=512):
        """Pairs apart in the splits, the most similar first, and how many there are in all."""
        best, n_apart = [], 0
        for begin in range(0, self.n, chunk):
            rows = np.arange(begin, min(begin + chunk, self.n))
            apart = sides.apart_from(rows) & (rows[:, None] < np.arange(self.n))
            a, b = np.nonzero(apart)
            n_apart += len(a)
            similar = self._similarity(rows)[a, b]
            if len(a) > ALL_PAIRS:
                kept = np.argpartition(similar, -N_PAIRS)[-N_PAIRS:]
                a, b, similar = a[kept], b[kept], similar[kept]
            best += zip(similar.tolist(), rows[a].tolist(), b.tolist())
        best.sort(reverse=True)
        return [(a, b) for _, a, b in best[: n_apart if n_apart <= ALL_PAIRS else N_PAIRS]], n_apart

    def most_similar(self, one, other):
        """Pairs of a recording with those that are most similar to it besides another."""
        similar = self._similarity([one])[0]
        similar[[one, other]] = -1
        order = np.argsort(-similar)[: min(N_OTHERS // 2, self.n - 2)]
        return [(one, int(c)) for c in order]


def _signs(names, n_mixtures=8):
    """Random signs of each neuron in some mixtures, (n_neurons, n_mixtures); by its name alone."""
    keys = np.array([name_key(name) for name in names], dtype=np.uint64)
    drawn = mix(keys)[:, None] >> np.arange(n_mixtures, dtype=np.uint64)
    return np.where(drawn & np.uint64(1), 1.0, -1.0).astype(np.float32)
