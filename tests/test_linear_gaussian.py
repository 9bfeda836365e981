"""Exact inference and EM of the linear-Gaussian model against dense closed forms."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import FactorAnalysis

from skneurovae.baselines.linear_gaussian import (
    SEQUENCE_LENGTH,
    LinearGaussian,
    Moments,
    fit_em,
    infer,
    natural_parameters,
    random_start,
    read_out,
    smooth,
)

T, N, K = 12, 7, 3


@pytest.fixture
def model():
    rng = np.random.RandomState(0)
    return LinearGaussian(
        rng.standard_normal((N, K)),
        rng.standard_normal(N),
        rng.uniform(0.5, 2, N),
        np.array([0.0, 0.5, 0.95]),
        np.ones(N),
    )


@pytest.fixture
def traces():
    rng = np.random.RandomState(1)
    traces = rng.standard_normal((T, N))
    traces[rng.random_sample((T, N)) < 0.3] = np.nan
    traces[5] = np.nan
    return traces


def dense_posterior(traces, model):
    """Posterior of all latents at once, from the joint covariance of latents and traces."""
    lags = np.abs(np.subtract.outer(np.arange(T), np.arange(T)))
    prior = np.zeros((T, K, T, K))
    for k in range(K):
        prior[:, k, :, k] = np.where(lags == 0, 1.0, model.phi[k] ** np.maximum(lags, 1))
    prior = prior.reshape(T * K, T * K)
    read = np.kron(np.eye(T), model.loadings)
    seen = ~np.isnan(traces).ravel()
    read, noise = read[seen], np.tile(model.noise, T)[seen]
    value = (traces - model.offset).ravel()[seen]
    gain = prior @ read.T @ np.linalg.inv(read @ prior @ read.T + np.diag(noise))
    covariance = (prior - gain @ read @ prior).reshape(T, K, T, K)
    return (gain @ value).reshape(T, K), covariance


def test_smoother_is_the_dense_posterior(model, traces):
    mean, covariance, lag = infer([(traces, np.arange(N))], model)[0]
    expected_mean, expected = dense_posterior(traces, model)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-10)
    for t in range(T):
        np.testing.assert_allclose(covariance[t], expected[t, :, t], atol=1e-10)
        if t + 1 < T:
            cross = expected[t, :, t + 1].diagonal()
            np.testing.assert_allclose(lag[t], cross, atol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("gaps", [False, True])
def test_long_and_equal_recordings_share_covariances_and_stay_what_they_are(model, gaps, causal):
    """Pieces that observe the same channels run under one covariance, with means of their own."""
    rng = np.random.RandomState(2)
    recordings = [rng.standard_normal((length, N)) for length in (500, 500, 260, 30)]
    recordings[1][:, 2] = np.nan  # of another pattern, throughout
    if gaps:
        recordings[2][40:50, 1] = np.nan
    together = infer([(r, np.arange(N)) for r in recordings], model, causal)
    for recording, belief in zip(recordings, together):
        natural = natural_parameters(recording, np.arange(N), model)
        information, precision = natural[0], np.repeat(natural[1], natural[2], axis=0)
        count = max(1, round(len(recording) / SEQUENCE_LENGTH))
        edges = np.linspace(0, len(recording), count + 1).astype(int)
        for a, b in zip(edges[:-1], edges[1:]):
            mean, covariance, lag = smooth(
                information[None, a:b], precision[None, a:b], model.phi, causal
            )
            np.testing.assert_allclose(belief[0][a:b], mean[0], atol=1e-10)
            np.testing.assert_allclose(belief[1][a:b], covariance[0], atol=1e-10)
            np.testing.assert_allclose(belief[2][a : b - 1], lag[0], atol=1e-10)
            assert not belief[2][b - 1].any()


def test_static_inference_is_scikit_learns(traces):
    rng = np.random.RandomState(0)
    X = rng.standard_normal((300, K)) @ rng.standard_normal((K, N)) + rng.standard_normal((300, N))
    reference = FactorAnalysis(K).fit(X)
    model = LinearGaussian(
        reference.components_.T, reference.mean_, reference.noise_variance_, np.zeros(K), np.ones(N)
    )
    mean = infer([(X, np.arange(N))], model)[0][0]
    np.testing.assert_allclose(mean, reference.transform(X), atol=1e-8)


def test_em_reaches_the_likelihood_of_scikit_learn():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((500, K)) @ rng.standard_normal((K, N)) + rng.standard_normal((500, N))
    start = random_start([(X, np.arange(N))], N, K, rng)
    fitted = fit_em([(X, np.arange(N))], start, shrinkage=0.0, n_iter=500, tol=1e-9)
    reference = FactorAnalysis(K, tol=1e-8, max_iter=5000).fit(X)
    expected = reference.score(X)
    reference.components_ = fitted.loadings.T
    reference.noise_variance_ = fitted.noise
    reference.mean_ = fitted.offset
    assert reference.score(X) == pytest.approx(expected, abs=2e-3)


def test_em_recovers_time_constants():
    rng = np.random.RandomState(0)
    phi = np.array([0.5, 0.95])
    z = np.zeros((3000, 2))
    for t in range(1, len(z)):
        z[t] = phi * z[t - 1] + np.sqrt(1 - phi**2) * rng.standard_normal(2)
    X = z @ rng.standard_normal((2, 12)) + rng.standard_normal((3000, 12))
    data = [(X, np.arange(12))]
    start = fit_em(data, random_start(data, 12, 2, rng), shrinkage=1.0, n_iter=30)
    start = LinearGaussian(
        start.loadings, start.offset, start.noise, np.full(2, 0.7), start.evidence
    )
    fitted = fit_em(data, start, shrinkage=1.0, n_iter=60, learn_phi=True)
    np.testing.assert_allclose(np.sort(fitted.phi), phi, atol=0.06)


def test_padding_and_blocks_change_nothing(model, traces):
    long = np.concatenate([traces, traces[:5]])
    alone = infer([(traces, np.arange(N))], model)[0][0]
    together = infer([(long, np.arange(N)), (traces, np.arange(N))], model)[1][0]
    np.testing.assert_allclose(together, alone, atol=1e-12)


def test_evidence_of_zero_hides_a_channel(model, traces):
    hidden = traces.copy()
    hidden[:, 2] = np.nan
    weights = np.ones(N)
    weights[2] = 0.0
    weightless = LinearGaussian(model.loadings, model.offset, model.noise, model.phi, weights)
    got = infer([(traces, np.arange(N))], weightless)[0][0]
    np.testing.assert_allclose(got, infer([(hidden, np.arange(N))], model)[0][0], atol=1e-12)


def test_ridge_and_rows_without_data():
    rng = np.random.RandomState(0)
    z, x = rng.standard_normal((50, 2)), rng.standard_normal((50, 1))
    moments = Moments.empty(2, 2)
    moments.add(x, np.array([0]), (z, np.zeros((50, 2, 2))))
    loadings, offset, noise = read_out(moments, 30.0)
    # Closed form of ridge regression with an intercept that is not penalized.
    centered = z - z.mean(0)
    ridge = np.linalg.solve(
        centered.T @ centered + 30.001 * np.eye(2), centered.T @ (x - x.mean())
    ).ravel()
    np.testing.assert_allclose(loadings[0], ridge, rtol=1e-5)
    assert (loadings[1] == 0).all()
    assert offset[1] == 0
    assert noise[1] == 1


def test_static_latents_have_no_memory(model, traces):
    static = replace(model, phi=np.zeros(K))
    mean, _, lag = infer([(traces, np.arange(N))], static)[0]
    alone = infer([(traces[3:4], np.arange(N))], static)[0][0]
    np.testing.assert_allclose(mean[3], alone[0], atol=1e-12)
    assert not lag.any()


def test_moments_by_runs_are_those_by_time_steps(model, traces):
    """A mask that never changes takes the other path than one that changes at every step."""
    constant = np.where(np.isnan(traces), 0.0, traces)
    constant[:, 1] = np.nan
    belief = infer([(constant, np.arange(N))], model)[0]
    by_runs, expected = Moments.empty(N, K), np.zeros((K + 1, K + 1))
    by_runs.add(constant, np.arange(N), belief)
    for t in range(T):
        z = np.append(belief[0][t], 1.0)
        expected += np.outer(z, z)
        expected[:K, :K] += belief[1][t]
    np.testing.assert_allclose(by_runs.second[0], expected, atol=1e-10)
    assert not by_runs.second[1].any()
    by_steps = Moments.empty(N, K)
    belief = infer([(traces, np.arange(N))], model)[0]
    by_steps.add(traces, np.arange(N), belief)
    expected = np.zeros((K + 1, K + 1))
    for t in np.flatnonzero(~np.isnan(traces[:, 0])):
        z = np.append(belief[0][t], 1.0)
        expected += np.outer(z, z)
        expected[:K, :K] += belief[1][t]
    np.testing.assert_allclose(by_steps.second[0], expected, atol=1e-10)
