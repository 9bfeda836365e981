"""The gamma likelihood against PyTorch's law."""

import torch
from torch.distributions import Gamma

from skneurovae.objectives import get_likelihood

gamma = get_likelihood("gamma")


def law(location, log_scale):
    shape = torch.exp(-log_scale)
    return Gamma(shape, shape / torch.exp(location))


def test_density_and_moments():
    torch.manual_seed(0)
    location, log_scale = torch.randn(2, 50, dtype=torch.float64)
    log_scale = log_scale.clamp(-3, 3)
    traces = torch.rand(50, dtype=torch.float64) * 5 + 0.01
    expected = law(location, log_scale)
    torch.testing.assert_close(
        gamma.log_prob(traces, location, log_scale), expected.log_prob(traces)
    )
    torch.testing.assert_close(gamma.mean(location, log_scale), expected.mean)
    torch.testing.assert_close(gamma.std(location, log_scale), expected.stddev)


def test_samples_have_the_moments():
    torch.manual_seed(0)
    location, log_scale = torch.tensor(0.7), torch.tensor(-0.5)
    draws = gamma.sample(location.expand(40000), log_scale)
    assert (draws > 0).all()
    torch.testing.assert_close(draws.mean(), gamma.mean(location), rtol=0.02, atol=0)
    torch.testing.assert_close(draws.std(), gamma.std(location, log_scale), rtol=0.025, atol=0)


def test_zero_and_missing_have_no_density_and_no_gradient():
    location = torch.zeros(3, requires_grad=True)
    log_prob = gamma.log_prob(torch.tensor([0.0, torch.nan, 2.0]), location, torch.zeros(3))
    assert torch.isnan(log_prob[:2]).all()
    torch.where(torch.isnan(log_prob), 0.0, log_prob).sum().backward()
    assert location.grad[:2].tolist() == [0.0, 0.0]
    assert location.grad[2] != 0


def test_extreme_predictors_stay_finite():
    for location, log_scale in ((80.0, 50.0), (-80.0, -50.0)):
        values = torch.tensor([location]), torch.tensor([log_scale])
        assert torch.isfinite(gamma.log_prob(torch.tensor([1.0]), *values)).all()
