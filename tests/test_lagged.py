import pickle

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from skneurovae.baselines import LaggedRidge
from skneurovae.datasets.worms import make_worms
from skneurovae.metrics import behavior_prediction_score
from skneurovae.recordings import Recording


@pytest.fixture(scope="module")
def worms():
    return make_worms(8, n_identities=40, n_recorded=25, n_timesteps=400, random_state=0)[0]


def test_it_is_ridge_on_lagged_standardized_behavior():
    rng = np.random.default_rng(0)
    behavior, X = 3 * rng.standard_normal((200, 2)) + 1, rng.standard_normal((200, 3))
    model = LaggedRidge(lags=[-1, 0, 4], alpha=20.0).fit(X, behavior=behavior)
    scaled = (behavior - behavior.mean(0)) / behavior.std(0)
    padded = np.pad(scaled, ((4, 4), (0, 0)))
    design = np.hstack([padded[4 - lag : 204 - lag] for lag in (-1, 0, 4)])
    ridge = Ridge(alpha=20.0).fit(design, X)
    np.testing.assert_allclose(model.coef_.reshape(3, -1), ridge.coef_, atol=1e-6)
    np.testing.assert_allclose(
        model.predict(X, behavior=behavior), ridge.predict(design), atol=1e-6
    )


def test_a_positive_lag_is_the_past():
    rng = np.random.default_rng(0)
    behavior = rng.standard_normal((500, 1))
    X = np.hstack([np.roll(behavior, 3, axis=0), np.roll(behavior, -2, axis=0)])  # late, early
    model = LaggedRidge(lags=5).fit(X, behavior=behavior)
    assert model.score(X, behavior=behavior) > 0.9
    strongest = model.lags_[np.abs(model.coef_[:, :, 0]).argmax(1)]
    assert strongest.tolist() == [3, -2]


def test_it_predicts_unseen_animals_from_behavior_and_lags_matter(worms):
    model = LaggedRidge(lags=10).fit(worms[:6])
    instant = LaggedRidge(lags=0).fit(worms[:6])
    score = behavior_prediction_score(model, worms[6:])
    assert score > 0.1
    assert score > behavior_prediction_score(instant, worms[6:]) + 0.02
    assert model.score(worms[6:]) == pytest.approx(score)


def test_alpha_is_chosen_for_each_identity():
    rng = np.random.default_rng(0)
    behavior = rng.standard_normal((300, 1))
    X = np.hstack([behavior, rng.standard_normal((300, 1))])  # explained fully, not at all
    model = LaggedRidge(lags=5).fit(X, behavior=behavior)
    assert model.alpha_[0] <= 10
    assert model.alpha_[1] >= 100


def test_traces_are_not_used_in_predict_and_missing_ones_are_left_out(worms):
    model = LaggedRidge(lags=4, alpha=10.0).fit(worms[:3])
    hidden = [w.replace(traces=np.full_like(w.traces, np.nan)) for w in worms]
    for a, b in zip(model.predict(worms[:2]), model.predict(hidden[:2])):
        np.testing.assert_array_equal(a, b)
    # Dropping the samples of one neuron by NaN is the same as fitting it on fewer time steps.
    cut = worms[0].traces.copy()
    cut[250:, 0] = np.nan
    whole = LaggedRidge(lags=[0], alpha=1.0).fit([worms[0].replace(traces=cut)])
    other = LaggedRidge(lags=[0], alpha=1.0).fit([worms[0]])
    np.testing.assert_allclose(whole.coef_[1:], other.coef_[1:])
    z = (worms[0].behavior - worms[0].behavior.mean(0)) / worms[0].behavior.std(0)
    ridge = Ridge(alpha=1.0).fit(z[:250], worms[0].traces[:250, 0])
    np.testing.assert_allclose(whole.coef_[0, 0], ridge.coef_, atol=1e-6)


def test_missing_behavior_counts_as_the_mean(worms):
    model = LaggedRidge(lags=3, alpha=10.0).fit(worms[:2])
    behavior = worms[0].behavior.copy()
    behavior[50:60, 1] = np.nan
    filled = np.where(np.isnan(behavior), model.behavior_mean_, behavior)
    a, b = model.predict([worms[0].replace(behavior=behavior), worms[0].replace(behavior=filled)])
    np.testing.assert_allclose(a, b)
    none = model.predict([worms[0].replace(behavior=None)])[0]
    np.testing.assert_allclose(none, np.tile(none[0], (400, 1)))
    assert set(none[0]) == set(model.intercept_[: none.shape[1]])


def test_identities_forms_and_pickle(worms):
    model = LaggedRidge(lags=2, alpha=1.0).fit(worms[:2])
    order = np.random.default_rng(0).permutation(25)
    shuffled = worms[0].replace(
        traces=worms[0].traces[:, order], identities=worms[0].identities[order]
    )
    a, b = model.predict([worms[0], shuffled])
    np.testing.assert_allclose(a[:, order], b)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(worms[:1])[0], model.predict(worms[:1])[0])
    assert set(model.identities_) == set(worms[0].identities) | set(worms[1].identities)


def test_long_lags_and_short_recordings():
    rng = np.random.default_rng(0)
    X, behavior = rng.standard_normal((12, 2)), rng.standard_normal((12, 1))
    model = LaggedRidge(lags=20).fit(X, behavior=behavior)
    assert np.isfinite(model.predict(X, behavior=behavior)).all()


def test_errors(worms):
    with pytest.raises(ValueError, match="no recording has behavior"):
        LaggedRidge().fit([Recording(np.random.default_rng(0).standard_normal((20, 3)))])
    with pytest.raises(ValueError, match="alpha must be"):
        LaggedRidge(alpha=-1.0).fit(worms[:1])
    with pytest.raises(ValueError, match="lags must be"):
        LaggedRidge(lags=[]).fit(worms[:1])
