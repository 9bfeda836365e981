"""Scorers `name(estimator, X, y=None) -> float` for models of neural recordings, higher is better.

Every score but `reconstruction_score` is held out by construction: what is scored is set to NaN
before the fitted estimator sees it. `X` is whatever `check_recordings` takes; the estimator's
`predict` gets a list of `Recording`, or an array of the same form where `X` is an array, so that
pipelines which begin with steps of scikit-learn can be scored too. `y` is ignored.
"""

from skneurovae.metrics.hiding import hide_neurons, hide_spans, neuron_folds
from skneurovae.metrics.scorers import (
    behavior_prediction_score,
    co_smoothing_bits,
    co_smoothing_r2,
    co_smoothing_score,
    imputation_score,
    reconstruction_score,
)
from skneurovae.metrics.values import bits_per_spike, r2_per_neuron

__all__ = [
    "behavior_prediction_score",
    "bits_per_spike",
    "co_smoothing_bits",
    "co_smoothing_r2",
    "co_smoothing_score",
    "hide_neurons",
    "hide_spans",
    "imputation_score",
    "neuron_folds",
    "r2_per_neuron",
    "reconstruction_score",
]
