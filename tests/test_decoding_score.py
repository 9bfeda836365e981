"""Scorers that hide behavior from the encoder, and planted leaks."""

import numpy as np
import pytest
from decoding_cases import raises, ring, slow
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline

from skneurovae import NeuroBehaviorVAE
from skneurovae.baselines import MissingFactorAnalysis, Pooled
from skneurovae.decoding import (
    BehaviorDecoder,
    behavior_decay_time,
    decoding_errors,
    decoding_score,
)
from skneurovae.recordings import Recording


def tuned(n_timesteps=400, seed=0):
    """Recording whose neurons follow slow behavior."""
    behavior = slow(n_timesteps, 2, seed)
    weights = np.random.default_rng(5).standard_normal((2, 8))
    noise = np.random.default_rng(seed + 100).standard_normal((n_timesteps, 8))
    return Recording(behavior @ weights + noise, behavior=behavior)


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


def test_behavior_decay_time():
    phi = 0.9
    expected = -1 / np.log(phi)
    found = behavior_decay_time(slow(20000, 1, phi=phi))
    assert abs(found - expected) < 2
    assert behavior_decay_time(np.random.default_rng(0).standard_normal(500)) == 1
    assert behavior_decay_time(np.hstack([slow(5000, 1), slow(5000, 1, phi=0.98)])) > 20
    assert behavior_decay_time(np.ones(50)) == 1
    steady = 2 * np.pi * np.arange(400) / 40 + 1
    # cos(2 pi lag / 40) falls below 1 / e at lag 7.6; wrapping at 2 pi must not matter.
    assert behavior_decay_time(steady % (2 * np.pi), "circular") == 8
    assert behavior_decay_time(np.arange(400) // 20 % 2, "categorical") == 7
    holes = slow(20000, 1, phi=phi)
    holes[np.random.default_rng(1).random(20000) < 0.3] = np.nan
    assert abs(behavior_decay_time(holes) - expected) < 2


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
