"""Which recordings stand on the two sides of a split."""

from __future__ import annotations

import numpy as np


class Sides:
    """Membership of recordings in the training and test parts of all folds.

    Parameters
    ----------
    splits : list of (train, test)
        Indices of recordings.
    n_recordings : int

    Attributes
    ----------
    train, test : ndarray of bool, shape (n_folds, n_recordings)
    """

    def __init__(self, splits, n_recordings):
        self.train, self.test = np.zeros((2, len(splits), n_recordings), dtype=bool)
        for fold, (train, test) in enumerate(splits):
            self.train[fold, train] = self.test[fold, test] = True

    def apart(self, a, b):
        """Whether one of two recordings trains where the other tests, in any fold."""
        ways = (self.train[:, a] & self.test[:, b]) | (self.test[:, a] & self.train[:, b])
        return bool(ways.any())

    def apart_from(self, rows):
        """`apart` of some recordings with all, ndarray of bool of shape (len(rows), n_recordings).

        Counted by matrix products, so that thousands of recordings in as many folds take seconds.
        """
        train, test = (side.astype(np.float32) for side in (self.train, self.test))
        return (train[:, rows].T @ test + test[:, rows].T @ train) > 0.5

    def across(self, members):
        """Whether any of some recordings trains where another of them tests."""
        members = list(members)
        return bool((self.train[:, members].any(1) & self.test[:, members].any(1)).any())
