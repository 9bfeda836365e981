"""Recovery of known latents: affine maps, permutations, and what must not count."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from skneurovae.metrics import latent_r2, mean_correlation


@pytest.fixture
def truth():
    return np.random.default_rng(0).standard_normal((240, 3))


def test_r2_is_that_of_scikit_learn_in_both_modes(truth):
    rng = np.random.default_rng(1)
    latents = truth @ rng.standard_normal((3, 5)) + rng.standard_normal((240, 5))
    expected = LinearRegression().fit(latents, truth).score(latents, truth)
    assert latent_r2(truth, latents, cross_fitted=False) == pytest.approx(expected, abs=1e-9)
    half = np.arange(240) // 60 % 2
    prediction = np.empty_like(truth)
    for h in (0, 1):
        model = LinearRegression().fit(latents[half != h], truth[half != h])
        prediction[half == h] = model.predict(latents[half == h])
    expected = r2_score(truth, prediction)
    assert latent_r2(truth, latents, n_blocks=4) == pytest.approx(expected, abs=1e-9)


def test_affine_maps_are_forgiven_and_many_useless_components_are_not(truth):
    rng = np.random.default_rng(1)
    assert latent_r2(truth, truth @ rng.standard_normal((3, 3)) + 7) == pytest.approx(1)
    useless = rng.standard_normal((240, 100))
    assert latent_r2(truth, useless, cross_fitted=False) > 0.3
    assert latent_r2(truth, useless) < 0


def test_recordings_are_concatenated_and_vectors_are_one_latent(truth):
    latents = truth + 0.5
    parts = [truth[:100], truth[100:]], [latents[:100] ** 3, latents[100:] ** 3]
    assert latent_r2(*parts) == pytest.approx(latent_r2(truth, latents**3))
    assert mean_correlation(*parts) == pytest.approx(mean_correlation(truth, latents**3))
    assert latent_r2(truth[:, 0], 2 * truth[:, 0]) == pytest.approx(1)


def test_correlation_of_the_best_matching_by_trying_all(truth):
    rng = np.random.default_rng(2)
    latents = truth @ rng.standard_normal((3, 4)) + rng.standard_normal((240, 4))
    table = np.abs(np.corrcoef(truth.T, latents.T)[:3, 3:])
    best = max(table[range(3), list(order)].mean() for order in permutations(range(4), 3))
    assert mean_correlation(truth, latents) == pytest.approx(best, abs=1e-9)


def test_correlation_forgives_order_sign_and_scale_but_no_mixing(truth):
    moved = truth[:, [2, 0, 1]] * [-3, 0.1, 5] + 1
    assert mean_correlation(truth, moved) == pytest.approx(1)
    mixed = truth @ np.linalg.qr(np.ones((3, 3)) + np.eye(3))[0]
    assert latent_r2(truth, mixed) == pytest.approx(1)
    assert mean_correlation(truth, mixed) < 0.95


def test_a_latent_without_partner_counts_zero(truth):
    assert mean_correlation(truth, truth[:, :2]) == pytest.approx(2 / 3)
    constant = np.column_stack([truth[:, :2], np.full(240, 0.1)])
    assert mean_correlation(truth, constant) == pytest.approx(2 / 3)


def test_wrong_input_is_refused(truth):
    for function in (latent_r2, mean_correlation):
        with pytest.raises(ValueError, match="truth has 240 samples, latents have 239"):
            function(truth, truth[1:])
        with pytest.raises(ValueError, match="latents must be finite"):
            function(truth, truth * np.nan)
        with pytest.raises(ValueError, match=r"truth must have shape"):
            function(truth[None], truth)
    with pytest.raises(ValueError, match="every true latent is constant"):
        latent_r2(np.ones((240, 2)), truth)
    with pytest.raises(ValueError, match="n_blocks"):
        latent_r2(truth, truth, n_blocks=500)
