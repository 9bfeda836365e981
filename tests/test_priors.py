"""Latent priors against dense multivariate normals, Monte Carlo and each other."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from skneurovae.objectives import StandardNormal, StationaryAR1

N_STEPS = 12
TIME_CONSTANTS = [0.5, 3.0, 40.0]
PRIORS = {
    "standard": lambda: StandardNormal(3),
    "ar1": lambda: StationaryAR1(3, TIME_CONSTANTS),
}
all_priors = pytest.mark.parametrize("name", PRIORS)
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def make(name, dtype=torch.float64):
    prior = PRIORS[name]().to(dtype)
    if name == "ar1":  # the exact numbers, which the float32 of the constructor rounds
        with torch.no_grad():
            prior.log_time_constant.copy_(torch.tensor(TIME_CONSTANTS, dtype=dtype).log())
    return prior


def covariance(name, n_steps=N_STEPS, component=None):
    """Dense prior covariance over time, from the definition and not from the package."""
    lags = (torch.arange(n_steps)[:, None] - torch.arange(n_steps)).abs().double()
    if name == "standard":
        dense = [(lags == 0).double()] * 3
    else:
        dense = [torch.exp(-lags / time_constant) for time_constant in TIME_CONSTANTS]
    return dense if component is None else dense[component]


def posterior(n_windows=4, n_steps=N_STEPS, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(n_windows, n_steps, 3, generator=generator, dtype=torch.float64)
    log_variance = torch.randn(n_windows, n_steps, 3, generator=generator, dtype=torch.float64) - 1
    return mean.to(dtype), log_variance.to(dtype)


def all_valid(values):
    return torch.ones(values.shape[:2], dtype=torch.bool)


def seeded_sample(prior, n_windows, n_steps, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return prior.sample(n_windows, n_steps)


def dense_posterior(seed=1):
    """Means and full covariances over time, per component: (n_windows, n_components, ...)."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(2, 3, N_STEPS, N_STEPS, generator=generator, dtype=torch.float64) / 3
    mean = torch.randn(2, 3, N_STEPS, generator=generator, dtype=torch.float64)
    return mean, root @ root.mT + 0.1 * torch.eye(N_STEPS, dtype=torch.float64)


def marginals(cov):
    """Variances and lag covariances of dense covariances, time before components."""
    variance = cov.diagonal(dim1=-2, dim2=-1).mT
    lag = cov.diagonal(offset=1, dim1=-2, dim2=-1).mT
    unused = torch.full_like(variance[:, :1], 1e6)
    return variance, torch.cat([lag, unused], dim=1)


@all_priors
@both_dtypes
def test_kl_is_that_of_dense_normals(name, dtype):
    mean, log_variance = posterior(dtype=dtype)
    kl = make(name, dtype).kl(mean, log_variance, all_valid(mean))
    assert kl.dtype == dtype
    for k in range(3):
        q = MultivariateNormal(
            mean[:, :, k].double(), torch.diag_embed(log_variance[:, :, k].double().exp())
        )
        p = MultivariateNormal(torch.zeros(N_STEPS).double(), covariance(name, component=k))
        tolerance = 1e-9 if dtype == torch.float64 else 1e-5
        torch.testing.assert_close(
            kl[:, k].double(), kl_divergence(q, p), rtol=tolerance, atol=tolerance
        )


@all_priors
def test_cross_entropy_of_a_correlated_posterior_is_that_of_dense_normals(name):
    mean, cov = dense_posterior()
    variance, lag = marginals(cov)
    cross_entropy = make(name).cross_entropy(mean.mT, variance, lag, all_valid(mean.mT)).sum(1)
    for k in range(3):
        q = MultivariateNormal(mean[:, k], cov[:, k])
        p = MultivariateNormal(torch.zeros(N_STEPS).double(), covariance(name, component=k))
        torch.testing.assert_close(cross_entropy[:, k], kl_divergence(q, p) + q.entropy())


