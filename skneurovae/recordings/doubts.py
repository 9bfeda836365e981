"""What looks wrong in recordings that are right in form: one line each, as a `DataWarning`."""

from __future__ import annotations

import numpy as np

from skneurovae.common.data_warning import tell
from skneurovae.common.moments import moments_by_row, varies
from skneurovae.recordings.level_differences import levels_differ
from skneurovae.recordings.vocabulary import NeuronVocabulary

LEAST_STEPS = 30  # time steps below which nothing is made of an odd column
REAL_DATA = 200  # time steps of all recordings together, below which it may be an example
LEAST_COLUMNS = 100  # below which a table is too small to look transposed
LARGEST_TABLE = 500, 4000  # rows and columns of a recording that are looked at for it
WIDTHS = 2 ** np.arange(1, 9)  # of blocks over which a slow trace adds up
ALIKE = 1.02  # ratio of sampling rates that are taken for the same
BEYOND, SHARE = 0.25, 0.1  # ranges of training by which, and share of steps in which, it is left


def tell_doubts(recordings, *, n_components=None, likelihood=None, leveled=False):
    """Warn of what looks wrong in recordings that a model is fitted to.

    Parameters
    ----------
    recordings : list of Recording
        Checked.
    n_components : int, default=None
        Of a model in which more of them than neurons have no use.
    likelihood : str, default=None
        Of the model.
    leveled : bool, default=False
        Whether the model brings neurons of several recordings to one level itself.
    """
    vocabulary = NeuronVocabulary()
    rows = vocabulary.extend(recordings)
    labels = vocabulary.labels
    with np.errstate(all="ignore"):  # squares of huge values leave doubts unsaid
        doubts = [
            _transposed(recordings),
            _indices(recordings, rows, labels),
            _counts(recordings) if likelihood == "gaussian" else None,
            _idle(recordings, rows, labels),
            _too_many(recordings, n_components, len(labels)),
            _rates(recordings),
            None if leveled else _levels(recordings, rows),
        ]
    for doubt in doubts:
        if doubt is not None:
            tell(doubt)


def tell_left_out(model):
    """Warn that training goes on without the behavior that is given.

    Parameters
    ----------
    model : str
        Name of a model that was fitted without behavior.
    """
    tell(
        f"behavior is left out: {model} was fitted without, and goes on with the same channels. "
        "Fit a new model to learn from it."
    )


def behavior_range(recordings, known=None):
    """Least and largest value of each channel of behavior.

    Parameters
    ----------
    recordings : list of Recording
    known : ndarray of shape (2, n_behaviors), default=None
        Range of earlier recordings, to be widened.

    Returns
    -------
    ndarray of shape (2, n_behaviors), or None if no recording has behavior and none had before
        NaN where a channel was never observed.
    """
    tables = [r.behavior for r in recordings if r.behavior is not None]
    tables += [] if known is None else [known]
    if not tables:
        return None
    stacked = np.concatenate(tables).astype(float)
    return np.stack([np.fmin.reduce(stacked), np.fmax.reduce(stacked)])


def tell_extrapolation(recordings, known):
    """Warn of behavior far outside of what a model was trained on.

    Parameters
    ----------
    recordings : list of Recording
    known : ndarray of shape (2, n_behaviors), or None
        See `behavior_range`.
    """
    tables = [r.behavior for r in recordings if r.behavior is not None]
    if known is None or not tables:
        return
    low, high = known
    margin = BEYOND * (high - low)
    behavior = np.concatenate(tables)
    outside = (behavior < low - margin) | (behavior > high + margin)  # NaN is neither
    share = outside.sum(0) / np.maximum((~np.isnan(behavior)).sum(0), 1)
    for channel in np.flatnonzero(share > SHARE)[:1]:
        seen = behavior[:, channel]
        tell(
            f"behavior channel {channel} goes from {np.nanmin(seen):.4g} to {np.nanmax(seen):.4g}, "
            f"but from {low[channel]:.4g} to {high[channel]:.4g} in training: predictions are "
            "extrapolated, or stay what they are at its end. Check its units, or train on more of "
            "its range."
        )


