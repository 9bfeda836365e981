"""BehaviorDecoder and the scorers that hide behavior from the encoder."""

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, KFold, PredefinedSplit, cross_validate
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVR
from sklearn.utils.estimator_checks import parametrize_with_checks

from skneurovae import NeuroBehaviorVAE
from skneurovae.baselines import MissingFactorAnalysis, Pooled
from skneurovae.decoding import (
    BehaviorDecoder,
    autocorrelation_time,
    decoding_error,
    decoding_errors,
    decoding_quality,
    decoding_score,
)
from skneurovae.recordings import Recording

RNG = np.random.default_rng(0)
LENGTHS = (120, 90, 150)
Z = [RNG.standard_normal((n, 3)) * [1, 10, 0.1] + 4 for n in LENGTHS]
Y = [(z - 4) / [1, 10, 0.1] @ [[1, 0], [1, 2], [0, 1]] for z in Z]
Y = [y + 0.5 * RNG.standard_normal(y.shape) for y in Y]


def slow(n_timesteps, n_channels, seed=0, phi=0.9):
    """Autoregressive series of variance one."""
    x = np.random.default_rng(seed).standard_normal((n_timesteps, n_channels))
    for t in range(1, n_timesteps):
        x[t] = phi * x[t - 1] + np.sqrt(1 - phi**2) * x[t]
    return x


def tuned(n_timesteps=400, seed=0):
    """Recording whose neurons follow slow behavior."""
    behavior = slow(n_timesteps, 2, seed)
    weights = np.random.default_rng(5).standard_normal((2, 8))
    noise = np.random.default_rng(seed + 100).standard_normal((n_timesteps, 8))
    return Recording(behavior @ weights + noise, behavior=behavior)


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


def test_nearest_neighbors_and_any_regressor():
    model = BehaviorDecoder("knn").fit(Z, Y)
    assert model.score(Z, Y) > 0.7
    own = BehaviorDecoder(KNeighborsRegressor(3)).fit(Z, Y)
    stacked = np.concatenate(Z)
    scaled = (stacked - stacked.mean(0)) / stacked.std(0)
    alone = KNeighborsRegressor(3).fit(scaled, np.concatenate(Y))
    np.testing.assert_allclose(np.concatenate(own.predict(Z)), alone.predict(scaled), atol=1e-6)
    assert BehaviorDecoder("knn").fit(Z[0][:4], Y[0][:4]).predict(Z[0]).shape == (120, 2)


def ring(n_timesteps, seed=0, noise=0.1):
    """Angles that run round and round, and latents on the circle."""
    angle = np.random.default_rng(seed).normal(0, 0.3, n_timesteps).cumsum() % (2 * np.pi)
    latents = np.column_stack([np.cos(angle), np.sin(angle)])
    return angle, latents + noise * np.random.default_rng(seed + 1).standard_normal(latents.shape)


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


def test_in_pipelines_and_searches(worms):
    behavior = [w.behavior for w in worms]
    hidden = [w.replace(behavior=None) for w in worms]
    encoder = MissingFactorAnalysis(2, shrinkage=30.0, random_state=0)
    pipeline = make_pipeline(encoder, BehaviorDecoder())
    scores = cross_validate(pipeline, hidden, behavior, cv=KFold(2), error_score="raise")
    assert np.isfinite(scores["test_score"]).all()
    grid = {"behaviordecoder__lags": [0, 3], "behaviordecoder__estimator": ["ridge", "knn"]}
    search = GridSearchCV(pipeline, grid, cv=KFold(2), error_score="raise").fit(hidden, behavior)
    assert np.isfinite(decoding_score(search, worms, targets=None))
    vae = NeuroBehaviorVAE(
        2, max_iter=1, model_dim=8, n_layers=1, n_heads=2, hidden_dim=8, random_state=0
    )
    both = make_pipeline(vae, BehaviorDecoder()).fit(worms, behavior)
    assert both.predict(hidden)[1].shape == behavior[1].shape
    assert np.isfinite(decoding_score(both, worms))
    # Its encoder was fitted with behavior, and runs without it.
    assert np.isfinite(decoding_score(both[0], worms, gap=5))
    routed = cross_validate(
        encoder, worms, cv=KFold(2), scoring=decoding_score, error_score="raise"
    )
    assert np.isfinite(routed["test_score"]).all()


