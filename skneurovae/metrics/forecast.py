"""Forward prediction: the last time steps of short segments are hidden and predicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skneurovae.common.moments import unit_of
from skneurovae.metrics.asking import known_neurons, predict, side_by_side, training_scale
from skneurovae.metrics.explained import (
    check_average,
    explained,
    number_neurons,
    session_means,
    units,
)
from skneurovae.metrics.nulls import TimeShifted, scaled
from skneurovae.metrics.values import bits_per_spike
from skneurovae.recordings import check_recordings


@dataclass(frozen=True, eq=False)
class Forecast:
    """Hidden ends of the segments of one recording, and what was predicted of them.

    Parameters
    ----------
    truth : ndarray of shape (n_segments, horizon, n_neurons)
        NaN = not observed, or a neuron that the estimator cannot know.
    prediction : ndarray of shape (n_segments, horizon, n_neurons)
    last : ndarray of shape (n_segments, n_neurons)
        Last value that was observed before the hidden end; NaN if none was.
    """

    truth: np.ndarray
    prediction: np.ndarray
    last: np.ndarray


@dataclass(frozen=True, eq=False)
class ForecastErrors:
    """How forecasts degrade with the horizon; entry h is for h + 1 time steps ahead.

    Parameters
    ----------
    r2 : ndarray of shape (horizon,)
        R2 of all entries of all segments together, in the definition of `co_smoothing_score`.
    mae : ndarray of shape (horizon,)
        Mean absolute error of all these entries, in units of the traces.
    skill : ndarray of shape (horizon,)
        ``1 - SSE / SSE of copying the last value``, both summed over all entries in the units of
        `co_smoothing_score`; 0 = no better than the copy, NaN = the copy makes no error.
    """

    r2: np.ndarray
    mae: np.ndarray
    skill: np.ndarray


def forecast(estimator, X, *, horizon, context, stride=None):
    """Predict the end of each segment of the recordings from its beginning.

    Recordings are cut into segments of ``context + horizon`` time steps. Traces and behavior of the
    last `horizon` steps are NaN when the estimator sees a segment, and it sees nothing else of the
    recording, so that a model that looks ahead in time has no future to look at. A stimulus, known
    at every step by definition, stays.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
    X : recordings
    horizon : int
        Time steps predicted.
    context : int
        Time steps seen before them.
    stride : int, default=None
        Time steps from the start of one segment to that of the next. None is `horizon`, with which
        every time step after the first context is predicted once.

    Returns
    -------
    list of Forecast
        One per recording.

    Raises
    ------
    ValueError
        If `horizon`, `context` or `stride` is below 1, or a recording is shorter than a segment.

    Notes
    -----
    For a `TimeShifted` estimator, whose shift may exceed a segment, each segment gets the forecast
    that was made for another one of its recording, at least the shift away where there is one.
    Given its `truth`, forecasts are scaled as its predictions are.
    """
    stride = horizon if stride is None else stride
    if min(horizon, context, stride) < 1:
        raise ValueError(
            f"horizon, context and stride must be 1 or more; got {horizon}, {context}, {stride}."
        )
    recordings, _ = check_recordings(X)
    length = context + horizon
    for index, recording in enumerate(recordings):
        if recording.n_timesteps < length:
            raise ValueError(
                f"recording {index} has {recording.n_timesteps} time steps; context={context} and "
                f"horizon={horizon} need {length}."
            )
    starts = [range(0, recording.n_timesteps - length + 1, stride) for recording in recordings]
    segments = [
        _segment(recording, start, context, length)
        for recording, own in zip(recordings, starts)
        for start in own
    ]
    shifted = isinstance(estimator, TimeShifted)
    asked = estimator.estimator if shifted else estimator
    answers = iter(predict(asked, X, segments))
    result = []
    for recording, own in zip(recordings, starts):
        known = known_neurons(asked, recording)
        ends = [recording.traces[s + context : s + length] for s in own]
        ends = np.stack(ends)
        ahead = np.stack([next(answers)[context:] for _ in own])
        if shifted:
            ahead = _shift_segments(ahead, estimator.shift, stride)
            if estimator.truth is not None:
                flat = (-1, recording.n_neurons)
                ahead = scaled(ahead.reshape(flat), ends.reshape(flat)).reshape(ends.shape)
        result.append(
            Forecast(
                truth=np.where(known, ends, np.nan),
                prediction=ahead,
                last=np.stack([_last_seen(recording.traces[s : s + context]) for s in own]),
            )
        )
    return result


def forecast_score(estimator, X, y=None, *, horizon=10, context=50, stride=None, average="pooled"):
    """R2 of forecasts, all segments, horizons, neurons and recordings together.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
    X : recordings
    y : None
        Ignored.
    horizon : int, default=10
        In time steps.
    context : int, default=50
        In time steps.
    stride : int, default=None
        As in `forecast`.
    average : {"pooled", "mean", "median"}, default="pooled"
        As in `co_smoothing_score`, whose definition this is.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As `forecast`, or if no neuron can be scored.

    See Also
    --------
    forecast_errors : By horizon, and beside a copy of the last value.
    """
    check_average(average)
    recordings, _ = check_recordings(X)
    made = forecast(estimator, X, horizon=horizon, context=context, stride=stride)
    truth, prediction = (
        [_rows(getattr(f, name)) for f in made] for name in ("truth", "prediction")
    )
    return explained(recordings, truth, prediction, _scales(estimator, recordings), average)


def forecast_errors(estimator, X, *, horizon=10, context=50, stride=None):
    """R2, mean absolute error and skill of forecasts at each horizon.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
    X : recordings
    horizon : int, default=10
        In time steps.
    context : int, default=50
        In time steps.
    stride : int, default=None
        As in `forecast`.

    Returns
    -------
    ForecastErrors

    Raises
    ------
    ValueError
        As `forecast`, or if no neuron can be scored.

    References
    ----------
    Skill as in Duan et al., "POCO: Scalable Neural Forecasting through Population Conditioning",
    2025; mean absolute error by horizon as in Lueckmann et al., "ZAPBench", ICLR 2025.
    """
    recordings, _ = check_recordings(X)
    made = forecast(estimator, X, horizon=horizon, context=context, stride=stride)
    scale = _scales(estimator, recordings)
    numbers, n_numbers = number_neurons(recordings)
    unit, _ = units(recordings, numbers, n_numbers, scale)
    rows = []
    for step in range(horizon):
        truth, prediction = zip(*((f.truth[:, step], f.prediction[:, step]) for f in made))
        # R2 comes first, as it refuses predictions that are not finite.
        r2 = explained(recordings, truth, prediction, scale)
        mae = np.concatenate([np.abs(x - p).ravel() for x, p in zip(truth, prediction)])
        skill = _skill(truth, prediction, [f.last for f in made], [unit[own] for own in numbers])
        rows.append((r2, np.nanmean(mae), skill))
    return ForecastErrors(*np.array(rows).T)


def forecast_bits(estimator, X, y=None, *, horizon=10, context=50, stride=None):
    """Bits per spike of forecasts, over all neurons and recordings together.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
        Its predictions are counts per bin.
    X : recordings
        Of spike counts per bin.
    y : None
        Ignored.
    horizon : int, default=10
        In time steps.
    context : int, default=50
        In time steps.
    stride : int, default=None
        As in `forecast`.

    Returns
    -------
    float
        0 = no better than each neuron's mean count over the bins of its session that are predicted.

    Raises
    ------
    ValueError
        As `forecast` and `bits_per_spike`.

    References
    ----------
    Forward prediction of Pei et al., "Neural Latents Benchmark '21", 2021, section 3.
    """
    made = forecast(estimator, X, horizon=horizon, context=context, stride=stride)
    counts = [_rows(f.truth) for f in made]
    null = np.concatenate(session_means(check_recordings(X)[0], counts))
    rates = side_by_side([_rows(f.prediction) for f in made])
    return bits_per_spike(side_by_side(counts), rates, null=null)


def _segment(recording, start, context, length):
    """Segment of a recording that ends in NaN."""
    part = slice(start, start + length)
    cut = {
        name: values[part].copy()
        for name in ("traces", "behavior", "stimulus")
        if (values := getattr(recording, name)) is not None
    }
    for name in cut.keys() - {"stimulus"}:
        cut[name][context:] = np.nan
    return recording.replace(**cut)


def _last_seen(traces):
    """Last value of each column that is not NaN; NaN where there is none."""
    seen = ~np.isnan(traces)
    last = len(traces) - 1 - seen[::-1].argmax(0)
    return traces[last, np.arange(traces.shape[1])]


def _shift_segments(prediction, shift, stride):
    """Forecasts given to other segments, as far away as the shift asks for, half way at most."""
    n_segments = len(prediction)
    if n_segments < 2:
        raise ValueError("the time-shifted null of a forecast needs two segments per recording.")
    distance = min(-(-abs(shift) // stride), n_segments // 2)
    return np.roll(prediction, distance if shift > 0 else -distance, axis=0)


def _rows(array):
    return array.reshape(-1, array.shape[-1])


def _scales(estimator, recordings):
    return [training_scale(estimator, recording) for recording in recordings]


def _skill(truth, prediction, last, unit):
    """Skill over a copy of the last value, of entries before whose segment's end one was seen."""
    model = copy = n_scored = 0.0
    for x, p, before, own in zip(truth, prediction, last, unit):
        scored = ~np.isnan(x) & ~np.isnan(before) & (own > 0)
        # Without units, the copy's error of the loudest neuron would be all that counts.
        own, n_scored = unit_of(own), n_scored + scored.sum()
        model += (np.where(scored, (x - p) / own, 0.0) ** 2).sum()
        copy += (np.where(scored, (x - before) / own, 0.0) ** 2).sum()
    # Where traces stand still, a copy is right but for rounding, and there is nothing to gain.
    return 1 - model / copy if copy > 1e-12 * n_scored else np.nan
