"""What the linear model chooses by hidden neurons: behavior's weight, and time constants."""

import numpy as np
import pytest
from test_linear_gaussian import N, T, dense_posterior, model, traces  # noqa: F401

from skneurovae.baselines import MissingFactorAnalysis, linear_selection
from skneurovae.baselines.linear_gaussian import infer
from skneurovae.baselines.linear_selection import fit_linear_gaussian, hidden_columns, hidden_sums


def test_filter_is_the_dense_posterior_of_the_past(model, traces):  # noqa: F811
    mean, covariance, lag = infer([(traces, np.arange(N))], model, causal=True)[0]
    for t in range(T):
        past = np.where(np.arange(T)[:, None] <= t, traces, np.nan)
        expected_mean, expected = dense_posterior(past, model)
        np.testing.assert_allclose(mean[t], expected_mean[t], atol=1e-10)
        np.testing.assert_allclose(covariance[t], expected[t, :, t], atol=1e-10)
    assert not lag.any()


def simulated(behavior_tells, seed=0, n_lags=8):
    """Neurons of two slow latents, and copies of a behavior that shows them or something else."""
    read = np.random.default_rng(0).standard_normal((2, 20))
    rng = np.random.default_rng(seed + 1)
    data = []
    for _ in range(6):
        walks = np.zeros((300, 3))
        for t in range(1, 300):
            walks[t] = 0.95 * walks[t - 1] + 0.31 * rng.standard_normal(3)
        neurons = walks[:, :2] @ read + 2 * rng.standard_normal((300, 20))
        source = walks[:, :1] if behavior_tells else walks[:, 2:]
        behavior = source + 0.05 * rng.standard_normal((300, n_lags))
        data.append((np.hstack([neurons, behavior]), np.arange(20 + n_lags)))
    return data


def fitted(data, **changes):
    options = {
        "shrinkage": "auto", "smoothing": "ar1", "n_lags": 8,
        "random_state": np.random.RandomState(0),
    }  # fmt: skip
    return fit_linear_gaussian(data, 28, 20, 2, **{**options, **changes})


@pytest.mark.parametrize("behavior_tells", [True, False])
def test_behavior_has_a_say_in_the_latents_where_it_helps(behavior_tells):
    data, unseen = simulated(behavior_tells), simulated(behavior_tells, seed=1)
    model, choice = fitted(data)  # noqa: F811
    assert choice.behavior_evidence > 0  # where no neuron is seen it is all there is
    blind = [(np.where(rows < 20, channels, np.nan), rows) for channels, rows in data]
    without, _ = fitted(blind)
    hidden, *_ = hidden_columns(data, unseen, 20, 0)
    sums = [hidden_sums(unseen, hidden, m, 0.0, np.ones(20)) for m in (model, without)]
    seen = [1 - error.sum() / total.sum() for error, total in sums]
    if behavior_tells:
        assert choice.behavior_learning > 0
        assert seen[0] > seen[1] + 0.01
    else:
        assert choice.behavior_learning < 1
        assert seen[0] > seen[1] - 0.02


def test_choices_are_scored_with_behavior_and_without_it():
    """Under one weight and nothing to choose, the score is that of both together."""
    data = simulated(True)
    folds = linear_selection._Folds(
        linear_selection._split(data, np.random.RandomState(0)), np.ones(20), False, 0
    )
    start = linear_selection.random_start(data, 28, 2, np.random.RandomState(0))
    models = [start] * len(folds.held_out)
    found, _ = folds.compared(linear_selection.Choice(10.0), models)
    error, total = np.zeros((2, 20))
    for held_out, hidden in zip(folds.held_out, folds.hidden):
        blind = [(np.where(rows < 20, channels, np.nan), rows) for channels, rows in held_out]
        for shown in (held_out, blind):
            for fold in hidden:
                sums = hidden_sums(shown, fold, start, 0.0, np.ones(20))
                error, total = error + sums[0], total + sums[1]
    assert found.score == pytest.approx(1 - error.sum() / total.sum())


def test_a_choice_that_is_given_is_not_made_again(monkeypatch):
    monkeypatch.setattr(linear_selection, "_Folds", None)  # by which it would be made
    data, choice = simulated(True), linear_selection.Choice(30.0)
    model, found = fitted(data, choice=choice)  # noqa: F811
    assert found is choice
    expected, _ = fitted(data, shrinkage=30.0, smoothing=0.0)
    for name in ("loadings", "offset", "noise", "phi", "evidence"):
        np.testing.assert_allclose(getattr(model, name), getattr(expected, name), rtol=1e-6)
    slow, _ = fitted(data, choice=linear_selection.Choice(30.0, time_constant=20.0))
    assert (slow.phi > 0.9).all()


def test_a_filter_chooses_by_what_a_filter_predicts():
    """The score that decides is that of the past alone, which is lower than a smoother's."""
    data = simulated(True)
    _, smoother = fitted(data)
    _, filtered = fitted(data, causal=True)
    assert filtered.score < smoother.score
    assert filtered.time_constant > 0


@pytest.mark.parametrize("seed", range(6))
def test_no_choice_of_shrinkage_kills_the_loadings_of_a_small_recording(seed):
    """EM does not revive loadings of 0, so a strong ridge must not start a weak one."""
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((300, 2))
    X = latents @ rng.standard_normal((2, 6)) + rng.standard_normal((300, 6))
    fitted = MissingFactorAnalysis(2, random_state=0).fit(X)
    assert np.abs(fitted.loadings_).max() > 0.3
    assert fitted.choice_.score > 0.02
