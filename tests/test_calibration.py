"""Coverage, CRPS and PIT against scipy, numerical integrals and known calibration."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest, norm
from sklearn.decomposition import PCA

from skneurovae.baselines import Pooled
from skneurovae.metrics import coverage, coverage_score, crps_gaussian, crps_score, pit
from skneurovae.recordings import Recording


@pytest.fixture
def normal():
    """Traces, and the mean and standard deviation that they were drawn with."""
    rng = np.random.default_rng(0)
    mean, std = rng.standard_normal((2000, 5)), rng.uniform(0.5, 3, (2000, 5))
    return mean + std * rng.standard_normal((2000, 5)), mean, std


class Knows:
    """Predicts hidden entries with the mean and deviation that it was given; others absurdly."""

    def __init__(self, mean, std):
        self.given = mean, std

    def predict(self, X, return_std=False):
        assert return_std
        answers = [
            [np.where(np.isnan(r.traces).all(0), g, 1e6) for g in given]
            for r, *given in zip(X, *self.given)
        ]
        return tuple(map(list, zip(*answers)))


def test_crps_is_the_integral_of_its_definition():
    for x, mean, std in [(0.0, 0.0, 1.0), (2.5, 0.3, 0.7), (-4.0, 1.0, 3.0)]:
        predicted = norm(mean, std)
        below = quad(lambda u, p=predicted: p.cdf(u) ** 2, mean - 12 * std - 9, x)[0]
        above = quad(lambda u, p=predicted: p.sf(u) ** 2, x, mean + 12 * std + 9)[0]
        assert crps_gaussian([x], [mean], [std])[0] == pytest.approx(below + above, abs=1e-6)
    # At the mean, by hand: std (2 phi(0) - 1 / sqrt(pi)).
    by_hand = 2 * (2 / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi))
    assert crps_gaussian([1.0], [1.0], [2.0])[0] == pytest.approx(by_hand)
    # A sure prediction is scored by its absolute error.
    assert crps_gaussian([3.0], [1.0], [1e-9])[0] == pytest.approx(2)


def test_right_predictions_are_calibrated_and_wrong_widths_are_told(normal):
    traces, mean, std = normal
    for level in (0.5, 0.9):
        z = norm.interval(level)[1]
        inside = (np.abs(traces - mean) <= z * std).mean()
        assert coverage(traces, mean, std, level) == inside
        assert inside == pytest.approx(level, abs=0.02)
        assert coverage(traces, mean, 0.5 * std, level) < level - 0.1
        assert coverage(traces, mean, 2 * std, level) > level + 0.05
    assert kstest(pit(traces, mean, std).ravel(), "uniform").pvalue > 0.01
    assert kstest(pit(traces, mean, 0.5 * std).ravel(), "uniform").pvalue < 1e-6
    np.testing.assert_allclose(pit(traces, mean, std), norm.cdf(traces, mean, std))


def test_entries_that_are_not_observed_are_not_evaluated(normal):
    traces, mean, std = (a[:4, 0].copy() for a in normal)
    traces[1] = mean[1] = np.nan
    std[1] = -1
    kept = [0, 2, 3]
    assert coverage(traces, mean, std) == coverage(traces[kept], mean[kept], std[kept])
    for function in (crps_gaussian, pit):
        values = function(traces, mean, std)
        np.testing.assert_array_equal(np.isnan(values), [False, True, False, False])
        np.testing.assert_allclose(values[kept], function(traces[kept], mean[kept], std[kept]))


def test_scorers_evaluate_hidden_neurons_all_entries_together(normal):
    traces, mean, std = normal
    parts = [slice(0, 300), slice(300, 2000)]
    traces[:50, 2] = np.nan
    X = [Recording(traces[p], session="s") for p in parts]
    model = Knows([mean[p] for p in parts], [std[p] for p in parts])
    inside = np.where(np.isnan(traces), np.nan, np.abs(traces - mean) <= norm.ppf(0.9) * std)
    assert coverage_score(model, X, level=0.8) == pytest.approx(np.nanmean(inside), abs=1e-9)
    spread = np.nanstd(traces, 0)
    crps = crps_gaussian(traces, mean, std) / np.maximum(spread, np.median(spread))
    assert crps_score(model, X) == pytest.approx(-np.nanmean(crps), abs=1e-9)


def test_crps_score_in_units_of_neurons_and_of_the_best_constant():
    rng = np.random.default_rng(0)
    traces = rng.standard_normal((20000, 3)) * [1, 10, 0.1] + [0, 5, 2]
    guess = Knows([np.tile(traces.mean(0), (20000, 1))], [np.tile(traces.std(0), (20000, 1))])
    guess.neuron_scale_, guess.identities_ = traces.std(0), np.arange(3)
    assert crps_score(guess, [traces]) == pytest.approx(-1 / np.sqrt(np.pi), abs=0.005)
    constant = np.column_stack([traces, np.full(20000, 0.1)])
    std = np.column_stack([np.tile(traces.std(0), (20000, 1)), np.ones(20000)])
    guess = Knows([np.tile(constant.mean(0), (20000, 1))], [std])
    guess.neuron_scale_, guess.identities_ = constant.std(0), np.arange(4)
    assert crps_score(guess, [constant]) == pytest.approx(-1 / np.sqrt(np.pi), abs=0.005)


def test_arrays_are_asked_for_as_arrays(normal):
    traces, mean, std = normal

    class OfArrays:
        def predict(self, X, return_std=False):
            shift = np.where(np.isnan(X), 0.0, 1e6)
            return shift + mean[: X.shape[-2]], shift + std[: X.shape[-2]]

    as_list = coverage_score(Knows([mean], [std]), [traces])
    assert coverage_score(OfArrays(), traces) == pytest.approx(as_list)
    assert coverage_score(OfArrays(), traces[None].repeat(2, 0)) == pytest.approx(as_list)


def test_neurons_that_the_estimator_cannot_know_are_left_out(normal):
    traces, mean, std = normal
    X = [Recording(traces, identities=np.array(list("abcde")), session="s")]
    model = Knows([mean], [np.where([True, False, True, True, True], std, 100.0)])
    everything = coverage_score(model, X)
    model.identities_ = np.array(list("acde"))
    assert coverage_score(model, X) < everything


def test_wrong_input_is_refused(normal):
    traces, mean, std = normal
    with pytest.raises(ValueError, match="level"):
        coverage(traces, mean, std, level=90)
    with pytest.raises(ValueError, match="level"):
        coverage_score(Knows([mean], [std]), [traces], level=1)
    with pytest.raises(ValueError, match="std positive"):
        coverage(traces, mean, np.zeros_like(std))
    with pytest.raises(ValueError, match="shapes"):
        pit(traces, mean, std[:, :1])
    with pytest.raises(ValueError, match="no evaluated entry"):
        crps_gaussian(traces * np.nan, mean, std)
    model = Pooled(PCA(1)).fit([traces[:100]])
    with pytest.raises(TypeError, match="return_std"):
        coverage_score(model, [traces[:100]])
