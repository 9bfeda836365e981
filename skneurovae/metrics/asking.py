"""What scorers share: asking a fitted estimator, and averaging what it answers."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from skneurovae.metrics.hiding import hide_neurons, labels_of, neuron_folds
from skneurovae.recordings import check_recordings


def predict(estimator, X, recordings, **options):
    """Predictions for recordings, asked for in the form in which X came.

    Returns
    -------
    list of ndarray
        Or of (mean, std) pairs, with ``return_std=True`` among the options.
    """
    return _ask(estimator.predict, X, recordings, options)


def embed(estimator, X, recordings):
    """Latents of recordings, asked for in the form in which X came, as a list of arrays."""
    return _ask(estimator.transform, X, recordings, {})


def _ask(method, X, recordings, options):
    if isinstance(X, list) or not hasattr(X, "ndim"):
        answer = method(recordings, **options)
    elif X.ndim == 2:
        # One by one: a pipeline that begins with a step of scikit-learn takes no 3-D array.
        answers = [method(_like(X, recording.traces), **options) for recording in recordings]
        answer = tuple(zip(*answers)) if isinstance(answers[0], tuple) else answers
    else:
        answer = method(np.stack([recording.traces for recording in recordings]), **options)
    if isinstance(answer, tuple):
        return [tuple(map(np.asarray, parts)) for parts in zip(*answer)]
    return [np.asarray(array) for array in answer]


def _like(X, traces):
    """Traces as an array, or as a DataFrame with the names of X if that is one."""
    if not hasattr(X, "columns"):
        return traces
    return type(X)(traces, index=X.index, columns=X.columns)


def known_neurons(estimator, recording):
    """Which neurons the fitted estimator can predict, as far as its `identities_` tell."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    estimator = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    identities = getattr(estimator, "identities_", None)
    labels = labels_of(recording)
    if identities is None or not any(labels):
        return np.ones(recording.n_neurons, dtype=bool)
    identities = set(np.asarray(identities).tolist())
    keys = [label or f"{recording.session}:{column}" for column, label in enumerate(labels)]
    return np.array([key in identities for key in keys])


def co_smoothed(estimator, X, n_folds, random_state, **options):
    """Yield `(recording, prediction, known)`, each neuron predicted in the fold that hides it.

    With ``return_std=True`` among the options, the prediction has a first axis (mean, std).
    """
    recordings, _ = check_recordings(X)
    folds = [neuron_folds(r, n_folds, random_state) for r in recordings]
    predictions = [None] * len(recordings)
    for fold in range(n_folds):
        hidden = [f == fold for f in folds]
        shown = [hide_neurons(*pair) for pair in zip(recordings, hidden)]
        for i, answer in enumerate(predict(estimator, X, shown, **options)):
            answer = np.asarray(answer, dtype=float)
            previous = answer if predictions[i] is None else predictions[i]
            predictions[i] = np.where(hidden[i], answer, previous)
    for recording, prediction in zip(recordings, predictions):
        yield recording, prediction, known_neurons(estimator, recording)


def average(scores):
    """Mean over the neurons of a recording, then over recordings; NaN = not scored."""
    means = [np.nanmean(score) for score in scores if not np.isnan(score).all()]
    if not means:
        raise ValueError(
            "no neuron can be scored: all are constant, or unknown to the fitted estimator."
        )
    return float(np.mean(means))


def session_means(recordings, evaluated):
    """Mean of each neuron over what is evaluated of it in all recordings of its session.

    Trials are recordings of one session, and a null that knows the mean of each trial would know
    more than any model of the session may.

    Parameters
    ----------
    recordings : list of Recording
    evaluated : list of ndarray of shape (n_entries, n_neurons)
        NaN = not evaluated.

    Returns
    -------
    list of ndarray of shape (n_neurons,)
        One per recording; 0 where nothing is evaluated.
    """
    keys = []
    for r in recordings:
        labels = [label or f"column {column}" for column, label in enumerate(labels_of(r))]
        # The second neuron of one identity is another neuron.
        keys.append([(r.session, label, labels[:i].count(label)) for i, label in enumerate(labels)])
    sums = defaultdict(lambda: np.zeros(2))
    for own, values in zip(keys, evaluated):
        for key, column in zip(own, values.T):
            sums[key] += np.nansum(column), np.count_nonzero(~np.isnan(column))
    return [np.array([sums[key][0] / max(sums[key][1], 1) for key in own]) for own in keys]


def side_by_side(arrays):
    """Columns of all arrays in one, the shorter ones continued by NaN."""
    longest = max(len(array) for array in arrays)
    padding = [((0, longest - len(array)), (0, 0)) for array in arrays]
    padded = [np.pad(a, p, constant_values=np.nan) for a, p in zip(arrays, padding)]
    return np.concatenate(padded, axis=1)
