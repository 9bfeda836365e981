"""PoissonGLM against scikit-learn, and what may and may not enter its predictions."""

import pickle

import numpy as np
import pytest
from sklearn.linear_model import PoissonRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from skneurovae.baselines import LaggedRidge, PoissonGLM
from skneurovae.metrics import co_smoothing_bits
from skneurovae.recordings import Recording

# Coupling is to the past: rows are ordered.
ORDERED = {
    "check_methods_sample_order_invariance": "rows are ordered",
    "check_methods_subset_invariance": "rows have a past",
}


@parametrize_with_checks(
    [PoissonGLM(coupling=True, coupling_lags=1, alpha=1.0)],
    expected_failed_checks=lambda _: ORDERED,
    xfail_strict=True,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def spikes(n_timesteps=300, n_neurons=4, seed=0, names=None):
    rng = np.random.default_rng(seed)
    behavior = rng.standard_normal((n_timesteps, 2)) * [1, 3] + [0, 5]
    drive = np.random.default_rng(9).standard_normal((2, 9))[:, :n_neurons] * 0.4
    counts = rng.poisson(np.exp((behavior - [0, 5]) / [1, 3] @ drive)).astype(float)
    names = None if names is None else np.array(names)
    return Recording(counts, behavior=behavior, identities=names)


def standardized(values):
    return (values - values.mean(0)) / values.std(0)


def test_without_coupling_it_is_scikit_learn_on_the_lagged_design():
    one = spikes()
    model = PoissonGLM(lags=[-1, 0, 4], alpha=20.0).fit([one])
    padded = np.pad(standardized(one.behavior), ((4, 4), (0, 0)))
    design = np.hstack([padded[4 - lag : 304 - lag] for lag in (-1, 0, 4)])
    predicted = model.predict([one])[0]
    for v in range(4):
        alone = PoissonRegressor(alpha=20.0 / 300, tol=1e-10, max_iter=1000)
        alone.fit(design, one.traces[:, v])
        np.testing.assert_allclose(model.coef_[v].ravel(), alone.coef_, atol=1e-4)
        np.testing.assert_allclose(predicted[:, v], alone.predict(design), rtol=1e-3)
        exact = PoissonRegressor(alpha=20.0 / 300, solver="newton-cholesky", tol=1e-10)
        np.testing.assert_allclose(
            predicted[:, v], exact.fit(design, one.traces[:, v]).predict(design), atol=1e-6
        )
    # The gradient of the documented objective vanishes.
    residual = one.traces - predicted
    np.testing.assert_allclose(residual.T @ design, 20 * model.coef_.reshape(4, -1), atol=1e-4)
    np.testing.assert_allclose(residual.sum(0), 0, atol=1e-4)


def test_coupling_is_to_the_past_of_the_others_alone():
    one = spikes()
    model = PoissonGLM(lags=[0], coupling=True, coupling_lags=[2, 3], alpha=10.0).fit([one])
    counts = np.pad(standardized(one.traces), ((3, 0), (0, 0)))
    past = np.stack([counts[3 - lag : 303 - lag] for lag in (2, 3)], axis=1)
    for v in range(4):
        others = np.delete(past, v, axis=2).reshape(300, -1)
        design = np.hstack([standardized(one.behavior), others])
        exact = PoissonRegressor(alpha=10.0 / 300, solver="newton-cholesky", tol=1e-10)
        exact.fit(design, one.traces[:, v])
        np.testing.assert_allclose(model.predict([one])[0][:, v], exact.predict(design), atol=1e-6)
    assert (model.coupling_[np.arange(4), :, np.arange(4)] == 0).all()
    assert model.coupling_.shape == (4, 2, 4)


def test_a_neuron_never_predicts_itself_and_each_other_input_counts():
    one = spikes()
    model = PoissonGLM(lags=1, coupling=True, coupling_lags=2, alpha=1.0).fit([one])
    base = model.predict([one])[0]
    for v in range(4):
        traces = one.traces.copy()
        traces[100, v] += 3
        changed = np.abs(model.predict([one.replace(traces=traces)])[0] - base)
        assert (changed[:, v] == 0).all()
        assert (np.delete(changed, v, axis=1)[101:103] > 0).all()
        assert (np.delete(changed, [101, 102], axis=0) == 0).all()
    for channel in range(2):
        behavior = one.behavior.copy()
        behavior[100, channel] += 1
        changed = np.abs(model.predict([one.replace(behavior=behavior)])[0] - base).max(1)
        assert (changed[99:102] > 0).all()
        assert (np.delete(changed, [99, 100, 101]) == 0).all()


def test_a_twin_is_no_other_neuron():
    one = spikes(names=["a", "a", "b", "c"])
    model = PoissonGLM(lags=[0], coupling=True, coupling_lags=1, alpha=1.0).fit([one])
    traces = one.traces.copy()
    traces[50, 0] += 4
    base, changed = model.predict([one, one.replace(traces=traces)])
    np.testing.assert_array_equal(base[:, :2], changed[:, :2])
    np.testing.assert_array_equal(base[:, 0], base[:, 1])
    assert base[51, 2] != changed[51, 2]


def test_hidden_and_absent_neurons_count_as_their_mean():
    one, two = spikes(names=list("abcd")), spikes(200, seed=1, names=list("cdef"))
    model = PoissonGLM(lags=[0], coupling=True, coupling_lags=1, alpha=5.0).fit([one, two])
    assert model.identities_.tolist() == list("abcdef")
    hidden, mean = one.traces.copy(), one.traces.copy()
    hidden[:, 1], mean[:, 1] = np.nan, model.count_mean_[1]
    a, b = model.predict([one.replace(traces=hidden), one.replace(traces=mean)])
    # Before the start all counts are missing: they count as the mean too.
    np.testing.assert_allclose(a, b)
    assert np.isfinite(a).all()
    assert np.abs(a - model.predict([one])[0]).max() > 1e-3
    behavior = one.behavior.copy()
    behavior[30, 0], filled = np.nan, one.behavior.copy()
    filled[30, 0] = model.behavior_mean_[0]
    a, b = model.predict([one.replace(behavior=behavior), one.replace(behavior=filled)])
    np.testing.assert_allclose(a, b)
    assert np.isfinite(model.predict([one.replace(behavior=None)])[0]).all()


def test_missing_samples_of_the_target_are_left_out():
    one = spikes()
    cut = one.traces.copy()
    cut[200:, 0] = np.nan
    model = PoissonGLM(lags=[0], alpha=2.0).fit([one.replace(traces=cut)])
    alone = PoissonRegressor(alpha=2.0 / 200, solver="newton-cholesky", tol=1e-10)
    alone.fit(standardized(one.behavior)[:200], one.traces[:200, 0])
    np.testing.assert_allclose(model.coef_[0, 0], alone.coef_, atol=1e-6)


def test_lags_mean_what_they_mean_to_lagged_ridge():
    rng = np.random.default_rng(0)
    behavior = rng.standard_normal((600, 1))
    drive = np.hstack([np.roll(behavior, 3, axis=0), np.roll(behavior, -2, axis=0)])
    counts = rng.poisson(np.exp(drive))
    glm = PoissonGLM(lags=4).fit(counts, behavior=behavior)
    ridge = LaggedRidge(lags=4).fit(counts, behavior=behavior)
    for model in (glm, ridge):
        strongest = np.abs(model.coef_[:, :, 0]).argmax(1)
        assert model.lags_[strongest].tolist() == [3, -2]


def test_alpha_is_chosen_and_the_score_is_bits_per_spike():
    rng = np.random.default_rng(0)
    behavior = rng.standard_normal((400, 1))
    counts = rng.poisson(np.hstack([np.exp(behavior), np.ones((400, 1)), np.exp(-behavior)]))
    train = Recording(counts[:300], behavior=behavior[:300])
    test = Recording(counts[300:], behavior=behavior[300:])
    model = PoissonGLM(lags=2).fit([train])
    assert model.alpha_[0] <= 10
    assert model.alpha_[1] >= 100
    assert model.score([test]) == co_smoothing_bits(model, [test]) > 0.2
    assert abs(model.score([test.replace(behavior=test.behavior[::-1])])) > 0.01


def test_coupling_finds_the_driver_without_behavior():
    rng = np.random.default_rng(0)
    driver = rng.poisson(1.0, 800)
    driven = rng.poisson(np.exp(0.8 * np.append(0, driver[:-1]) - 1))
    other = rng.poisson(1.0, 800)
    counts = np.column_stack([driver, driven, other]).astype(float)
    model = PoissonGLM(coupling=True, coupling_lags=3).fit(counts)
    weights = np.abs(model.coupling_)
    assert np.unravel_index(weights.argmax(), weights.shape) == (1, 0, 0)
    assert model.coef_.shape == (3, 21, 0)


def test_silent_neurons_and_spikes_in_one_block_only():
    one = spikes()
    traces = one.traces.copy()
    traces[:, 0] = 0
    traces[:, 1] = np.arange(300) == 7
    model = PoissonGLM(lags=1).fit([one.replace(traces=traces)])
    predicted = model.predict([one])[0]
    np.testing.assert_allclose(predicted[:, 0], 0.5 / 300)
    assert np.isfinite(predicted).all()


def test_forms_pickle_and_unknown_neurons():
    one = spikes(names=list("abcd"))
    model = PoissonGLM(lags=1, alpha=1.0).fit([one])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict([one])[0], model.predict([one])[0])
    with pytest.warns(UserWarning, match="zz"):
        new = model.predict([one.replace(identities=np.array(["a", "zz", "c", "d"]))])[0]
    np.testing.assert_allclose(new[:, 1], one.traces[:, 1].mean())
    X = np.stack([one.traces, one.traces])
    stack = PoissonGLM(lags=1, alpha=1.0).fit(X, behavior=np.stack([one.behavior] * 2))
    assert stack.predict(X, behavior=np.stack([one.behavior] * 2)).shape == X.shape
    assert stack.predict(one.traces, behavior=one.behavior).shape == one.traces.shape


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": -1.0}, "alpha must be None or not negative; got -1.0"),
        ({"lags": []}, "lags must be an int of 0 or more"),
        ({"lags": 1.5}, "lags must be an int of 0 or more"),
        ({"lags": [1, 1]}, "list of different ints"),
        ({"coupling": True, "coupling_lags": [0]}, "coupling_lags must be 1 or more"),
        ({"coupling": True, "coupling_lags": 0}, "coupling_lags must be"),
    ],
)
def test_wrong_parameters(parameters, message):
    with pytest.raises(ValueError, match=message) as error:
        PoissonGLM(**parameters).fit([spikes()])
    assert "\n" not in str(error.value)


def test_wrong_data():
    one = spikes()
    with pytest.raises(
        ValueError, match="Negative values in data of recording 1, -1; PoissonGLM needs"
    ):
        PoissonGLM().fit([one, one.replace(traces=one.traces - 1)])
    with pytest.raises(ValueError, match="no recording has behavior; give it, or coupling=True"):
        PoissonGLM().fit([one.replace(behavior=None)])
