"""Poisson regression against scikit-learn, and where Newton's plain steps would fail."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor

from skneurovae.baselines import PoissonGLM
from skneurovae.baselines.poisson_regression import poisson_regression


def data(n_samples=200, n_inputs=4, size=0.5, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((n_samples, n_inputs))
    return inputs, rng.poisson(np.exp(inputs @ rng.standard_normal(n_inputs) * size)).astype(float)


def objective(inputs, counts, penalty, weights, intercept):
    log_rates = inputs @ weights + intercept
    return (np.exp(log_rates) - counts * log_rates).sum() + penalty / 2 * weights @ weights


@pytest.mark.parametrize("penalty", [0.0, 1e-3, 10.0, 1e5])
@pytest.mark.parametrize("size", [0.3, 2.0])
def test_it_is_the_regression_of_scikit_learn(penalty, size):
    inputs, counts = data(size=size)
    weights, intercept, converged = poisson_regression(inputs, counts, penalty)
    exact = PoissonRegressor(
        alpha=penalty / len(counts), solver="newton-cholesky", tol=1e-10, max_iter=1000
    ).fit(inputs, counts)
    assert converged
    np.testing.assert_allclose(weights, exact.coef_, atol=1e-7)
    assert intercept == pytest.approx(exact.intercept_, abs=1e-7)


def test_one_spike_and_inputs_that_are_alike_have_a_solution():
    inputs, counts = data()
    counts[:], counts[7] = 0, 1
    with np.errstate(all="raise", under="ignore"):
        weights, intercept, converged = poisson_regression(inputs, counts, 1.0)
    assert converged
    gradient = inputs.T @ (np.exp(inputs @ weights + intercept) - counts) + weights
    np.testing.assert_allclose(gradient, 0, atol=1e-5)
    inputs, counts = data()
    twice = np.hstack([inputs, inputs])
    weights, intercept, _ = poisson_regression(twice, counts, 0.0)
    once, base, _ = poisson_regression(inputs, counts, 0.0)
    np.testing.assert_allclose(weights[:4] + weights[4:], once, atol=1e-6)
    assert intercept == pytest.approx(base, abs=1e-6)


def test_steps_that_are_too_long_are_shortened():
    inputs = np.array([[0.0], [0.0], [0.0], [30.0]])
    counts = np.array([0.0, 1.0, 0.0, 1e6])
    weights, intercept, converged = poisson_regression(inputs, counts, 1e-6)
    assert converged
    best = objective(inputs, counts, 1e-6, weights, intercept)
    for change in (1e-3, -1e-3):
        assert best < objective(inputs, counts, 1e-6, weights + change, intercept)
        assert best < objective(inputs, counts, 1e-6, weights, intercept + change)


def test_no_inputs_leave_the_mean():
    weights, intercept, converged = poisson_regression(np.empty((5, 0)), np.arange(5.0), 1.0)
    assert (len(weights), converged) == (0, True)
    assert np.exp(intercept) == pytest.approx(2)


def test_too_few_steps_are_told_of():
    inputs, counts = data(size=2.0)
    assert not poisson_regression(inputs, counts, 1.0, max_iter=2)[2]
    model = PoissonGLM(lags=[0], alpha=1.0, max_iter=2)
    with pytest.warns(ConvergenceWarning, match="max_iter=2 Newton steps were not enough"):
        model.fit(counts[:, None], behavior=inputs)
