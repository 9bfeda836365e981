"""How well behavior is decoded, as plain functions of arrays."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import recall_score

from skneurovae.common.missing import float_array, missing_entries, plain_array
from skneurovae.common.moments import varies
from skneurovae.metrics import circular_error, decay_time
from skneurovae.metrics.values import circular_variance

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


def decoding_quality(y, prediction, kind="continuous", *, groups=None):
    """How good decoded behavior is, per target; 1 = perfect.

    - continuous: R2, ``1 - SSE / SST``; 0 = the best constant.
    - circular: as `skneurovae.metrics.circular_r2`; 0 = the best constant, the circular mean.
    - categorical: balanced accuracy, the mean of the recalls of the classes that occur in `y`; a
      constant reaches ``1 / n_classes``.

    Errors and variances are summed over all groups before one is divided by the other, so that a
    short group, or one in which behavior hardly varies, counts by its share.

    Parameters
    ----------
    y : array-like of shape (n_timesteps, n_targets) or (n_timesteps,)
        Angles in radians if circular. NaN = not evaluated.
    prediction : array-like of the same shape
    kind : {"continuous", "circular", "categorical"}, default="continuous"
    groups : array-like of int of shape (n_timesteps,), default=None
        Time steps of a group have a constant of their own to be compared with. One group by
        default. Classes are not compared in a group that has a single one.

    Returns
    -------
    ndarray of shape (n_targets,)
        NaN for a target that is constant in all groups or has no evaluated entry.

    Raises
    ------
    ValueError
        If shapes differ, `kind` is unknown, or a prediction is not finite where it is evaluated.
    """
    y, prediction = _columns(y, prediction, kind)
    groups = np.zeros(len(y), dtype=int) if groups is None else np.asarray(groups)
    scores = np.full(y.shape[1], np.nan)
    for target, (truth, decoded, own) in enumerate(_evaluated(y, prediction, groups)):
        if kind == "categorical":
            telling = np.isin(own, [g for g in np.unique(own) if len(set(truth[own == g])) > 1])
            if telling.any():
                codes, decoded = _codes(truth[telling], decoded[telling])
                present = np.unique(codes)
                scores[target] = recall_score(codes, decoded, labels=present, average="macro")
            continue
        truth, decoded = truth.astype(float), decoded.astype(float)
        if not np.isfinite(decoded).all():
            raise ValueError(f"prediction of target {target} is NaN or infinite where it counts.")
        parts = [truth[own == g] for g in np.unique(own)]
        parts = [part for part in parts if varies(part)]
        if kind == "continuous":
            error = ((truth - decoded) ** 2).sum()
            total = sum(((part - part.mean()) ** 2).sum() for part in parts)
        else:
            error = 2 * (np.sin((truth - decoded) / 2) ** 2).sum()
            total = sum(len(part) * circular_variance(part) for part in parts)
        if parts:
            scores[target] = 1 - error / total
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
    for target, (truth, decoded, _) in enumerate(_evaluated(y, prediction)):
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
    y, prediction = map(plain_array if kind == "categorical" else float_array, (y, prediction))
    if y.shape != prediction.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, y has {y.shape}.")
    if y.ndim == 1:
        return y[:, None], prediction[:, None]
    return y, prediction


def _evaluated(y, prediction, groups=None):
    groups = np.zeros(len(y), dtype=int) if groups is None else groups
    for truth, decoded in zip(y.T, prediction.T):
        seen = ~missing_entries(truth)
        yield truth[seen], decoded[seen], groups[seen]


def _codes(truth, decoded):
    """Both as whole numbers, equal where the classes are; mixtures of types do no harm."""
    codes = {}
    return [
        np.array([codes.setdefault(v, len(codes)) for v in a.tolist()]) for a in (truth, decoded)
    ]
