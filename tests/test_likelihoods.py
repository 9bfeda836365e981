"""Likelihoods against the closed forms of scipy, numeric integrals and their own samples."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from skneurovae.objectives import get_likelihood, masked_sum, soft_cap

CONTINUOUS = ["gaussian", "huber", "student_t"]
COUNTS = ["poisson", "negative_binomial"]
NAMES = CONTINUOUS + COUNTS
DTYPES = {torch.float32: 2e-5, torch.float64: 1e-10}


def scipy_law(name, location, log_scale):
    scale = np.exp(log_scale)
    if name == "gaussian":
        return stats.norm(location, scale)
    if name == "student_t":
        return stats.t(4, location, scale)
    if name == "poisson":
        return stats.poisson(np.exp(location))
    return stats.nbinom(1 / scale, 1 / (1 + scale * np.exp(location)))


def case(name, dtype=torch.float64, shape=(3, 50, 4), seed=0):
    """Traces, location and one log scale per neuron."""
    generator = torch.Generator().manual_seed(seed)
    location = torch.randn(shape, generator=generator, dtype=torch.float64)
    log_scale = torch.tensor([-1.5, -0.3, 0.2, 1.0], dtype=torch.float64)
    traces = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    if name in COUNTS:
        traces = traces.square().floor()
    return traces.to(dtype), location.to(dtype), log_scale.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["gaussian", "student_t", "poisson", "negative_binomial"])
def test_log_prob_is_that_of_scipy(name, dtype):
    traces, location, log_scale = case(name, dtype)
    log_prob = get_likelihood(name).log_prob(traces, location, log_scale)
    law = scipy_law(name, location.double().numpy(), log_scale.double().numpy())
    expected = law.logpmf(traces.numpy()) if name in COUNTS else law.logpdf(traces.double().numpy())
    assert log_prob.dtype == dtype
    np.testing.assert_allclose(log_prob.numpy(), expected, rtol=DTYPES[dtype], atol=DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_huber_is_the_huber_loss_normalized(dtype):
    traces, location, log_scale = case("huber", dtype)
    log_prob = get_likelihood("huber").log_prob(traces, location, log_scale).double()
    residual = (traces.double() - location.double()) / log_scale.double().exp()
    half = integrate.quad(lambda r: math.exp(-special.huber(1, r)), 0, 50, points=[1], epsabs=1e-13)
    log_norm = math.log(2 * half[0])
    expected = -torch.from_numpy(special.huber(1, residual.numpy())) - log_norm - log_scale
    torch.testing.assert_close(log_prob, expected, rtol=DTYPES[dtype], atol=DTYPES[dtype])


@pytest.mark.parametrize("log_scale", [-1.2, 0.0, 0.9])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_densities_integrate_to_one_and_to_their_mean_and_variance(name, log_scale):
    likelihood = get_likelihood(name)
    location, log_scale = (
        torch.tensor(0.7, dtype=torch.float64),
        torch.tensor(log_scale, dtype=torch.float64),
    )
    scale = float(log_scale.exp())

    def moment(order):
        def integrand(x):
            density = likelihood.log_prob(
                torch.tensor(x, dtype=torch.float64), location, log_scale
            ).exp()
            return float(density) * (x - 0.7) ** order

        pieces = [-np.inf, 0.7 - scale, 0.7 + scale, np.inf]
        return sum(
            integrate.quad(integrand, low, high, epsabs=1e-9)[0]
            for low, high in zip(pieces, pieces[1:])
        )

    assert moment(0) == pytest.approx(1, abs=1e-7)
    assert likelihood.mean(location, log_scale) == pytest.approx(0.7 + moment(1), abs=1e-7)
    assert likelihood.std(location, log_scale) ** 2 == pytest.approx(moment(2), rel=1e-6)


@pytest.mark.parametrize("name", COUNTS)
def test_count_probabilities_sum_to_one_and_to_their_mean_and_variance(name):
    likelihood = get_likelihood(name)
    counts = torch.arange(3000).double()
    location, log_scale = (
        torch.tensor(1.3, dtype=torch.float64),
        torch.tensor(-0.4, dtype=torch.float64),
    )
    probability = likelihood.log_prob(counts, location, log_scale).exp()
    mean = (probability * counts).sum()
    assert probability.sum() == pytest.approx(1, abs=1e-9)
    assert likelihood.mean(location, log_scale) == pytest.approx(float(mean), abs=1e-8)
    variance = (probability * (counts - mean).square()).sum()
    assert likelihood.std(location, log_scale) ** 2 == pytest.approx(float(variance), rel=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_mean_the_variance_and_the_law(name, dtype):
    likelihood = get_likelihood(name)
    location = torch.tensor([1.2, 0.4], dtype=dtype)
    log_scale = torch.tensor([-1.0, -0.5], dtype=dtype)
    n_draws = 40_000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = likelihood.sample(location.expand(n_draws, 2), log_scale)
    assert draws.shape == (n_draws, 2)
    assert draws.dtype == dtype
    variance = likelihood.std(location, log_scale) ** 2
    error = (draws.mean(0) - likelihood.mean(location, log_scale)).abs()
    assert (error < 5 * (variance / n_draws).sqrt()).all()
    # The fourth moment of Student's t at four degrees of freedom is infinite: its law instead.
    if name == "student_t":
        law = scipy_law(name, 1.2, -1.0)
        assert stats.kstest(draws[:, 0].numpy(), law.cdf).pvalue > 1e-3
    else:
        torch.testing.assert_close(draws.var(0), variance, rtol=0.05, atol=0)
    if name == "huber":
        grid = torch.linspace(-12, 14, 20_001, dtype=torch.float64)
        density = likelihood.log_prob(grid, location[0].double(), log_scale[0].double()).exp()
        cdf = integrate.cumulative_trapezoid(density.numpy(), grid.numpy(), initial=0)
        result = stats.kstest(draws[:, 0].numpy(), lambda x: np.interp(x, grid.numpy(), cdf))
        assert result.pvalue > 1e-3


def test_sampling_repeats_with_the_seed_and_has_no_gradient():
    location = torch.zeros(5, requires_grad=True)
    log_scale = torch.zeros(5, requires_grad=True)
    for name in NAMES:
        draws = []
        for _ in range(2):
            with torch.random.fork_rng():
                torch.manual_seed(3)
                draws.append(get_likelihood(name).sample(location, log_scale))
        assert torch.equal(*draws)
        assert not draws[0].requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name):
    traces, location, log_scale = case(name, shape=(2, 3, 4))
    likelihood = get_likelihood(name)
    inputs = [location.requires_grad_()]
    if likelihood.has_scale:
        inputs.append(log_scale.requires_grad_())
    assert torch.autograd.gradcheck(lambda *args: likelihood.log_prob(traces, *args), inputs)


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_missing_traces_reach_neither_value_nor_gradient(name, missing):
    traces, location, log_scale = case(name)
    mask = torch.rand(traces.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    holed = torch.where(mask, traces, missing)
    results = []
    for data in (traces, holed):
        predictor = location.clone().requires_grad_()
        scale = log_scale.clone().requires_grad_()
        log_prob = get_likelihood(name).log_prob(data, predictor, scale)
        total = masked_sum(log_prob, mask)
        gradients = torch.autograd.grad(total, [predictor, scale], allow_unused=True)
        results.append((total, *gradients))
        assert total.isfinite()
    assert log_prob[~mask].isnan().all()
    for full, with_holes in zip(*results):
        assert (full is None) == (with_holes is None)
        assert full is None or torch.equal(full, with_holes)
    assert (results[1][1][~mask] == 0).all()


def test_masked_sum_over_dimensions_ignores_what_is_masked():
    values = torch.tensor([[1.0, math.nan], [math.inf, 4.0]], requires_grad=True)
    mask = torch.tensor([[True, False], [False, True]])
    assert masked_sum(values, mask).item() == 5
    torch.testing.assert_close(masked_sum(values, mask, dim=1), torch.tensor([1.0, 4.0]))
    assert masked_sum(values, torch.zeros(2, 1, dtype=torch.bool), dim=(0, 1)).item() == 0
    masked_sum(values, mask).backward()
    assert torch.equal(values.grad, mask.float())


def test_soft_cap_is_the_identity_and_then_a_logarithm():
    values = torch.tensor([-1e30, -3.0, 9.9, 10.0, 11.0, 1e30], requires_grad=True)
    capped = soft_cap(values, 10.0)
    capped.sum().backward()
    expected = [-1e30, -3.0, 9.9, 10.0, 10 + math.log(2), 10 + math.log(1e30)]
    torch.testing.assert_close(capped.detach(), torch.tensor(expected))
    torch.testing.assert_close(values.grad, torch.tensor([1.0, 1.0, 1.0, 1.0, 0.5, 1e-30]))


@pytest.mark.parametrize("name", COUNTS)
def test_runaway_predictors_stay_finite_with_a_gradient_that_leads_back(name):
    likelihood = get_likelihood(name)
    location = torch.tensor([-1e4, 50.0, 1e4, 1e8], requires_grad=True)
    log_scale = torch.tensor([-1e3, 0.0, 1e3, 0.0], requires_grad=True)
    counts = torch.tensor([5.0, 0.0, 3.0, 2.0])
    log_prob = likelihood.log_prob(counts, location, log_scale)
    log_prob.sum().backward()
    assert likelihood.mean(location).isfinite().all()
    assert log_prob.isfinite().all()
    assert location.grad.isfinite().all()
    assert location.grad[0] > 0
    assert (location.grad[[1, 3]] < 0).all()
    # Under an endless dispersion any mean is as good as another.
    assert location.grad[2] <= 0
    assert log_scale.grad is None or log_scale.grad.isfinite().all()


@pytest.mark.parametrize("log_scale", [-4.0, -8.0, -11.9])
def test_negative_binomial_keeps_its_digits_near_the_poisson_in_float32(log_scale):
    counts = torch.tensor([0.0, 1.0, 3.0, 20.0, 60.0])
    location = torch.tensor([0.1, -2.0, 1.0, 3.0, 3.5])
    log_prob = get_likelihood("negative_binomial").log_prob(
        counts, location, torch.tensor(log_scale)
    )
    expected = scipy_law("negative_binomial", location.double().numpy(), log_scale)
    np.testing.assert_allclose(log_prob, expected.logpmf(counts.numpy()), rtol=1e-5, atol=2e-5)


def test_negative_binomial_without_dispersion_is_the_poisson():
    counts, location, _ = case("poisson", torch.float32)
    expected = get_likelihood("poisson").log_prob(counts, location)
    for log_scale in (-12.0, -100.0, -1e4):
        near = get_likelihood("negative_binomial").log_prob(
            counts, location, torch.tensor(log_scale)
        )
        torch.testing.assert_close(near, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_predictors_are_scored_in_the_precision_of_the_traces(name):
    traces, location, log_scale = case(name, torch.float32)
    likelihood = get_likelihood(name)
    half = location.bfloat16(), log_scale.bfloat16()
    expected = likelihood.log_prob(traces, *(value.float() for value in half))
    assert torch.equal(likelihood.log_prob(traces, *half), expected)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_broadcast_on_any_device(name):
    # The meta device refuses to mix with a tensor that was made on another one.
    likelihood = get_likelihood(name)
    traces = torch.empty(2, 7, 3, device="meta")
    location, log_scale = torch.empty_like(traces), torch.empty(3, device="meta")
    assert likelihood.log_prob(traces, location, log_scale).shape == (2, 7, 3)
    for method in (likelihood.mean, likelihood.std, likelihood.sample):
        assert method(location, log_scale).shape == (2, 7, 3)
        assert method(location, log_scale).device.type == "meta"


def test_attributes_and_names():
    assert [name for name in NAMES if get_likelihood(name).is_count] == COUNTS
    assert [name for name in NAMES if not get_likelihood(name).has_scale] == ["poisson"]
    likelihood, location = get_likelihood("poisson"), torch.zeros(2)
    for method in (likelihood.mean, likelihood.std, likelihood.sample):
        assert method(location, None).shape == (2,)
    with pytest.raises(ValueError, match=r"likelihood must be one of .*'poisson'.* got 'cauchy'"):
        get_likelihood("cauchy")
