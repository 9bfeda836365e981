"""Do predicted standard deviations tell how far predictions are off?"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from skneurovae.common.missing import float_array
from skneurovae.metrics.asking import co_smoothed, training_scale
from skneurovae.metrics.explained import NOTHING_SCORED, number_neurons, units


def coverage(traces, mean, std, level=0.9):
    """Share of observed entries inside the central interval of a normal distribution.

    ``mean(|x - mean| <= z std)`` with z the ``(1 + level) / 2`` quantile of the standard normal.

    Parameters
    ----------
    traces : array-like
        NaN = not evaluated.
    mean, std : array-like of the same shape
        Predicted; `std` in units of the traces, positive.
    level : float, default=0.9
        What the share is if the predictions are right.

    Returns
    -------
    float
        From 0 to 1. Best is `level`: above it the intervals are too wide.

    Raises
    ------
    ValueError
        If shapes differ, `level` is outside (0, 1), no entry is evaluated, or where one is `mean`
        is not finite or `std` not positive and finite.
    """
    z, scored = _standardized(traces, mean, std)
    return float((np.abs(z[scored]) <= _half_width(level)).mean())


def crps_gaussian(traces, mean, std):
    """Continuous ranked probability score of normal predictions, lower is better.

    ``std (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi))`` with ``z = (x - mean) / std``: the
    generalization of the absolute error to a distribution, in units of the traces.

    Parameters
    ----------
    traces : array-like
        NaN = not evaluated.
    mean, std : array-like of the same shape
        Predicted.

    Returns
    -------
    ndarray of the same shape
        NaN where nothing is evaluated.

    Raises
    ------
    ValueError
        As `coverage`.

    References
    ----------
    Gneiting & Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 102, 2007,
    section 4.2.
    """
    z, _ = _standardized(traces, mean, std)
    score = z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi)
    return float_array(std) * score


def pit(traces, mean, std):
    """Probability integral transform ``Phi((x - mean) / std)`` of normal predictions.

    Its histogram is flat if the predictions are right, has the shape of a U if intervals are too
    narrow and of a hump if they are too wide.

    Parameters
    ----------
    traces : array-like
        NaN = not evaluated.
    mean, std : array-like of the same shape
        Predicted.

    Returns
    -------
    ndarray of the same shape
        From 0 to 1; NaN where nothing is evaluated.

    Raises
    ------
    ValueError
        As `coverage`.

    References
    ----------
    Gneiting, Balabdaoui & Raftery, J. R. Stat. Soc. B 69, 2007, section 3.1.
    """
    return norm.cdf(_standardized(traces, mean, std)[0])


def coverage_score(estimator, X, y=None, *, level=0.9, n_folds=3, random_state=0):
    """Coverage of the intervals of hidden neurons, all entries of all recordings together.

    Nearer `level` is better, so this is no score to maximize; `crps_score` is.

    Parameters
    ----------
    estimator : fitted estimator with ``predict(X, return_std=True)``
    X : recordings
    y : None
        Ignored.
    level : float, default=0.9
    n_folds : int, default=3
        Each neuron is hidden once, as in `co_smoothing_r2`.
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        As `coverage`, or if a recording has fewer than two different neurons.
    TypeError
        If `predict` has no `return_std`.
    """
    width = _half_width(level)
    n_inside = n_scored = 0
    for _, traces, mean, std in _hidden(estimator, X, n_folds, random_state):
        z, scored = _standardized(traces, mean, std)
        n_inside += np.count_nonzero(np.abs(z[scored]) <= width)
        n_scored += np.count_nonzero(scored)
    if not n_scored:
        raise ValueError(NOTHING_SCORED)
    return n_inside / n_scored


def crps_score(estimator, X, y=None, *, n_folds=3, random_state=0):
    """Minus the CRPS of hidden neurons in units of each neuron's standard deviation.

    Mean over all entries of all neurons and recordings together, with the units of
    `co_smoothing_score`. Higher is better and 0 is perfect; a neuron's own mean and standard
    deviation give -0.56 if it is normal.

    Parameters
    ----------
    estimator : fitted estimator with ``predict(X, return_std=True)``
    X : recordings
    y : None
        Ignored.
    n_folds : int, default=3
        Each neuron is hidden once, as in `co_smoothing_r2`.
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    float
        Neurons that are constant, in training too, are left out.

    Raises
    ------
    ValueError
        As `coverage_score`, or if no neuron can be scored.
    TypeError
        If `predict` has no `return_std`.
    """
    found = list(_hidden(estimator, X, n_folds, random_state))
    recordings = [recording for recording, *_ in found]
    numbers, n_numbers = number_neurons(recordings)
    scale = [training_scale(estimator, recording) for recording in recordings]
    unit, moves = units(recordings, numbers, n_numbers, scale)
    total = count = 0.0
    for (_, traces, mean, std), own in zip(found, numbers):
        used = (unit > 0)[own]
        score = crps_gaussian(traces, mean, std)[:, used] / unit[own[used]]
        total, count = total + np.nansum(score), count + np.count_nonzero(~np.isnan(score))
    if not count or not moves.any():
        raise ValueError(NOTHING_SCORED)
    return float(-total / count)


def _hidden(estimator, X, n_folds, random_state):
    """Yield recordings, traces (NaN = unknown to the estimator), means and standard deviations."""
    for recording, (mean, std), known in co_smoothed(
        estimator, X, n_folds, random_state, return_std=True
    ):
        if known.any():
            yield recording, np.where(known, recording.traces.astype(float), np.nan), mean, std


def _standardized(traces, mean, std):
    """``(x - mean) / std``, NaN where not evaluated, and what is evaluated."""
    traces, mean, std = map(float_array, (traces, mean, std))
    if not traces.shape == mean.shape == std.shape:
        raise ValueError(
            f"traces, mean and std have shapes {traces.shape}, {mean.shape} and {std.shape}."
        )
    scored = ~np.isnan(traces)
    if not scored.any():
        raise ValueError("traces have no evaluated entry.")
    if not (np.isfinite(mean) & np.isfinite(std) & (std > 0))[scored].all():
        raise ValueError("mean must be finite, and std positive, where traces are evaluated.")
    z = np.full(traces.shape, np.nan)
    z[scored] = (traces[scored] - mean[scored]) / std[scored]
    return z, scored


def _half_width(level):
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1; got {level}.")
    return norm.ppf((1 + level) / 2)