def _transposed(recordings):
    """Rows, which should be time, hold what is slow, and columns do not."""
    shapes = [r.traces.shape for r in recordings]
    wide = all(n_columns > max(n_rows, LEAST_COLUMNS - 1) for n_rows, n_columns in shapes)
    some = sorted(recordings, key=lambda r: -r.n_timesteps)[:5]
    if not wide or not all(map(_looks_transposed, some)):
        return None
    n_rows, n_columns = shapes[0]
    return (
        f"traces look transposed: of shape ({n_rows}, {n_columns}), they change slowly along their "
        "rows and not along their columns. Time steps are rows: give X.T."
    )


def _looks_transposed(recording):
    """Whether neighbors in a row are much more alike than neighbors in a column.

    Neurons may be sorted, so that neighbors are alike in space too. Levels are a second witness for
    traces that are not very slow: neurons differ in them, and time steps hardly.
    """
    n_rows, n_columns = recording.traces.shape
    if n_rows < LEAST_STEPS and n_columns < 50 * n_rows:
        return False
    rows, columns = LARGEST_TABLE
    traces = recording.traces[:rows, :columns].astype(float)
    level_of_rows, level_of_columns = _spread_of_means(traces.T), _spread_of_means(traces)
    for axis in (0, 1, 0, 1):
        observed = ~np.isnan(traces)
        total = np.where(observed, traces, 0.0).sum(axis, keepdims=True)
        traces = traces - total / np.maximum(observed.sum(axis, keepdims=True), 1)
    traces = np.nan_to_num(traces)
    down, along = _slowness(traces), _slowness(traces.T)
    most, least = max(along, default=0.0), max(down, default=0.0)
    # A short axis has no wide blocks, so that much could be slow along it without being seen.
    same, least = max(along[: len(down)], default=most), max(least, 1e-3)
    ratio, wide_ratio = same / least, most / max(least, 0.25)
    if level_of_rows > level_of_columns:
        return wide_ratio > 3 and (ratio > 2.5 or (ratio > 1.2 and wide_ratio > 10))
    return wide_ratio > 3 and ratio > 3 and most > 4


