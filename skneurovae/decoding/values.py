"""How well behavior is decoded, as plain functions of arrays."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import recall_score

from skneurovae.metrics import circular_error, circular_r2, decay_time, r2_per_neuron

KINDS = ("continuous", "circular", "categorical")


def check_kind(kind):
    """Refuse what is no kind of behavior.

    Parameters
    ----------
    kind : str

    Raises
    ------
    ValueError
        If `kind` is none of `KINDS`.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}.")


def missing_entries(y):
    """Which entries of behavior are missing.

    Parameters
    ----------
    y : ndarray of numbers, strings or objects
        NaN or None = missing.

    Returns
    -------
    ndarray of bool of the same shape
    """
    if y.dtype.kind == "O":
        return np.array([v is None or v != v for v in y.ravel()], dtype=bool).reshape(y.shape)
    return np.isnan(y) if y.dtype.kind == "f" else np.zeros(y.shape, dtype=bool)


def decoding_quality(y, prediction, kind="continuous"):
    """How good decoded behavior is, per target; 1 = perfect.

    - continuous: R2, ``1 - SSE / SST``; 0 = the best constant.
    - circular: `skneurovae.metrics.circular_r2`; 0 = the best constant, the circular mean.
    - categorical: balanced accuracy, the mean of the recalls of the classes that occur in `y`; a
      constant reaches ``1 / n_classes``.

    Parameters
    ----------
    y : array-like of shape (n_timesteps, n_targets) or (n_timesteps,)
        Angles in radians if circular. NaN = not evaluated.
    prediction : array-like of the same shape
    kind : {"continuous", "circular", "categorical"}, default="continuous"

    Returns
    -------
    ndarray of shape (n_targets,)
        NaN for a target that is constant or has no evaluated entry.

    Raises
    ------
    ValueError
        If shapes differ or `kind` is unknown.
    """
    y, prediction = _columns(y, prediction, kind)
    if kind == "continuous":
        return r2_per_neuron(y, prediction)
    scores = np.full(y.shape[1], np.nan)
    for target, (truth, decoded) in enumerate(_evaluated(y, prediction)):
        if not len(truth) or (truth == truth[0]).all():
            continue
        if kind == "circular":
            scores[target] = circular_r2(truth, decoded)
        else:
            codes, decoded = _codes(truth, decoded)
            present = np.unique(codes)
            scores[target] = recall_score(codes, decoded, labels=present, average="macro")
    return scores


def decoding_error(y, prediction, kind="continuous"):
    """Mean error of decoded behavior, per target.

    Parameters
    ----------
    y, prediction, kind
        As in `decoding_quality`.

    Returns
    -------
    ndarray of shape (n_targets,)
        Mean absolute error in units of the behavior; mean absolute angle in radians, from 0 to pi,
        if circular; accuracy, the share of correct time steps, if categorical. NaN for a target
        without evaluated entry.

    Raises
    ------
    ValueError
        If shapes differ or `kind` is unknown.
    """
    y, prediction = _columns(y, prediction, kind)
    errors = np.full(y.shape[1], np.nan)
    for target, (truth, decoded) in enumerate(_evaluated(y, prediction)):
        if len(truth) == 0:
            continue
        if kind == "categorical":
            errors[target] = np.mean(truth == decoded)
        elif kind == "circular":
            errors[target] = circular_error(truth, decoded)
        else:
            errors[target] = np.abs(truth - decoded).mean()
    return errors


def behavior_decay_time(y, kind="continuous"):
    """Lag at which the autocorrelation of behavior has fallen below 1 / e.

    Parameters
    ----------
    y : array-like of shape (n_timesteps, n_targets) or (n_timesteps,)
        NaN = missing; a lag counts the pairs of time steps that are both observed.
    kind : {"continuous", "circular", "categorical"}, default="continuous"
        Angles count through sine and cosine, classes through one indicator each.

    Returns
    -------
    int
        In time steps, at least 1; the longest of all targets. The length of `y` where the
        autocorrelation never falls that low.

    Raises
    ------
    ValueError
        If `kind` is unknown.
    """
    y, _ = _columns(y, y, kind)
    missing = missing_entries(y)
    longest = 1
    for target, gone in zip(y.T, missing.T):
        if gone.all():
            continue
        if kind == "categorical":
            classes = set(target[~gone].tolist())
            channels = np.array([[v == c for c in classes] for v in target.tolist()], dtype=float)
        else:
            target = np.where(gone, 0, target).astype(float)
            circular = kind == "circular"
            channels = np.column_stack([np.cos(target), np.sin(target)] if circular else [target])
        longest = max(longest, decay_time(np.where(gone[:, None], np.nan, channels)))
    return longest


def _columns(y, prediction, kind):
    """Both as 2-D arrays of one shape."""
    check_kind(kind)
    y, prediction = np.asarray(y), np.asarray(prediction)
    if y.shape != prediction.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, y has {y.shape}.")
    if y.ndim == 1:
        return y[:, None], prediction[:, None]
    return y, prediction


def _evaluated(y, prediction):
    for truth, decoded in zip(y.T, prediction.T):
        seen = ~missing_entries(truth)
        yield truth[seen], decoded[seen]


def _codes(truth, decoded):
    """Both as whole numbers, equal where the classes are; mixtures of types do no harm."""
    codes = {}
    return [
        np.array([codes.setdefault(v, len(codes)) for v in a.tolist()]) for a in (truth, decoded)
    ]
