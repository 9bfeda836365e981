"""Scorers `name(estimator, X, y=None) -> float` for models of neural recordings, higher is better.

Every score but `reconstruction_score` is held out by construction: what is scored is set to NaN
before the fitted estimator sees it. `X` is whatever `check_recordings` takes; the estimator's
`predict` gets a list of `Recording`, or an array of the same form where `X` is an array, so that
pipelines which begin with steps of scikit-learn can be scored too. `y` is ignored.
"""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state

from skneurovae.recordings import check_recordings

MIN_RATE = 1e-9  # counts per bin; rates are clipped here, as in the Neural Latents Benchmark


def r2_per_neuron(traces, prediction, mask=None):
    """Coefficient of determination of each neuron, 1 - SSE / SST.

    Both sums run over the evaluated entries of the neuron, and SST is taken around their mean, so 0
    is what the best constant reaches on these very entries.

    Parameters
    ----------
    traces : array-like of shape (n_timesteps, n_neurons)
        NaN = not observed, not evaluated.
    prediction : array-like of shape (n_timesteps, n_neurons)
    mask : array-like of bool of shape (n_timesteps, n_neurons), default=None
        True = evaluated; None = every observed entry.

    Returns
    -------
    ndarray of shape (n_neurons,)
        NaN for a neuron that is constant or has no evaluated entry.

    Raises
    ------
    ValueError
        If the shapes differ or a prediction is not finite where it is evaluated.
    """
    traces, prediction = np.asarray(traces, dtype=float), np.asarray(prediction, dtype=float)
    if traces.shape != prediction.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, traces have {traces.shape}.")
    scored = ~np.isnan(traces)
    if mask is not None:
        scored &= np.asarray(mask, dtype=bool)
    # A NaN would drop out of the mean over neurons and so flatter the model.
    if not np.isfinite(prediction[scored]).all():
        bad = np.flatnonzero((scored & ~np.isfinite(prediction)).any(0))
        raise ValueError(f"prediction of neuron {bad[0]} is NaN or infinite where it is evaluated.")
    count = scored.sum(0)
    values = np.where(scored, traces, 0.0)
    mean = values.sum(0) / np.maximum(count, 1)
    total = (np.where(scored, traces - mean, 0.0) ** 2).sum(0)
    error = (np.where(scored, traces - prediction, 0.0) ** 2).sum(0)
    varies = total > count * (1e-12 * np.abs(values).max(0, initial=0.0)) ** 2
    return np.where(varies, 1 - error / np.where(varies, total, 1.0), np.nan)


def bits_per_spike(counts, rates, null=None):
    """Gain in Poisson log-likelihood over constant rates, in bits per spike.

    ``(log p(counts | rates) - log p(counts | null)) / (n_spikes ln 2)``

    Parameters
    ----------
    counts : array-like of shape (..., n_neurons)
        Spike counts per bin; NaN = not evaluated.
    rates : array-like of the same shape
        Predicted counts per bin (not per second), clipped below at 1e-9.
    null : array-like of shape (n_neurons,), default=None
        Counts per bin that the model is compared with; None is the mean of each neuron over the
        evaluated bins.

    Returns
    -------
    float
        0 = no better than the null. Sums over all neurons, so busy neurons weigh most.

    Raises
    ------
    ValueError
        If shapes differ, counts or rates are negative, rates not finite, or there is no spike.

    References
    ----------
    Pei et al., "Neural Latents Benchmark '21", NeurIPS Datasets and Benchmarks 2021, section 3.
    """
    counts, rates = np.asarray(counts, dtype=float), np.asarray(rates, dtype=float)
    if counts.shape != rates.shape:
        raise ValueError(f"rates have shape {rates.shape}, counts have {counts.shape}.")
    n_neurons = counts.shape[-1]
    counts, rates = counts.reshape(-1, n_neurons), rates.reshape(-1, n_neurons)
    scored = ~np.isnan(counts)
    counts = np.where(scored, counts, 0.0)
    if (counts < 0).any():
        raise ValueError("counts must not be negative; z-scored traces have no bits per spike.")
    if not (np.isfinite(rates) & (rates >= 0))[scored].all():
        raise ValueError("rates must be finite and not negative where counts are evaluated.")
    n_spikes = counts.sum()
    if n_spikes == 0:
        raise ValueError("counts hold no spike, so bits per spike are undefined.")
    if null is None:
        null = counts.sum(0) / np.maximum(scored.sum(0), 1)

    def log_likelihood(rate):
        rate = np.maximum(rate, MIN_RATE)
        return np.where(scored, counts * np.log(rate) - rate, 0.0).sum()  # log(counts!) cancels

    gain = log_likelihood(rates) - log_likelihood(np.broadcast_to(null, counts.shape))
    return float(gain / (n_spikes * np.log(2)))


def neuron_folds(recording, n_folds=3, random_state=0):
    """Assign each neuron to the fold in which it is hidden.

    Neurons that share an identity (left and right of a class) get one fold, or the twin would give
    the hidden one away. The folds of a recording do not depend on other recordings.

    Parameters
    ----------
    recording : Recording
    n_folds : int, default=3
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    ndarray of int of shape (n_neurons,)

    Raises
    ------
    ValueError
        If `n_folds` is below 2 or the recording has a single identity: nothing would stay visible.
    """
    if n_folds < 2:
        raise ValueError(f"n_folds must be 2 or more; got {n_folds}.")
    labels = _labels(recording)
    keys = [(1, label) if label else (0, column) for column, label in enumerate(labels)]
    distinct = sorted(set(keys))
    if len(distinct) < 2:
        raise ValueError("co-smoothing needs two or more different neurons; a recording has one.")
    order = check_random_state(random_state).permutation(len(distinct))
    fold = dict(zip(distinct, order % n_folds))
    return np.array([fold[key] for key in keys])


