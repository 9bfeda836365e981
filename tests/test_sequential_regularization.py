"""Free bits, dropout, weight decay, the ramp and the start of priors: each where it belongs."""

import numpy as np
import pytest
import torch
from sequential_cases import MODELS, lfads, network_and_batch, spikes

from skneurovae.networks import sequential_bricks
from skneurovae.networks.sequential import TABLES

TRIALS = spikes(6)
QUIET = {"dropout": 0.0, "coordinated_dropout": 0.0}


# Free bits


@pytest.mark.parametrize("name", ["lfads", "lfads causal", "dsae full", "dsae ar1", "fhvae"])
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_free_bits_reach_the_loss(name, kind):
    """Components under the floor are charged the floor, in nats per window or per time step."""
    network, batch = network_and_batch(name, beta_static=0.7, beta_dynamic=1.9, **QUIET)
    torch.manual_seed(0)
    path = network.run(
        network.inputs(batch)[0], batch.valid, network.stimulus(batch), *network._noise(batch.valid)
    )
    nats = {
        "static": network.static_kl(path, None).sum(0) / 3,
        "dynamic": network.dynamic_kl(path).sum(0) / path.steps.sum(),
    }
    network.free_bits = nats[kind].mean().item()  # above one component of two, below the other
    charged = {k: v.clamp(min=network.free_bits) for k, v in nats.items()}
    assert (charged[kind] > nats[kind]).sum() == 1
    assert network.free_bits > 1e-3
    torch.manual_seed(0)
    terms = network.loss(batch)
    n = batch.observed.sum()
    expected = terms.parts["nll"] + 0.7 * charged["static"].sum() * 3 / n
    expected = expected + 1.9 * charged["dynamic"].sum() * path.steps.sum() / n
    torch.testing.assert_close(terms.loss, expected)
    torch.testing.assert_close(terms.parts["kl_dynamic_per_component"], nats["dynamic"])


# Dropout


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_of_inputs_and_stimulus(rate):
    network, batch = network_and_batch("lfads", n_neurons=4, coordinated_dropout=0.0, dropout=rate)
    with torch.no_grad():
        network.read_in.copy_(torch.eye(4))
    known = network.inputs(batch)[0]
    network.stimulus_offset, network.stimulus_scale = torch.zeros(5), torch.ones(5)
    batch.stimulus = torch.ones(3, 10, 5, dtype=torch.float64)
    assert (network.stimulus(batch)[:2] == 1).all()
    network.train()
    torch.manual_seed(0)
    for read, full in [
        (network.inputs(batch)[0], known), (network.stimulus(batch), batch.stimulus),
    ]:  # fmt: skip
        read, full = read[:2], full[:2]  # the third is padded
        kept = read != 0
        torch.testing.assert_close(read[kept], (full / (1 - rate))[kept])
        assert abs(1 - kept[full != 0].double().mean() - rate) < 0.15


@pytest.mark.parametrize("name", ["lfads", "lfads causal", "lfads without controller"])
def test_dropout_of_the_generator(name):
    """Of states on their way to the factors, with and without controller."""
    network, batch = network_and_batch(name, n_neurons=4, dropout=0.0, coordinated_dropout=0.0)
    with torch.no_grad():
        network.generator.to_factors = torch.nn.Parameter(torch.eye(6, dtype=torch.float64))
        network.generator.dropout = 0.5
    if network.dynamic_dim:  # the controller gets as many factors
        controller = network.dynamic_encoder.controller
        rnn = torch.nn.GRU(controller.n_data + 6, 4).double()
        controller.rnn = rnn
    for training in (False, True):
        network.train(training)
        path = network.run(network.inputs(batch)[0], batch.valid, network.stimulus(batch))
        ratio = path.factors[:2] / path.states[:2]
        if not training:
            torch.testing.assert_close(ratio, torch.ones_like(ratio))
            continue
        kept = ratio != 0
        torch.testing.assert_close(ratio[kept], torch.full_like(ratio[kept], 2.0))
        assert 0.3 < kept.double().mean() < 0.7


def test_the_controller_sees_factors_with_dropout(monkeypatch):
    network, batch = network_and_batch("lfads", dropout=0.0, coordinated_dropout=0.0)
    network.generator.dropout, seen = 0.5, []
    loop = sequential_bricks.closed_loop

    def spy(*arguments):
        seen.append(arguments[-1])
        return loop(*arguments)

    monkeypatch.setattr(sequential_bricks, "closed_loop", spy)
    for training in (False, True):
        network.train(training).run(network.inputs(batch)[0], batch.valid, network.stimulus(batch))
    for still, drawn in zip(*seen):
        assert (still == 1).all()
        assert set(drawn.unique().tolist()) == {0.0, 2.0}
        assert 0.3 < (drawn > 0).double().mean() < 0.7


