"""Standardized behavior at several lags, as encoding models see it."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skneurovae.common.moments import column_moments, unit_of
from skneurovae.recordings import check_recordings
from skneurovae.recordings.doubts import behavior_range
from skneurovae.recordings.lags import lagged


class LaggedBehavior:
    """Part of an estimator that predicts from behavior at `lags_`.

    Missing behavior, also behavior beyond both ends of a recording, counts as the training mean.
    """

    def _fit_behavior(self, recordings):
        """Set mean and scale of each channel of behavior, over observed entries."""
        behavior = [r.behavior for r in recordings if r.behavior is not None]
        stacked = np.concatenate(behavior) if behavior else np.empty((0, 0))
        self.behavior_mean_, std = column_moments(stacked)
        self.behavior_scale_ = unit_of(std)
        self._behavior_range = behavior_range(recordings)

    def _check(self, X, behavior, mask, identities):
        check_is_fitted(self)
        return check_recordings(
            X, mask=mask, behavior=behavior, identities=identities, estimator=self, reset=False
        )

    def _lagged_behavior(self, recording):
        """Standardized behavior at all lags, (n_timesteps, n_lags * n_behaviors), 0 if missing."""
        n_timesteps = recording.n_timesteps
        if recording.behavior is None:
            return np.zeros((n_timesteps, len(self.lags_) * self.n_behaviors_in_))
        behavior = (recording.behavior - self.behavior_mean_) / self.behavior_scale_
        return np.nan_to_num(lagged(behavior, self.lags_).reshape(n_timesteps, -1))
