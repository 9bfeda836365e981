"""Huge values and huge parameters: finite answers, or a refusal in one line, and soon."""

import time

import numpy as np
import pytest
import torch
from sequential_cases import dsae, fhvae, lfads
from sklearn.linear_model import Ridge

from skneurovae import ContrastiveEmbedding, NeuroBehaviorVAE
from skneurovae.baselines import (
    GaussianSmoother,
    LaggedRidge,
    MissingFactorAnalysis,
    PoissonGLM,
)
from skneurovae.decoding import BehaviorDecoder
from skneurovae.networks.recurrent import advance, delay
from skneurovae.recordings.lags import check_lags, lagged

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 2)) @ RNG.standard_normal((2, 5)) + 0.3 * RNG.standard_normal((60, 5))
BEHAVIOR = RNG.standard_normal((12, 2))
VAE = {"model_dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "max_iter": 1}
VAE |= {"shrinkage": 10.0, "prior": "normal", "random_state": 0}
MODELS = {
    "precision": NeuroBehaviorVAE(2, **VAE),
    "heteroscedastic": NeuroBehaviorVAE(2, likelihood="student_t", noise="heteroscedastic", **VAE),
    "pooled": NeuroBehaviorVAE(
        2, neuron_encoder="pooled", likelihood="huber", **{**VAE, "shrinkage": "auto",
                                                           "prior": "auto"},
    ),
    "lfads": lfads(likelihood="gaussian", max_iter=1),
    "dsae": dsae(likelihood="gaussian", max_iter=1),
    "fhvae": fhvae(likelihood="gaussian", max_iter=1),
    "factor analysis": MissingFactorAnalysis(2, shrinkage=10.0, random_state=0),
}  # fmt: skip


@pytest.mark.parametrize("scale", [1e19, 1e30, 1e-19])
@pytest.mark.parametrize("name", MODELS)
def test_the_spread_of_float32_traces_is_in_their_units_at_any_scale(name, scale):
    small = X.astype(np.float32)
    large = (X * scale).astype(np.float32)
    expected = MODELS[name].fit(small).predict(small, return_std=True)
    found = MODELS[name].fit(large).predict(large, return_std=True)
    for a, b in zip(found, expected):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a.astype(float) / scale, b, rtol=0.05, atol=0.02)
    np.testing.assert_allclose(found[1].astype(float) / scale, expected[1], rtol=1e-2)
    if hasattr(MODELS[name], "infer"):
        rates = MODELS[name].infer(large)
        assert all(np.isfinite(values).all() for values in rates.values())
        assert (rates["rates_std"] > 0).any()


def test_a_small_spread_around_a_large_mean_is_seen_in_float32():
    """Squares of 1e4 have no digits left for a spread of latents of 0.1."""
    shifted = (X + 1e4).astype(np.float32)
    for name in ("precision", "lfads"):
        model = MODELS[name].fit(shifted)
        rough = model.predict(shifted, return_std=True)[1]
        exact = model.predict(shifted.astype(float), return_std=True)[1]
        np.testing.assert_allclose(rough, exact, rtol=2e-3)
    (rough, exact) = (model.infer(X)["rates_std"] for X in (shifted, shifted.astype(float)))
    np.testing.assert_allclose(rough, exact, rtol=0.02, atol=1e-3)


def quick(function, *arguments, **named):
    """Result of a call that must not take more than a few seconds."""
    begun = time.process_time()
    result = function(*arguments, **named)
    assert time.process_time() - begun < 15
    return result


# -- contrastive embedding ---------------------------------------------------------------------


def test_batches_that_no_memory_holds_are_refused_in_one_line():
    model = ContrastiveEmbedding(2, batch_size=10**5, max_iter=1)
    with pytest.raises(
        ValueError, match=r"batch_size must be at most 32768 here, got 100000: "
    ) as e:
        quick(model.fit, X[:29])
    assert "tables of 37 GiB" in str(e.value)
    assert "\n" not in str(e.value)


def test_within_sessions_only_their_own_tables_count():
    from skneurovae.estimators.contrastive_training import refuse_large_table

    refuse_large_table(10**5, 100, 1000, True)
    with pytest.raises(ValueError, match="at most 32768"):
        refuse_large_table(10**5, 100, 1000, False)
    refuse_large_table(32768, 1, 32768, True)
    with pytest.raises(ValueError, match="batch_size must be at most 32768 here, got 32769"):
        refuse_large_table(32769, 1, 32769, True)


def test_an_epoch_is_drawn_in_pieces(monkeypatch):
    from skneurovae.estimators import contrastive_training
    from skneurovae.recordings.pairs import PairSampler

    sizes, draw = [], PairSampler.draw

    def spy(sampler, n_steps, batch_size):
        sizes.append(n_steps)
        return draw(sampler, n_steps, batch_size)

    monkeypatch.setattr(PairSampler, "draw", spy)
    monkeypatch.setattr(contrastive_training, "DRAWN", 3)
    fast = {"max_iter": 1, "batch_size": 8, "network": "offset1", "early_stopping": False}
    ContrastiveEmbedding(2, steps_per_epoch=7, **fast).fit(X)
    assert sizes == [3, 3, 1]


# -- lags --------------------------------------------------------------------------------------


def test_lags_beyond_every_recording_get_no_weight_and_cost_nothing():
    traces = RNG.standard_normal((12, 4))
    far = quick(LaggedRidge(lags=1000, alpha=2.0).fit, traces, behavior=BEHAVIOR)
    near = LaggedRidge(lags=11, alpha=2.0).fit(traces, behavior=BEHAVIOR)
    assert far.coef_.shape == (4, 2001, 2)
    np.testing.assert_allclose(far.coef_[:, 1000 - 11 : 1000 + 12], near.coef_)
    assert not far.coef_[:, : 1000 - 11].any()
    long = RNG.standard_normal((1500, 2))
    quick(far.predict, np.ones((1500, 4)), behavior=long)
    assert quick(LaggedRidge(lags=1000).fit, traces, behavior=BEHAVIOR).alpha_.shape == (4,)