@all_priors
def test_cross_entropy_is_the_monte_carlo_mean(name):
    mean, cov = dense_posterior()
    variance, lag = marginals(cov)
    cross_entropy = make(name).cross_entropy(mean.mT, variance, lag, all_valid(mean.mT)).sum(1)
    n_draws = 20_000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = MultivariateNormal(mean, cov).sample((n_draws,))
    prior = MultivariateNormal(torch.zeros(3, N_STEPS).double(), torch.stack(covariance(name)))
    surprise = -prior.log_prob(draws)
    error = (surprise.mean(0) - cross_entropy).abs()
    assert (error < 5 * surprise.std(0) / math.sqrt(n_draws)).all()


@all_priors
def test_without_lag_covariance_the_cross_entropy_is_the_kl_and_the_entropy(name):
    mean, log_variance = posterior()
    prior, valid = make(name), all_valid(mean)
    entropy = Normal(mean, (0.5 * log_variance).exp()).entropy().sum(1)
    expected = prior.kl(mean, log_variance, valid) + entropy
    variance = log_variance.exp()
    for lag in (None, torch.zeros_like(mean)):
        torch.testing.assert_close(prior.cross_entropy(mean, variance, lag, valid).sum(1), expected)


@all_priors
@both_dtypes
def test_a_posterior_equal_to_the_prior_costs_nothing(name, dtype):
    n_steps = 200
    prior = make(name, dtype)
    with torch.no_grad():
        phi = prior.phi.expand(2, n_steps, 3)
        valid = all_valid(phi)
        zeros, ones = torch.zeros_like(phi), torch.ones_like(phi)
        cross_entropy = prior.cross_entropy(zeros, ones, phi, valid).sum(1)
        entropy = [
            MultivariateNormal(torch.zeros(n_steps).double(), dense).entropy()
            for dense in covariance(name, n_steps)
        ]
        assert (cross_entropy - torch.stack(entropy)).abs().max() < 1e-3

        path = seeded_sample(prior, 2, n_steps)
        past = torch.cat([torch.zeros_like(path[:, :1]), path[:, :-1]], dim=1)
        variance = torch.cat([ones[:, :1], prior.innovation_variance.expand(2, n_steps - 1, 3)], 1)
        assert prior.conditional_kl(phi * past, variance.log(), path, valid).abs().max() < 1e-3


def test_the_standard_normal_costs_nothing_under_itself_step_by_step():
    zeros = torch.zeros(2, 50, 3)
    assert StandardNormal(3).kl(zeros, zeros, all_valid(zeros)).abs().max() < 1e-5


@all_priors
def test_conditional_kl_is_the_kl_of_the_path_on_average(name):
    """A sequential q that is itself an AR(1) with other coefficients, so its joint is known."""
    prior, n_draws, gain, variance = make(name), 20_000, 0.6, 0.3
    with torch.random.fork_rng():
        torch.manual_seed(0)
        noise = math.sqrt(variance) * torch.randn(n_draws, N_STEPS, 3, dtype=torch.float64)
    means, path = [torch.full_like(noise[:, 0], 0.5)], []
    for t in range(N_STEPS):
        path.append(means[t] + noise[:, t])
        means.append(gain * path[t])
    mean, path = torch.stack(means[:-1], 1), torch.stack(path, 1)
    log_variance = torch.full_like(mean, math.log(variance))
    estimate = prior.conditional_kl(mean, log_variance, path, all_valid(mean))

    mixing = torch.tril(gain ** (torch.arange(N_STEPS)[:, None] - torch.arange(N_STEPS)).double())
    q = MultivariateNormal(
        0.5 * gain ** torch.arange(N_STEPS).double(), variance * mixing @ mixing.T
    )
    for k in range(3):
        p = MultivariateNormal(torch.zeros(N_STEPS).double(), covariance(name, component=k))
        spread = float(estimate[:, k].detach().std()) / math.sqrt(n_draws)
        assert abs(estimate[:, k].mean() - kl_divergence(q, p)) < 5 * spread + 1e-9


