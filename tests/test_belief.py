"""The belief of the network against the NumPy model, dense closed forms and its own samples."""

import numpy as np
import pytest
import torch

from skneurovae.baselines.linear_gaussian import LinearGaussian, infer
from skneurovae.networks.belief import dynamic_belief, natural_parameters, static_belief

B, T, N, K = 2, 9, 6, 3


@pytest.fixture
def inputs():
    rng = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=rng, dtype=torch.float64)  # noqa: E731
    observed = torch.rand(B, T, N, generator=rng) > 0.3
    return draw(B, T, N), observed, draw(B, N, K), draw(B, N).exp()


PHI = torch.tensor([0.0, 0.6, 0.95], dtype=torch.float64)


@pytest.mark.parametrize("phi", [torch.zeros(3, dtype=torch.float64), PHI])
def test_agrees_with_numpy(inputs, phi):
    values, observed, loadings, noise = inputs
    natural = natural_parameters(*inputs)
    belief = dynamic_belief(*natural, phi) if phi.any() else static_belief(*natural)
    for b in range(B):
        model = LinearGaussian(
            loadings[b].numpy(), np.zeros(N), noise[b].numpy(), phi.numpy(), np.ones(N)
        )
        traces = np.where(observed[b], values[b], np.nan)
        mean, covariance, lag = infer([(traces, np.arange(N))], model)[0]
        np.testing.assert_allclose(belief.mean[b], mean, atol=1e-9)
        np.testing.assert_allclose(belief.covariance[b], covariance, atol=1e-9)
        np.testing.assert_allclose(belief.lag_covariance[b], lag, atol=1e-9)


def test_constant_mask_is_factorized_once_and_is_exact(inputs):
    values, _, loadings, noise = inputs
    observed = (torch.arange(N) != 2).expand(B, T, N)
    belief = static_belief(*natural_parameters(values, observed, loadings, noise))
    assert belief.covariance.shape[1] == 1
    varying = observed.clone()
    varying[0, 0, 0] = False
    per_step = static_belief(*natural_parameters(values, varying, loadings, noise))
    assert per_step.covariance.shape[1] == T
    torch.testing.assert_close(belief.mean[:, 1:], per_step.mean[:, 1:])


def test_causal_belief_ignores_the_future(inputs):
    values, observed, loadings, noise = inputs
    before = dynamic_belief(*natural_parameters(*inputs), PHI, causal=True)
    changed = values.clone()
    changed[:, 5:] += 10
    after = dynamic_belief(
        *natural_parameters(changed, observed, loadings, noise), PHI, causal=True
    )
    torch.testing.assert_close(before.mean[:, :5], after.mean[:, :5])
    assert (before.mean[:, 5:] - after.mean[:, 5:]).abs().max() > 0.1


def test_samples_have_the_moments_of_the_belief(inputs):
    belief = dynamic_belief(*natural_parameters(*inputs), PHI)
    torch.manual_seed(0)
    draws = torch.stack([belief.sample_deviation() for _ in range(4000)])
    np.testing.assert_allclose(draws.mean(0), 0, atol=0.08)
    np.testing.assert_allclose(
        draws.var(0), belief.covariance.diagonal(dim1=-2, dim2=-1), atol=0.08
    )
    cross = (draws[:, :, :-1] * draws[:, :, 1:]).mean(0)
    np.testing.assert_allclose(cross, belief.lag_covariance[:, :-1], atol=0.08)


def test_entropy_is_that_of_the_joint(inputs):
    """Of the valid steps alone: padding after them adds nothing."""
    values, observed, loadings, noise = inputs
    valid = torch.ones(B, T, dtype=torch.bool)
    full = dynamic_belief(*natural_parameters(*inputs), PHI).entropy(valid).sum(1)
    padded = [torch.nn.functional.pad(x, (0, 0, 0, 4)) for x in (values, observed)]
    belief = dynamic_belief(*natural_parameters(*padded, loadings, noise), PHI)
    mask = torch.nn.functional.pad(valid, (0, 4))
    torch.testing.assert_close(belief.entropy(mask).sum(1), full, atol=1e-4, rtol=1e-4)
    # Nothing observed: the entropy of the prior, from its dense covariance.
    none = dynamic_belief(torch.zeros(1, T, K).double(), torch.zeros(1, T, K, K).double(), PHI)
    lags = (torch.arange(T)[:, None] - torch.arange(T)).abs()
    expected = sum(
        torch.distributions.MultivariateNormal(
            torch.zeros(T).double(), torch.where(lags == 0, 1.0, phi**lags).double()
        ).entropy()
        for phi in PHI
    )
    torch.testing.assert_close(none.entropy(valid[:1]).sum(), expected, atol=1e-3, rtol=1e-4)
