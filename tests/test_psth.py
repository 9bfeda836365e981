"""PSTHs against scikit-learn, scipy and a rate whose ceiling is known."""

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import r2_score

from skneurovae.metrics import psth, psth_ceiling, psth_correlation, psth_r2, psth_score
from skneurovae.recordings import Recording


@pytest.fixture
def trials():
    """Noisy trials of three conditions, predicted rates, and the condition of each trial."""
    rng = np.random.default_rng(0)
    conditions = np.array(["b", "a", "c"] * 4)
    rate = {c: rng.standard_normal((20, 5)) for c in "abc"}
    truth = np.stack([rate[c] for c in conditions])
    traces = truth + rng.standard_normal(truth.shape)
    return truth + 0.3 * rng.standard_normal(truth.shape), traces, conditions


def test_psth_is_the_mean_of_what_was_observed_in_each_condition(trials):
    _, traces, conditions = trials
    traces[0, :3, 1] = np.nan  # the first trial of condition b
    traces[conditions == "c", 5, 2] = np.nan
    result = psth(traces, conditions)
    assert result.shape == (3, 20, 5)
    np.testing.assert_allclose(result[0], traces[conditions == "a"].mean(0))
    np.testing.assert_allclose(result[1], np.nanmean(traces[conditions == "b"], axis=0))
    assert np.isnan(result[2, 5, 2])
    assert np.isnan(result).sum() == 1


def test_score_and_correlation_agree_with_scikit_learn_and_scipy(trials):
    rates, traces, conditions = trials
    means = [
        np.concatenate([values[conditions == c].mean(0) for c in "abc"])
        for values in (traces, rates)
    ]
    mean = psth_r2(rates, traces, conditions, average="mean")
    assert mean == pytest.approx(r2_score(*means), abs=1e-9)
    unit = np.maximum(traces.std((0, 1)), np.median(traces.std((0, 1))))
    pooled = r2_score(*(m / unit for m in means), multioutput="variance_weighted")
    assert psth_r2(rates, traces, conditions) == pytest.approx(pooled, abs=1e-9)
    expected = np.mean([pearsonr(means[0][:, n], means[1][:, n])[0] for n in range(5)])
    assert psth_correlation(rates, traces, conditions) == pytest.approx(expected, abs=1e-9)


def test_rates_are_averaged_over_the_entries_that_were_observed(trials):
    rates, traces, conditions = trials
    traces[0] = np.nan
    rates[0] = np.nan  # not evaluated, so it may be anything
    whole = psth_r2(rates[1:], traces[1:], conditions[1:])
    assert psth_r2(rates, traces, conditions) == pytest.approx(whole)
    rates[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="finite wherever"):
        psth_r2(rates, traces, conditions)


def test_constant_rates_and_neurons(trials):
    rates, traces, conditions = trials
    assert psth_correlation(np.full_like(rates, 0.1), traces, conditions) == pytest.approx(0)
    traces[..., 0] = 0.1
    others = psth_correlation(rates[..., 1:], traces[..., 1:], conditions)
    assert psth_correlation(rates, traces, conditions) == pytest.approx(others)
    with pytest.raises(ValueError, match="every neuron is constant"):
        psth_r2(rates, np.ones_like(traces), conditions)


def test_ceiling_of_two_trials_by_hand(trials):
    # With two trials per condition every split pairs one trial with the other, in any order, so a
    # single condition has one correlation.
    traces = trials[1][:2]
    r = np.array([pearsonr(traces[0, :, n], traces[1, :, n])[0] for n in range(5)]).clip(0)
    expected = np.sqrt(2 * r / (1 + r)).mean()
    assert psth_ceiling(traces, [0, 0], n_splits=3) == pytest.approx(expected, abs=1e-9)


def test_the_true_rate_reaches_the_ceiling():
    rng = np.random.default_rng(0)
    rate = rng.standard_normal((1, 4000, 4))
    traces = rate + 2 * rng.standard_normal((10, 4000, 4))
    conditions = np.zeros(10)
    ceiling = psth_ceiling(traces, conditions, n_splits=20)
    # The variance of the PSTH is 1 + 4 / 10.
    assert ceiling == pytest.approx(np.sqrt(1 / 1.4), abs=0.01)
    reached = psth_correlation(np.tile(rate, (10, 1, 1)), traces, conditions)
    assert reached == pytest.approx(ceiling, abs=0.01)


def test_ceiling_is_seeded_and_zero_for_noise(trials):
    _, traces, conditions = trials
    a, b, c = (psth_ceiling(traces, conditions, n_splits=5, random_state=s) for s in (1, 1, 2))
    assert a == b != c
    alternating = np.tile([1.0, -1.0], 10)[:, None]
    opposite = np.stack([alternating, -alternating])
    assert psth_ceiling(opposite, [0, 0]) == 0


def test_wrong_input_is_refused(trials):
    rates, traces, conditions = trials
    with pytest.raises(ValueError, match=r"conditions must have shape \(12,\)"):
        psth(traces, conditions[1:])
    with pytest.raises(ValueError, match="n_trials, n_timesteps, n_neurons"):
        psth(traces[0], conditions)
    with pytest.raises(ValueError, match="rates have shape"):
        psth_r2(rates[:, 1:], traces, conditions)
    with pytest.raises(ValueError, match="condition d has one trial"):
        psth_ceiling(traces, np.append(conditions[:-1], "d"))
    with pytest.raises(ValueError, match="n_splits"):
        psth_ceiling(traces, conditions, n_splits=0)


def test_the_scorer_hides_the_neurons_that_it_scores(trials):
    rates, traces, conditions = trials
    shown = []

    class Model:
        def predict(self, X):
            shown.extend(X)
            return [np.where(np.isnan(r.traces).all(0), rates[i], 1e6) for i, r in enumerate(X)]

    X = [Recording(trial, session="one") for trial in np.nan_to_num(traces, nan=0.5)]
    found = psth_score(Model(), X, conditions)
    assert found == pytest.approx(psth_r2(rates, np.stack([r.traces for r in X]), conditions))
    assert all(np.isnan(r.traces).all(0).any() for r in shown)
    per_step = [np.full(traces.shape[1], c) for c in conditions]
    assert psth_score(Model(), X, per_step) == pytest.approx(found)
    with pytest.raises(ValueError, match="y has 1 entries"):
        psth_score(Model(), X, conditions[:1])
    with pytest.raises(ValueError, match="one shape"):
        psth_score(Model(), [X[0], X[1].replace(traces=X[1].traces[1:])], conditions[:2])
    with pytest.raises(ValueError, match="y of trial 0 must be one condition"):
        psth_score(Model(), X, [np.arange(traces.shape[1]) for _ in X])
