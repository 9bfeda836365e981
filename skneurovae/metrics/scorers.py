"""Scorers `name(estimator, X, y=None) -> float` of fitted estimators."""

from __future__ import annotations

import numpy as np

from skneurovae.common.moments import column_moments
from skneurovae.metrics.asking import (
    co_smoothed,
    known_neurons,
    predict,
    side_by_side,
    training_scale,
)
from skneurovae.metrics.explained import check_average, explained, session_means
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


def co_smoothing_score(estimator, X, y=None, *, n_folds=3, random_state=0, average="pooled"):
    """R2 of hidden neurons, all entries of all neurons and recordings together.

    ``1 - sum (x - prediction)^2 / u^2 / sum (x - m)^2 / u^2``. Of each neuron m is the mean over
    the recordings of its session that are scored, and u the standard deviation: in the training
    data of the estimator or in the recordings scored, whichever is larger (where the estimator
    does not tell, the latter, and at least the median of all neurons). A neuron that hardly varies,
    or a short trial, counts by its share of the entries.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
    X : recordings
    y : None
        Ignored.
    n_folds : int, default=3
        Each neuron is hidden once, as in `co_smoothing_r2`.
    random_state : int, RandomState instance or None, default=0
    average : {"pooled", "mean", "median"}, default="pooled"
        "mean" and "median" are those of the classical R2 of each neuron of a session; constant ones
        are left out. A few neurons that hardly vary may rule the mean.

    Returns
    -------
    float
        At most 1; 0 is what the mean of each neuron reaches.

    Raises
    ------
    ValueError
        If a recording has fewer than two different neurons, or no neuron can be scored.

    See Also
    --------
    co_smoothing_r2 : Of each neuron.

    References
    ----------
    Co-smoothing as in Pei et al. 2021 ("Neural Latents Benchmark '21"), with R2 for continuous
    traces in place of bits per spike, and every neuron hidden once.
    """
    check_average(average)
    found = list(co_smoothed(estimator, X, n_folds, random_state))
    return _explained(estimator, *zip(*((r, p) for r, p, _ in found)), average)


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


def reconstruction_score(estimator, X, y=None, *, average="pooled"):
    """R2 of the observed entries with everything visible; not held out.

    A model that copies its input reaches 1, so this is a check of capacity and not of quality.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
    X : recordings
    y : None
        Ignored.
    average : {"pooled", "mean", "median"}, default="pooled"
        As in `co_smoothing_score`, whose definition this is.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If no neuron can be scored.
    """
    recordings, _ = check_recordings(X)
    return _explained(estimator, recordings, predict(estimator, X, recordings), average)


def imputation_score(
    estimator, X, y=None, *, fraction=0.1, span_length=20, random_state=0, average="pooled"
):
    """R2 on hidden contiguous spans of single neurons (see `hide_spans`).

    The definition is that of `co_smoothing_score`, over the hidden entries, with one difference: m
    is the mean of what the neuron *shows* in the recording, the best constant that one can know.

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
    average : {"pooled", "mean", "median"}, default="pooled"
        As in `co_smoothing_score`. Few spans of a slow trace vary little, so an R2 for each neuron
        is ruled by the neurons that hardly moved.

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
    check_average(average)
    recordings, _ = check_recordings(X)
    pairs = [hide_spans(r, fraction, span_length, random_state) for r in recordings]
    shown = [recording for recording, _ in pairs]
    center = [column_moments(recording.traces)[0] for recording in shown]
    # A neuron that shows nothing has no mean to be compared with.
    evaluated = [hidden & ~np.isnan(recording.traces).all(0) for recording, hidden in pairs]
    answers = predict(estimator, X, shown)
    return _explained(estimator, recordings, answers, average, evaluated, center)


def behavior_prediction_score(estimator, X, y=None, *, average="pooled"):
    """R2 of the traces predicted from behavior alone: all neurons are hidden.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
    X : list of Recording with behavior
    y : None
        Ignored.
    average : {"pooled", "mean", "median"}, default="pooled"
        As in `co_smoothing_score`, whose definition this is.

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
    return _explained(estimator, recordings, predict(estimator, X, hidden), average)


def _explained(estimator, recordings, predictions, average, evaluated=None, center=None):
    """R2 of the neurons that the estimator can know, of all or of the `evaluated` entries."""
    truth = []
    for index, recording in enumerate(recordings):
        scored = known_neurons(estimator, recording)
        scored = scored if evaluated is None else scored & evaluated[index]
        truth.append(np.where(scored, recording.traces, np.nan))
    scale = [training_scale(estimator, recording) for recording in recordings]
    return explained(recordings, truth, predictions, scale, average, center)
