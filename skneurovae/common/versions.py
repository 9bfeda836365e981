"""Saved estimators know the version of the package that saved them."""

from __future__ import annotations

import warnings

import skneurovae

__all__ = ["VersionWarning", "Versioned"]

_KEY = "_skneurovae_version"


class VersionWarning(UserWarning):
    """An estimator is loaded by another version of the package than it was saved by."""


class Versioned:
    """Part of an estimator: pickles carry the version of the package and warn across versions.

    Comes before `BaseEstimator` among the bases.
    """

    def __getstate__(self):
        return {**super().__getstate__(), _KEY: skneurovae.__version__}

    def __setstate__(self, state):
        state = dict(state)
        saved, here = state.pop(_KEY, "an unknown version"), skneurovae.__version__
        if saved != here:
            warnings.warn(
                f"{type(self).__name__} was saved by skneurovae {saved} and is loaded by {here}: "
                "it may fail or give other results; fit it again, or load it by that version.",
                VersionWarning,
                stacklevel=2,
            )
        super().__setstate__(state)
