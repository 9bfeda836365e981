"""Attention over time: what it sees, what it cannot see, and in which precision."""

import threading

import pytest
import torch
from torch.nn import functional as F

from skneurovae.common.randomness import seeded
from skneurovae.networks.attention import (
    RotaryPositions,
    TemporalTransformer,
    attend,
    twice_differentiable,
    visible_steps,
)

DIM, LENGTH = 16, 9


def make(causal=False, dtype=torch.float64, seed=0, **options):
    torch.manual_seed(seed)
    options = {"n_layers": 2, "n_heads": 4, "dropout": 0.0, **options}
    return TemporalTransformer(DIM, causal=causal, **options).to(dtype).eval()


def features(n_windows=2, length=LENGTH, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_windows, length, DIM, generator=generator, dtype=torch.float64).to(dtype)


def reach(model, x, valid, t):
    """Time steps whose output changes with the input of step t of the first window."""
    changed = x.clone()
    changed[0, t, 0] += 1.0  # one feature: layer norms do not see all of them move
    return (model(changed, valid) - model(x, valid)).abs().amax(-1)[0] > 1e-9


def test_rotation_is_by_one_radian_per_step_and_slower_for_later_pairs():
    x = torch.zeros(3, 4, dtype=torch.float64)
    x[:, 0] = x[:, 1] = 1.0  # first feature of either pair
    steps = torch.arange(3, dtype=torch.float64)
    cos = torch.stack([steps.cos(), (steps / 100).cos()], -1)
    sin = torch.stack([steps.sin(), (steps / 100).sin()], -1)
    torch.testing.assert_close(RotaryPositions(4)(x), torch.cat([cos, sin], -1))


def test_products_of_rotated_features_depend_on_the_distance_alone():
    rotate = RotaryPositions(DIM)
    query, key = features()[:, :1].expand(-1, 40, -1)
    products = rotate(query) @ rotate(key).T
    for lag in (-7, 0, 5):
        line = products.diagonal(lag)
        torch.testing.assert_close(line, line[:1].expand_as(line))
    assert not torch.isclose(products[0, 0], products[0, 1])


def test_rotation_of_late_steps_keeps_its_digits_in_half_precision():
    x = torch.ones(4000, DIM)
    exact = RotaryPositions(DIM)(x)
    half = RotaryPositions(DIM)(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, atol=0.01, rtol=0.01)


def test_odd_dimensions_cannot_be_rotated():
    with pytest.raises(ValueError, match=r"dim must be even.*got 3"):
        RotaryPositions(3)


@pytest.mark.parametrize(("n_heads", "d_model"), [(3, 16), (16, 16)])
def test_heads_must_divide_the_model_into_even_sizes(n_heads, d_model):
    with pytest.raises(ValueError, match=f"n_heads={n_heads} must divide d_model={d_model}"):
        TemporalTransformer(d_model, 1, n_heads, 0.0, causal=False)


def test_visible_steps_are_valid_earlier_and_always_the_step_itself():
    valid = torch.tensor([[True, True, False]])
    assert visible_steps(valid, causal=False)[0].tolist() == [
        [True, True, False],
        [True, True, False],
        [True, True, True],
    ]
    assert visible_steps(valid, causal=True)[0].tolist() == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_every_step_reaches_every_step():
    valid = torch.ones(2, LENGTH, dtype=torch.bool)
    for t in (0, 4, LENGTH - 1):
        assert reach(make(), features(), valid, t).all()


def test_causal_attention_reaches_later_steps_only():
    valid = torch.ones(2, LENGTH, dtype=torch.bool)
    for t in range(LENGTH):
        reached = reach(make(causal=True), features(), valid, t)
        assert reached.tolist() == [s >= t for s in range(LENGTH)]


def test_order_of_time_matters():
    model, x = make(), features()
    valid = torch.ones(2, LENGTH, dtype=torch.bool)
    assert not torch.allclose(model(x.flip(1), valid).flip(1), model(x, valid))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("garbage", [0.0, 1e6, torch.nan, torch.inf])
@pytest.mark.parametrize("lead", [0, 3])
def test_padding_does_nothing(causal, garbage, lead):
    model, x = make(causal), features()
    alone = model(x, torch.ones(2, LENGTH, dtype=torch.bool))
    padded = torch.full((2, LENGTH + 8, DIM), garbage, dtype=x.dtype)
    valid = torch.zeros(2, LENGTH + 8, dtype=torch.bool)
    padded[:, lead : lead + LENGTH], valid[:, lead : lead + LENGTH] = x, True
    padded.requires_grad_()
    result = model(padded, valid)
    torch.testing.assert_close(result[:, lead : lead + LENGTH], alone, rtol=1e-9, atol=1e-9)
    assert torch.isfinite(result).all()
    (gradient,) = torch.autograd.grad(result.square().sum(), padded)
    assert torch.isfinite(gradient).all()
    assert (gradient[~valid] == 0).all()


