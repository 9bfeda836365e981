"""Slots of the sequential skeleton: what reaches what, and what must not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sequential_cases import MODELS, lfads, network_and_batch, spikes
from torch import nn

from skneurovae.networks.controller import Controller, closed_loop
from skneurovae.networks.recurrent import Reader, advance, delay, reverse

LENGTHS = torch.tensor([6, 4])


def naive(controller, generator, to_factors, state, data, stimulus, noise, keep):
    """The closed loop as it is written down, one cell at a time."""
    first, n = stimulus.shape[1] - data.shape[1], noise.shape[-1]
    hidden = controller.start.expand(len(state), -1)
    factor = (state * keep[1][0]) @ to_factors.T
    made = [[], [], [], []]

    def cell(rnn, values, hidden):
        weights = (rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, rnn.bias_hh_l0)
        return torch.gru_cell(values, hidden, *weights)

    for t in range(stimulus.shape[1]):
        u = torch.zeros(len(state), n, dtype=state.dtype)
        if (s := t - first) >= 0:
            seen = torch.cat([data[:, s], factor * keep[0][s]], 1)
            hidden = cell(controller.rnn, seen, hidden)
            mean, spread = controller.to_moments(hidden).chunk(2, 1)
            spread = 8 * torch.tanh(spread / 8)
            u = mean + torch.exp(0.5 * spread) * noise[:, s]
            made[0].append(torch.cat([mean, spread], 1))
            made[1].append(u)
        state = cell(generator, torch.cat([u, stimulus[:, t]], 1), state)
        factor = (state * keep[1][t + 1]) @ to_factors.T
        made[2].append(state)
        made[3].append(factor)
    return [torch.stack(pieces, 1) for pieces in made]


@pytest.mark.parametrize("first", [0, 3, 8])
@pytest.mark.parametrize("n_stimuli", [0, 2])
def test_the_closed_loop_and_its_gradient(first, n_stimuli):
    torch.manual_seed(0)
    double = {"dtype": torch.float64}
    B, T, K, G, U = 3, 9, 4, 5, 2
    controller = Controller(6, K, 7, U).double()
    generator = nn.GRU(U + n_stimuli, G).double()
    for value in controller.parameters():
        nn.init.normal_(value)
    tensors = [torch.randn(K, G, **double), torch.randn(B, G, **double),
               torch.randn(B, T - first, 6, **double)]  # fmt: skip
    tensors = [t.requires_grad_() for t in tensors]
    rest = (
        torch.randn(B, T, n_stimuli, **double), torch.randn(B, T - first, U, **double),
        (torch.rand(T - first, B, K, **double), torch.rand(T + 1, B, G, **double)),
    )  # fmt: skip
    weights = [*controller.parameters(), *generator.parameters(), *tensors]
    results = []
    for loop in (closed_loop, naive):
        made = loop(controller, generator, *tensors, *rest)
        torch.manual_seed(1)
        total = sum((piece * torch.randn(piece.shape, **double)).sum() for piece in made)
        results.append((made, torch.autograd.grad(total, weights)))
    for ours, theirs in zip(*results):
        for a, b in zip(ours, theirs):
            torch.testing.assert_close(a, b)


def test_a_generator_without_controller_is_the_same_machine():
    """Open loop along what the controller inferred makes the states of the closed loop."""
    network, batch = network_and_batch("lfads")
    path = network.mean_path(batch)
    again = network.unroll(path.static_sample, path.sample, network.stimulus(batch))
    torch.testing.assert_close(again, path.factors)


def test_both_directions_end_with_the_trial():
    torch.manual_seed(0)
    values = torch.randn(2, 6, 3)
    assert torch.equal(reverse(values, LENGTHS)[1, :4], values[1, :4].flip(0))
    assert (reverse(values, LENGTHS)[1, 4:] == 0).all()
    reader = Reader(3, 5, "gru")
    both = nn.GRU(3, 5, batch_first=True, bidirectional=True)
    for direction, suffix in zip(reader.directions, ("", "_reverse")):
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            getattr(both, name + suffix).data.copy_(getattr(direction, name))
    packed = nn.utils.rnn.pack_padded_sequence(values, LENGTHS, batch_first=True)
    expected, _ = nn.utils.rnn.pad_packed_sequence(both(packed)[0], batch_first=True)
    streams = reader(values, LENGTHS)
    torch.testing.assert_close(streams[0][1, :4], expected[1, :4, :5])
    torch.testing.assert_close(streams[1], expected[..., 5:])
    ends = torch.cat([expected[1, 3, :5], expected[1, 0, 5:]])
    torch.testing.assert_close(reader.summary(values, LENGTHS)[1], ends)


def test_lags_are_zero_beyond_the_ends_of_each_trial():
    values = torch.arange(1.0, 13).reshape(2, 6, 1)
    late, early = delay(values, 1, LENGTHS)[..., 0], advance(values, 1, LENGTHS)[..., 0]
    assert late.tolist() == [[0, 1, 2, 3, 4, 5], [0, 7, 8, 9, 0, 0]]
    assert early.tolist() == [[2, 3, 4, 5, 6, 0], [8, 9, 10, 0, 0, 0]]
    assert (advance(values, 9, LENGTHS) == 0).all()


def reached(network, batch, window, t, output):
    """Time steps of an output that a change of the counts at `t` reaches."""
    with torch.no_grad():
        before = output(network.mean_path(batch))
        traces = batch.traces.clone()
        traces[window, t] += 3.0
        after = output(network.mean_path(replace(batch, traces=traces)))
    changed = (before != after).any(-1)[window]
    return changed.nonzero()[:, 0].tolist() if changed.ndim else bool(changed)


def test_factorized_dsae_infers_each_step_from_itself():
    network, batch = network_and_batch("dsae factorized")
    for t in (0, 4, 9):
        assert reached(network, batch, 0, t, lambda p: p.dynamic.mean) == [t]
    values = network.inputs(batch)[0]
    lengths = batch.valid.sum(1)
    a, b = (network.dynamic_encoder(values, f, lengths).mean for f in torch.randn(2, 3, 2))
    assert torch.equal(a, b)


def test_full_dsae_infers_each_step_from_the_trial_and_f():
    network, batch = network_and_batch("dsae full")
    assert reached(network, batch, 0, 4, lambda p: p.dynamic.mean) == list(range(10))
    values, lengths = network.inputs(batch)[0], batch.valid.sum(1)
    statics = torch.randn(2, 3, 2, dtype=torch.float64)
    a, b = (network.dynamic_encoder(values, f, lengths).mean for f in statics)
    assert (a != b).any(-1).all()


def test_the_decoder_of_dsae_has_no_memory():
    network, batch = network_and_batch("dsae full")
    path = network.mean_path(batch)
    z = path.sample.clone()
    z[:, 3] += 1
    factors = network.unroll(path.static_sample, z, network.stimulus(batch))
    assert (factors != path.factors).any(-1).any(0).nonzero()[:, 0].tolist() == [3]


@pytest.mark.parametrize("name", ["dsae full", "lfads"])
def test_static_latents_see_the_first_steps_alone(name):
    network, batch = network_and_batch(name, static_length=4)
    seen = [reached(network, batch, 0, t, lambda p: p.static.mean) for t in range(10)]
    assert seen == [True] * 4 + [False] * 6
    network, batch = network_and_batch(name)
    assert all(reached(network, batch, 0, t, lambda p: p.static.mean) for t in range(10))


def test_inferred_inputs_begin_behind_the_static_steps():
    """None before, so that none is inferred from later steps that the initial condition saw.

    The controller reads no count of the static steps; it learns of them from the factors alone.
    """
    network, batch = network_and_batch("lfads", static_length=4)
    path = network.mean_path(batch)
    assert (path.dynamic.mean[:, :4] == 0).all()
    assert (path.sample[:, 4:] != 0).any(-1).all()
    assert not path.steps[:, :4].any()
    for t in (0, 3, 6):
        steps = reached(network, batch, 0, t, lambda p: p.dynamic.mean)
        assert steps == list(range(4, 10))
    lengths = batch.valid.sum(1)
    before = network.dynamic_encoder(network.inputs(batch)[0], None, lengths).data
    assert before.shape[1] == 6
    for t in range(10):
        traces = batch.traces.clone()
        traces[0, t] += 3.0
        values = network.inputs(replace(batch, traces=traces))[0]
        read = network.dynamic_encoder(values, None, lengths).data
        assert torch.equal(read, before) == (t < 4)


def test_causal_models_do_not_look_ahead():
    network, batch = network_and_batch("lfads causal")  # the first four steps are static
    for t in (4, 7, 9):
        assert reached(network, batch, 0, t, lambda p: p.factors) == list(range(t + 1, 10))
    network, batch = network_and_batch("dsae full", causal=True, static_length=4)
    for t in (4, 7):
        assert reached(network, batch, 0, t, lambda p: p.factors) == list(range(t, 10))


def test_segments_have_one_vector_of_each_kind():
    network, batch = network_and_batch("fhvae")
    path = network.mean_path(batch)
    assert path.static.mean.shape == (3, 2)
    assert path.dynamic.mean.shape == (3, 1, 2)
    assert path.steps.all()


@pytest.mark.parametrize("name", MODELS)
def test_padding_never_matters(name):
    network, batch = network_and_batch(name)
    assert not batch.valid[2, 7:].any()
    traces = batch.traces.clone()
    traces[2, 7:] = torch.nan
    spoiled = replace(batch, traces=traces, shown=batch.shown | ~batch.valid[..., None])
    alone = batch.take(torch.tensor([2]))
    alone = replace(alone, **{
        k: v[:, :7]
        for k, v in vars(alone).items()
        if torch.is_tensor(v) and v.ndim > 1 and v.shape[1] == 10
    })  # fmt: skip
    for ask in (network.predictive, network.encode):
        with torch.no_grad():
            whole, odd, short = ask(batch), ask(spoiled), ask(alone)
        for a, b, c in zip(whole, odd, short):
            torch.testing.assert_close(a[2, :7], b[2, :7])
            torch.testing.assert_close(a[2:, :7], c)
    with torch.no_grad():
        torch.testing.assert_close(network.bound(batch)[2:, :7], network.bound(alone))
        assert (network.bound(batch)[2, 7:] == 0).all()
    torch.manual_seed(0)
    loss = network.loss(batch).loss
    torch.manual_seed(0)
    assert torch.equal(network.loss(spoiled).loss, loss)


@pytest.mark.parametrize("name", MODELS)
def test_hidden_counts_never_influence_anything_but_their_own_fit(name):
    network, batch = network_and_batch(name)
    shown = batch.shown.clone()
    shown[0, 3:6, :4] = False
    hidden = replace(batch, shown=shown)
    traces = torch.where(shown, batch.traces, 50.0)
    with torch.no_grad():
        a, b = network.predictive(hidden)[0], network.predictive(replace(hidden, traces=traces))[0]
        assert torch.equal(a, b)
        assert not torch.equal(a, network.predictive(batch)[0])  # but what is shown does
        missing = replace(batch, observed=shown, shown=shown)
        assert torch.equal(network.predictive(missing)[0], a)


@pytest.mark.parametrize("name", ["lfads", "dsae full", "fhvae"])
def test_dropped_counts_reach_neither_encoder_and_alone_are_fitted(name):
    network, batch = network_and_batch(name, coordinated_dropout=0.4, dropout=0.0)
    network.train()
    torch.manual_seed(0)
    values, kept = network.inputs(batch)
    assert 0.3 < 1 - kept[batch.observed].double().mean() < 0.5
    torch.manual_seed(0)
    traces = torch.where(kept, batch.traces, 50.0)
    assert torch.equal(network.inputs(replace(batch, traces=traces))[0], values)
    # The loss depends on dropped entries, and on kept ones through the encoders alone.
    seen = []
    original = network.likelihood.log_prob

    def log_prob(traces, *parameters):
        result = original(traces, *parameters)
        result.requires_grad and result.register_hook(lambda g: seen.append(g))
        return result

    network.likelihood.log_prob = log_prob
    torch.manual_seed(0)
    network.loss(batch).loss.backward()
    assert (seen[0][kept] == 0).all()
    assert (seen[0][batch.observed & ~kept] != 0).all()
    network.eval()
    assert network.inputs(batch)[1].sum() == batch.observed.sum()  # lifted at inference


def test_both_encoders_read_the_same_values():
    network, batch = network_and_batch("lfads", coordinated_dropout=0.4)
    network.train()
    got = []
    network.static_encoder.register_forward_pre_hook(lambda _, inputs: got.append(inputs[0]))
    network.dynamic_encoder.register_forward_pre_hook(lambda _, inputs: got.append(inputs[0]))
    network.loss(batch)
    assert got[0] is got[1]


def test_dropout_keeps_the_mean_of_the_input():
    network, batch = network_and_batch("lfads", coordinated_dropout=0.5, dropout=0.0)
    expected = network.inputs(batch)[0]
    network.train()
    torch.manual_seed(0)
    mean = sum(network.inputs(batch)[0] for _ in range(3000)) / 3000
    assert (mean - expected).abs().mean() < 0.05 * expected.abs().mean()


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_minus_the_bound(name):
    """With weights of one, without dropout, on average over draws of the posterior."""
    network, batch = network_and_batch(name, dropout=0.0, coordinated_dropout=0.0)
    network.beta_static = network.beta_dynamic = 1.0
    network.n_samples = 2000
    n = batch.observed.sum()
    with torch.no_grad():
        bound = -network.bound(batch).sum() / n
        torch.manual_seed(0)
        losses = torch.stack([network.loss(batch).loss for _ in range(300)])
    assert abs(losses.mean() - bound) < 5 * losses.std() / 300**0.5 + 0.01 * abs(bound)


def test_free_bits_and_weights():
    network, batch = network_and_batch("lfads", free_bits=0.3, dropout=0.0)
    network.anneal(0, 10)
    assert network.ramp == network.free_bits == 0
    torch.manual_seed(0)
    start = network.loss(batch)
    torch.testing.assert_close(start.loss, start.parts["nll"])
    network.anneal(9, 10)
    assert (network.ramp, network.free_bits) == (1.0, 0.3)
    kl = torch.tensor([[0.1, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(network._charge(kl, 1), torch.tensor(2.3, dtype=torch.float64))


def test_recurrent_l2_is_the_mean_square_of_two_kernels():
    network, batch = network_and_batch("lfads", recurrent_l2=2.0)
    weights = [network.generator.rnn, network.dynamic_encoder.controller.rnn]
    weights = torch.cat([rnn.weight_hh_l0.flatten() for rnn in weights])
    expected = weights.square().mean()
    torch.testing.assert_close(network.loss(batch).parts["recurrent_l2"], expected.detach())


def test_states_of_a_generator_stay_within_the_clip():
    network, batch = network_and_batch("lfads")
    with torch.no_grad():
        network.generator.to_start.weight.mul_(1e4)
        assert network.mean_path(batch).states.abs().max() <= 5.0


def test_factors_do_not_depend_on_the_length_of_their_map():
    network, batch = network_and_batch("lfads")
    before = network.mean_path(batch).factors
    with torch.no_grad():
        network.generator.to_factors.mul_(7.0)
    torch.testing.assert_close(network.mean_path(batch).factors, before)


def test_read_outs_start_at_the_log_of_the_mean_count():
    trials = spikes(4)
    trials[0][:, 0] = trials[1][:, 0] = trials[2][:, 0] = trials[3][:, 0] = 0
    model = lfads(max_iter=1, learning_rate=1e-12, early_stopping=False).fit(trials)
    means = np.concatenate(trials).mean(0)
    np.testing.assert_allclose(
        model.network_.bias.detach(), np.log(np.maximum(means, 1e-3)), rtol=1e-4
    )


@pytest.mark.parametrize("name", ["lfads", "dsae full", "fhvae"])
def test_draws_of_static_and_dynamic_latents_are_independent(name):
    """A sample of the posterior pairs each f with a z that knows nothing of its noise."""
    network, batch = network_and_batch(name)
    network.n_samples = 400
    ((path, _),) = network._paths(batch)

    def noise(drawn, normal):
        mean, spread = drawn.mean(1, keepdim=True), normal.std.mean(1, keepdim=True)
        return ((drawn - mean) / spread)[0].flatten(1)

    f = noise(path.static_sample, path.static)
    z = (path.sample - path.dynamic.mean) / path.dynamic.std
    z = torch.where(path.steps[..., None], z, 0.0)[0].flatten(1)
    f, z = f / f.norm(dim=0), z / z.norm(dim=0).clamp(min=1e-9)
    assert (f.T @ z).abs().max() < 0.3


def test_nothing_is_inferred_before_the_controller_begins():
    network, batch = network_and_batch("lfads", static_length=4)
    with torch.no_grad():
        made = network.infer(batch)
    assert (made["dynamic_mean"][:, :4] == 0).all()
    assert (made["dynamic_std"][:, :4] == 0).all()
    assert (made["dynamic_std"][0, 4:] > 0).all()


@pytest.mark.parametrize("name", ["lfads", "dsae full", "fhvae"])
def test_divergences_are_taken_in_full_precision(name):
    network, batch = network_and_batch(name)
    network.float()
    floats = {k: v.float() for k, v in vars(batch).items()
              if torch.is_tensor(v) and v.is_floating_point()}  # fmt: skip
    batch = replace(batch, **floats)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values, stimulus = network.inputs(batch)[0], network.stimulus(batch)
        path = network.run(values, batch.valid, stimulus, *network._noise(batch.valid))
    for posterior in (path.static, path.dynamic):
        assert posterior.mean.dtype == posterior.log_variance.dtype == torch.float32
