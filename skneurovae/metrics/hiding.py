"""What is hidden from an estimator, to be scored."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state

from skneurovae.recordings import check_recordings


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
    n_distinct, which = _distinct(recording)
    if n_distinct < 2:
        raise ValueError("co-smoothing needs two or more different neurons; a recording has one.")
    order = check_random_state(random_state).permutation(n_distinct)
    return (order % n_folds)[which]


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

    The time axis of each neuron is cut at its own phase into spans, of which a fraction is hidden;
    neurons that share an identity hide the same spans.
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
    n_distinct, which = _distinct(recording)
    phase = rng.randint(span_length, size=n_distinct)[which]
    span = (np.arange(n_timesteps)[:, None] + phase) // span_length
    n_spans = span.max() + 1
    n_hidden = max(1, round(fraction * n_spans))
    # The first and last span may be cut short by the phase; only whole ones are drawn.
    whole = np.arange(n_spans)[:, None]
    whole = (whole * span_length >= phase) & ((whole + 1) * span_length - phase <= n_timesteps)
    chance = rng.random_sample((n_spans, n_distinct))[:, which]
    rank = np.where(whole, chance, 2).argsort(0).argsort(0)
    hidden = (rank < np.minimum(n_hidden, whole.sum(0)))[span, np.arange(n_neurons)]
    return recording.replace(traces=np.where(hidden, np.nan, recording.traces)), hidden


def shift_neurons(X, random_state=0):
    """Recordings in which every neuron is shifted in time by itself: data for a null.

    Each trace keeps its own statistics over time and loses its relation to all others and to
    behavior, so a model that is *fitted* to such recordings must score 0.

    Parameters
    ----------
    X : recordings
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    list of Recording
        Neurons of one identity are shifted together.
    """
    recordings, _ = check_recordings(X)
    rng = check_random_state(random_state)
    shifted = []
    for recording in recordings:
        n_distinct, which = _distinct(recording)
        shifts = rng.randint(recording.n_timesteps, size=n_distinct)[which]
        rows = (np.arange(recording.n_timesteps)[:, None] - shifts) % recording.n_timesteps
        shifted.append(recording.replace(traces=np.take_along_axis(recording.traces, rows, 0)))
    return shifted


def _distinct(recording):
    """Number of different neurons, and which of them stands in each column."""
    labels = labels_of(recording)
    keys = [(1, label) if label else (0, column) for column, label in enumerate(labels)]
    places = {key: place for place, key in enumerate(sorted(set(keys)))}
    return len(places), np.array([places[key] for key in keys])


def labels_of(recording):
    """Python labels of the neurons; falsy (0, "" or None) = unknown."""
    if recording.identities is None:
        return [None] * recording.n_neurons
    return recording.identities.tolist()
