"""The schedules of the KL weight and of the free bits."""

import pytest
import torch

from skneurovae.objectives import LossTerms, apply_free_bits, beta_at, free_bits_at


def test_beta_rises_linearly_and_then_stays():
    betas = [beta_at(epoch, max_iter=50, beta=0.2) for epoch in range(50)]
    assert betas[0] == 0
    assert betas[:16] == pytest.approx([0.2 * epoch / 15 for epoch in range(16)])
    assert betas[15:] == [0.2] * 35


@pytest.mark.parametrize("warmup", [0.1, 0.5, 1.0])
def test_warmup_sets_how_long_beta_rises(warmup):
    rise = round(warmup * 40)
    assert beta_at(rise - 1, 40, 1.0, warmup=warmup) == pytest.approx((rise - 1) / rise)
    assert beta_at(rise, 40, 1.0, warmup=warmup) == 1.0


def test_a_fit_of_one_epoch_and_a_fit_without_warmup_use_the_whole_beta():
    assert beta_at(0, max_iter=1, beta=0.7) == 0.7
    assert beta_at(0, max_iter=100, beta=0.7, warmup=0.0) == 0.7


def test_beta_does_not_depend_on_what_was_asked_before():
    assert beta_at(7, 100, 1.0) == beta_at(7, 100, 1.0) == pytest.approx(7 / 30)


@pytest.mark.parametrize(("max_iter", "first"), [(5, 3), (20, 3), (30, 3), (100, 10)])
def test_free_bits_begin_after_a_tenth_of_the_epochs_and_three_at_least(max_iter, first):
    floors = [free_bits_at(epoch, max_iter, 0.01) for epoch in range(max_iter)]
    assert floors == [0.0] * first + [0.01] * (max_iter - first)


def test_free_bits_charge_the_floor_and_spare_the_components_under_it():
    kl = torch.tensor([0.001, 0.5, -0.002], requires_grad=True)
    charged = apply_free_bits(kl, 0.01)
    charged.sum().backward()
    torch.testing.assert_close(charged.detach(), torch.tensor([0.01, 0.5, 0.01]))
    torch.testing.assert_close(kl.grad, torch.tensor([0.0, 1.0, 0.0]))


def test_no_free_bits_change_nothing():
    kl = torch.tensor([0.001, -0.002])
    assert torch.equal(apply_free_bits(kl, 0.0), kl)


def test_loss_terms_keep_the_graph_of_the_loss_only():
    weight = torch.ones(3, requires_grad=True)
    kl = weight.square()
    terms = LossTerms(loss=kl.sum(), parts={"kl_per_component": kl})
    assert terms.loss.requires_grad
    assert not terms.parts["kl_per_component"].requires_grad
    assert terms.parts["kl_per_component"].shape == (3,)
    assert LossTerms(loss=kl.sum()).parts == {}
