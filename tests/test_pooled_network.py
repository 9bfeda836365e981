"""PooledNetwork: the published results from published weights, without the published defects."""

from dataclasses import replace

import pytest
import torch
from pooled_cases import SMALL, B, K, N, Q, T, V, make, make_batch, results, same
from published import PublishedNetwork

from skneurovae.networks.pooled import PooledNetwork
from skneurovae.recordings.batches import Batch

# -- the published network -------------------------------------------------------------------


def published(**options):
    torch.manual_seed(0)
    return PublishedNetwork(V, Q, **{**SMALL, "hidden": 20, **options}).eval()


@pytest.mark.parametrize("grad", [True, False])  # torch takes a fast path of its own without
def test_published_weights_give_the_published_results(grad):
    reference = published()
    network = PooledNetwork(V, Q, **SMALL, decoder_hidden=20).eval()
    network.load_state_dict(reference.state_dict())
    batch = make_batch(missing=0.0, dtype=torch.float32)
    with torch.set_grad_enabled(grad):
        expected = reference.encode(batch.traces, batch.behavior)
        traces = reference.decode(expected[0], batch.behavior, batch.neurons)
        mean, log_variance = network.encode(batch)
        location, _ = network.decode(mean, batch)
    for ours, theirs in zip((mean, log_variance, location), (*expected, traces)):
        assert theirs.std() > 0.01
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_published_weights_give_the_published_gradients():
    reference = published(dropout=0.0).double()
    network = PooledNetwork(V, Q, **SMALL, decoder_hidden=20, dropout=0.0).double()
    network.load_state_dict(reference.state_dict())
    network.eval()
    batch = make_batch(missing=0.0)
    mean, _ = reference.encode(batch.traces, batch.behavior)
    reference.decode(mean, batch.behavior, batch.neurons).square().sum().backward()
    mean, _ = network.encode(batch)
    network.decode(mean, batch)[0].square().sum().backward()
    ours = dict(network.named_parameters())
    for name, parameter in reference.named_parameters():
        if not name.startswith("to_logvar"):
            torch.testing.assert_close(ours[name].grad, parameter.grad, msg=name)


def test_default_sizes_are_the_published_ones():
    network = PooledNetwork(155, 3)
    added = {"log_scale", "beh_missing.weight", "dec_missing.weight"}
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    assert sum(size for name, size in sizes.items() if name not in added) == 3_352_851


def test_own_weights_load_strictly():
    network = make()
    state = network.state_dict()
    other = make(seed=5)
    other.load_state_dict(state)
    same(results(other, make_batch()), results(network, make_batch()))
    del state["log_scale"]
    with pytest.raises(RuntimeError, match="log_scale"):
        other.load_state_dict(state)


def test_published_weights_that_are_incomplete_do_not_load():
    state = published().state_dict()
    del state["to_mu.bias"]
    with pytest.raises(RuntimeError, match=r"to_mu\.bias"):
        make().load_state_dict(state)


# -- what acts, and what must not ------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
def test_every_shown_entry_acts(causal):
    network, batch = make(causal=causal), make_batch()
    mean, _, _ = results(network, batch)
    for name, seen in (("traces", batch.shown), ("behavior", batch.behavior_shown)):
        for index in seen.nonzero()[::23]:
            changed = getattr(batch, name).clone()
            changed[tuple(index)] += 1.0
            moved = results(network, make_batch(**{name: changed}))[0] - mean
            assert moved[index[0], index[1]].abs().max() > 1e-6


def test_no_hidden_missing_or_unknown_entry_acts():
    network = make()
    hidden = torch.rand(B, T, N, generator=torch.Generator().manual_seed(3)) < 0.4
    kept = torch.rand(B, T, Q, generator=torch.Generator().manual_seed(4)) < 0.6
    batch = make_batch()
    shown, behavior_shown = batch.observed & ~hidden, batch.behavior_observed & kept
    masks = {"shown": shown, "behavior_shown": behavior_shown}
    expected = results(network, make_batch(**masks))
    assert all(torch.isfinite(result).all() for result in expected)
    for garbage in (0.0, -1e6, torch.inf, torch.nan):
        changes = {
            "traces": batch.traces.masked_fill(~shown, garbage),
            "behavior": batch.behavior.masked_fill(~behavior_shown, garbage),
        }
        same(results(network, make_batch(**changes, **masks)), expected)


def test_missing_behavior_is_not_the_same_as_zero():
    network = make()
    zero = make_batch(behavior=torch.zeros(B, T, Q), behavior_observed=torch.ones(B, T, Q) > 0)
    seen = torch.ones(B, T, Q, dtype=torch.bool)
    seen[0, 3, 1] = False
    gap = make_batch(behavior=torch.zeros(B, T, Q), behavior_observed=seen)
    network.behavior_offset.zero_()  # so that 0 is what a missing entry is set to
    for (a, b), where in zip(zip(results(network, zero), results(network, gap)), [(0, 3)] * 3):
        assert (a[where] - b[where]).abs().max() > 1e-4
    # The decoder knows by itself.
    latents = torch.randn(B, T, K, dtype=torch.float64)
    moved = (network.decode(latents, zero)[0] - network.decode(latents, gap)[0]).abs()
    assert moved[0, 3].min() > 0
    moved[0, 3] = 0
    assert moved.max() == 0


