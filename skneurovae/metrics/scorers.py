"""Scorers `name(estimator, X, y=None) -> float` of fitted estimators."""

from __future__ import annotations

import numpy as np

from skneurovae.metrics.asking import (
    average,
    co_smoothed,
    known_neurons,
    predict,
    session_means,
    side_by_side,
)
from skneurovae.metrics.hiding import hide_neurons, hide_spans
from skneurovae.metrics.values import bits_per_spike, bits_per_spike_per_neuron, r2_per_neuron
from skneurovae.recordings import check_recordings


def co_smoothing_r2(estimator, X, *, n_folds=3, random_state=0):
    """R2 of every neuron, predicted from the other neurons and behavior.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
    X : recordings
    n_folds : int, default=3
        Each neuron is hidden once, together with about ``1 / n_folds`` of its recording.
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    list of ndarray of shape (n_neurons,)
        One per recording. NaN for neurons that are constant, or that the estimator cannot know
        because they are not in its `identities_`.
    """
    return [
        np.where(known, r2_per_neuron(recording.traces, prediction, known), np.nan)
        for recording, prediction, known in co_smoothed(estimator, X, n_folds, random_state)
    ]


def co_smoothing_score(estimator, X, y=None, *, n_folds=3, random_state=0):
    """Mean R2 of hidden neurons: over the neurons of a recording, then over recordings.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
    X : recordings
    y : None
        Ignored.
    n_folds : int, default=3
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a recording has fewer than two different neurons, or no neuron can be scored.

    See Also
    --------
    co_smoothing_r2 : The same for each neuron.

    References
    ----------
    Co-smoothing as in Pei et al. 2021 ("Neural Latents Benchmark '21"), with R2 for continuous
    traces in place of bits per spike, and every neuron hidden once.
    """
    return average(co_smoothing_r2(estimator, X, n_folds=n_folds, random_state=random_state))


def co_smoothing_bits(estimator, X, y=None, *, n_folds=3, random_state=0):
    """Bits per spike of hidden neurons, over all neurons and recordings together.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
        Its predictions are counts per bin.
    X : recordings
        Of spike counts per bin.
    y : None
        Ignored.
    n_folds : int, default=3
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    float
        0 = no better than each neuron's mean count in what is scored of its session.

    Raises
    ------
    ValueError
        If a recording has fewer than two different neurons, counts or predictions are negative, or
        there is no spike.

    See Also
    --------
    bits_per_spike : Of given rates.
    co_smoothing_bits_per_neuron : The same for each neuron, for the median beside this value.

    References
    ----------
    Co-smoothing as in Pei et al. 2021 ("Neural Latents Benchmark '21"), every neuron hidden once.
    """
    counts, rates, null = _hidden_counts(estimator, X, n_folds, random_state)
    return bits_per_spike(side_by_side(counts), side_by_side(rates), null=np.concatenate(null))


def co_smoothing_bits_per_neuron(estimator, X, *, n_folds=3, random_state=0):
    """Bits per spike of every hidden neuron.

    The pooled `co_smoothing_bits` is ruled by busy neurons; the median over these is not.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
        Its predictions are counts per bin.
    X : recordings
        Of spike counts per bin.
    n_folds : int, default=3
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    list of ndarray of shape (n_neurons,)
        One per recording. NaN for neurons that are silent, or that the estimator cannot know.

    Raises
    ------
    ValueError
        As `co_smoothing_bits`, but neurons without a spike are no error.
    """
    parts = zip(*_hidden_counts(estimator, X, n_folds, random_state))
    return [bits_per_spike_per_neuron(counts, rates, null=null) for counts, rates, null in parts]


def _hidden_counts(estimator, X, n_folds, random_state):
    """Counts (NaN = neuron unknown), predicted rates and null rates of each recording."""
    found = list(co_smoothed(estimator, X, n_folds, random_state))
    counts = [np.where(known, recording.traces, np.nan) for recording, _, known in found]
    null = session_means([recording for recording, *_ in found], counts)
    return counts, [rates for _, rates, _ in found], null


def reconstruction_score(estimator, X, y=None):
    """Mean R2 of the observed entries with everything visible; not held out.

    A model that copies its input reaches 1, so this is a check of capacity and not of quality.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
    X : recordings
    y : None
        Ignored.

    Returns
    -------
    float
    """
    recordings, _ = check_recordings(X)
    return average(_score(estimator, recordings, predict(estimator, X, recordings)))


def imputation_score(estimator, X, y=None, *, fraction=0.1, span_length=20, random_state=0):
    """R2 on hidden contiguous spans of single neurons (see `hide_spans`).

    ``1 - sum (x - prediction)^2 / s^2 / sum (x - m)^2 / s^2`` over all hidden entries of a
    recording, with m and s the mean and standard deviation of what the neuron shows; then the mean
    over recordings. Few spans of a slow trace vary little, so an R2 for each neuron would be ruled
    by the neurons that hardly moved.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
    X : recordings
    y : None
        Ignored.
    fraction : float, default=0.1
    span_length : int, default=20
        In time steps.
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a recording is shorter than two spans, or no neuron can be scored.

    References
    ----------
    Speckled hold-out: Wold, Technometrics 1978; in spans because traces are autocorrelated.
    """
    recordings, _ = check_recordings(X)
    pairs = [hide_spans(r, fraction, span_length, random_state) for r in recordings]
    predictions = predict(estimator, X, [recording for recording, _ in pairs])
    scores = []
    for index, (recording, (shown, hidden)) in enumerate(zip(recordings, pairs)):
        known, prediction = known_neurons(estimator, recording), predictions[index]
        mean, std = (f(shown.traces[:, known], axis=0) for f in (np.nanmean, np.nanstd))
        unit = np.where(std > 0, std, 1.0)
        truth = np.where(hidden, recording.traces, np.nan)[:, known]
        if not np.isfinite(prediction[:, known][~np.isnan(truth)]).all():
            raise ValueError(f"prediction of recording {index} is NaN or infinite where it counts.")
        total = np.nansum(((truth - mean) / unit) ** 2)
        error = np.nansum(((truth - prediction[:, known]) / unit) ** 2)
        scores.append(np.array(1 - error / total if total else np.nan))
    return average(scores)


def behavior_prediction_score(estimator, X, y=None):
    """Mean R2 of the traces predicted from behavior alone: all neurons are hidden.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
    X : list of Recording with behavior
    y : None
        Ignored.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a recording has no behavior, or no neuron can be scored.
    """
    recordings, _ = check_recordings(X)
    for index, recording in enumerate(recordings):
        if recording.behavior is None:
            raise ValueError(f"recording {index} has no behavior to predict from.")
    hidden = [hide_neurons(r, np.ones(r.n_neurons, dtype=bool)) for r in recordings]
    return average(_score(estimator, recordings, predict(estimator, X, hidden)))


def _score(estimator, recordings, predictions):
    scores = []
    for recording, prediction in zip(recordings, predictions, strict=True):
        known = known_neurons(estimator, recording)
        scores.append(r2_per_neuron(recording.traces[:, known], prediction[:, known]))
    return scores
