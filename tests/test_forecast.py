"""Forecasts: what the estimator may see, and errors against scikit-learn and hand computation."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import r2_score

from skneurovae.metrics import (
    TimeShifted,
    bits_per_spike,
    forecast,
    forecast_bits,
    forecast_errors,
    forecast_score,
)
from skneurovae.recordings import Recording


class Model:
    """Answers by `answer(traces)` for each recording, and keeps what it was shown."""

    def __init__(self, answer):
        self.answer = answer
        self.calls = []

    def predict(self, X):
        self.calls.append(X)
        if isinstance(X, np.ndarray):
            return self.answer(X) if X.ndim == 2 else np.stack([self.answer(x) for x in X])
        return [self.answer(r.traces) for r in X]


def hold(traces):
    """Last observed value, carried on."""
    traces = traces.copy()
    for t in range(1, len(traces)):
        traces[t] = np.where(np.isnan(traces[t]), traces[t - 1], traces[t])
    return traces


def half(traces):
    return 0.5 * hold(traces)


@pytest.fixture
def recordings():
    rng = np.random.default_rng(0)
    return [
        Recording(
            rng.standard_normal((n, 3)).cumsum(0) * [1, 10, 0.1],
            behavior=rng.standard_normal((n, 2)),
            stimulus=rng.standard_normal((n, 1)),
            identities=np.array(["a", "b", "c"]),
            session=f"s{n}",
        )
        for n in (61, 80)
    ]


def test_nothing_of_the_future_is_shown(recordings):
    model = Model(hold)
    before = [r.traces.copy() for r in recordings]
    forecast(model, recordings, horizon=4, context=10)
    shown = model.calls[0]
    # Starts 0, 4, ... while 14 steps fit: (61 - 14) // 4 + 1 and (80 - 14) // 4 + 1 segments.
    assert len(shown) == 12 + 17
    for index, start in [(0, 0), (11, 44), (12, 0), (28, 64)]:
        whole = recordings[index > 11]
        part = slice(start, start + 14)
        assert shown[index].n_timesteps == 14
        np.testing.assert_array_equal(shown[index].traces[:10], whole.traces[part][:10])
        np.testing.assert_array_equal(shown[index].behavior[:10], whole.behavior[part][:10])
        np.testing.assert_array_equal(shown[index].stimulus, whole.stimulus[part])
        assert shown[index].session == whole.session
    assert all(np.isnan(s.traces[10:]).all() and np.isnan(s.behavior[10:]).all() for s in shown)
    for recording, traces in zip(recordings, before):
        np.testing.assert_array_equal(recording.traces, traces)
        assert not np.isnan(recording.behavior).any()


def test_truth_prediction_and_last_value_belong_to_the_same_segment(recordings):
    made = forecast(Model(half), recordings, horizon=4, context=10, stride=7)
    for own, recording in zip(made, recordings):
        starts = np.arange(0, recording.n_timesteps - 13, 7)
        truth = np.stack([recording.traces[s + 10 : s + 14] for s in starts])
        np.testing.assert_array_equal(own.truth, truth)
        np.testing.assert_array_equal(own.last, recording.traces[starts + 9])
        np.testing.assert_allclose(own.prediction, 0.5 * np.repeat(own.last[:, None], 4, axis=1))


def test_the_last_value_is_the_last_that_was_observed(recordings):
    traces = recordings[0].traces.copy()
    traces[8:10, 0] = np.nan
    traces[:10, 1] = np.nan
    X = [recordings[0].replace(traces=traces)]
    last = forecast(Model(lambda x: np.zeros_like(x)), X, horizon=4, context=10)[0].last[0]
    np.testing.assert_array_equal(last, [traces[7, 0], np.nan, traces[9, 2]])


def units_of(recordings):
    """Spread of each neuron, at least the median, where no spread in training is told."""
    spreads = [np.nanstd(r.traces, axis=0) for r in recordings]
    return [np.maximum(s, np.median(np.concatenate(spreads))) for s in spreads]


def test_score_is_the_r2_of_all_segments_and_horizons_together(recordings):
    made = forecast(Model(half), recordings, horizon=4, context=10)
    error = total = 0.0
    for f, unit in zip(made, units_of(recordings)):  # each of a session of its own
        error += (((f.truth - f.prediction) / unit) ** 2).sum()
        total += (((f.truth - f.truth.mean((0, 1))) / unit) ** 2).sum()
    score = forecast_score(Model(half), recordings, horizon=4, context=10)
    assert score == pytest.approx(1 - error / total, abs=1e-9)
    pairs = [
        r2_score(f.truth[..., n].ravel(), f.prediction[..., n].ravel())
        for f in made
        for n in range(3)
    ]
    mean = forecast_score(Model(half), recordings, horizon=4, context=10, average="mean")
    assert mean == pytest.approx(np.mean(pairs), abs=1e-9)


def test_errors_by_horizon_are_sums_over_all_segments(recordings):
    recordings[0].traces[20:24, 1] = np.nan
    made = forecast(Model(half), recordings, horizon=4, context=10)
    errors = forecast_errors(Model(half), recordings, horizon=4, context=10)
    for h in range(4):
        error, total, copied, absolute = 0.0, 0.0, 0.0, []
        for f, unit in zip(made, units_of(recordings)):
            truth = f.truth[:, h]
            error += np.nansum(((truth - f.prediction[:, h]) / unit) ** 2)
            total += np.nansum(((truth - np.nanmean(truth, 0)) / unit) ** 2)
            copied += np.nansum(((truth - f.last) / unit) ** 2)
            absolute += np.abs(truth - f.prediction[:, h]).ravel().tolist()
        found = [errors.r2[h], errors.mae[h], errors.skill[h]]
        expected = [1 - error / total, np.nanmean(absolute), 1 - error / copied]
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_copying_the_last_value_has_no_skill(recordings):
    errors = forecast_errors(Model(hold), recordings, horizon=3, context=5)
    np.testing.assert_allclose(errors.skill, 0, atol=1e-12)
    assert (np.diff(errors.mae) > 0).all()  # a random walk


def test_neurons_without_a_last_value_have_no_part_in_skill(recordings):
    traces = recordings[0].traces.copy()
    traces[:10, 1] = np.nan  # the first context
    made = forecast(Model(half), [traces], horizon=4, context=10)[0]
    assert np.isnan(made.last).sum() == 1
    model = Model(lambda x: np.nan_to_num(half(x)))
    (unit,) = units_of([recordings[0].replace(traces=traces)])
    scored = ~np.isnan(made.last)
    errors = [
        (((made.truth[:, 0] - guess) / unit)[scored] ** 2).sum()
        for guess in (made.prediction[:, 0], made.last)
    ]
    skill = forecast_errors(model, [traces], horizon=4, context=10).skill[0]
    assert skill == pytest.approx(1 - errors[0] / errors[1], abs=1e-9)


def test_bits_are_those_of_the_hidden_bins():
    rng = np.random.default_rng(0)
    X = [rng.poisson(1.5, (n, 4)).astype(float) for n in (50, 71)]
    model = Model(lambda x: np.tile(np.nanmean(x, axis=0) + 0.1, (len(x), 1)))
    made = forecast(model, X, horizon=5, context=10)
    truth, rates = (
        np.concatenate([getattr(f, name).reshape(-1, 4) for f in made])
        for name in ("truth", "prediction")
    )
    found = forecast_bits(model, X, horizon=5, context=10)
    assert found == pytest.approx(bits_per_spike(truth, rates), abs=1e-9)


def test_arrays_are_asked_for_as_arrays_and_give_the_same(recordings):
    traces = recordings[0].traces
    as_list = forecast_score(Model(half), [traces], horizon=4, context=10)
    one, stack = Model(half), Model(half)
    assert forecast_score(one, traces, horizon=4, context=10) == pytest.approx(as_list)
    assert forecast_score(stack, traces[None], horizon=4, context=10) == pytest.approx(as_list)
    assert {call.shape for call in one.calls} == {(14, 3)}
    assert [call.shape for call in stack.calls] == [(12, 14, 3)]


def test_neurons_that_the_estimator_cannot_know_are_not_scored(recordings):
    model = Model(half)
    model.identities_ = np.array(["a", "c"])
    made = forecast(model, recordings, horizon=4, context=10)[0]
    assert np.isnan(made.truth).all((0, 1)).tolist() == [False, True, False]


def test_the_null_takes_forecasts_from_elsewhere_in_the_recording(recordings):
    model = Model(half)
    made = forecast(model, recordings, horizon=4, context=10)
    for shift, segments in [(9, 3), (-8, -2)]:
        null = forecast(TimeShifted(model, shift), recordings, horizon=4, context=10)
        for a, b in zip(made, null):
            np.testing.assert_array_equal(b.prediction, np.roll(a.prediction, segments, axis=0))
            np.testing.assert_array_equal(b.truth, a.truth)
    with pytest.raises(ValueError, match="two segments"):
        forecast(TimeShifted(model, 5), [r.traces[:14] for r in recordings], horizon=4, context=10)


def test_wrong_input_is_refused(recordings):
    with pytest.raises(ValueError, match=r"recording 0 has 61 time steps.*need 70"):
        forecast(Model(half), recordings, horizon=10, context=60)
    for wrong in ({"horizon": 0}, {"context": 0}, {"stride": 0}):
        with pytest.raises(ValueError, match="1 or more"):
            forecast(Model(half), recordings, **({"horizon": 4, "context": 10} | wrong))
    with pytest.raises(ValueError, match="NaN or infinite"):
        forecast_errors(Model(lambda x: x), recordings, horizon=4, context=10)
    with pytest.raises(ValueError, match="no neuron can be scored"):
        forecast_score(Model(half), [np.ones((60, 2))], horizon=4, context=10)


def test_results_are_frozen(recordings):
    made = forecast(Model(half), recordings, horizon=4, context=10)[0]
    with pytest.raises(AttributeError):
        made.truth = None
    assert replace(made, last=made.last[:1]).last.shape == (1, 3)