def test_conditional_kl_by_hand():
    prior = StationaryAR1(1, 10.0).double()
    mean = torch.tensor([[[0.3], [0.8]]]).double()
    log_variance = torch.tensor([[[-1.0], [-2.0]]]).double()
    sample = torch.tensor([[[0.5], [99.0]]]).double()
    phi = math.exp(-0.1)
    innovation = 1 - phi**2
    first = 0.5 * (1.0 - 1 + math.exp(-1) + 0.3**2)
    square = math.exp(-2) + (0.8 - phi * 0.5) ** 2
    second = 0.5 * (math.log(innovation) + 2.0 - 1 + square / innovation)
    kl = prior.conditional_kl(mean, log_variance, sample, all_valid(mean))
    assert kl.item() == pytest.approx(first + second)


def test_conditional_kl_of_a_path_without_feedback_averages_to_the_closed_form():
    prior = StationaryAR1(3, TIME_CONSTANTS).double()
    mean, log_variance = posterior(n_windows=1)
    wide = mean.expand(20_000, -1, -1), log_variance.expand(20_000, -1, -1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = Normal(wide[0], (0.5 * wide[1]).exp()).sample()
    estimate = prior.conditional_kl(*wide, draws, all_valid(draws))
    error = (estimate.mean(0) - prior.kl(mean, log_variance, all_valid(mean))[0]).abs()
    assert (error < 5 * estimate.std(0) / math.sqrt(20_000)).all()


def evaluate(prior, mean, log_variance, valid, lag=None):
    """Compute the three objectives, and the gradient of their sum with the time constants' last."""
    lag = torch.full_like(mean, 0.1) if lag is None else lag
    inputs = [mean, log_variance, log_variance.exp(), lag, mean + 0.5]
    mean, log_variance, variance, lag, sample = inputs = [
        value.detach().clone().requires_grad_() for value in inputs
    ]
    results = (
        prior.kl(mean, log_variance, valid),
        prior.cross_entropy(mean, variance, lag, valid).sum(1),
        prior.conditional_kl(mean, log_variance, sample, valid),
    )
    inputs += prior.parameters()
    return results, torch.autograd.grad(sum(value.sum() for value in results), inputs)


@all_priors
@pytest.mark.parametrize("filler", [math.nan, math.inf, 7.0])
def test_padding_reaches_neither_value_nor_gradient(name, filler):
    prior = make(name)
    mean, log_variance = posterior(n_windows=2)
    valid = all_valid(mean)
    valid[0, 8:] = False
    expected = [
        evaluate(prior, mean[:1, :8], log_variance[:1, :8], valid[:1, :8]),
        evaluate(prior, mean[1:], log_variance[1:], valid[1:]),
    ]
    # A lag covariance out of the last real step belongs to no transition.
    linked = torch.cat([valid[:, 1:], torch.zeros_like(valid[:, :1])], dim=1)
    results, gradients = evaluate(
        prior,
        torch.where(valid[..., None], mean, filler),
        torch.where(valid[..., None], log_variance, filler),
        valid,
        torch.where(linked[..., None], torch.full_like(mean, 0.1), filler),
    )
    for got, short, full in zip(results, expected[0][0], expected[1][0]):
        torch.testing.assert_close(got, torch.cat([short, full]))
    for got, short, full in zip(gradients, expected[0][1], expected[1][1]):
        if got.ndim == 1:  # of the time constants
            torch.testing.assert_close(got, short + full)
            continue
        torch.testing.assert_close(got[:1, :8], short)
        torch.testing.assert_close(got[1:], full)
        assert (got[0, 8:] == 0).all()


@all_priors
def test_a_gap_starts_a_new_chain(name):
    prior = make(name)
    mean, log_variance = posterior(n_windows=1)
    valid = all_valid(mean)
    valid[:, 5] = False
    holed = (torch.where(valid[..., None], value, math.nan) for value in (mean, log_variance))
    lag = torch.full_like(mean, 0.1)
    lag[:, 4:6] = math.nan
    whole = evaluate(prior, *holed, valid, lag)[0]
    before = evaluate(prior, mean[:, :5], log_variance[:, :5], valid[:, :5])[0]
    after = evaluate(prior, mean[:, 6:], log_variance[:, 6:], valid[:, 6:])[0]
    for got, *parts in zip(whole, before, after):
        torch.testing.assert_close(got, sum(parts))


@all_priors
def test_samples_have_the_dense_covariance(name):
    n_draws = 20_000
    draws = seeded_sample(make(name), n_draws, N_STEPS)
    assert draws.shape == (n_draws, N_STEPS, 3)
    assert not draws.requires_grad
    assert draws.mean(0).abs().max() < 5 / math.sqrt(n_draws)
    for k in range(3):
        error = (torch.cov(draws[:, :, k].T) - covariance(name, component=k)).abs().max()
        assert error < 5 * math.sqrt(2 / n_draws)


@all_priors
def test_one_time_step_is_the_stationary_normal(name):
    prior = make(name)
    mean, log_variance = posterior(n_steps=1)
    q = Normal(mean, (0.5 * log_variance).exp())
    expected = kl_divergence(q, Normal(torch.zeros_like(mean), torch.ones_like(mean)))[:, 0]
    torch.testing.assert_close(prior.kl(mean, log_variance, all_valid(mean)), expected)
    assert seeded_sample(prior, 5, 1).shape == (5, 1, 3)


def test_every_objective_trains_the_time_constants():
    mean, log_variance = posterior()
    valid = all_valid(mean)
    for objective in (
        lambda prior: prior.kl(mean, log_variance, valid),
        lambda prior: prior.cross_entropy(mean, log_variance.exp(), None, valid).sum(1),
        lambda prior: prior.conditional_kl(mean, log_variance, mean, valid),
    ):
        prior = StationaryAR1(3, TIME_CONSTANTS).double()
        (gradient,) = torch.autograd.grad(objective(prior).sum(), prior.log_time_constant)
        step = 1e-5
        with torch.no_grad():
            prior.log_time_constant += step
            above = objective(prior).sum(0)
            prior.log_time_constant -= 2 * step
            below = objective(prior).sum(0)
        torch.testing.assert_close(gradient, (above - below) / (2 * step), rtol=1e-5, atol=1e-6)


def test_maximum_likelihood_finds_the_time_constants():
    truth = torch.tensor([2.0, 8.0, 30.0])
    paths = seeded_sample(StationaryAR1(3, truth), 64, 400)
    prior = StationaryAR1(3)
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        # With a posterior of no width the cross entropy is the negative log likelihood.
        prior.cross_entropy(
            paths, torch.zeros_like(paths), paths * 0, all_valid(paths)
        ).mean().backward()
        optimizer.step()
    torch.testing.assert_close(prior.time_constant.detach(), truth, rtol=0.1, atol=0)


def test_a_fixed_time_constant_is_kept_but_not_trained():
    prior = StationaryAR1(2, 5.0, trainable=False)
    assert not any(parameter.requires_grad for parameter in prior.parameters())
    torch.testing.assert_close(prior.time_constant, torch.tensor([5.0, 5.0]))
    copy = StationaryAR1(2, trainable=False)
    copy.load_state_dict(prior.state_dict())
    assert torch.equal(copy.time_constant, prior.time_constant)


def test_long_time_constants_keep_their_digits_in_float32():
    prior = StationaryAR1(1, 1e6)
    expected = -math.expm1(-2 / 1e6)
    assert prior.innovation_variance.item() == pytest.approx(expected, rel=1e-5)


@all_priors
def test_everything_runs_where_the_inputs_are(name):
    # The meta device refuses to mix with a tensor that was made on another one.
    prior = PRIORS[name]().to("meta")
    mean = torch.empty(2, 7, 3, device="meta")
    valid = torch.ones(2, 7, dtype=torch.bool, device="meta")
    assert prior.kl(mean, mean, valid).shape == (2, 3)
    assert prior.cross_entropy(mean, mean, mean, valid).shape == (2, 7, 3)
    assert prior.conditional_kl(mean, mean, mean, valid).shape == (2, 3)
    assert prior.sample(2, 7).device.type == "meta"


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, [1.0, 0.0]])
def test_time_constants_must_be_positive(bad):
    with pytest.raises(ValueError, match="time_constant must be positive and finite, got"):
        StationaryAR1(2, bad)
