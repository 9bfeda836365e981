"""PooledNetwork in training: its loss, its gradients, counts, dropout and precision."""

import pytest
import torch
from pooled_cases import B, K, N, Q, T, make, make_batch, results, same


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
