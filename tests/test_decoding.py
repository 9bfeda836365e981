"""BehaviorDecoder, and how well behavior is decoded as plain functions."""

import pickle

import numpy as np
import pytest
from decoding_cases import raises, ring, slow
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import SVR
from sklearn.utils.estimator_checks import parametrize_with_checks

from skneurovae.decoding import (
    BehaviorDecoder,
    decoding_error,
    decoding_quality,
)
from skneurovae.recordings import Recording

RNG = np.random.default_rng(0)
LENGTHS = (120, 90, 150)
Z = [RNG.standard_normal((n, 3)) * [1, 10, 0.1] + 4 for n in LENGTHS]
Y = [(z - 4) / [1, 10, 0.1] @ [[1, 0], [1, 2], [0, 1]] for z in Z]
Y = [y + 0.5 * RNG.standard_normal(y.shape) for y in Y]


@parametrize_with_checks([
    BehaviorDecoder(),
    BehaviorDecoder("knn", kind="circular"),
    BehaviorDecoder(kind="categorical"),
])  # fmt: skip
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_it_is_ridge_on_standardized_latents():
    model = BehaviorDecoder(alphas=[3.0]).fit(Z, Y)
    stacked = np.concatenate(Z)
    scaled = [(z - stacked.mean(0)) / stacked.std(0) for z in Z]
    ridge = Ridge(alpha=3.0).fit(np.concatenate(scaled), np.concatenate(Y))
    for mine, z in zip(model.predict(Z), scaled):
        np.testing.assert_allclose(mine, ridge.predict(z), atol=1e-6)
    expected = r2_score(np.concatenate(Y), ridge.predict(np.concatenate(scaled)))
    assert model.score(Z, Y) == pytest.approx(expected, abs=1e-6)


def test_lags_look_into_the_past_and_never_across_recordings():
    model = BehaviorDecoder(lags=[0, 2], alphas=[1.0]).fit(Z, Y)
    stacked = np.concatenate(Z)
    designs = []
    for z in Z:
        scaled = (z - stacked.mean(0)) / stacked.std(0)
        designs.append(np.hstack([scaled, np.vstack([np.zeros((2, 3)), scaled[:-2]])]))
    ridge = Ridge(alpha=1.0).fit(np.concatenate(designs), np.concatenate(Y))
    base = model.predict(Z)
    np.testing.assert_allclose(np.concatenate(base), ridge.predict(np.concatenate(designs)))
    changed = [z.copy() for z in Z]
    changed[0][-1] += 1
    changed[1][50] += 1
    after = model.predict(changed)
    touched = [np.flatnonzero(np.abs(a - b).max(1)) for a, b in zip(after, base)]
    assert [t.tolist() for t in touched] == [[119], [50, 52], []]
    # The behavior of delayed latents is found at that lag.
    late = [np.roll(z[:, 0], 3) for z in Z]
    assert BehaviorDecoder(lags=[3]).fit(Z, late).score(Z, late) > 0.9
    assert BehaviorDecoder(lags=[-3]).fit(Z, late).score(Z, late) < 0.2