class PassesBehavior(TransformerMixin, BaseEstimator):
    """The planted leak: behavior, where it is given, is a latent."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return [
            np.column_stack([
                np.zeros((r.n_timesteps, 2)) if r.behavior is None else r.behavior,
                r.traces[:, :1],
            ])
            for r in X
        ]  # fmt: skip


def test_an_encoder_that_passes_behavior_through_gains_nothing():
    data = [tuned(), tuned(seed=1)]
    for r in data:
        r.traces[:, 0] = np.random.default_rng(3).standard_normal(400)
    leak = PassesBehavior().fit(data)
    behavior = [r.behavior for r in data]
    seen = BehaviorDecoder().fit(leak.transform(data), behavior)
    assert seen.score(leak.transform(data), behavior) > 0.99
    assert decoding_score(leak, data) < 0.02
    assert decoding_score(leak, data, y=behavior) < 0.02
    assert decoding_score(make_pipeline(leak, seen), data) < 0.02
    assert decoding_errors(leak, data).min() > 0.5
    with pytest.raises(TypeError, match="hide_behavior"):
        decoding_score(leak, data, hide_behavior=False)


def test_an_honest_encoder_is_scored_and_a_null_is_zero():
    train, test = tuned(), tuned(seed=1)
    encoder = Pooled(PCA(2)).fit([train])
    score = decoding_score(encoder, [test])
    assert score > 0.7
    null = test.replace(behavior=np.roll(test.behavior, 200, axis=0))
    assert decoding_score(encoder, [null]) < 0.05
    arrays = decoding_score(encoder, test.traces, test.behavior)
    assert arrays == pytest.approx(score)
    assert decoding_score(encoder, [test, null]) == pytest.approx(
        (score + decoding_score(encoder, [null])) / 2
    )
    one = decoding_score(encoder, [test], targets=[1])
    assert one == pytest.approx(decoding_score(encoder, [test], [test.behavior[:, 1]]))
    both = (decoding_score(encoder, [test], targets=[0]) + one) / 2
    assert both == pytest.approx(score, abs=0.02)  # the gap is that of the slower target


def test_cross_fitting_in_blocks_by_hand():
    test = tuned(100)
    latents = Pooled(PCA(2)).fit(test.traces).transform(test.traces)
    expected = np.empty((100, 2))
    for start in range(0, 100, 25):
        pieces = [slice(0, max(start - 4, 0)), slice(start + 29, None)]
        pieces = [p for p in pieces if len(latents[p])]
        model = BehaviorDecoder(lags=1, alphas=[2.0])
        model.fit([latents[p] for p in pieces], [test.behavior[p] for p in pieces])
        expected[start : start + 25] = model.predict(latents[start : start + 25])
    settings = {"decoder": BehaviorDecoder(lags=1, alphas=[2.0]), "n_blocks": 4, "gap": 4}
    encoder = Pooled(PCA(2)).fit(test.traces)
    score = decoding_score(encoder, [test], **settings)
    assert score == pytest.approx(r2_score(test.behavior, expected))
    errors = decoding_errors(encoder, [test], **settings)
    np.testing.assert_allclose(errors, np.abs(test.behavior - expected).mean(0))
    wider = decoding_score(encoder, [test], **{**settings, "gap": 10})
    assert wider != score


def test_the_gap_keeps_neighbors_apart():
    """Latents that only tell the time decode slow behavior from neighbors, not across the gap."""
    behavior = slow(1000, 1, phi=0.98)
    clock = np.linspace(0, 1, 1000)[:, None]
    data = [Recording(clock + np.zeros((1, 2)), behavior=behavior)]
    encoder = Pooled(PCA(1)).fit(data)
    near = BehaviorDecoder(KNeighborsRegressor(1))
    leaky = decoding_score(encoder, data, decoder=near, gap=0, n_blocks=100)
    honest = decoding_score(encoder, data, decoder=near, n_blocks=100)
    assert leaky > 0.5
    assert honest < leaky - 0.4


def test_autocorrelation_time():
    phi = 0.9
    expected = -1 / np.log(phi)
    found = autocorrelation_time(slow(20000, 1, phi=phi))
    assert abs(found - expected) < 2
    assert autocorrelation_time(np.random.default_rng(0).standard_normal(500)) == 1
    assert autocorrelation_time(np.hstack([slow(5000, 1), slow(5000, 1, phi=0.98)])) > 20
    assert autocorrelation_time(np.ones(50)) == 1
    steady = 2 * np.pi * np.arange(400) / 40 + 1
    # cos(2 pi lag / 40) falls below 1 / e at lag 7.6; wrapping at 2 pi must not matter.
    assert autocorrelation_time(steady % (2 * np.pi), "circular") == 8
    assert autocorrelation_time(np.arange(400) // 20 % 2, "categorical") == 7
    holes = slow(20000, 1, phi=phi)
    holes[np.random.default_rng(1).random(20000) < 0.3] = np.nan
    assert abs(autocorrelation_time(holes) - expected) < 2


def test_circular_and_categorical_scores():
    angle, latents = ring(600)
    traces = latents @ np.random.default_rng(0).standard_normal((2, 6))
    data = [Recording(traces, behavior=angle)]
    encoder = Pooled(PCA(2)).fit(data)
    assert decoding_score(encoder, data, kind="circular") > 0.9
    assert decoding_errors(encoder, data, kind="circular")[0] < 0.2
    assert decoding_score(encoder, data) < decoding_score(encoder, data, kind="circular")
    side = [np.where(np.cos(angle) > 0, "east", "west")]
    assert decoding_score(encoder, data, side, kind="categorical") > 0.9
    assert decoding_errors(encoder, data, side, kind="categorical")[0] > 0.9


def test_a_target_missing_in_one_recording():
    data = [tuned(), tuned(seed=1)]
    data[1].behavior[:, 0] = np.nan
    encoder = Pooled(PCA(2)).fit(data)
    only = decoding_errors(encoder, data[:1])
    both = decoding_errors(encoder, data)
    assert both[0] == pytest.approx(only[0])
    assert both[1] != pytest.approx(only[1])
    assert np.isfinite(decoding_score(encoder, data))


def raises(call, message, kind=ValueError):
    with pytest.raises(kind, match=message) as error:
        call()
    assert "\n" not in str(error.value)


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


def test_wrong_input_of_the_scorers():
    data = [tuned(), tuned(seed=1)]
    encoder = Pooled(PCA(2)).fit(data)
    bare = [data[0], data[1].replace(behavior=None)]
    raises(lambda: decoding_score(encoder, bare), "recording 1 has no behavior to decode; give y")
    raises(lambda: decoding_score(encoder, data, targets=[2]), "columns from 0 to 1")
    raises(lambda: decoding_score(encoder, data, gap=400), "nothing to train on")
    raises(lambda: decoding_score(encoder, data, gap=-1), "gap must be 0 or more")
    raises(lambda: decoding_score(encoder, data, n_blocks=1), "n_blocks must be from 2")
    raises(lambda: decoding_score(encoder, data, kind="angle"), "kind must be one of")
    raises(lambda: decoding_score(Ridge(), data), "Ridge has no transform", TypeError)
    decoder = BehaviorDecoder(kind="circular")
    raises(lambda: decoding_score(encoder, data, decoder=decoder, kind="continuous"), "kind is")
    still = [data[0].replace(behavior=np.ones(400))]
    raises(lambda: decoding_score(encoder, still), "no target can be scored")
    pipeline = make_pipeline(encoder, BehaviorDecoder()).fit(data, [r.behavior[:, 0] for r in data])
    raises(lambda: decoding_score(pipeline, data), "give targets or y")
    assert decoding_score(pipeline, data, targets=[0]) > 0.7
