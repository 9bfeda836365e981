"""The bound of each sequential model, term by term, against its definition."""

import numpy as np
import pytest
import torch
from sequential_cases import MODELS, lfads, network_and_batch, spikes, stirred
from torch.distributions import Categorical, Normal, Poisson, kl_divergence

from skneurovae import Recording

PARTS = {"nll", "kl_static", "kl_dynamic", "kl_static_per_component", "kl_dynamic_per_component"}
TRIALS = spikes(6)


def normal(posterior):
    return Normal(posterior.mean, torch.exp(0.5 * posterior.log_variance))


def autoregressive(chain, path):
    """Divergence along the sample that the generator consumed, step by step."""
    phi, total = chain.phi, 0.0
    for i, steps in enumerate(path.steps):
        times = steps.nonzero()[:, 0].tolist()
        for t in times:
            center, variance = torch.zeros_like(phi), torch.ones_like(phi)
            if t > times[0]:
                center, variance = phi * path.sample[i, t - 1], 1 - phi**2
            q = Normal(normal(path.dynamic).loc[i, t], normal(path.dynamic).scale[i, t])
            total = total + kl_divergence(q, Normal(center, variance.sqrt())).sum()
    return total


def recurrent(prior, path):
    """The LSTM reads what the decoder consumed."""
    past = torch.cat([torch.zeros_like(path.sample[:, :1]), path.sample[:, :-1]], 1)
    mean, spread = prior.to_moments(prior.rnn(past)[0]).chunk(2, -1)
    p = Normal(mean, torch.exp(4 * torch.tanh(spread / 8)))
    return kl_divergence(normal(path.dynamic), p)[path.steps].sum()


def by_hand(name, network, batch, path):
    """Sums of the two divergences and of what else is in the loss, in nats."""
    q, extra = normal(path.static), 0.0
    if name == "fhvae":
        table, rows = network.static_prior.table, network.row_of[batch.recording]
        static = kl_divergence(q, Normal(table[rows], 0.5)).sum()
        dynamic = kl_divergence(normal(path.dynamic), Normal(0.0, 1.0)).sum()
        logits = -2 * (path.static.mean[:, None] - table).square().sum(-1)
        extra = -network.alpha * Categorical(logits=logits).log_prob(rows).sum()
        prior = Normal(0.0, 1.0).log_prob(table).sum(1) / torch.tensor([4.0, 2.0, 3.0])
        return static, dynamic, extra - prior[rows].sum()
    prior = network.static_prior
    static = kl_divergence(q, Normal(prior.mean, torch.exp(0.5 * prior.log_variance))).sum()
    along = recurrent if name in ("dsae full", "dsae factorized") else autoregressive
    return static, along(network.dynamic_prior, path), extra


@pytest.mark.parametrize(
    "name", ["lfads", "lfads causal", "dsae full", "dsae factorized", "fhvae"]
)  # fmt: skip
def test_the_loss_is_its_definition(name, monkeypatch):
    network, batch = network_and_batch(
        name, dropout=0.0, coordinated_dropout=0.0, beta_static=0.7, beta_dynamic=1.9
    )
    network.train()
    network.ramp = 0.5
    if name == "fhvae":
        network.alpha, network.row_of = 3.0, torch.tensor([1, 0, 2])
        network.static_prior.table = torch.nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
        network.n_segments = torch.tensor([4.0, 2.0, 3.0])
    paths, run = [], network.run

    def spy(*arguments):
        paths.append(run(*arguments))
        return paths[-1]

    monkeypatch.setattr(network, "run", spy)
    terms = network.loss(batch)
    (path,) = paths
    noise = (path.sample - path.dynamic.mean) / path.dynamic.std
    assert 0.5 < noise[path.steps].std() < 1.5  # a draw, not the mean
    rates = network.likelihood.mean(*network.decode(path.factors, batch))
    n = batch.observed.sum()
    fit = Poisson(rates).log_prob(batch.traces)[batch.observed].sum()
    static, dynamic, extra = by_hand(name, network, batch, path)
    expected = (-fit + 0.5 * (0.7 * static + 1.9 * dynamic) + extra) / n
    torch.testing.assert_close(terms.loss, expected)
    torch.testing.assert_close(terms.parts["kl_static"], static / n)
    torch.testing.assert_close(terms.parts["kl_dynamic"], dynamic / n)


def test_dsae_with_an_autoregressive_prior_pays_the_exact_divergence(monkeypatch):
    """Steps are independent given f: on average over draws of z the closed form is the other."""
    network, batch = network_and_batch("dsae ar1")
    path = network.mean_path(batch)
    draws = []
    for seed in range(400):
        torch.manual_seed(seed)
        path.sample = path.dynamic.draw(torch.randn_like(path.dynamic.mean))
        draws.append(autoregressive(network.dynamic_prior, path).detach())
    draws = torch.stack(draws)
    exact = network.dynamic_kl(path).sum()
    assert abs(draws.mean() - exact) < 4 * draws.std() / 20


@pytest.mark.parametrize("name", MODELS)
def test_history_holds_the_parts_of_the_loss(name):
    weights = {"beta_static": 0.7, "dropout": 0.0, "coordinated_dropout": 0.0, "kl_warmup": 0.0}
    # Without controller nothing but the default is allowed.
    dynamic = MODELS[name]().beta_dynamic if name == "lfads without controller" else 1.9
    model = MODELS[name](early_stopping=False, beta_dynamic=dynamic, **weights).fit(TRIALS)
    assert len(model.history_) == len(model.loss_curve_) == 2
    for loss, parts in zip(model.loss_curve_, model.history_):
        extras = sum(value for key, value in parts.items() if key not in PARTS)
        total = parts["nll"] + 0.7 * parts["kl_static"] + dynamic * parts["kl_dynamic"] + extras
        np.testing.assert_allclose(total, loss, rtol=1e-4)
        assert parts["kl_static_per_component"].shape == (2,)
        assert parts["kl_dynamic_per_component"].shape == (model.dynamic_dim,)


def test_rates_without_inputs_are_those_of_a_generator_that_gets_none():
    model = lfads(max_iter=1).fit(TRIALS)
    stirred(model)
    named = model.infer(TRIALS)
    assert not np.allclose(named["rates_without_inputs"][0], named["rates"][0], rtol=1e-2)
    with torch.no_grad():
        model.network_.generator.rnn.weight_ih_l0.zero_()
    deaf = model.infer(TRIALS)
    for a, b in zip(named["rates_without_inputs"], deaf["rates_without_inputs"]):
        np.testing.assert_allclose(a, b)
    # Averages over the same draws of the initial condition: what differs is due to inputs.
    for a, b in zip(deaf["rates_without_inputs"], deaf["rates"]):
        np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize("n_stimuli", [0, 2])
def test_rates_without_inputs_are_the_rates_where_there_are_no_inputs(n_stimuli):
    trials = [
        Recording(t, stimulus=np.random.RandomState(0).standard_normal((len(t), n_stimuli)))
        if n_stimuli else t for t in TRIALS
    ]  # fmt: skip
    model = MODELS["lfads without controller"](max_iter=1).fit(trials)
    stirred(model)
    named = model.infer(trials)
    for a, b in zip(named["rates_without_inputs"], named["rates"]):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    # Averaged over draws, not at the mean of the initial condition.
    assert not np.allclose(named["rates"][0], model.inverse_transform(named["factors"][0]), 1e-3)
