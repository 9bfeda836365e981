import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, FactorAnalysis, FastICA
from sklearn.model_selection import GridSearchCV

from skneurovae.baselines import Pooled
from skneurovae.datasets.worms import make_worms
from skneurovae.metrics import co_smoothing_score
from skneurovae.recordings import Recording


@pytest.fixture(scope="module")
def worms():
    return make_worms(
        8, n_identities=40, n_recorded=28, n_timesteps=400, n_components=4, random_state=0
    )[0]


@pytest.mark.parametrize(
    "model", [PCA(3), PCA(3, whiten=True), FactorAnalysis(3), FastICA(3, random_state=0)]
)
def test_with_nothing_missing_it_is_the_transformer(model):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 3)) @ rng.standard_normal((3, 10)) + rng.standard_normal(
        (300, 10)
    )
    pooled = Pooled(model).fit(X)
    alone = clone(model).fit(X)
    np.testing.assert_allclose(pooled.transform(X), alone.transform(X), atol=1e-6)
    if hasattr(alone, "inverse_transform"):
        expected = alone.inverse_transform(alone.transform(X))
        np.testing.assert_allclose(pooled.predict(X), expected, atol=1e-6)
    assert pooled.n_iter_ == 0
    assert list(pooled.get_feature_names_out()) == ["pooled0", "pooled1", "pooled2"]


def test_hidden_neurons_are_not_read_as_zeros():
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((400, 2))
    X = Z @ rng.standard_normal((2, 12)) + 7
    model = Pooled(PCA(2)).fit(X)
    shown = X.copy()
    shown[:, :8] = np.nan
    # Without noise, four neurons determine two latents exactly.
    np.testing.assert_allclose(model.transform(shown), model.transform(X), atol=1e-6)
    np.testing.assert_allclose(model.predict(shown), X, atol=1e-6)
    np.testing.assert_allclose(model.transform(np.full((5, 12), np.nan)), 0)


def test_posterior_mean_of_factor_analysis_with_missing_neurons():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 2)) @ rng.standard_normal((2, 6)) + rng.standard_normal((500, 6))
    model = Pooled(FactorAnalysis(2)).fit(X)
    row = X[:1].copy()
    row[0, [1, 4]] = np.nan
    seen = [0, 2, 3, 5]
    L = model.estimator_.components_[:, seen]
    covariance = L.T @ L + np.diag(model.estimator_.noise_variance_[seen])
    expected = L @ np.linalg.solve(covariance, row[0, seen] - model.estimator_.mean_[seen])
    np.testing.assert_allclose(model.transform(row)[0], expected)


def test_filling_finds_the_subspace_of_incomplete_data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 2)) @ rng.standard_normal((2, 15))
    holes = X.copy()
    holes[rng.random(X.shape) < 0.4] = np.nan
    filled = Pooled(PCA(2), n_rounds=100, tol=1e-6).fit(holes)
    determined = (~np.isnan(holes)).sum(1) > 4
    np.testing.assert_allclose(filled.predict(holes)[determined], X[determined], atol=0.02)
    assert filled.n_iter_ > 1
    started = Pooled(PCA(2), n_rounds=0).fit(holes)
    assert np.abs(started.predict(holes) - X)[determined].max() > 0.2


@pytest.mark.parametrize("model", [PCA(3), PCA(3, whiten=True), FactorAnalysis(3, tol=1e-6)])
def test_rounds_of_filling_are_those_of_fits_to_the_whole_table(model, worms):
    """Though a round is a fit to few rows with the mean and the covariance of all."""

    class Whole(type(model)):
        """What is not PCA itself may depend on the rows one by one."""

    pooled = Pooled(model, n_rounds=5).fit(worms[:3])
    whole = Pooled(Whole(**model.get_params()), n_rounds=5).fit(worms[:3])
    assert pooled.n_iter_ == whole.n_iter_ == 5
    for found, expected in zip(pooled.predict(worms[:3]), whole.predict(worms[:3])):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(
        np.abs(pooled.estimator_.components_), np.abs(whole.estimator_.components_), atol=1e-5
    )


def test_noise_is_not_hidden_by_filling():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 1)) @ np.ones((1, 8)) + rng.standard_normal((3000, 8))
    X[rng.random(X.shape) < np.linspace(0, 0.7, 8)] = np.nan
    model = Pooled(FactorAnalysis(1), n_rounds=50).fit(X)
    np.testing.assert_allclose(model._noise, 1, atol=0.3)


def test_columns_are_aligned_by_identity(worms):
    model = Pooled(FactorAnalysis(4)).fit(worms[:6])
    assert set(model.identities_) == {name for w in worms[:6] for name in w.identities}
    order = np.random.default_rng(0).permutation(28)
    test = worms[7]
    shuffled = test.replace(traces=test.traces[:, order], identities=test.identities[order])
    Z, Z_shuffled = model.transform([test, shuffled])
    np.testing.assert_allclose(Z, Z_shuffled)
    prediction, prediction_shuffled = model.predict([test, shuffled])
    np.testing.assert_allclose(prediction[:, order], prediction_shuffled)


def test_it_predicts_hidden_neurons_of_unseen_animals(worms):
    model = Pooled(FactorAnalysis(4)).fit(worms[:6])
    score = model.score(worms[6:])
    assert score == co_smoothing_score(model, worms[6:])
    assert score > 0.2
    scrambled = [w.replace(identities=np.roll(w.identities, 1)) for w in worms[6:]]
    assert score > co_smoothing_score(model, scrambled) + 0.2
    assert Pooled(PCA(4)).fit(worms[:6]).score(worms[6:]) > 0.1


def test_unknown_neurons_are_predicted_at_their_mean(worms):
    model = Pooled(PCA(2)).fit(worms[:1])
    names = worms[0].identities.copy()
    names[3] = "X1"
    with pytest.warns(UserWarning, match="X1"):
        prediction = model.predict([worms[0].replace(identities=names)])[0]
    np.testing.assert_allclose(prediction[:, 3], worms[0].traces[:, 3].mean())
    assert (prediction.std(0) > 1e-9).sum() == 27


def test_twins_in_one_recording_share_a_column():
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((200, 1))
    X = np.hstack([Z + 1, Z - 1, 2 * Z, -Z])
    names = np.array(["a", "a", "b", "c"], dtype=object)
    model = Pooled(PCA(1)).fit([Recording(X, identities=names)])
    assert model.identities_.tolist() == ["a", "b", "c"]
    assert model.estimator_.mean_[0] == pytest.approx(Z.mean())


def test_forms_pickle_and_search(worms):
    X = np.stack([w.traces for w in worms[:3]])
    model = Pooled(PCA(2)).fit(X)
    assert model.transform(X).shape == (3, 400, 2)
    assert model.predict(X).shape == X.shape
    assert isinstance(model.transform(list(X)), list)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    search = GridSearchCV(Pooled(PCA()), {"estimator__n_components": [1, 4]}, cv=2)
    search.fit(worms[:4])
    assert search.best_params_ == {"estimator__n_components": 4}


def test_a_model_without_reconstruction_is_refused():
    with pytest.raises(TypeError, match="KMeans does not"):
        Pooled(KMeans(2)).fit(np.random.default_rng(0).standard_normal((20, 3)))
