"""PooledNetwork: the published results from published weights, without the published defects."""

import pytest
import torch
from published import PublishedNetwork

from skneurovae.networks.pooled import PooledNetwork
from skneurovae.recordings.batches import Batch

V, B, T, N, Q, K = 12, 3, 14, 7, 2, 4
SMALL = {"n_components": K, "token_dim": 8, "model_dim": 16, "embedding_dim": 6, "n_layers": 2}


def make(seed=0, n_behaviors=Q, dtype=torch.float64, **options):
    """Small network in evaluation; nothing of it is left at zero, so that everything acts."""
    torch.manual_seed(seed)
    options = {**SMALL, "decoder_hidden": 20, "dropout": 0.0, **options}
    network = PooledNetwork(V, n_behaviors, **options).to(dtype).eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if "missing" in name or name.endswith("offset") or name == "log_scale":
                tensor.copy_(0.5 * torch.randn_like(tensor))
            elif name.endswith("scale"):
                tensor.copy_(torch.exp(0.3 * torch.randn_like(tensor)))
    return network


def make_batch(seed=1, n_behaviors=Q, dtype=torch.float64, missing=0.2, **changes):
    """Windows with a fifth of all entries missing, NaN there, and one neuron unknown in each."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        values = torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
        seen = torch.rand(*shape, generator=generator) >= missing
        return values.masked_fill(~seen, torch.nan), seen

    traces, observed = numbers(B, T, N)
    behavior, behavior_observed = numbers(B, T, n_behaviors)
    neurons = torch.stack([torch.randperm(V, generator=generator)[:N] for _ in range(B)])
    if missing:
        neurons[:, -1] = -1
        observed = observed & (neurons >= 0)[:, None]
    fields = {
        "traces": traces, "observed": observed, "behavior": behavior,
        "behavior_observed": behavior_observed, "stimulus": traces.new_zeros(B, T, 0),
        "neurons": neurons, "valid": torch.ones(B, T, dtype=torch.bool),
        "recording": torch.zeros(B, dtype=torch.int64), "start": torch.zeros(B, dtype=torch.int64),
    }  # fmt: skip
    return Batch(**{**fields, **changes})


def results(network, batch):
    """Latents, their log variances, and the traces they decode to."""
    with torch.no_grad():
        mean, log_variance = network.encode(batch)
        return mean, log_variance, network.decode(mean, batch)[0]


def same(ours, theirs):
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


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
        cut = Batch(
            **{
                name: tensor[window : window + 1, :length] if tensor.shape[1:2] == (T,)
                else tensor[window : window + 1]
                for name, tensor in vars(batch).items()
            }
        )  # fmt: skip
        same(results(network, cut), [r[window : window + 1, :length] for r in together])


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


# -- training --------------------------------------------------------------------------------


def test_loss_is_minus_the_bound_per_observed_entry():
    network = make(beta=1.0, free_bits=0.0)
    batch = make_batch(missing=0.0)
    shown = torch.rand(B, T, N, generator=torch.Generator().manual_seed(3)) < 0.7
    batch.shown = shown
    torch.manual_seed(7)
    terms = network.loss(batch)
    mean, log_variance = network.encode(batch)
    torch.manual_seed(7)
    noise = torch.randn_like(mean)
    latents = mean + noise * torch.exp(log_variance / 2)
    location, log_scale = network.decode(latents, batch)
    log_prob = torch.distributions.Normal(location, log_scale.exp()).log_prob(batch.traces)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    n = B * T * N
    torch.testing.assert_close(terms.loss, (kl.sum() - log_prob.sum()) / n)
    torch.testing.assert_close(terms.parts["hidden"], -log_prob[~shown].sum() / n)
    torch.testing.assert_close(terms.parts["kl_per_component"], kl.mean((0, 1)))


@pytest.mark.parametrize("likelihood", ["gaussian", "huber", "poisson", "negative_binomial"])
@pytest.mark.parametrize("n_behaviors", [0, Q])
def test_every_weight_learns(likelihood, n_behaviors):
    network = make(likelihood=likelihood, n_behaviors=n_behaviors).train()
    batch = make_batch(n_behaviors=n_behaviors)
    if network.likelihood.is_count:
        batch.traces = batch.traces.square().round()
        network.offset.fill_(0.7)
    terms = network.loss(batch)
    terms.loss.backward()
    assert torch.isfinite(terms.loss)
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_rates_of_counts_are_relative_to_the_mean_count():
    network, batch = make(likelihood="poisson"), make_batch()
    network.offset.fill_(1.0)
    latents = torch.randn(B, T, K, dtype=torch.float64)
    one = network.likelihood.mean(*network.decode(latents, batch))
    network.offset.fill_(0.25)
    torch.testing.assert_close(network.likelihood.mean(*network.decode(latents, batch)), one / 4)
    network.scale.fill_(7.0)  # of the encoder's input only
    torch.testing.assert_close(network.likelihood.mean(*network.decode(latents, batch)), one / 4)
    network.offset.zero_()  # silent
    assert torch.isfinite(network.decode(latents, batch)[0]).all()


def test_dropped_behavior_is_missing_behavior_one_coin_per_window_and_channel():
    network = make(behavior_dropout=0.5)
    latents = torch.randn(1, 1, K, dtype=torch.float64).expand(B, T, -1)
    behavior, seen = torch.ones(B, T, Q).double(), torch.ones(B, T, Q, dtype=torch.bool)
    neurons = torch.arange(N).expand(B, -1)

    def decode(seen):
        return network.decode(
            latents, make_batch(behavior=behavior, behavior_observed=seen, neurons=neurons)
        )[0]

    subsets = torch.cartesian_prod(*[torch.tensor([False, True])] * Q)
    possible = torch.stack([decode(seen & kept)[0] for kept in subsets])
    network.train()
    torch.manual_seed(0)
    drawn = torch.cat([decode(seen) for _ in range(100)])
    # Which of the four possible results, (draws, results): exactly one, for all time steps at once.
    match = torch.isclose(drawn[:, None], possible).all(-1).all(-1)
    assert (match.sum(1) == 1).all()
    assert (match.view(100, B, -1) != match.view(100, B, -1)[:, :1]).any()  # between windows
    shares = match.double().mean(0)
    assert (shares - 0.25).abs().max() < 0.1
    network.behavior_dropout = 0.0
    torch.testing.assert_close(decode(seen)[0], possible[-1])


def test_latents_are_repeatable_in_evaluation():
    network, batch = make(dropout=0.3), make_batch()
    same(results(network, batch), results(network, batch))


def test_window_in_pieces_is_the_window_as_a_whole(monkeypatch):
    network, batch = make().train(), make_batch()
    found = []
    for limit in (1, 500, 2**20):  # one time step at a time, some, all
        monkeypatch.setattr("skneurovae.networks.pooled._CPU_UNITS", limit)
        torch.manual_seed(0)
        network.zero_grad()
        loss = network.loss(batch).loss
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in network.parameters())])
    same(found[0], found[2])
    same(found[1], found[2])


def test_bf16_training_is_near_single_precision():
    network, batch = make(dtype=torch.float32), make_batch(dtype=torch.float32)
    losses = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = network.loss(batch).loss
            assert network.encode(batch)[0].dtype == torch.float32
        loss.backward()
        losses.append(loss.item())
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_annealing_raises_beta_and_switches_on_free_bits():
    network = make(beta=0.4, free_bits=0.1)
    schedule = []
    for epoch in (0, 15, 30, 99):
        network.anneal(epoch, 100)
        schedule += [network.beta, network.free_bits]
    assert schedule == pytest.approx([0.0, 0.0, 0.2, 0.1, 0.4, 0.1, 0.4, 0.1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_dim": 17, "n_heads": 1}, "model_dim must be even.*got 17"),
        ({"model_dim": 16, "n_heads": 3}, "n_heads=3 must divide model_dim=16"),
    ],
)
def test_sizes_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