def test_windows_do_not_mix_and_one_without_any_valid_step_stays_finite():
    model, x = make(), features()
    valid = torch.ones(2, LENGTH, dtype=torch.bool)
    alone = model(x[:1], valid[:1])
    valid[1] = False
    result = model(x, valid)
    torch.testing.assert_close(result[:1], alone)
    assert torch.isfinite(result).all()


def test_result_is_the_same_in_single_precision_and_near_in_bf16():
    valid = torch.ones(2, LENGTH, dtype=torch.bool)
    exact = make()(features(), valid)
    single = make(dtype=torch.float32)(features(dtype=torch.float32), valid)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = make(dtype=torch.float32)(features(dtype=torch.float32), valid)
    difference = (half.double() - exact).abs().max()
    assert 1e-4 < difference < 0.1  # rounded, so autocast was on; but no more than that


def test_dropout_acts_in_training_only():
    model, x = make(dropout=0.5), features()
    valid = torch.ones(2, LENGTH, dtype=torch.bool)
    assert torch.equal(model(x, valid), model(x, valid))
    model.train()
    assert not torch.allclose(model(x, valid), model(x, valid))


def test_without_padding_no_mask_is_needed():
    model, x = make(), features()
    valid = torch.ones(2, LENGTH, dtype=torch.bool)
    torch.testing.assert_close(model(x, valid, padded=False), model(x, valid))
    causal = make(causal=True)
    torch.testing.assert_close(causal(x, valid, padded=False), causal(x, valid))


def test_every_weight_is_used():
    model, x = make(), features()
    result = model(x, torch.ones(2, LENGTH, dtype=torch.bool))
    (result.square() * features(seed=2)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


# -- weights that are dropped, and second derivatives ------------------------------------------


def heads(seed=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    valid = torch.rand(2, LENGTH, generator=generator) < 0.7
    visible = visible_steps(valid, causal=True)[:, None]
    return (*torch.randn(3, 2, 4, LENGTH, 6, generator=generator, dtype=dtype), visible)


@pytest.mark.parametrize("masked", [True, False])
def test_attention_written_out_is_the_fused_one(masked):
    *qkv, visible = heads()
    visible = visible if masked else None
    fused = attend(*qkv, visible)
    with twice_differentiable():
        written = attend(*qkv, visible)
    torch.testing.assert_close(written, fused, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(fused, F.scaled_dot_product_attention(*qkv, attn_mask=visible))


def test_dropped_attention_weights_are_zero_or_larger_and_follow_the_seed():
    query, key, _, visible = heads()
    eye = torch.eye(LENGTH, dtype=query.dtype).expand(*query.shape[:2], -1, -1)  # gives the weights
    kept = attend(query, key, eye, visible)
    draws = []
    for seed in range(300):
        with seeded(seed):
            draws.append(attend(query, key, eye, visible, 0.25))
    with seeded(5):
        assert torch.equal(attend(query, key, eye, visible, 0.25), draws[5])
    draws = torch.stack(draws)
    dropped = draws == 0
    torch.testing.assert_close(draws, torch.where(dropped, 0.0, kept / 0.75))
    share = dropped.double().mean(0)[kept > 0]
    spread = (0.25 * 0.75 / len(draws)) ** 0.5
    assert abs(share.mean().item() - 0.25) < 4 * spread / len(share) ** 0.5
    assert (share - 0.25).abs().max() < 5 * spread  # each weight by itself


def test_second_derivatives_are_asked_for_in_one_thread_alone():
    *qkv, visible = heads()

    def smooth(*qkv):
        with twice_differentiable():
            return attend(*qkv, visible)

    small = [tensor[:1, :1, :4].clone().requires_grad_() for tensor in qkv]
    visible = visible[:1, :, :4, :4]
    assert torch.autograd.gradgradcheck(smooth, small)
    found = []
    with twice_differentiable():
        thread = threading.Thread(target=lambda: found.append(attend(*qkv, None)))
        thread.start()
        thread.join()
    assert torch.equal(found[0], F.scaled_dot_product_attention(*qkv))
