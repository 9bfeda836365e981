"""Standardized behavior at several lags, as encoding models see it."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skneurovae.recordings import check_recordings
from skneurovae.recordings.lags import lagged


class LaggedBehavior:
    """Part of an estimator that predicts from behavior at `lags_`.

    Missing behavior, also behavior beyond both ends of a recording, counts as the training mean.
    """

    def _fit_behavior(self, recordings):
        """Set mean and scale of each channel of behavior, over observed entries."""
        behavior = [r.behavior for r in recordings if r.behavior is not None]
        stacked = np.concatenate(behavior) if behavior else np.empty((0, 0))
        self.behavior_mean_, self.behavior_scale_ = observed_moments(stacked)

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


def observed_moments(values):
    """Mean and standard deviation of the observed entries of each column.

    Returns
    -------
    mean, scale : ndarray of shape (n_columns,)
        The scale of a constant column, or of one without data, is 1.
    """
    count = np.maximum((~np.isnan(values)).sum(0), 1)
    mean = np.nansum(values, 0) / count
    scale = np.sqrt(np.nansum((values - mean) ** 2, 0) / count)
    return mean, np.where(scale > 1e-12 * np.abs(mean), scale, 1.0)
