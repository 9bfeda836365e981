"""Peristimulus time histograms: predicted rates averaged over the trials of a condition."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state

from skneurovae.common.missing import float_array, missing_entries, plain_array
from skneurovae.common.moments import column_moments, is_dead, observed_mean, unit_of, varies
from skneurovae.metrics.asking import co_smoothed
from skneurovae.metrics.explained import check_average
from skneurovae.metrics.values import r2_per_neuron


def psth(traces, conditions):
    """Mean over the trials of each condition.

    Parameters
    ----------
    traces : array-like of shape (n_trials, n_timesteps, n_neurons)
        Traces or rates; NaN = not observed.
    conditions : array-like of shape (n_trials,)
        Label of the condition of each trial.

    Returns
    -------
    ndarray of shape (n_conditions, n_timesteps, n_neurons)
        In the order of ``numpy.unique(conditions)``; NaN where no trial was observed.

    Raises
    ------
    ValueError
        If `traces` is not 3-D or `conditions` has another number of trials.
    """
    traces, conditions = _check(traces, conditions)
    return np.stack([observed_mean(traces[conditions == c]) for c in np.unique(conditions)])


def psth_r2(rates, traces, conditions, *, average="pooled"):
    """R2 of the condition-averaged rate against the PSTH, all neurons together.

    ``1 - sum SSE / u^2 / sum SST / u^2``, both sums over conditions and time steps of all neurons,
    every entry of the PSTH with the same weight and u the standard deviation of a neuron over its
    traces, at least the median of all neurons. Both averages run over the observed entries of
    `traces`. Blind to what differs between trials of a condition.

    Parameters
    ----------
    rates : array-like of shape (n_trials, n_timesteps, n_neurons)
        Predicted, in units of `traces`.
    traces : array-like of the same shape
        NaN = not observed. The benchmark smooths spikes (standard deviation 40 to 70 ms) before it
        averages them; give them smoothed for its value.
    conditions : array-like of shape (n_trials,)
    average : {"pooled", "mean", "median"}, default="pooled"
        "mean" is the benchmark's: the mean over neurons of ``1 - SSE / SST``, which a neuron with a
        nearly constant PSTH may rule; "median" that over neurons. A constant PSTH is left out.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If shapes differ, a rate is not finite where it is evaluated, or every PSTH is constant.

    References
    ----------
    Pei et al., "Neural Latents Benchmark '21", 2021, section 3.
    """
    check_average(average)
    truth, prediction = _pair(rates, traces, conditions)
    r2 = r2_per_neuron(truth, prediction)
    if average == "median" and not np.isnan(r2).all():
        return float(np.nanmedian(r2))
    if average == "mean" or np.isnan(r2).all():
        return _mean_over_neurons(r2)
    traces = float_array(traces).reshape(-1, truth.shape[1])
    std = column_moments(traces)[1]
    alive = ~is_dead(std)
    unit = np.maximum(std, np.median(std[alive])) if alive.any() else unit_of(std)
    weights = alive / unit**2
    seen = ~np.isnan(truth)
    error = (np.where(seen, truth - prediction, 0.0) ** 2).sum(0)
    total = (np.where(seen, truth - observed_mean(truth), 0.0) ** 2).sum(0)
    return float(1 - error @ weights / (total @ weights))


def psth_score(estimator, X, y, *, n_folds=3, random_state=0, average="pooled"):
    """R2 of the condition-averaged rates of hidden neurons against their PSTHs.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
    X : recordings
        Trials of equal length and with the same neurons.
    y : array-like of shape (n_trials,)
        Condition of each trial; one value per time step is fine where it does not change.
    n_folds : int, default=3
        Each neuron is hidden once, as in `co_smoothing_score`.
    random_state : int, RandomState instance or None, default=0
    average : {"pooled", "mean", "median"}, default="pooled"
        As in `psth_r2`.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If trials differ in length or neurons, or a condition changes within a trial.
    """
    found = list(co_smoothed(estimator, X, n_folds, random_state))
    shapes = sorted({recording.traces.shape for recording, *_ in found})
    if len(shapes) > 1:
        raise ValueError(f"trials must have one shape; they have {shapes[0]} and {shapes[1]}.")
    if len(y) != len(found):
        raise ValueError(f"y has {len(y)} entries; X has {len(found)} trials.")
    given = [plain_array(condition) for condition in y]
    conditions = [np.unique(values[~missing_entries(values)]) for values in given]
    for trial, values in enumerate(conditions):
        if len(values) != 1:
            raise ValueError(f"y of trial {trial} must be one condition; got {len(values)}.")
    known = np.all([k for *_, k in found], axis=0)
    traces = np.stack([recording.traces[:, known] for recording, *_ in found])
    rates = np.stack([prediction[:, known] for _, prediction, _ in found])
    return psth_r2(rates, traces, np.concatenate(conditions), average=average)


def psth_correlation(rates, traces, conditions):
    """Mean over neurons of the Pearson correlation of condition-averaged rate and PSTH.

    Parameters
    ----------
    rates : array-like of shape (n_trials, n_timesteps, n_neurons)
        Predicted.
    traces : array-like of the same shape
        NaN = not observed.
    conditions : array-like of shape (n_trials,)

    Returns
    -------
    float
        From -1 to 1; a constant rate counts 0, neurons with a constant PSTH are left out.

    Raises
    ------
    ValueError
        As `psth_r2`.

    See Also
    --------
    psth_ceiling : What a perfect model would reach.
    """
    truth, prediction = _pair(rates, traces, conditions)
    return _mean_over_neurons(_correlation(truth, prediction))


def psth_ceiling(traces, conditions, *, n_splits=100, random_state=0):
    """Correlation with the PSTH that the true rate is expected to reach.

    Trials of every condition are split at random into halves; r is the correlation of the two
    PSTHs of a neuron, averaged over splits. By Spearman-Brown the PSTH of all trials has the
    reliability ``2 r / (1 + r)``. Its square root is the ceiling, because the true rate is free of
    the noise that both halves have. The mean over neurons is returned, with r below 0 taken as 0.

    Parameters
    ----------
    traces : array-like of shape (n_trials, n_timesteps, n_neurons)
        NaN = not observed.
    conditions : array-like of shape (n_trials,)
    n_splits : int, default=100
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    float
        From 0 to 1. Estimated, so a model may exceed it by chance.

    Raises
    ------
    ValueError
        If shapes differ, a condition has a single trial, or every PSTH is constant.

    References
    ----------
    Hsu, Borst & Theunissen, Network 15, 2004; Schoppe et al., Front. Comput. Neurosci.
    10, 2016.
    """
    traces, conditions = _check(traces, conditions)
    labels, sizes = np.unique(conditions, return_counts=True)
    if sizes.min() < 2:
        raise ValueError(
            f"condition {labels[sizes.argmin()]} has one trial; halves need two or more."
        )
    if n_splits < 1:
        raise ValueError(f"n_splits must be 1 or more; got {n_splits}.")
    rng = check_random_state(random_state)
    trials = [np.flatnonzero(conditions == label) for label in labels]
    correlations = []
    for _ in range(n_splits):
        halves = [[], []]
        for own in map(rng.permutation, trials):
            halves[0].append(observed_mean(traces[own[: len(own) // 2]]))
            halves[1].append(observed_mean(traces[own[len(own) // 2 :]]))
        correlations.append(_correlation(*map(np.concatenate, halves)))
    r = np.clip(observed_mean(np.array(correlations)), 0, None)
    return _mean_over_neurons(np.sqrt(2 * r / (1 + r)))


def _check(traces, conditions):
    traces, conditions = float_array(traces), plain_array(conditions)
    if traces.ndim != 3:
        raise ValueError(
            f"traces must have shape (n_trials, n_timesteps, n_neurons); got {traces.shape}."
        )
    if conditions.shape != traces.shape[:1]:
        raise ValueError(
            f"conditions must have shape ({len(traces)},), one per trial; got {conditions.shape}."
        )
    if missing_entries(conditions).any():
        trial = missing_entries(conditions).argmax()
        raise ValueError(f"the condition of trial {trial} is missing; leave the trial out.")
    return traces, conditions


def _pair(rates, traces, conditions):
    """PSTH and condition-averaged rate, (n_conditions * n_timesteps, n_neurons)."""
    rates, traces = float_array(rates), float_array(traces)
    if rates.shape != traces.shape:
        raise ValueError(f"rates have shape {rates.shape}, traces have {traces.shape}.")
    missing = np.isnan(traces)
    # A NaN would drop out of the average over trials and so flatter the model.
    if not np.isfinite(rates[~missing]).all():
        raise ValueError("rates must be finite wherever traces are observed.")
    truth, prediction = psth(traces, conditions), psth(np.where(missing, np.nan, rates), conditions)
    return truth.reshape(-1, truth.shape[-1]), prediction.reshape(-1, truth.shape[-1])


def _correlation(truth, prediction):
    """Pearson correlation of columns over entries observed in both.

    NaN if the truth is constant, 0 if only the prediction is.
    """
    missing = np.isnan(truth) | np.isnan(prediction)
    moves, columns = [], []
    for values in (truth, prediction):
        values = np.where(missing, np.nan, values)
        moves.append(varies(values))
        columns.append(np.where(missing, 0.0, values - observed_mean(values)))
    (a, b), both = columns, moves[0] & moves[1]
    norm = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    r = np.where(both, (a * b).sum(0) / np.where(both, norm, 1.0), 0.0)
    return np.where(moves[0], r, np.nan)


def _mean_over_neurons(values):
    if np.isnan(values).all():
        raise ValueError("no neuron can be scored: the PSTH of every neuron is constant.")
    return float(np.nanmean(values))
