"""Divergences of learned priors: zero where q is p, right where it is not."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from skneurovae.objectives import (
    DiagonalNormal,
    HierarchicalNormal,
    RecurrentPrior,
    StationaryAR1,
    normal_kl,
)

VALID = torch.arange(6) < torch.tensor([[6], [4]])


def recurrent(seed=0):
    torch.manual_seed(seed)
    return RecurrentPrior(3, 5)


def test_normal_kl_is_that_of_torch():
    torch.manual_seed(0)
    mean, log_variance, other, spread = torch.randn(4, 5, 3)
    expected = kl_divergence(
        Normal(mean, (0.5 * log_variance).exp()), Normal(other, (0.5 * spread).exp())
    )
    torch.testing.assert_close(normal_kl(mean, log_variance, other, spread), expected)


def test_kl_is_zero_where_the_posterior_is_the_prior():
    diagonal = DiagonalNormal(4, 0.1)
    torch.nn.init.normal_(diagonal.mean)
    same = diagonal.kl(diagonal.mean.expand(2, -1), diagonal.log_variance.expand(2, -1))
    assert same.abs().max() < 1e-3

    prior = recurrent()
    sample = prior.sample(2, 6)
    same = prior.kl(*prior.moments(sample), VALID, sample)
    assert same.abs().max() < 1e-3

    hierarchy = HierarchicalNormal(4, 3)
    rows = torch.tensor([2, -1])
    mean = torch.stack([hierarchy.table[2], torch.zeros(4)])
    log_variance = torch.tensor([math.log(0.25), math.log(1.25)])[:, None].expand(2, 4)
    assert hierarchy.kl(mean, log_variance, rows).abs().max() < 1e-3
    assert hierarchy.kl(mean[1:], log_variance[1:]).abs().max() < 1e-3

    chain = StationaryAR1(3, 7.0)
    path = chain.sample(2, 6)
    before = torch.cat([torch.zeros_like(path[:, :1]), path[:, :-1]], 1)
    spread = chain.innovation_variance.log().expand_as(path).clone()
    spread[:, 0] = 0
    assert chain.kl(chain.phi * before, spread, VALID, path).abs().max() < 1e-3


def test_the_recurrent_prior_reads_the_posteriors_past_and_nothing_else():
    prior = recurrent()
    sample = torch.randn(2, 6, 3)
    mean, _ = prior.moments(sample)
    for t in range(6):
        other = sample.clone()
        other[:, t] += 1.0
        changed = (prior.moments(other)[0] != mean).any(-1).any(0)
        assert changed.tolist() == [s > t for s in range(6)]


def test_padding_reaches_no_divergence():
    prior = recurrent()
    mean, log_variance, sample = torch.randn(3, 2, 6, 3)
    expected = prior.kl(mean, log_variance, VALID, sample)
    for tensor in (mean, log_variance, sample):
        tensor[1, 4:] = math.nan
    torch.testing.assert_close(prior.kl(mean, log_variance, VALID, sample), expected)
    short = prior.kl(mean[1:, :4], log_variance[1:, :4], VALID[1:, :4], sample[1:, :4])
    torch.testing.assert_close(short, expected[1:])


def test_recurrent_divergence_is_that_of_the_path_by_monte_carlo():
    """Against log q - log p of many draws, with q independent over time."""
    prior = recurrent()
    mean, log_variance = torch.randn(2, 1, 6, 3) * 0.5
    n = 4000
    std = (0.5 * log_variance).exp()
    draws = mean + std * torch.randn(n, 6, 3)
    with torch.no_grad():
        center, spread = prior.moments(draws)
        log_q = Normal(mean, std).log_prob(draws).sum((1, 2))
        log_p = Normal(center, (0.5 * spread).exp()).log_prob(draws).sum((1, 2))
        ours = prior.kl(
            mean.expand(n, -1, -1), log_variance.expand(n, -1, -1), VALID[:1].expand(n, -1), draws
        ).sum(1)
    error = (log_q - log_p).std() / n**0.5
    assert abs(ours.mean() - (log_q - log_p).mean()) < 4 * error
    assert ours.std() < 0.5 * (log_q - log_p).std()  # what it is for


def test_samples_of_the_recurrent_prior_follow_its_moments():
    prior = recurrent()
    torch.manual_seed(1)
    path = prior.sample(5000, 4)
    center, spread = prior.moments(path)
    unit = (path - center) / (0.5 * spread).exp()
    assert unit.mean().abs() < 0.03
    assert abs(unit.std() - 1) < 0.03


def test_sequence_vectors_are_the_most_probable_ones():
    hierarchy = HierarchicalNormal(2, 1)
    means = torch.randn(5, 2)
    owner = torch.tensor([0, 0, 1, 0, 1])
    vectors = hierarchy.vectors(means, owner, 3).requires_grad_()
    log_joint = -0.5 * vectors[:2].square().sum()
    log_joint = log_joint - 0.5 * (means - vectors[owner]).square().sum() / hierarchy.variance
    (slope,) = torch.autograd.grad(log_joint, vectors)
    assert slope.abs().max() < 1e-5
    assert (vectors[2] == 0).all()


def test_a_segment_tells_its_sequence():
    hierarchy = HierarchicalNormal(3, 4)
    log_posterior = hierarchy.log_posterior(hierarchy.table.detach(), torch.arange(4))
    torch.testing.assert_close(log_posterior.exp().sum(1), torch.ones(4))
    logits = -2 * torch.cdist(hierarchy.table, hierarchy.table).square()
    torch.testing.assert_close(log_posterior, logits.log_softmax(1), atol=1e-4, rtol=1e-4)


def test_priors_of_unknown_rows_have_no_density_and_no_gradient():
    hierarchy = HierarchicalNormal(3, 2)
    density = hierarchy.log_density(torch.tensor([1, -1]))
    expected = Normal(0, 1).log_prob(hierarchy.table[1]).sum()
    torch.testing.assert_close(density, torch.stack([expected, torch.zeros(())]))


@pytest.mark.parametrize("variance", [0.0, -1.0, math.inf])
@pytest.mark.parametrize("make", [
    lambda v: DiagonalNormal(2, v), lambda v: HierarchicalNormal(2, 1, v),
])  # fmt: skip
def test_wrong_variances(make, variance):
    with pytest.raises(ValueError, match="variance must be positive"):
        make(variance)
