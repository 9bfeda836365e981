"""Scorers of decoded behavior that hide behavior from the encoder."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone

from skneurovae.common.missing import missing_entries
from skneurovae.decoding.decoder import BehaviorDecoder, split_targets
from skneurovae.decoding.values import (
    behavior_decay_time,
    check_kind,
    decoding_error,
    decoding_quality,
)
from skneurovae.metrics.asking import embed, predict
from skneurovae.metrics.nulls import TimeShifted
from skneurovae.recordings import check_recordings


def decoding_score(
    estimator, X, y=None, *, decoder=None, kind=None, targets=None, n_blocks=5, gap=None
):
    """How well behavior can be decoded from latents that never saw it.

    Every recording is given to the estimator without its behavior. From the latents of each
    recording a decoder is cross-fitted: of `n_blocks` blocks of contiguous time each is decoded by
    a decoder fitted to the others, less the time steps within `gap` of the block. The result is
    `decoding_quality` of all blocks of all recordings together, each recording a group, as its
    decoder knows its mean; then the mean over targets.

    A pipeline that ends in a `BehaviorDecoder` is asked for its own predictions instead, which are
    held out only if the recordings are. It knows no recording's own mean: recordings of one session
    are one group.

    Parameters
    ----------
    estimator : fitted estimator with `transform`, or Pipeline that ends in BehaviorDecoder
        A search with `best_estimator_` stands for that.
    X : recordings
    y : array-like or list, default=None
        Behavior to decode, one entry (n_timesteps, n_targets) or (n_timesteps,) per recording; None
        takes the behavior of the recordings. NaN = missing.
    decoder : BehaviorDecoder or estimator of scikit-learn, default=None
        Cloned for each block; None is ``BehaviorDecoder(kind=kind)``. Another estimator is put into
        a `BehaviorDecoder`. Not used for a pipeline that ends in one.
    kind : {"continuous", "circular", "categorical"}, default=None
        Of the behavior. None is the kind of the decoder, "continuous" where there is none.
    targets : sequence of int, default=None
        Columns of the behavior to decode; None is all.
    n_blocks : int, default=5
    gap : int, default=None
        Time steps left out of training on both sides of a block. None is the autocorrelation time
        of the behavior of each recording (see `behavior_decay_time`).

    Returns
    -------
    float
        1 = perfect; 0 = the best constant, or for classes their balanced accuracy.

    Raises
    ------
    ValueError
        If a recording has no behavior, the gap leaves nothing to train on, or no target varies.
    TypeError
        If the estimator has no `transform`.

    See Also
    --------
    decoding_errors : Mean errors in the units of each target.

    Notes
    -----
    There is no option to show behavior: latents of an encoder that saw it contain it. An encoder
    may still have learned from the behavior of the recordings of its `fit`, so give recordings that
    it has not seen, as `cross_validate` does.

    References
    ----------
    Pei et al., "Neural Latents Benchmark '21", 2021, for decoding by ridge from rates; here in
    blocks, as shuffled folds of autocorrelated data score the memory of neighbors.
    """
    truth, decoded, groups, kind = _decoded(estimator, X, y, decoder, kind, targets, n_blocks, gap)
    scores = decoding_quality(truth, decoded, kind, groups=groups)
    if np.isnan(scores).all():
        raise ValueError("no target can be scored: all are constant or missing.")
    return float(np.nanmean(scores))


def decoding_errors(
    estimator, X, y=None, *, decoder=None, kind=None, targets=None, n_blocks=5, gap=None
):
    """Mean error of each target, decoded as in `decoding_score`.

    Parameters
    ----------
    estimator, X, y, decoder, kind, targets, n_blocks, gap
        As in `decoding_score`.

    Returns
    -------
    ndarray of shape (n_targets,)
        `decoding_error` over all recordings together: mean absolute error in units of the behavior,
        mean absolute angle in radians, or accuracy. NaN for a target without evaluated entry.

    Raises
    ------
    ValueError, TypeError
        As in `decoding_score`.
    """
    truth, decoded, _, kind = _decoded(estimator, X, y, decoder, kind, targets, n_blocks, gap)
    return decoding_error(truth, decoded, kind)


def _decoded(estimator, X, y, decoder, kind, targets, n_blocks, gap):
    """Behavior and what was decoded of all recordings, groups of their time steps, and the kind."""
    recordings, form = check_recordings(X)
    behavior = _behavior(recordings, form, y, targets)
    fitted = getattr(estimator, "best_estimator_", estimator)
    last = fitted.steps[-1][1] if hasattr(fitted, "steps") else fitted
    whole = isinstance(last, BehaviorDecoder)
    if not whole and not hasattr(estimator, "transform"):
        raise TypeError(f"{type(estimator).__name__} has no transform, so no latents to decode.")
    model = last if whole else decoder
    if not isinstance(model, BehaviorDecoder):
        kind = "continuous" if kind is None else kind
        check_kind(kind)
        model = BehaviorDecoder(kind=kind) if model is None else BehaviorDecoder(model, kind=kind)
    # Of a decoder that was fitted, what it was fitted to; another is fitted below, as it is set.
    own = getattr(model, "kind_", model.kind) if whole else model.kind
    if kind not in (None, own):
        raise ValueError(f"kind is {kind!r}, but that of the decoder is {own!r}.")
    hidden = [r.replace(behavior=None) for r in recordings]
    if isinstance(estimator, TimeShifted):  # what is asked of it has no gain towards traces
        estimator = TimeShifted(estimator.estimator, estimator.shift)
    if whole:
        decoded = [_table(d) for d in predict(estimator, X, hidden)]
        for index, (truth, found) in enumerate(zip(behavior, decoded)):
            if truth.shape != found.shape:
                raise ValueError(
                    f"the pipeline decodes {found.shape[1]} targets of recording {index}, but its "
                    f"behavior has {truth.shape[1]}; give targets or y."
                )
    else:
        latents = embed(estimator, X, hidden)
        decoded = [
            _cross_fitted(model, np.asarray(z), truth, n_blocks, gap, index)
            for index, (z, truth) in enumerate(zip(latents, behavior))
        ]
    owners = [r.session if whole else index for index, r in enumerate(recordings)]
    numbers = {owner: number for number, owner in enumerate(dict.fromkeys(owners))}
    groups = np.repeat([numbers[o] for o in owners], [r.n_timesteps for r in recordings])
    if own == "categorical":  # classes of several recordings may be of several types
        behavior, decoded = ([a.astype(object) for a in arrays] for arrays in (behavior, decoded))
    return np.concatenate(behavior), np.concatenate(decoded), groups, own


def _behavior(recordings, form, y, targets):
    """Behavior to decode, (n_timesteps, n_targets) for each recording."""
    if y is not None:
        behavior, _ = split_targets(y, recordings, form)
    else:
        for index, recording in enumerate(recordings):
            if recording.behavior is None:
                raise ValueError(f"recording {index} has no behavior to decode; give y.")
        behavior = [r.behavior for r in recordings]
    if targets is None:
        return behavior
    columns = np.atleast_1d(targets)
    n_targets = behavior[0].shape[1]
    if columns.dtype.kind not in "iu" or columns.min() < 0 or columns.max() >= n_targets:
        raise ValueError(f"targets must be columns from 0 to {n_targets - 1}; got {targets!r}.")
    return [b[:, columns] for b in behavior]


def _cross_fitted(model, latents, behavior, n_blocks, gap, index):
    """Behavior of each block, decoded by what was fitted to the others of the recording."""
    if n_blocks < 2 or len(latents) < n_blocks:
        raise ValueError(
            f"n_blocks must be from 2 to the {len(latents)} time steps of recording {index}; "
            f"got {n_blocks}."
        )
    gap = behavior_decay_time(behavior, model.kind) if gap is None else gap
    if gap < 0:
        raise ValueError(f"gap must be 0 or more time steps; got {gap}.")
    edges = np.linspace(0, len(latents), n_blocks + 1).astype(int)
    scored = ~missing_entries(behavior).all(0)
    if not scored.any():
        return np.zeros(behavior.shape)  # nothing here is evaluated
    targets = behavior[:, scored]
    seen = ~missing_entries(targets)
    decoded = []
    for start, stop in zip(edges[:-1], edges[1:]):
        before, after = slice(0, max(start - gap, 0)), slice(stop + gap, None)
        # Two recordings to the decoder, so that no lag reaches across the block.
        pieces = [p for p in (before, after) if seen[p].any() and not np.isnan(latents[p]).all()]
        if not pieces or min(sum(seen[p].sum(0) for p in pieces)) < 2:
            raise ValueError(
                f"a gap of {gap} time steps around blocks of {stop - start} leaves recording "
                f"{index}, of {len(latents)}, nothing to train on; it needs to be longer."
            )
        fitted = clone(model).fit([latents[p] for p in pieces], [targets[p] for p in pieces])
        decoded.append(fitted.predict(latents[start:stop]))
    values = np.concatenate(decoded)
    columns = np.zeros(behavior.shape, dtype=values.dtype)
    columns[:, scored] = values
    return columns


def _table(decoded):
    return np.asarray(decoded).reshape(len(decoded), -1)
