"""Traces brought to the levels of their identities, and what is inferred of them back."""

from __future__ import annotations

import numpy as np

from skneurovae.estimators.levels import Levels
from skneurovae.recordings.level_differences import levels_differ


class LeveledMixin:
    """`normalize` of an estimator: the units in which its network sees traces."""

    def _level(self, recordings, rows, n_rows, fresh):
        """Choose the units, and bring training recordings to them."""
        if fresh:
            counts = self.likelihood_ in ("poisson", "negative_binomial")
            self.normalize_ = self.normalize
            if self.normalize == "recording" and self.causal:
                raise ValueError(
                    "normalize='recording' has no meaning with causal=True: the level of a "
                    "recording is known at its end. Use 'identity'."
                )
            if self.normalize == "auto":
                differ = not counts and not self.causal and levels_differ(recordings, rows)
                self.normalize_ = "recording" if differ else "identity"
            elif self.normalize == "recording" and counts:
                raise ValueError(
                    f"normalize='recording' has no meaning for counts (likelihood="
                    f"{self.likelihood_!r}), of which levels are rates; use 'identity'."
                )
        elif self.normalize not in ("auto", self.normalize_):
            raise ValueError(
                f"normalize is {self.normalize!r}, but the last fit had {self.normalize_!r}; "
                "training can only go on in the same units."
            )
        if self.normalize_ != "recording":
            return recordings
        self._levels = (
            Levels.fit(recordings, rows, n_rows)
            if fresh
            else self._levels.extended(recordings, rows, n_rows)
        )
        return [self._levels.leveled(*pair)[0] for pair in zip(recordings, rows)]

    def _infer(self, recordings, rows, function):
        """See `InferenceMixin`; predictions and densities are those of the traces as given."""
        if self.normalize_ != "recording":
            return super()._infer(recordings, rows, function)
        leveled = [self._levels.leveled(*pair) for pair in zip(recordings, rows)]
        results = super()._infer([r for r, _, _ in leveled], rows, function)
        for result, recording, (_, offset, gain) in zip(results, recordings, leveled):
            dtype = recording.traces.dtype
            if "neuron_mean" in result:
                result["neuron_mean"] = (result["neuron_mean"] * gain + offset).astype(dtype)
                result["neuron_std"] = (result["neuron_std"] * gain).astype(dtype)
            if "bound" in result:  # of a density, in other units
                per_entry = ~np.isnan(recording.traces) @ np.log(gain)
                result["bound"] = (result["bound"] - per_entry).astype(dtype)
        return results