def test_before_training_missing_behavior_is_zero():
    network = PooledNetwork(V, Q, **SMALL).double().eval()
    batch = make_batch()
    zero = make_batch(
        behavior=torch.where(batch.behavior_shown, batch.behavior, 0.0),
        behavior_observed=torch.ones(B, T, Q, dtype=torch.bool),
    )
    same(results(network, batch), results(network, zero))


@pytest.mark.parametrize("garbage", [0.0, torch.nan])
@pytest.mark.parametrize("causal", [False, True])
def test_padding_does_nothing(causal, garbage):
    network, batch = make(causal=causal), make_batch()
    expected = results(network, batch)

    def pad(name, *amounts, value):
        return torch.nn.functional.pad(getattr(batch, name), amounts, value=value)

    def padded():
        return Batch(
            traces=pad("traces", 0, 2, 0, 5, value=garbage),
            observed=pad("observed", 0, 2, 0, 5, value=False),
            behavior=pad("behavior", 0, 0, 0, 5, value=garbage),
            # Even if a flag in the padding were wrong.
            behavior_observed=pad("behavior_observed", 0, 0, 0, 5, value=True),
            stimulus=pad("stimulus", 0, 0, 0, 5, value=0.0),
            neurons=pad("neurons", 0, 2, value=-1),
            valid=pad("valid", 0, 5, value=False),
            recording=batch.recording,
            start=batch.start,
        )

    mean, log_variance, location = results(network, padded())
    same((mean[:, :T], log_variance[:, :T], location[:, :T, :N]), expected)
    assert all(torch.isfinite(result).all() for result in (mean, log_variance, location))
    torch.manual_seed(0)
    network.train()
    loss = network.loss(padded())
    loss.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_windows_do_not_mix_and_each_has_its_own_padding():
    network, batch = make(), make_batch()
    valid = torch.arange(T) < torch.tensor([[T], [5], [0]])
    masks = {"observed": batch.observed & valid[..., None], "valid": valid}
    together = results(network, make_batch(**masks))
    assert all(torch.isfinite(result).all() for result in together)
    for window in range(2):
        length = int(valid[window].sum())
        alone = batch.take(torch.tensor([window]))
        cut = {
            name: tensor[:, :length]
            for name, tensor in vars(alone).items()
            if torch.is_tensor(tensor) and tensor.shape[1:2] == (T,)
        }
        same(
            results(network, replace(alone, **cut)),
            [r[window : window + 1, :length] for r in together],
        )


def test_loss_does_not_depend_on_padded_neurons():
    network, batch = make(), make_batch()
    torch.manual_seed(0)
    expected = network.loss(batch).loss
    wide = make_batch(
        traces=torch.nn.functional.pad(batch.traces, (0, 3), value=torch.nan),
        observed=torch.nn.functional.pad(batch.observed, (0, 3)),
        neurons=torch.nn.functional.pad(batch.neurons, (0, 3), value=-1),
    )
    torch.manual_seed(0)
    torch.testing.assert_close(network.loss(wide).loss, expected)


@pytest.mark.parametrize("t", [0, 5, T - 1])
def test_causal_latents_and_traces_know_nothing_of_later(t):
    network, batch = make(causal=True), make_batch(missing=0.0)
    expected = results(network, batch)
    traces, behavior = batch.traces.clone(), batch.behavior.clone()
    traces[:, t] += 1.0
    behavior[:, t] -= 1.0
    changed = results(network, make_batch(missing=0.0, traces=traces, behavior=behavior))
    for a, b in zip(changed, expected):
        moved = (a - b).abs().amax(-1) > 1e-9
        assert not moved[:, :t].any()
        assert moved[:, t:].all()


def test_order_of_time_matters():
    network, batch = make(), make_batch(missing=0.0)
    reverse = make_batch(missing=0.0, traces=batch.traces.flip(1), behavior=batch.behavior.flip(1))
    assert not torch.allclose(results(network, reverse)[0].flip(1), results(network, batch)[0])


def test_neurons_are_told_apart_by_the_decoder():
    network, batch = make(), make_batch(missing=0.0)
    latents = torch.randn(B, T, K, dtype=torch.float64)
    location, log_scale = network.decode(latents, batch)
    order = torch.randperm(N)
    shuffled = network.decode(latents, make_batch(missing=0.0, neurons=batch.neurons[:, order]))
    torch.testing.assert_close(shuffled[0], location[:, :, order])
    torch.testing.assert_close(shuffled[1], log_scale[:, :, order])
    assert (location[:, :, 0] - location[:, :, 1]).abs().min() > 1e-6


def test_units_cancel():
    """Traces in other units give the same latents, and traces in those units."""
    network, batch = make(), make_batch()
    mean, log_variance, location = results(network, batch)
    log_scale = network.decode(mean, batch)[1]
    shift, stretch = 3.0, 10.0
    network.offset.mul_(stretch).add_(shift)
    network.scale.mul_(stretch)
    other = make_batch(traces=shift + stretch * batch.traces)
    same(results(network, other), (mean, log_variance, shift + stretch * location))
    moved = network.decode(mean, other)[1]
    torch.testing.assert_close(moved, log_scale + torch.tensor(stretch).double().log())
