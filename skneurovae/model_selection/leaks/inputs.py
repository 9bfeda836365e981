"""Neurons that stand in the input twice, and behavior or targets that are made of traces."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from scipy.special import betaincinv

from skneurovae.model_selection.leaks.equal import MARGIN
from skneurovae.model_selection.leaks.leak import Leak
from skneurovae.model_selection.leaks.prepared import (
    inflation,
    information,
    linear_columns,
    prepare,
)
from skneurovae.model_selection.leaks.stacks import EXACT, by_lag, correlation, shifted

TWIN = 0.995  # correlation of what is new in each time step
ALIKE = 0.9  # the same where traces are equal up to scale and some are missing
N_TWINS = 1000  # pairs that are looked at
RUN = 10  # entries that differ from the most frequent value, for a twin of counts
SAME = 0.9999  # correlation, at some lag, of the scores of a channel and of a neuron
SIMILAR = 0.8  # the same of what is new
FILTERED = 0.75  # share of what is new in a channel that a neuron explains, with lags
PEAK = 0.4  # correlation at the best of these lags
SMOOTH = 1e-6  # share of the variance of a channel below which it is taken for noise
WIDTH = 10  # time steps to both sides, over which a smoothed neuron may be spread


def input_leaks(stack, identities):
    """Leaks between the columns of a stack.

    Parameters
    ----------
    stack : Stack
    identities : ndarray or None
        Of its neurons.

    Yields
    ------
    Leak
    """
    traces = stack.tables["traces"]
    (ranked,) = prepare([traces])
    linear = linear_columns(ranked)
    yield from _twins(stack, linear, identities)
    for name in ("behavior", "target"):
        if name not in stack.tables:
            continue
        told = stack.informs(name)
        for q in range(stack.tables[name].shape[1]):
            if told[q]:
                yield from _made_of_traces(stack, name, q, (ranked, linear))


def _twins(stack, columns, identities):
    """Groups of neurons that follow each other, and would not be hidden together."""
    traces, white = stack.tables["traces"], columns.white
    r = np.abs(white.T @ white) / len(white)
    fewest = np.minimum.outer(columns.rare, columns.rare)
    steps = len(white) / inflation(columns.memory, columns.memory)
    events = fewest * np.log2(np.e * len(white) / np.maximum(fewest, 1))
    told = np.minimum(information(r) * steps, events) > 2 * np.log2(max(len(r), 2)) + MARGIN
    pairs = np.argwhere(np.triu(told & (r > ALIKE) & (fewest >= RUN), 1))
    groups, seen = defaultdict(list), set()
    for a, b in pairs[np.argsort(-r[tuple(pairs.T)], kind="stable")][:N_TWINS].tolist():
        same = identities is not None and identities[a] == identities[b]
        if b in seen or (same and identities[a] != identities.dtype.type()):
            continue
        exact = abs(correlation(traces[:, a], traces[:, b])) > EXACT
        if exact or r[a, b] > TWIN:
            groups[a, exact].append(b)
            seen.add(b)
    for (a, certain), others in groups.items():
        follow = "equal up to scale" if certain else f"alike ({r[a, others[0]]:.3f})"
        yield Leak(
            "twin neurons",
            f"neurons {[a, *others]} of {stack.who} are {follow}: one gives the "
            "other away when it is hidden. Keep one, or give both one identity.",
            certain,
        )


def _made_of_traces(stack, name, q, views):
    """Leak of one channel that follows a neuron, at any lag, or a sum of neurons."""
    channel = stack.tables[name][:, q]
    (ranked,) = prepare([channel[:, None]], noise=SMOOTH)  # whitened by a filter of its own
    who = f"{'y' if name == 'target' else f'behavior channel {q}'} of {stack.who}"
    kind = "trace as target" if name == "target" else "behavior copies a trace"
    leave = "which would be predicted from itself"
    both = list(zip(views, (ranked, linear_columns(ranked, SMOOTH))))
    n_tried = views[0].white.shape[1] * (2 * stack.n_lags + 1)
    for view, new in both:
        r = by_lag(view.white, new.white, stack.n_lags)[:, :, 0]
        lag, n = (int(i) for i in np.unravel_index(np.abs(r).argmax(), r.shape))
        lag -= stack.n_lags
        steps = ranked.observed.sum() / inflation(new.memory, view.memory)
        bits = information(np.abs(r).max()) * steps
        a, b = shifted(view.scores[:, n], new.scores[:, 0], lag)
        both_observed = np.logical_and(*shifted(view.observed[:, n], ranked.observed[:, 0], lag))
        if (
            bits > np.log2(n_tried) + MARGIN
            and abs(correlation(a[both_observed], b[both_observed])) > SAME
            and np.abs(r).max() > SIMILAR
        ):
            late = f" {abs(lag)} time steps {'later' if lag > 0 else 'earlier'}" if lag else ""
            yield Leak(kind, f"{who} follows the trace of neuron {n}{late} exactly, {leave}.")
            return
    if _is_sum(views[1], stack.tables["traces"], channel):
        yield Leak(kind, f"{who} is a sum of traces, {leave}.")
        return
    for view, new in both:
        explained, n = _filtered(view, new, stack.n_lags, n_tried)
        if explained > FILTERED:
            yield Leak(
                kind,
                f"{who} follows neuron {n} in {explained:.0%} of what is new in it, as if made of "
                "its trace by smoothing or noise: other neurons tell no more of it.",
                certain=False,
            )
            return


def _filtered(view, new, n_lags, n_tried):
    """Share of what is new in a channel that the best neuron explains with lags, and its number.

    0 where chance could bring it about, or where other neurons add to it: a channel that a neuron
    is made of, as behavior is, has much to do with the others as well, but one that is made of a
    neuron has not.
    """
    r = by_lag(view.white, new.white, n_lags)[:, :, 0]
    lag, n = (int(i) for i in np.unravel_index(np.abs(r).argmax(), r.shape))
    lags = np.arange(max(lag - WIDTH, 0), min(lag + WIDTH + 1, len(r))) - n_lags
    if np.abs(r[lag, n]) < PEAK or view.rare[n] < 3 * len(lags):
        return 0.0, n
    # Neighboring lags and time steps are not independent where whitening has left some
    # autocorrelation; of n independent ones, d lags explain a share that follows a beta law.
    together = 1 + 2 * float((new.memory**2).sum())
    n_free, d = new.observed.sum() / together, len(lags) / together
    if n_free < 2 * d + 2:
        return 0.0, n
    past = _late(view.white[:, [n]], lags) * new.observed
    explained, rest = _regressed(new.white, past)
    if explained < max(_by_chance(d, n_free, n_tried * 2.0**MARGIN), FILTERED):
        return 0.0, n
    others = np.delete(view.white, n, 1)[:, : int(n_free / 10)]
    others = _late(others, lag - n_lags + np.array([-1, 0, 1])) * new.observed
    added, _ = _regressed(rest, others)
    return (0.0 if added > _by_chance(others.shape[1], n_free, 20) else explained), n


def _late(table, lags):
    """A table at several lags beside each other."""
    late = np.zeros((len(table), len(lags), table.shape[1]), dtype=np.float32)
    for place, lag in enumerate(lags.tolist()):
        target, source = shifted(late[:, place], table, -lag)
        target[:] = source
    return late.reshape(len(table), -1)


def _regressed(target, table):
    """Share of the variance of a column that a regression explains, and what is left."""
    if table.shape[1] == 0:
        return 0.0, target
    weights, *_ = np.linalg.lstsq(table, target, rcond=None)
    rest = target - table @ weights
    return 1 - float((rest**2).sum() / (target**2).sum()), rest


def _by_chance(n_regressors, n_samples, n_tried):
    """Share of variance that the best of many regressions explains by chance."""
    if n_regressors == 0:
        return 1.0
    return 1 - betaincinv((n_samples - n_regressors) / 2, n_regressors / 2, 1 / n_tried)


def _is_sum(linear, traces, channel):
    """Whether a channel is a weighted sum of traces that have fluctuations of their own."""
    white = linear.white
    gram = white.T @ white / len(white) + 1e-6 * np.eye(white.shape[1])
    share = 1 / np.diag(np.linalg.inv(gram.astype(float)))  # that other neurons do not tell
    kept = ~(np.isnan(channel) | np.isnan(traces).any(1))
    usable = linear.tells & (share > 1e-3)
    if usable.sum() < 2 or kept.sum() < 3 * usable.sum() + 10:
        return False
    design = linear.scores[kept][:, usable].astype(float)
    design -= design.mean(0)
    target = channel[kept] - channel[kept].mean()
    weights = np.linalg.solve(design.T @ design, design.T @ target)
    total = target @ target
    return bool(total > 0 and ((target - design @ weights) ** 2).sum() < 1e-6 * total)
