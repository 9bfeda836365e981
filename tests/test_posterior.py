"""Posterior: moved and stretched beliefs against the dense normals that they are."""

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from skneurovae.networks.belief import dynamic_belief, natural_parameters, static_belief
from skneurovae.networks.variational import Posterior
from skneurovae.objectives import StandardNormal, StationaryAR1

B, T, N, K = 2, 7, 4, 2
TIME_CONSTANTS = (2.0, 6.0)


def same(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def prior_covariance(phi, n_timesteps):
    """Of all latents of a path, steps first: (T K, T K)."""
    lags = (torch.arange(n_timesteps)[:, None] - torch.arange(n_timesteps)).abs()
    blocks = phi ** lags[..., None].double()  # 0 ** 0 is 1
    return torch.diag_embed(blocks).permute(0, 2, 1, 3).reshape(n_timesteps * len(phi), -1)


def make_posterior(prior):
    """A belief moved and stretched at random, and the dense normal that it is, window by window."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator).double()  # noqa: E731
    observed = torch.rand(B, T, N, generator=generator) > 0.3
    natural = natural_parameters(draw(B, T, N), observed, draw(B, N, K), draw(B, N).exp())
    dynamic = isinstance(prior, StationaryAR1)
    belief = dynamic_belief(*natural, prior.phi) if dynamic else static_belief(*natural)
    posterior = Posterior(belief, belief.mean + draw(B, T, K), 0.4 * draw(B, T, K))
    precision = prior_covariance(prior.phi, T).inverse()
    stretch = torch.diag_embed(posterior.log_stretch.flatten(1).exp())
    dense = [
        stretch[b] @ (precision + torch.block_diag(*natural[1][b])).inverse() @ stretch[b]
        for b in range(B)
    ]
    return posterior, dense


def priors():
    return [StandardNormal(K).double(), StationaryAR1(K, TIME_CONSTANTS).double()]


@pytest.mark.parametrize("prior", priors(), ids=["normal", "ar1"])
def test_kl_of_a_moved_and_stretched_posterior_is_exact(prior):
    posterior, dense = make_posterior(prior)
    with torch.no_grad():
        kl = posterior.kl(prior, torch.ones(B, T, dtype=torch.bool)).sum(1)
        covariance = prior_covariance(prior.phi, T)
    for b in range(B):
        q = MultivariateNormal(posterior.mean[b].flatten(), dense[b])
        p = MultivariateNormal(torch.zeros(T * K).double(), covariance)
        same(kl[b], kl_divergence(q, p), 1e-4)


@pytest.mark.parametrize("prior", priors(), ids=["normal", "ar1"])
def test_cubature_is_exact_for_quadratics(prior):
    posterior, dense = make_posterior(prior)
    form = torch.randn(K, K, generator=torch.Generator().manual_seed(3)).double()
    points = torch.stack(list(posterior.cubature()))
    assert len(points) == 2 * K
    average = torch.einsum("pbtk,kl,pbtl->pbt", points, form, points).mean(0)
    for b in range(B):
        for t in range(T):
            block = slice(t * K, (t + 1) * K)
            m, covariance = posterior.mean[b, t], dense[b][block, block]
            same(average[b, t], m @ form @ m + (form * covariance).sum(), 1e-5)
    same(points.mean(0), posterior.mean)


def test_joint_draws_have_the_covariance_of_the_path():
    posterior, dense = make_posterior(priors()[1])
    torch.manual_seed(0)
    draws = torch.stack([posterior.draw_deviation() for _ in range(3000)]).flatten(2)
    for b in range(B):
        correlation = torch.corrcoef(draws[:, b].T)
        scale = dense[b].diagonal().sqrt()
        same(draws[:, b].std(0) / scale, torch.ones(T * K).double(), 0.08)
        same(correlation, dense[b] / scale / scale[:, None], 0.08)