# Modules with dropout: of encoder states, and of LFADS's factors and generator states.
PLACES = {
    "lfads": {"static_encoder.to_normal", "dynamic_encoder", "generator"},
    "lfads without controller": {"static_encoder.to_normal", "generator"},
    "dsae full": {"static_encoder.to_normal", "dynamic_encoder"},
    "fhvae": {"static_encoder.to_normal", "dynamic_encoder.reader.to_normal"},
}


@pytest.mark.parametrize("name", PLACES)
def test_each_dropout_acts_in_training_alone(name):
    network, batch = network_and_batch(name, coordinated_dropout=0.0)
    values, stimulus = network.inputs(batch)[0], network.stimulus(batch)
    modules = [place for place, module in network.named_modules() if getattr(module, "dropout", 0)]
    assert {*modules} == {"", *PLACES[name]}  # the network's own is that of its inputs
    for place in PLACES[name]:
        for other in modules:
            network.get_submodule(other).dropout = 0.5 * (other == place)
        for training in (False, True):
            network.train(training)
            factors = [network.run(values, batch.valid, stimulus).factors for _ in range(2)]
            assert torch.equal(*factors) != training, place


# Weight decay


@pytest.mark.parametrize("name", MODELS)
def test_matrices_of_the_core_decay_and_nothing_else(name):
    network, _ = network_and_batch(name, likelihood="negative_binomial")
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    optimizer = torch.optim.AdamW(network.parameter_groups(0.5), lr=0.1)
    for value in network.parameters():
        value.grad = torch.zeros_like(value)
    optimizer.step()
    for key, value in network.named_parameters():
        core = value.ndim > 1 and key not in TABLES and "prior" not in key
        torch.testing.assert_close(value.detach(), before[key] * (0.95 if core else 1.0))
    assert torch.equal(network.read_in, before["read_in"])
    assert any("prior" in key and value.ndim > 1 for key, value in before.items()) == (
        name in ("dsae full", "dsae factorized", "fhvae", "fhvae hierarchical")
    )


def test_weight_decay_is_the_estimators():
    sizes = [
        lfads(weight_decay=w, learning_rate=1e-3, max_iter=3).fit(TRIALS)
        .network_.generator.rnn.weight_hh_l0.norm().item() for w in (0.0, 300.0)
    ]  # fmt: skip
    assert sizes[1] < 0.9 * sizes[0]


# The ramp, and what fits start from


@pytest.mark.parametrize("ramp", [0.0, 0.25, 1.0])
def test_recurrent_l2_rises_with_the_divergences(ramp):
    network, batch = network_and_batch(
        "lfads", recurrent_l2=2.0, beta_static=0.7, beta_dynamic=1.9, **QUIET
    )
    weights = [network.generator.rnn, network.dynamic_encoder.controller.rnn]
    square = torch.cat([rnn.weight_hh_l0.flatten() for rnn in weights]).square().mean()
    network.ramp = ramp
    torch.manual_seed(0)
    terms = network.loss(batch)
    torch.testing.assert_close(terms.parts["recurrent_l2"], ramp * square)
    kl = 0.7 * terms.parts["kl_static"] + 1.9 * terms.parts["kl_dynamic"]
    torch.testing.assert_close(terms.loss, terms.parts["nll"] + ramp * (kl + square))


def test_the_prior_of_inputs_starts_at_the_time_constant():
    for steps in (3.0, 40.0):
        model = lfads(time_constant=steps, learning_rate=1e-12).fit(TRIALS)
        found = model.network_.dynamic_prior.time_constant.detach()
        np.testing.assert_allclose(found, steps, rtol=1e-5)


@pytest.mark.parametrize("name", ["lfads", "dsae full"])
def test_samples_start_from_the_prior_of_static_latents(name, monkeypatch):
    """For LFADS that is N(m, 0.1) with m learned; for DSAE N(0, 1)."""
    model, got = MODELS[name](max_iter=1).fit(TRIALS), []
    unroll = type(model.network_.generator).unroll

    def spy(generator, static, *arguments):
        got.append(static)
        return unroll(generator, static, *arguments)

    monkeypatch.setattr(type(model.network_.generator), "unroll", spy)
    mean = torch.tensor([3.0, -2.0]) if name == "lfads" else torch.zeros(2)
    with torch.no_grad():
        model.network_.static_prior.mean.copy_(mean)
    model.sample(2, n_samples=4000, random_state=0)
    variance = 0.1 if name == "lfads" else 1.0
    torch.testing.assert_close(got[0].mean(0), mean, atol=0.06, rtol=0)
    torch.testing.assert_close(got[0].var(0), torch.full((2,), variance), atol=0, rtol=0.1)
