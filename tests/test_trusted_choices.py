"""Choices inside a fit that no silent block, short trial or constant stimulus can spoil."""

import numpy as np
import pytest

from skneurovae import LFADS, NeuroBehaviorVAE
from skneurovae.baselines import MissingFactorAnalysis
from skneurovae.baselines.linear_selection import hidden_columns, hidden_sums
from skneurovae.datasets import make_lorenz
from skneurovae.metrics import co_smoothing_score

QUICK = {"max_iter": 1, "model_dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8}


@pytest.fixture
def slow_latents():
    """Ten neurons of two slow latents."""
    rng = np.random.default_rng(0)
    z = np.zeros((400, 2))
    for t in range(1, 400):
        z[t] = 0.9 * z[t - 1] + 0.43 * rng.standard_normal(2)
    return z @ rng.standard_normal((2, 10)) + 0.5 * rng.standard_normal((400, 10))


def test_a_neuron_that_is_silent_in_a_block_does_not_choose(slow_latents):
    """Rounding once made its variance in the block 1e-30, and the score of the choice -3e30."""
    X = slow_latents.copy()
    X[:140, 0] = 0.1
    model = NeuroBehaviorVAE(2, random_state=0, **QUICK).fit(X)
    assert model.linear_choice_.shrinkage == 10
    assert 0.35 < model.linear_choice_.score < 0.6
    assert model.score(X) > 0.48


@pytest.mark.parametrize("noise", [1e-17, 7e-9])
def test_a_neuron_that_rounding_moves_in_training_may_wake_up(slow_latents, noise):
    """A filter leaves rounding of a constant; divided by that, the test once scored -1e31."""
    train, test = slow_latents[:200].copy(), slow_latents[200:]
    train[:, 0] = noise * np.random.default_rng(0).standard_normal(200)
    for model in (
        MissingFactorAnalysis(2, random_state=0),
        NeuroBehaviorVAE(2, random_state=0, **QUICK),
    ):
        model.fit(train)
        assert model.score(test) > 0.3
        assert np.abs(model.transform(test)).max() < 20
        # Where it goes on sleeping it is no part of the score.
        asleep = np.column_stack([noise * np.sin(np.arange(200.0)), test[:, 1:]])
        assert model.score(asleep) > 0.4


def test_aborted_trials_do_not_choose(slow_latents):
    good = [slow_latents[50 * i : 50 * (i + 1)] for i in range(6)]
    aborted = [slow_latents[300:302], slow_latents[310:312]]
    alone, together = (
        NeuroBehaviorVAE(2, random_state=0, **QUICK).fit(trials)
        for trials in (good, good + aborted)
    )
    assert together.linear_choice_.shrinkage == alone.linear_choice_.shrinkage
    assert together.score(good) > alone.score(good) - 0.03
    # A score over the short ones too moves by no more than their share of the entries.
    assert abs(alone.score(good + aborted) - alone.score(good)) < 0.02


def test_silent_trials_of_counts_do_not_choose():
    trials, _ = make_lorenz(3, 8, random_state=1)
    silent = sum((trial.traces.sum(0) == 0).sum() for trial in trials)
    assert silent == 3
    model = NeuroBehaviorVAE(likelihood="poisson", random_state=0).fit(trials)
    assert model.score(trials) > 0.4  # 0.21 where the silent ones chose


@pytest.mark.parametrize("seed", range(4))
def test_no_choice_of_smoothing_collapses_factor_analysis(seed):
    """Of 24 recordings with silent trials 14 lost all their loadings."""
    trials, _ = make_lorenz(3, 8, random_state=seed)
    model = MissingFactorAnalysis(2, smoothing="auto", random_state=0).fit(trials)
    assert model.choice_.score > 0
    assert np.linalg.svd(model.model_.loadings)[1].min() > 0.5


def test_errors_are_summed_over_entries_in_the_units_they_are_given_in(slow_latents):
    X = (slow_latents - slow_latents.mean(0)) / slow_latents.std(0)
    X[5, 3] = np.nan
    rows = np.arange(10)
    fitted = MissingFactorAnalysis(2, shrinkage=10.0, random_state=0).fit(X)
    folds = hidden_columns([(X, rows)], [(X, rows)], 10, 0)
    assert (np.sum([fold[0] for fold in folds], 0) == 1).all()  # each neuron is hidden once
    weights = np.arange(10.0)
    for fold in folds:
        error, total = hidden_sums([(X, rows)], fold, fitted.model_, 0.0, weights)
        hidden = fold[0]
        shown = np.where(hidden, np.nan, X)
        latents = fitted.transform(fitted._offset + shown * fitted._scale)
        guess = latents @ fitted.model_.loadings.T + fitted.model_.offset
        expected = np.nansum((X - guess) ** 2, 0) * weights * hidden
        np.testing.assert_allclose(error, expected, atol=1e-8)
        spread = np.nansum((X - np.nanmean(X, 0)) ** 2, 0) * weights * hidden
        np.testing.assert_allclose(total, spread, atol=1e-8)


def test_neurons_without_training_data_are_not_hidden():
    rng = np.random.default_rng(0)
    train = rng.standard_normal((20, 3))
    train[:, 1] = np.nan
    folds = hidden_columns([(train, np.arange(3))], [(train, np.arange(3))], 3, 0)
    assert np.sum([fold[0] for fold in folds], 0).tolist() == [1, 0, 1]


def test_a_constant_stimulus_tells_nothing():
    """Its spread is rounding, by which nothing may be divided."""
    trials, _ = make_lorenz(2, 8, random_state=0)
    steady = [t.replace(stimulus=np.full((t.n_timesteps, 1), 0.7)) for t in trials]
    options = {"max_iter": 2, "encoder_dim": 8, "generator_dim": 8, "controller_dim": 8}
    model = LFADS(4, random_state=0, **options).fit(steady)
    assert model.network_.stimulus_scale.item() == 1
    plain = LFADS(4, random_state=0, **options).fit(trials)
    assert co_smoothing_score(model, steady) > co_smoothing_score(plain, trials) - 0.1