def _slowness(table):
    """How much more than in noise the means of blocks of rows vary; 0 = as in noise.

    For every width of blocks: variance of the mean of a block, times its width, in units of the
    variance of the column, less 1.
    """
    n_rows = len(table)
    power = (table**2).mean(0)
    moving = power > 1e-9 * power.max(initial=0.0)
    table = table[:, moving] / np.sqrt(power[moving])
    excess = []
    for width in WIDTHS:
        n_blocks = n_rows // width
        if n_blocks < min(8, n_rows // 2) or n_blocks < 2 or not moving.any():
            break
        blocks = table[: n_blocks * width].reshape(n_blocks, width, -1).mean(1)
        noise = (n_rows - width) / (n_rows - 1) / width
        excess.append(float((blocks**2).mean() / noise - 1))
    return excess


def _spread_of_means(table):
    """Variance of the means of columns beyond what chance gives them."""
    table = table[:, ~np.isnan(table).all(0)]
    if not table.size:
        return 0.0
    chance = np.nanvar(table, axis=0) / (~np.isnan(table)).sum(0)
    return np.nanmean(table, axis=0).var() - chance.mean()


def _indices(recordings, rows, labels):
    """Columns that count time steps or trials."""
    odd = []
    alike = len({tuple(row) for row in rows}) == 1
    groups = [recordings] if alike else [[recording] for recording in recordings]
    for group, row in zip(groups, rows):
        if _n_timesteps(group) - len(group) < LEAST_STEPS:
            continue
        # Cheap, and settles nearly all columns: an index falls only where it starts anew.
        first = np.concatenate([np.diff(r.traces[:500], axis=0) for r in group[:20]])
        for column in np.flatnonzero((first >= 0).mean(0) > 0.8):
            if _is_index([r.traces[:, column].astype(float) for r in group]):
                odd.append(labels[row[column]])
    if not odd:
        return None
    return (
        f"traces of {_names(dict.fromkeys(odd))} rise by equal steps, as time, trials or an index "
        "do. Leave out of X what is no neuron."
    )


def _is_index(tables):
    """Whether a column rises by one step throughout, or by ones from trial to trial."""
    steps = np.concatenate([np.diff(table) for table in tables])
    step = np.median(steps)  # clocks jitter, and numbers of steps start anew with each trial
    if step > 0 and (np.abs(steps - step) <= 0.1 * step).mean() > 0.9:
        return True
    values = np.concatenate(tables)
    changes = np.diff(values)
    whole = (values == np.round(values)).all()
    return bool(whole and np.isin(changes, (0, 1)).all() and changes.sum() >= 5)


def _counts(recordings):
    """Counts under a Gaussian likelihood."""
    if not are_counts(recordings):
        return None
    return (
        "traces are counts, but likelihood='gaussian'. Take likelihood='poisson' or "
        "'negative_binomial', or smooth the counts."
    )


def are_counts(recordings):
    """Whether traces are counts: whole numbers, none negative, and 0 at times in most neurons.

    Brightness in whole numbers hardly ever is 0. Of fewer than `REAL_DATA` time steps nothing is
    made.

    Parameters
    ----------
    recordings : list of Recording

    Returns
    -------
    bool
    """
    lowest = []
    for recording in recordings:
        for part in (recording.traces[:LEAST_STEPS], recording.traces):  # the first settles most
            seen = part[~np.isnan(part)]
            if (seen < 0).any() or (seen != np.round(seen)).any():
                return False
        lowest.append(np.fmin.reduce(recording.traces))
    enough = _n_timesteps(recordings) >= REAL_DATA
    return bool(enough and np.nanmedian(np.concatenate(lowest)) == 0)


def _idle(recordings, rows, labels):
    """Neurons of which nothing can be learned."""
    if _n_timesteps(recordings) < 10:
        return None
    idle = np.ones(len(labels), dtype=bool)
    for recording, row in zip(recordings, rows):
        idle[row[varies(recording.traces)]] = False
    idle = np.flatnonzero(idle)
    if len(idle):  # what is constant in each recording may differ between them
        held = [(r.traces[:, np.isin(row, idle)], row[np.isin(row, idle)]) for r, row in
                zip(recordings, rows)]  # fmt: skip
        _, std = moments_by_row(*zip(*held), len(labels))
        idle = idle[std[idle] == 0]
    if not len(idle):
        return None
    wide = len(labels) > _n_timesteps(recordings)
    return (
        f"{_names(labels[idle])} ({len(idle)} of {len(labels)}) never vary in what is observed, so "
        "that nothing is learned of them. Leave them out"
        + (", or give X.T if neurons are rows." if wide else ".")
    )


def _too_many(recordings, n_components, n_neurons):
    if n_components in (None, "auto") or n_components <= n_neurons:
        return None
    if _n_timesteps(recordings) < REAL_DATA:
        return None
    return (
        f"n_components={n_components} is more than there are neurons, {n_neurons}. Take fewer "
        "components."
    )


def _rates(recordings):
    """Sampling rates that differ."""
    rates = {i: r.rate_hz for i, r in enumerate(recordings) if r.rate_hz is not None}
    if not rates:
        return None
    slow, fast = min(rates, key=rates.get), max(rates, key=rates.get)
    if rates[fast] <= ALIKE * rates[slow]:
        return None
    return (
        f"rate_hz is {rates[slow]:g} in recording {slow} and {rates[fast]:g} in recording {fast}, "
        "but a model takes all time steps for equally long. Resample them to one rate."
    )


def _levels(recordings, rows):
    """Neurons with other levels in other recordings."""
    if len(recordings) < 3 or are_counts(recordings) or not levels_differ(recordings, rows):
        return None
    return (
        "offsets or gains of neurons differ more between recordings than within them, and a model "
        "of all together has one for each neuron. Standardize each recording, or take "
        "NeuroBehaviorVAE(normalize='recording')."
    )


def _n_timesteps(recordings):
    return sum(recording.n_timesteps for recording in recordings)


def _names(labels):
    """Names of some neurons."""
    labels = [str(label) for label in labels]
    return "neurons " + ", ".join(labels[:3]) + (", ..." if len(labels) > 3 else "")
