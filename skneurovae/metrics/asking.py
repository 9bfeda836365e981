"""What scorers share: asking a fitted estimator, in the form in which the data came."""

from __future__ import annotations

import numpy as np

from skneurovae.common.data_warning import each_once
from skneurovae.common.frames import like_frame
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
        answers = [method(like_frame(X, recording.traces), **options) for recording in recordings]
        answer = tuple(zip(*answers)) if isinstance(answers[0], tuple) else answers
    else:
        answer = method(np.stack([recording.traces for recording in recordings]), **options)
    if isinstance(answer, tuple):
        return [tuple(map(np.asarray, parts)) for parts in zip(*answer)]
    return [np.asarray(array) for array in answer]


def known_neurons(estimator, recording):
    """Which neurons the fitted estimator can predict, as far as its `identities_` tell."""
    estimator = _last_step(estimator)
    identities = getattr(estimator, "identities_", None)
    labels = labels_of(recording)
    if identities is None or not any(labels):
        return np.ones(recording.n_neurons, dtype=bool)
    identities = set(np.asarray(identities).tolist())
    return np.array([key in identities for key in _keys(recording)])


def training_scale(estimator, recording):
    """Standard deviation of each neuron of a recording in the training data, as far as it is told.

    All estimators and baselines of this package that predict traces have it as `neuron_scale_`. A
    pipeline may change the units of traces before they reach its last step, and tells nothing.

    Returns
    -------
    ndarray of shape (n_neurons,)
        In units of the traces; NaN = not known.
    """
    estimator = getattr(estimator, "best_estimator_", estimator)
    scale = None if hasattr(estimator, "steps") else getattr(estimator, "neuron_scale_", None)
    if scale is None:
        return np.full(recording.n_neurons, np.nan)
    told = dict(zip(np.asarray(estimator.identities_).tolist(), np.asarray(scale).tolist()))
    keys = _keys(recording)
    return np.array([told.get(key, told.get(f"column {key}", np.nan)) for key in keys])


def _last_step(estimator):
    estimator = getattr(estimator, "best_estimator_", estimator)
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def _keys(recording):
    """How each neuron of a recording is called in `identities_`; see `NeuronVocabulary`."""
    labels, session = labels_of(recording), recording.session
    if session is None and not any(labels):
        return list(range(len(labels)))
    return [label or f"{session}:{column}" for column, label in enumerate(labels)]


def co_smoothed(estimator, X, n_folds, random_state, **options):
    """Yield `(recording, prediction, known)`, each neuron predicted in the fold that hides it.

    With ``return_std=True`` among the options, the prediction has a first axis (mean, std).
    """
    recordings, _ = check_recordings(X)
    folds = [neuron_folds(r, n_folds, random_state) for r in recordings]
    predictions = [None] * len(recordings)
    with each_once():
        for fold in range(n_folds):
            hidden = [f == fold for f in folds]
            shown = [hide_neurons(*pair) for pair in zip(recordings, hidden)]
            for i, answer in enumerate(predict(estimator, X, shown, **options)):
                answer = np.asarray(answer, dtype=float)
                previous = answer if predictions[i] is None else predictions[i]
                predictions[i] = np.where(hidden[i], answer, previous)
    for recording, prediction in zip(recordings, predictions):
        yield recording, prediction, known_neurons(estimator, recording)


def side_by_side(arrays):
    """Columns of all arrays in one, the shorter ones continued by NaN."""
    longest = max(len(array) for array in arrays)
    padding = [((0, longest - len(array)), (0, 0)) for array in arrays]
    padded = [np.pad(a, p, constant_values=np.nan) for a, p in zip(arrays, padding)]
    return np.concatenate(padded, axis=1)
