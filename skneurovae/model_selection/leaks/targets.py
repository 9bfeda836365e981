"""Targets that the inputs give away: behavior, stimulus, masks and names of neurons."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from skneurovae.model_selection.leaks.equal import MARGIN
from skneurovae.model_selection.leaks.leak import Leak
from skneurovae.model_selection.leaks.prepared import information, normal_scores, prepare
from skneurovae.model_selection.leaks.stacks import EXACT, by_lag, correlation, shifted

NEAR = 0.95  # correlation of what is new in each time step
MASKED = 0.9  # correlation of a label with what is missing
CHANGES = 8  # of a target, before it is compared at all


def target_leaks(stack):
    """Channels and masks of a stack that give the target away.

    Parameters
    ----------
    stack : Stack

    Yields
    ------
    Leak
    """
    targets = _targets(stack)
    for name in ("behavior", "stimulus") if targets else ():
        if name in stack.tables:
            found = _in_channels(stack, stack.tables[name][:, stack.informs(name)], targets)
            if found:
                text, certain = found
                yield Leak(
                    "behavior as target",
                    f"y of {stack.who} is also its {name}{text}, which an encoder sees; "
                    "leave it out of the recordings.",
                    certain,
                )
    for name in ("traces", "behavior") if "labels" in stack.tables else ():
        if name in stack.tables:
            yield from _in_masks(stack, name)


def _changes(column):
    """How often a column takes another value."""
    known = column[~np.isnan(column)]
    return int((np.diff(known) != 0).sum())


def _targets(stack):
    """Columns of the target that tell enough, with what was done to them."""
    found = []
    if "target" in stack.tables:
        for column in stack.tables["target"][:, stack.informs("target")].T:
            found += [(column, ""), *((c, f" ({how})") for c, how in _angles(column))]
    if "labels" in stack.tables:
        found += [(column, " (as classes)") for column in stack.tables["labels"].T]
    return [(column, how) for column, how in found if _changes(column) >= CHANGES]


def _angles(column):
    """Sine and cosine of what may be an angle in radians or degrees: it covers half a turn."""
    low, high = np.nanmin(column, initial=np.inf), np.nanmax(column, initial=-np.inf)
    for angle, turn in ((column, 2 * np.pi), (np.deg2rad(column), 360.0)):
        if turn / 2 < high - low <= 2 * turn:
            return [(np.cos(angle), "its cosine"), (np.sin(angle), "its sine")]
    return []


def _in_channels(stack, channels, targets):
    """How the target stands in some channels, and whether this is certain; None if it does not."""
    shown = [(column, "") for column in channels.T]
    turned = [pair for column in channels.T for pair in _angles(column)]
    shown += [(column, f" ({how[4:]} of it)") for column, how in turned]
    shown = [(column, how) for column, how in shown if _changes(column) >= CHANGES]
    if not shown:
        return None
    near = None
    for target, made in targets:
        (own,) = prepare([target[:, None]])
        others = prepare([column[:, None] for column, _ in shown], own.filters)
        for (column, how), other in zip(shown, others):
            if made and how:  # one of the two is taken as it is
                continue
            r = by_lag(own.white, other.white, stack.n_lags)[:, 0, 0]
            lag = int(np.abs(r).argmax()) - stack.n_lags
            for late in (0, lag):
                exact = _exactly(target, column, late, rising=not (made or how))
                text = (f", {abs(late)} time steps apart" if late else "") + made + how
                if exact:
                    return text, True
            a, b = shifted(own.white[:, 0], other.white[:, 0], lag)
            value = abs(correlation(a, b))
            if value > NEAR and near is None:
                bits = information(value) * len(a)
                text = f", nearly (correlation {value:.3f} of what is new){made}{how}"
                near = (text, False) if bits > MARGIN + 10 else None
    return near


def _exactly(target, column, lag, rising):
    """Whether columns are equal up to scale or, if `rising`, up to an increasing function."""
    a, b = shifted(target, column, lag)
    both = ~(np.isnan(a) | np.isnan(b))
    a, b = a[both], b[both]
    if len(a) < CHANGES or _changes(a) < CHANGES:
        return False
    if abs(correlation(a, b)) > EXACT:
        return True
    if not rising or len(np.unique(a)) < len(a) / 2:
        return False
    ranks = normal_scores(np.stack([a, b], 1)[None])[0][0]
    return abs(correlation(*ranks.T)) > EXACT


def _in_masks(stack, name):
    """Leaks of labels that follow what is missing."""
    missing = np.isnan(stack.tables[name]).astype(float)
    labels = stack.tables["labels"]
    known = ~np.isnan(labels).any(1)
    share = missing.mean(1, keepdims=True)
    masks, labels = np.hstack([missing, share])[known], labels[known]
    masks = np.where(masks.std(0) > 0, masks - masks.mean(0), 0.0)
    centered = labels - labels.mean(0)
    r = _normalized(masks).T @ _normalized(centered)
    column, label = np.unravel_index(np.abs(r).argmax(), r.shape)
    if len(stack.members) > 1:  # masks and labels may both change between trials only
        bits = len(stack.members)
    else:
        changes = _changes(labels[:, label])
        bits = changes * np.log2(np.e * len(labels) / max(changes, 1))
    if np.abs(r[column, label]) > MASKED and bits > MARGIN + np.log2(masks.shape[1]):
        which = f"column {column} of" if column < missing.shape[1] else "share missing in"
        yield Leak(
            "mask tells the target",
            f"what is missing ({which} the {name}) of {stack.who} follows a class "
            f"of y (correlation {abs(r[column, label]):.2f}): a model may decode the mask.",
            certain=False,
        )


def _normalized(table):
    norm = np.sqrt((table**2).sum(0))
    return table / np.where(norm > 0, norm, np.inf)


def identity_leaks(recordings, targets):
    """Names of neurons that occur in recordings of one class only.

    Parameters
    ----------
    recordings : list of Recording
    targets : list of (ndarray or None, ndarray or None)
        Of `target_columns`.

    Yields
    ------
    Leak
    """
    rows = {}
    for index, (r, (_, labels)) in enumerate(zip(recordings, targets)):
        if r.identities is not None and labels is not None and not np.diff(labels, axis=0).any():
            session = f"recording {index}" if r.session is None else r.session
            rows.setdefault(session, []).append((frozenset(r.identities.tolist()), labels[0]))
    # Recordings of one session have the same neurons, and are one where they do.
    rows = [
        row
        for own in rows.values()
        for row in (own if len({names for names, _ in own}) > 1 else own[:1])
    ]
    if len(rows) < 2 * CHANGES:
        return
    names = sorted(set().union(*(own for own, _ in rows)), key=repr)
    labels = np.array([label for _, label in rows]) > 0.5
    present = np.array([[name in own for name in names] for own, _ in rows])
    n = len(rows)
    for label in labels.T:
        alike = (present == label[:, None]).all(0) | (present != label[:, None]).all(0)
        k = label.sum()
        ways = (gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)) / np.log(2)
        if alike.any() and ways - 1 - np.log2(len(names)) > MARGIN:
            name = names[int(alike.argmax())]
            yield Leak(
                "identities tell the target",
                f"neuron {name!r} and {alike.sum() - 1} more occur in the recordings of one class "
                f"of y and in no other of {n}: a model may decode which neurons there are.",
                certain=False,
            )
            return
