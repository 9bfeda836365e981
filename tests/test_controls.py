"""Nulls, baselines and effective samples."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from skneurovae.baselines import MissingFactorAnalysis, Pooled
from skneurovae.metrics import (
    TimeShifted,
    autocorrelation_time,
    co_smoothing_score,
    consistency_score,
    effective_samples,
    evaluate,
    forecast_score,
    imputation_score,
    r2_per_neuron,
)
from skneurovae.recordings import Recording


def autoregression(n, phi, n_neurons=1, seed=0):
    noise = np.random.default_rng(seed).standard_normal((n + 200, n_neurons))
    return lfilter([1], [1, -phi], noise, axis=0)[200:]


def time_by_loops(x):
    """Geyer's initial positive sequence of one trace, lag by lag, from observed pairs."""
    n, d = len(x), x - np.nanmean(x)
    rho = np.array([
        np.nan_to_num(np.nanmean(d[: n - k] * d[k:])) * (1 - k / n) for k in range(n // 2)
    ])  # fmt: skip
    rho, total = rho / rho[0], -1.0
    for k in range(0, n // 2 - 1, 2):
        if rho[k] + rho[k + 1] <= 0:
            break
        total += 2 * (rho[k] + rho[k + 1])
    return max(total, 1.0)


@pytest.mark.parametrize("gaps", [False, True])
def test_autocorrelation_time_agrees_with_loops(gaps):
    traces = autoregression(400, 0.8, 5)
    traces[:, 4] = np.random.default_rng(1).standard_normal(400) * np.tile([1, -1], 200) + 50
    if gaps:
        traces[np.random.default_rng(0).random(traces.shape) < 0.3] = np.nan
    expected = np.median([time_by_loops(x) for x in traces.T])
    assert autocorrelation_time(traces) == pytest.approx(expected, abs=1e-6)
    for x in traces.T:
        assert autocorrelation_time(x) == pytest.approx(time_by_loops(x), abs=1e-6)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_autocorrelation_time_of_an_autoregression(phi):
    found = autocorrelation_time(autoregression(20000, phi, 9))
    assert found == pytest.approx((1 + phi) / (1 - phi), rel=0.1)


def test_autocorrelation_time_bounds_and_refusals():
    traces = autoregression(500, 0.9, 3)
    assert autocorrelation_time(np.tile([1.0, -1.0], 50)) == 1
    constant = np.column_stack([traces, np.full(500, 0.1), np.full(500, np.nan)])
    assert autocorrelation_time(constant) == pytest.approx(autocorrelation_time(traces))
    with pytest.raises(ValueError, match="no neuron varies"):
        autocorrelation_time(np.ones((50, 2)))
    with pytest.raises(ValueError, match="n_timesteps, n_neurons"):
        autocorrelation_time(traces[None])


def test_effective_samples_are_summed_over_recordings():
    parts = [autoregression(n, 0.8, 3, seed=n) for n in (300, 500)]
    expected = sum(len(p) / autocorrelation_time(p) for p in parts)
    assert effective_samples(parts) == pytest.approx(expected)
    assert expected < 800 / 4


@pytest.fixture(scope="module")
def data():
    """Four recordings of three slow latents in twelve neurons."""
    rng = np.random.default_rng(0)
    loadings = rng.standard_normal((3, 12))
    return [
        autoregression(400, 0.8, 3, seed=s) @ loadings + 0.3 * rng.standard_normal((400, 12))
        for s in range(4)
    ]


def test_predictions_and_latents_are_late_in_every_form(data):
    table = Pooled(PCA(2)).fit(data)
    late = TimeShifted(table, 7)
    for X in (data, np.stack(data), data[0]):
        axis = 1 if np.ndim(X) == 3 and isinstance(X, np.ndarray) else 0
        for method in ("predict", "transform"):
            found, plain = getattr(late, method)(X), getattr(table, method)(X)
            assert type(found) is type(plain)
            if isinstance(X, list):
                plain = [np.roll(p, 7, axis=0) for p in plain]
            else:
                plain = np.roll(plain, 7, axis=axis)
            np.testing.assert_array_equal(found, plain)


def test_scaled_nulls_are_signed_squared_correlations(data):
    """The gain takes all boldness away and keeps the sign: R2 = r |r|, whatever the units."""
    model = MissingFactorAnalysis(2).fit(data)
    for bold in (1.0, 30.0):
        late = TimeShifted(Scaled(model, bold), 90, [x.astype(float) for x in data])
        signs = set()
        for x, p in zip(data, late.predict(data)):
            plain = np.roll(model.predict(x), 90, axis=0)
            r = np.array([np.corrcoef(*pair)[0, 1] for pair in zip(x.T, plain.T)])
            np.testing.assert_allclose(r2_per_neuron(x, p), r * np.abs(r), atol=1e-10)
            signs |= set(np.sign(r))
        assert signs == {-1, 1}


def test_gains_are_learned_where_a_neuron_was_shown_and_rates_stay_positive(data):
    counts = [np.random.default_rng(0).poisson(np.exp(x / 4)).astype(float) for x in data]
    model = Pooled(PCA(2)).fit(data)
    late = TimeShifted(Scaled(model, 0.0), 90, counts)  # constants: the offset alone
    asked = [x.copy() for x in counts]
    asked[0][:100, 0], asked[0][:, 1] = np.nan, np.nan
    found = late.predict(asked)[0]
    assert found[0, 0] == pytest.approx(counts[0][100:, 0].mean())
    assert found[0, 1] == pytest.approx(counts[0][:, 1].mean())

    class Rates:
        def predict(self, X):
            return [np.exp(x / 2) for x in data]

    assert min(p.min() for p in TimeShifted(Rates(), 90, counts).predict(counts)) >= 0
    other = TimeShifted(Scaled(model, 5.0), 90, counts[:2]).predict(data)  # not these recordings
    np.testing.assert_array_equal(other[0], np.roll(5 * model.predict(data)[0], 90, axis=0))


class Scaled:
    """Predictions of a model, some times as bold."""

    def __init__(self, model, factor):
        self.model, self.factor = model, factor

    def predict(self, X):
        return [self.factor * p for p in self.model.predict(X)]


def test_standard_deviations_are_shifted_with_their_means(data):
    model = MissingFactorAnalysis(2).fit(data)
    means, stds = TimeShifted(model, -5).transform(data[:2], return_std=True)
    plain = model.transform(data[:2], return_std=True)
    np.testing.assert_array_equal(means[1], np.roll(plain[0][1], -5, axis=0))
    np.testing.assert_array_equal(stds[1], np.roll(plain[1][1], -5, axis=0))


def test_pipelines_and_searches_can_be_shifted(data):
    X = data[0]
    pipeline = make_pipeline(StandardScaler(), PCA(2)).fit(X)
    late = TimeShifted(pipeline, 3)
    np.testing.assert_array_equal(late.transform(X), np.roll(pipeline.transform(X), 3, axis=0))
    decoder = make_pipeline(StandardScaler(), LinearRegression()).fit(X, X[:, 0])
    np.testing.assert_array_equal(
        TimeShifted(decoder, 3).predict(X), np.roll(decoder.predict(X), 3)
    )
    search = GridSearchCV(
        MissingFactorAnalysis(1), {"n_components": [1, 2]}, cv=KFold(2), error_score="raise"
    ).fit(data)
    late = TimeShifted(search, 3)
    assert late.best_estimator_ is search.best_estimator_
    expected = np.roll(search.predict(data)[1], 3, axis=0)
    np.testing.assert_array_equal(late.predict(data)[1], expected)


def test_attributes_pass_but_answers_that_are_not_shifted_do_not(data):
    model = MissingFactorAnalysis(2).fit(data)
    late = TimeShifted(model, 3)
    assert late.identities_ is model.identities_
    assert late.n_components == 2
    check_is_fitted(late)
    with pytest.raises(NotFittedError):
        check_is_fitted(TimeShifted(MissingFactorAnalysis(2), 3))
    for name in ("score", "fit_transform", "impute"):
        assert not hasattr(late, name)
    for twin in (copy.copy(late), pickle.loads(pickle.dumps(late))):
        np.testing.assert_array_equal(twin.predict(data)[0], late.predict(data)[0])


def test_answers_and_recordings_that_cannot_be_shifted_are_refused(data):
    model = MissingFactorAnalysis(2).fit(data)
    with pytest.raises(ValueError, match="shift of -201 time steps needs recordings of 402"):
        TimeShifted(model, -201).predict(data)

    class Odd:
        def predict(self, X):
            return np.concatenate([r.traces for r in X]) if isinstance(X, list) else 3.0

    for X in ([Recording(x) for x in data], data[0]):
        with pytest.raises(ValueError, match="one entry per recording and time step"):
            TimeShifted(Odd(), 3).predict(X)


def test_evaluate_puts_null_baseline_and_samples_beside_the_score(data):
    model = MissingFactorAnalysis(3).fit(data[:2])
    weak = MissingFactorAnalysis(1).fit(data[:2])
    asked = []

    def scorer(estimator, X, y=None):
        asked.append((estimator, y))
        return co_smoothing_score(estimator, X)

    result = evaluate(scorer, model, data[2:], "y", baseline=weak, n_shifts=8)
    assert result.score == co_smoothing_score(model, data[2:])
    assert result.baseline == co_smoothing_score(weak, data[2:])
    assert result.n_effective == pytest.approx(effective_samples(data[2:]))
    shifted = [e for e, _ in asked if isinstance(e, TimeShifted)]
    assert len(shifted) == 8
    assert all(y == "y" for _, y in asked)
    longest = max(autocorrelation_time(x) for x in data[2:])
    assert all(2 * longest <= abs(e.shift) <= 200 for e in shifted)
    assert {np.sign(e.shift) for e in shifted} == {-1, 1}
    expected = np.mean([co_smoothing_score(e, data[2:]) for e in shifted])
    assert result.null == pytest.approx(expected)
    assert result.null < 0.05 < 0.8 < result.score
    assert np.isnan(evaluate(co_smoothing_score, model, data[2:]).baseline)


def test_evaluate_serves_scorers_that_hide_cut_or_embed(data):
    model, other = (MissingFactorAnalysis(3).fit(d) for d in (data[:1], data[1:2]))
    result = evaluate(imputation_score, model, data[2:])
    assert abs(result.null) < 0.05 < 0.8 < result.score

    class Hold:
        def predict(self, X):
            last = [r.traces[~np.isnan(r.traces).any(1)][-1] for r in X]
            return [np.tile(x, (r.n_timesteps, 1)) for x, r in zip(last, X)]

    one_ahead = partial(forecast_score, horizon=1, context=5)
    result = evaluate(one_ahead, Hold(), data[2:])
    assert abs(result.null) < 0.05 < 0.4 < result.score
    result = evaluate(lambda e, X, y: consistency_score([other, e], X), model, data[2:])
    assert result.null < 0.1 < 0.8 < result.score


def test_evaluate_is_seeded(data):
    model = MissingFactorAnalysis(3).fit(data[:2])
    a, b, c = (
        evaluate(co_smoothing_score, model, data[2:], random_state=s).null for s in (0, 0, 1)
    )
    assert a == b != c


def test_evaluate_refuses_recordings_without_room(data):
    model = MissingFactorAnalysis(3).fit(data[:2])
    with pytest.raises(ValueError, match=r"recording 1 has 20 time steps; a null needs four"):
        evaluate(co_smoothing_score, model, [data[2], data[3][:20]])
    with pytest.raises(ValueError, match="n_shifts"):
        evaluate(co_smoothing_score, model, data[2:], n_shifts=0)
