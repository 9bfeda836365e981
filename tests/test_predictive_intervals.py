"""Standard deviations of what missing-data factor analysis predicts."""

import numpy as np
import pytest

from skneurovae.baselines import MissingFactorAnalysis
from skneurovae.datasets import make_worms
from skneurovae.metrics import coverage_score, crps_score
from skneurovae.recordings import Recording


@pytest.fixture(scope="module")
def animals():
    return make_worms(6, n_timesteps=300, n_identities=30, n_recorded=24, random_state=0)[0]


def test_they_are_those_of_the_conditional_normal(animals):
    model = MissingFactorAnalysis(3, smoothing=0.0, shrinkage=1.0, random_state=0).fit(animals)
    recording = animals[0]
    traces = recording.traces.copy()
    traces[:100, 4], traces[:, 7] = np.nan, np.nan
    (mean,), (std,) = model.predict([recording.replace(traces=traces)], return_std=True)
    rows = [list(model.identities_).index(name) for name in recording.identities]
    loadings, noise = model.loadings_[rows], np.diag(model.noise_variance_[rows])
    for t in (50, 200):
        seen = ~np.isnan(traces[t])
        covariance = loadings @ loadings.T + noise
        gain = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[seen])
        hidden = ~seen
        expected = (
            covariance[np.ix_(hidden, hidden)] - covariance[np.ix_(hidden, seen)] @ gain[:, hidden]
        )
        np.testing.assert_allclose(std[t, hidden] ** 2, np.diag(expected), rtol=1e-6)
        deviation = traces[t, seen] - model.mean_[rows][seen]
        expected = model.mean_[rows][hidden] + gain[:, hidden].T @ deviation
        np.testing.assert_allclose(mean[t, hidden], expected, rtol=1e-6)
    assert std[50, 4] > std[200, 4]  # the neuron itself was seen


@pytest.mark.parametrize("smoothing", [0.0, "ar1"])
def test_intervals_of_hidden_neurons_cover(animals, smoothing):
    model = MissingFactorAnalysis(6, smoothing=smoothing, random_state=0).fit(animals[:4])
    assert 0.85 < coverage_score(model, animals[4:]) < 0.95
    assert -0.5 < crps_score(model, animals[4:]) < -0.3  # a neuron by itself: -0.56


def test_unknown_neurons_have_their_own_spread(animals):
    model = MissingFactorAnalysis(2, random_state=0).fit(animals)
    other = np.random.default_rng(0).standard_normal((300, 1)) * 3 + 5
    mixed = Recording(
        np.hstack([animals[0].traces, other]), identities=[*animals[0].identities, "other"]
    )
    with pytest.warns(UserWarning, match="Unknown to the model"):
        (mean,), (std,) = model.predict([mixed], return_std=True)
    assert mean[:, -1] == pytest.approx(other.mean())
    assert std[:, -1] == pytest.approx(other.std())