def test_lags_beyond_every_recording_of_counts():
    counts = RNG.poisson(1.0, (12, 3)).astype(float)
    settings = {"coupling": True, "alpha": 3.0}
    far = quick(
        PoissonGLM(1000, coupling_lags=500, **settings).fit, counts, behavior=BEHAVIOR
    )  # fmt: skip
    near = PoissonGLM(11, coupling_lags=11, **settings).fit(counts, behavior=BEHAVIOR)
    assert (far.coef_.shape, far.coupling_.shape) == ((3, 2001, 2), (3, 500, 3))
    np.testing.assert_allclose(far.coef_[:, 1000 - 11 : 1000 + 12], near.coef_, atol=1e-8)
    np.testing.assert_allclose(far.coupling_[:, :11], near.coupling_, atol=1e-8)
    assert not far.coupling_[:, 11:].any()


@pytest.mark.parametrize("estimator", ["ridge", "knn", Ridge()])
def test_lags_beyond_every_recording_of_latents(estimator):
    latents = RNG.standard_normal((12, 2))
    far = quick(BehaviorDecoder(estimator, lags=1000).fit, latents, BEHAVIOR)
    near = BehaviorDecoder(estimator, lags=11).fit(latents, BEHAVIOR)
    longer = RNG.standard_normal((40, 2))
    np.testing.assert_allclose(far.predict(longer), near.predict(longer))


@pytest.mark.parametrize("lags", [10**9, [0, -(10**9)], np.int64(2**40)])
def test_lags_that_fill_the_memory_are_refused(lags):
    with pytest.raises(ValueError, match="lags must be at most 1000000 time steps; got "):
        LaggedRidge(lags).fit(X[:12], behavior=BEHAVIOR)
    with pytest.raises(ValueError, match="coupling_lags must be at most 1000000 time steps"):
        PoissonGLM(coupling=True, coupling_lags=lags).fit(np.abs(X).round())


def test_lags_of_the_past_begin_at_one():
    np.testing.assert_array_equal(check_lags(3, past=True), [1, 2, 3])
    np.testing.assert_array_equal(check_lags([0, 2], past=True), [0, 2])
    for wrong in (0, True, -1):
        with pytest.raises(ValueError, match="must be an int of 1 or more"):
            check_lags(wrong, past=True)


@pytest.mark.parametrize("lag", [3, 5, 8, 10**9])
def test_streams_shifted_out_of_sight_are_zero(lag):
    values = torch.arange(1.0, 6)[None, :, None]
    lengths = torch.tensor([5])
    expected = np.nan_to_num(lagged(values[0].numpy(), [lag, -lag]))
    for shifted, side in ((delay, 0), (advance, 1)):
        np.testing.assert_array_equal(shifted(values, lag, lengths)[0], expected[:, side])


def test_a_controller_may_look_away_for_any_time():
    assert np.isfinite(quick(lfads(likelihood="gaussian", lag=10**9).fit(X).predict, X)).all()


# -- smoothing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [3.0, 30.0, 1e6, 1e300])
def test_a_wide_kernel_ends_with_the_recording(width):
    gaps = np.where(X > 1, np.nan, X)
    smoothed = quick(GaussianSmoother(width).fit_transform, gaps)
    steps = np.arange(60)
    kernel = np.exp(-0.5 * ((steps[:, None] - steps) / width) ** 2)
    kernel[np.abs(steps[:, None] - steps) > int(4 * width + 0.5)] = 0
    seen = ~np.isnan(gaps)
    expected = kernel @ np.where(seen, gaps, 0) / (kernel @ seen)
    np.testing.assert_allclose(smoothed[seen], expected[seen])


def test_smoothing_that_no_recording_could_need_is_refused():
    with pytest.raises(ValueError, match=r"'smoothing' .* in the range \[0.0, 10000.0\]"):
        MissingFactorAnalysis(2, smoothing=1e9).fit(X)


# -- the decoder -------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["ridge", "knn"])
@pytest.mark.parametrize("n_timesteps", [3, 29])
def test_numbers_are_no_classes_and_names_no_numbers(estimator, n_timesteps):
    latents, y = X[:n_timesteps, :3], X[:n_timesteps, 3:]
    with pytest.raises(
        ValueError, match=r"kind='categorical' needs classes, .* target 0 of y holds"
    ) as e:
        BehaviorDecoder(estimator, kind="categorical").fit(latents, y)
    assert "\n" not in str(e.value)
    names = np.array(["left", "right"] * n_timesteps)[:n_timesteps]
    for kind in ("continuous", "circular"):
        with pytest.raises(ValueError, match=f"kind='{kind}' needs numbers, target 0 of y: ") as e:
            BehaviorDecoder(estimator, kind=kind).fit(latents, names)
        assert "\n" not in str(e.value)
    whole = np.round(y[:, 0] > 0).astype(float)
    BehaviorDecoder(estimator, kind="categorical").fit(latents, whole)
    BehaviorDecoder(estimator, kind="categorical").fit(latents, names)


@pytest.mark.parametrize("alphas", [[np.nan, 1.0], ["a"], [-1.0], []])
def test_penalties_are_numbers_of_0_or_more(alphas):
    with pytest.raises(ValueError, match="alphas must be penalties of 0 or more"):
        BehaviorDecoder(alphas=alphas).fit(X, X)
