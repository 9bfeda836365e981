"""Scorers `name(estimator, X, y=None) -> float` for models of neural recordings, higher is better.

Every score but `reconstruction_score` is held out by construction: what is scored is set to NaN
before the fitted estimator sees it. `X` is whatever `check_recordings` takes; the estimator's
`predict` gets a list of `Recording`, or an array of the same form where `X` is an array, so that
pipelines which begin with steps of scikit-learn can be scored too. `y` is ignored.

`evaluate` puts a null, a baseline and the number of effective samples beside any scorer. The other
functions are plain functions of arrays. `coverage_score` alone is best at its nominal level.
"""

from skneurovae.metrics.calibration import (
    coverage,
    coverage_score,
    crps_gaussian,
    crps_score,
    pit,
)
from skneurovae.metrics.consistency import consistency, consistency_score
from skneurovae.metrics.controls import (
    Evaluation,
    autocorrelation_time,
    decay_time,
    effective_samples,
    evaluate,
)
from skneurovae.metrics.forecast import (
    Forecast,
    ForecastErrors,
    forecast,
    forecast_bits,
    forecast_errors,
    forecast_score,
)
from skneurovae.metrics.hiding import hide_neurons, hide_spans, neuron_folds, shift_neurons
from skneurovae.metrics.nulls import TimeShifted
from skneurovae.metrics.psth import psth, psth_ceiling, psth_correlation, psth_r2, psth_score
from skneurovae.metrics.recovery import latent_r2, mean_correlation
from skneurovae.metrics.scorers import (
    behavior_prediction_score,
    co_smoothing_bits,
    co_smoothing_bits_per_neuron,
    co_smoothing_r2,
    co_smoothing_score,
    imputation_score,
    reconstruction_score,
)
from skneurovae.metrics.values import (
    bits_per_spike,
    bits_per_spike_per_neuron,
    circular_error,
    circular_r2,
    infonce_bits,
    r2_per_neuron,
)

__all__ = [
    "Evaluation",
    "Forecast",
    "ForecastErrors",
    "TimeShifted",
    "autocorrelation_time",
    "behavior_prediction_score",
    "bits_per_spike",
    "bits_per_spike_per_neuron",
    "circular_error",
    "circular_r2",
    "co_smoothing_bits",
    "co_smoothing_bits_per_neuron",
    "co_smoothing_r2",
    "co_smoothing_score",
    "consistency",
    "consistency_score",
    "coverage",
    "coverage_score",
    "crps_gaussian",
    "crps_score",
    "decay_time",
    "effective_samples",
    "evaluate",
    "forecast",
    "forecast_bits",
    "forecast_errors",
    "forecast_score",
    "hide_neurons",
    "hide_spans",
    "imputation_score",
    "infonce_bits",
    "latent_r2",
    "mean_correlation",
    "neuron_folds",
    "pit",
    "psth",
    "psth_ceiling",
    "psth_correlation",
    "psth_r2",
    "psth_score",
    "r2_per_neuron",
    "reconstruction_score",
    "shift_neurons",
]