def test_alpha_is_chosen_by_blocks_of_each_recording():
    noise = [np.random.default_rng(1).standard_normal((len(z), 1)) for z in Z]
    clean = [z[:, :1] for z in Z]
    model = BehaviorDecoder().fit(Z, [np.hstack(pair) for pair in zip(clean, noise)])
    assert model.estimators_[0].alpha < 1
    assert model.estimators_[1].alpha > 100
    # The same as a search of scikit-learn; folds differ by no more than one row.
    fold = np.concatenate([np.arange(len(z)) * 5 // len(z) for z in Z])
    stacked = np.concatenate(Z)
    scaled = (stacked - stacked.mean(0)) / stacked.std(0)
    noisy = stacked[:, 0] + 8 * np.random.default_rng(2).standard_normal(len(stacked))
    alphas = [1.0, 10.0, 100.0, 1000.0]
    search = GridSearchCV(
        Ridge(), {"alpha": alphas}, cv=PredefinedSplit(fold), scoring="neg_mean_squared_error"
    ).fit(scaled, noisy)
    split = np.split(noisy, np.cumsum(LENGTHS)[:-1])
    mine = BehaviorDecoder(alphas=alphas).fit(Z, split).estimators_[0]
    assert mine.alpha == search.best_params_["alpha"]
    assert alphas[0] < mine.alpha < alphas[-1]
    # Slow latents that share nothing with slow behavior: shuffled folds would trust them.
    unrelated = slow(300, 20, seed=1, phi=0.99)
    behavior = slow(300, 1, seed=2, phi=0.99)
    assert BehaviorDecoder().fit(unrelated, behavior).estimators_[0].alpha >= 10


def test_missing_behavior_and_latents():
    y = [v.copy() for v in Y]
    y[0][40:, 0] = np.nan
    y[1][:, 0] = np.nan
    model = BehaviorDecoder(alphas=[1.0]).fit(Z, y)
    stacked = np.concatenate(Z)
    scaled = [(z - stacked.mean(0)) / stacked.std(0) for z in Z]
    rows = np.concatenate([scaled[0][:40], scaled[2]])
    ridge = Ridge(alpha=1.0).fit(rows, np.concatenate([Y[0][:40, 0], Y[2][:, 0]]))
    np.testing.assert_allclose(model.predict(Z)[1][:, 0], ridge.predict(scaled[1]), atol=1e-6)
    garbage = [np.where(np.isnan(a), np.nan, b) for a, b in zip(y, Y)]
    assert model.score(Z, y) == pytest.approx(model.score(Z, garbage))
    holes = [z.copy() for z in Z]
    holes[0][5] = np.nan
    filled = [z.copy() for z in Z]
    filled[0][5] = model.mean_
    np.testing.assert_allclose(model.predict(holes)[0], model.predict(filled)[0])
    nothing = model.predict(np.full((4, 3), np.nan))
    np.testing.assert_allclose(nothing, model.predict(np.tile(model.mean_, (4, 1))))


def test_nearest_neighbors_and_any_regressor():
    model = BehaviorDecoder("knn").fit(Z, Y)
    assert model.score(Z, Y) > 0.7
    own = BehaviorDecoder(KNeighborsRegressor(3)).fit(Z, Y)
    stacked = np.concatenate(Z)
    scaled = (stacked - stacked.mean(0)) / stacked.std(0)
    alone = KNeighborsRegressor(3).fit(scaled, np.concatenate(Y))
    np.testing.assert_allclose(np.concatenate(own.predict(Z)), alone.predict(scaled), atol=1e-6)
    assert BehaviorDecoder("knn").fit(Z[0][:4], Y[0][:4]).predict(Z[0]).shape == (120, 2)


@pytest.mark.parametrize("estimator", ["ridge", "knn", Ridge(), SVR()])
def test_angles_across_the_seam(estimator):
    angle, latents = ring(500)
    model = BehaviorDecoder(estimator, kind="circular").fit(latents, angle)
    decoded = model.predict(latents)
    assert decoded.shape == (500,)
    assert ((decoded >= 0) & (decoded < 2 * np.pi)).all()
    assert model.score(latents, angle) > 0.95
    near = np.minimum(angle, 2 * np.pi - angle) < 0.3
    assert near.sum() > 10
    assert decoding_error(angle[near], decoded[near], "circular")[0] < 0.3
    # Through plain numbers the seam is an edge.
    plain = BehaviorDecoder().fit(latents, angle).predict(latents)
    assert decoding_error(angle[near], plain[near], "circular")[0] > 0.5
    # Angles are the same in any turn.
    turned = BehaviorDecoder(estimator, kind="circular").fit(latents, angle - 4 * np.pi)
    tolerance = 2e-3 if isinstance(estimator, SVR) else 1e-6  # of libsvm
    assert decoding_error(turned.predict(latents), decoded, "circular")[0] < tolerance


def test_circular_values_in_closed_form():
    y = np.array([0.1, 2 * np.pi - 0.1, np.pi / 2, np.nan])
    shifted = (y + 0.3) % (2 * np.pi)
    shifted[3] = 1.0
    assert decoding_error(y, shifted, "circular")[0] == pytest.approx(0.3)
    length = np.abs(np.exp(1j * y[:3]).mean())
    expected = 1 - (1 - np.cos(0.3)) / (1 - length)
    assert decoding_quality(y, shifted, "circular")[0] == pytest.approx(expected)
    mean = np.full(3, np.angle(np.exp(1j * y[:3]).mean()))
    assert decoding_quality(y[:3], mean, "circular")[0] == pytest.approx(0, abs=1e-12)
    assert np.isnan(decoding_quality(np.ones(5), np.ones(5), "circular")[0])


def test_classes():
    labels = np.array(["rest", "left", "turn"])
    latents, y = [], []
    for n, seed in ((200, 0), (150, 1)):
        rng = np.random.default_rng(seed)
        code = rng.choice(3, n, p=[0.7, 0.2, 0.1])
        latents.append(np.eye(3)[code] + 0.2 * rng.standard_normal((n, 3)))
        y.append(labels[code])
    for estimator in ("ridge", "knn", RandomForestClassifier(20, random_state=0)):
        model = BehaviorDecoder(estimator, kind="categorical").fit(latents, y)
        decoded = model.predict(latents)
        expected = balanced_accuracy_score(np.concatenate(y), np.concatenate(decoded))
        assert model.score(latents, y) == pytest.approx(expected)
        assert expected > 0.9
    some = [v.astype(object) for v in y]
    some[0][:50] = None
    assert BehaviorDecoder(kind="categorical").fit(latents, some).score(latents, some) > 0.9
    truth, guess = np.array([0, 0, 0, 1.0, np.nan]), np.array([0, 0, 2, 0, 1.0])
    assert decoding_quality(truth, guess, "categorical")[0] == pytest.approx((2 / 3 + 0) / 2)
    assert decoding_error(truth, guess, "categorical")[0] == pytest.approx(0.5)


def test_forms():
    stack, behavior = np.stack([z[:80] for z in Z]), np.stack([y[:80] for y in Y])
    model = BehaviorDecoder().fit(stack, behavior)
    assert model.predict(stack).shape == (3, 80, 2)
    assert isinstance(model.predict(Z), list)
    assert model.predict(Z[0]).shape == (120, 2)
    flat = BehaviorDecoder().fit(stack, behavior[..., 0])
    assert flat.predict(stack).shape == (3, 80)
    again = pickle.loads(pickle.dumps(clone(model).fit(Z, Y)))
    np.testing.assert_array_equal(again.predict(Z)[0], clone(model).fit(Z, Y).predict(Z)[0])


def test_wrong_input_of_the_decoder():
    decoder = BehaviorDecoder()
    raises(lambda: decoder.fit(Z, Y[:2]), "y has 2 entries; there are 3 recordings")
    raises(lambda: decoder.fit(Z, Y[::-1]), r"y of recording 0 must have shape \(120,\)")
    raises(lambda: decoder.fit(Z, None), "requires y to be passed")
    raises(lambda: decoder.fit(Z[0], np.full(120, np.nan)), "target 0 of y has 0 sample")
    raises(lambda: decoder.fit(Z[0], np.full(120, np.inf)), "holds infinity")
    raises(lambda: decoder.fit([Z[0], Z[1][:, :2]], Y[:2]), "as many components")
    raises(lambda: decoder.fit(Z, [Y[0], Y[1][:, :1], Y[2]]), "as many targets")
    raises(lambda: decoder.fit([Recording(Z[0])], Y[:1]), "not Recording", TypeError)
    raises(lambda: BehaviorDecoder("svm").fit(Z, Y), '"ridge", "knn" or an estimator')
    raises(lambda: BehaviorDecoder(kind="angle").fit(Z, Y), "kind must be one of")
    raises(lambda: BehaviorDecoder(lags=-1).fit(Z, Y), "lags must be an int of 0 or more")
    raises(lambda: BehaviorDecoder(alphas=[]).fit(Z, Y), "alphas must be penalties of 0 or more")
    fitted = BehaviorDecoder().fit(Z, Y)
    raises(
        lambda: fitted.predict(Z[0][:, :2]),
        r"expecting 3 features as input \(latents of recording 0",
    )
    raises(lambda: fitted.score(Z[0], Y[0][:, 0]), "y has 1 targets")
    raises(lambda: fitted.score(Z[0], np.ones((120, 2))), "no target can be scored")
