"""Poisson regression with a ridge, by Newton's method."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

__all__ = ["poisson_regression"]

TOL = 1e-8  # of the gradient per sample
LEAST_FALL = 1e-14  # of the objective, relative: below it are rounding errors


def poisson_regression(inputs, counts, penalty, max_iter=100):
    """Weights of the log rate of counts.

    They minimize ``sum(rate - counts * log(rate)) + penalty * |weights|^2 / 2`` with ``rate =
    exp(inputs @ weights + intercept)``. `sklearn.linear_model.PoissonRegressor` solves the same
    problem, but changes the filters of warnings meanwhile, which all threads share.

    Parameters
    ----------
    inputs : ndarray of shape (n_samples, n_inputs)
    counts : ndarray of shape (n_samples,)
        Not negative, and not all of them 0.
    penalty : float
        0 or more.
    max_iter : int, default=100
        Most steps.

    Returns
    -------
    weights : ndarray of shape (n_inputs,)
    intercept : float
    converged : bool
    """
    design = np.column_stack([inputs, np.ones(len(inputs))])
    ridge = np.append(np.full(inputs.shape[1], float(penalty)), 0.0)
    weights = np.append(np.zeros(inputs.shape[1]), np.log(counts.mean()))

    def evaluate(weights):
        log_rates = design @ weights
        rates = np.exp(log_rates)
        return rates, rates.sum() - counts @ log_rates + 0.5 * ridge @ weights**2

    converged = False
    with np.errstate(over="ignore"):  # the rates of a step that is too long
        rates, value = evaluate(weights)
        for _ in range(max_iter):
            gradient = design.T @ (rates - counts) + ridge * weights
            step = _solve((design.T * rates) @ design + np.diag(ridge), -gradient)
            fall = -gradient @ step
            converged = bool(
                np.abs(gradient).max() <= TOL * len(counts) or fall <= LEAST_FALL * abs(value)
            )
            if converged:  # and the step, which is at hand, doubles the digits
                weights = weights + step
                break
            for _ in range(60):
                rates, shorter = evaluate(weights + step)
                if shorter <= value - 1e-4 * fall:
                    break
                step, fall = step / 2, fall / 2
            weights, value = weights + step, shorter
    return weights[:-1], weights[-1], converged


def _solve(hessian, target):
    try:
        return cho_solve(cho_factor(hessian), target)
    except np.linalg.LinAlgError:  # inputs that are combinations of each other, without a penalty
        return np.linalg.lstsq(hessian, target, rcond=None)[0]