def hide_neurons(recording, hidden):
    """Copy of a recording in which whole neurons are NaN.

    Parameters
    ----------
    recording : Recording
    hidden : ndarray of bool of shape (n_neurons,)
        For one fold: ``neuron_folds(recording) == fold``.

    Returns
    -------
    Recording
    """
    return recording.replace(traces=np.where(hidden, np.nan, recording.traces))


def hide_spans(recording, fraction=0.1, span_length=20, random_state=0):
    """Copy of a recording in which contiguous spans of every neuron are NaN.

    The time axis of each neuron is cut at its own phase into spans, of which a fraction is hidden.
    Single frames would be given away by their neighbors, so `span_length` should be no shorter than
    the autocorrelation of the traces.

    Parameters
    ----------
    recording : Recording
    fraction : float, default=0.1
        Share of spans hidden, at least one per neuron.
    span_length : int, default=20
        In time steps.
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    recording : Recording
    hidden : ndarray of bool of shape (n_timesteps, n_neurons)

    Raises
    ------
    ValueError
        If `fraction` is outside (0, 1) or the recording is shorter than two spans.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1; got {fraction}.")
    n_timesteps, n_neurons = recording.traces.shape
    if n_timesteps < 2 * span_length:
        raise ValueError(
            f"span_length={span_length} needs recordings of {2 * span_length} time steps or more; "
            f"one has {n_timesteps}."
        )
    rng = check_random_state(random_state)
    phase = rng.randint(span_length, size=n_neurons)
    span = (np.arange(n_timesteps)[:, None] + phase) // span_length
    n_spans = span.max() + 1
    n_hidden = max(1, round(fraction * n_spans))
    # The first and last span may be cut short by the phase; only whole ones are drawn.
    whole = np.arange(n_spans)[:, None]
    whole = (whole * span_length >= phase) & ((whole + 1) * span_length - phase <= n_timesteps)
    rank = np.where(whole, rng.random_sample((n_spans, n_neurons)), 2).argsort(0).argsort(0)
    hidden = (rank < np.minimum(n_hidden, whole.sum(0)))[span, np.arange(n_neurons)]
    return recording.replace(traces=np.where(hidden, np.nan, recording.traces)), hidden


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
    recordings, _ = check_recordings(X)
    folds = [neuron_folds(r, n_folds, random_state) for r in recordings]
    scores = [np.full(r.n_neurons, np.nan) for r in recordings]
    known = [_known(estimator, r) for r in recordings]
    for fold in range(n_folds):
        hidden = [f == fold for f in folds]
        shown = [hide_neurons(*pair) for pair in zip(recordings, hidden)]
        for i, prediction in enumerate(_predict(estimator, X, shown)):
            scored = hidden[i] & known[i]
            traces = recordings[i].traces[:, scored]
            scores[i][scored] = r2_per_neuron(traces, prediction[:, scored])
    return scores


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
    return _average(co_smoothing_r2(estimator, X, n_folds=n_folds, random_state=random_state))


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
    return _average(_score(estimator, recordings, _predict(estimator, X, recordings)))


def imputation_score(estimator, X, y=None, *, fraction=0.1, span_length=20, random_state=0):
    """Mean R2 on hidden contiguous spans of single neurons (see `hide_spans`).

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
    predictions = _predict(estimator, X, [recording for recording, _ in pairs])
    return _average(_score(estimator, recordings, predictions, [hidden for _, hidden in pairs]))


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
    return _average(_score(estimator, recordings, _predict(estimator, X, hidden)))


def _score(estimator, recordings, predictions, masks=None):
    scores = []
    for i, (recording, prediction) in enumerate(zip(recordings, predictions, strict=True)):
        known = _known(estimator, recording)
        mask = None if masks is None else masks[i][:, known]
        scores.append(r2_per_neuron(recording.traces[:, known], prediction[:, known], mask))
    return scores


def _average(scores):
    means = [np.nanmean(score) for score in scores if not np.isnan(score).all()]
    if not means:
        raise ValueError(
            "no neuron can be scored: all are constant, or unknown to the fitted estimator."
        )
    return float(np.mean(means))


def _predict(estimator, X, recordings):
    """Predictions for recordings, asked for in the form in which X came."""
    if not isinstance(X, np.ndarray):
        return [np.asarray(p) for p in estimator.predict(recordings)]
    traces = np.stack([recording.traces for recording in recordings])
    return [estimator.predict(traces[0])] if X.ndim == 2 else list(estimator.predict(traces))


def _labels(recording):
    """Python labels of the neurons; falsy (0, "" or None) = unknown."""
    if recording.identities is None:
        return [None] * recording.n_neurons
    return recording.identities.tolist()


def _known(estimator, recording):
    """Which neurons the fitted estimator can predict, as far as its `identities_` tell."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    estimator = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    identities = getattr(estimator, "identities_", None)
    labels = _labels(recording)
    if identities is None or not any(labels):
        return np.ones(recording.n_neurons, dtype=bool)
    identities = set(np.asarray(identities).tolist())
    keys = [label or f"{recording.session}:{column}" for column, label in enumerate(labels)]
    return np.array([key in identities for key in keys])
