"""PrecisionNetwork: moved by all that it is shown, blind to all else."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_posterior import same

from skneurovae.networks import variational
from skneurovae.networks.behavior import shifted
from skneurovae.networks.precision import PrecisionNetwork
from skneurovae.recordings import Recording
from skneurovae.recordings.batches import Batch, RecordingStore
from skneurovae.recordings.stitching import infer_windows
from skneurovae.recordings.windows import plan_windows

V, B, T, N, Q, K = 9, 2, 7, 4, 2, 2
LAGS = (-1, 0, 2)
KINDS = ("linear", "bounded")
TIME_CONSTANTS = (2.0, 6.0)


def make(prior="ar1", *, n_behaviors=Q, trained=False, dtype=torch.float64, **options):
    """Network on a random linear model; `trained` leaves none of its corrections at zero."""
    torch.manual_seed(0)
    options = {
        "n_components": K, "lags": LAGS if n_behaviors else (), "likelihood": "gaussian",
        "noise": "neuron", "elbo_weight": 1.0, "beta": 1.0, "free_bits": 0.0, "shrinkage": 5.0,
        "model_dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 6, "dropout": 0.0,
        "causal": False, **options,
    }  # fmt: skip
    network = PrecisionNetwork(V, KINDS[:n_behaviors], prior=prior, **options).to(dtype).eval()

    def random(tensor, size):
        return size * torch.randn_like(tensor)

    with torch.no_grad():
        network.loadings.copy_(random(network.loadings, 0.7))
        network.center.copy_(random(network.center, 0.3))
        network.psi.copy_(random(network.psi, 0.3).exp() / 2)
        network.information.copy_(random(network.information, 0.3).exp())
        if n_behaviors:
            network.basis.low.fill_(-5.0)
            network.basis.high.fill_(5.0)
        network.input_offset.copy_(random(network.input_offset, 1.0))
        network.input_scale.copy_(random(network.input_scale, 0.3).exp())
        if prior == "ar1":
            network.prior.log_time_constant.copy_(torch.tensor(TIME_CONSTANTS).log())
            network.phi.copy_(network.prior.phi)
        network.decoder_loadings.copy_(network.loadings[:V])
        network.output_offset.copy_(network.input_offset + network.input_scale * network.center[:V])
        network.output_scale.copy_(network.input_scale)
        network.log_scale.copy_(0.5 * network.psi[:V].log())
        if trained:
            names = ["refine.weight", "refine.bias", "read_out", "scale_read_out"]
            for name, parameter in network.named_parameters():
                if name in names:
                    parameter.copy_(random(parameter, 0.3))
    return network


def make_batch(seed=1, n_behaviors=Q, missing=0.2, dtype=torch.float64, n_timesteps=T, **changes):
    """Random windows, NaN where not observed."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        values = torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
        seen = torch.rand(*shape, generator=generator) >= missing
        return values.masked_fill(~seen, torch.nan), seen

    traces, observed = numbers(B, n_timesteps, N)
    behavior, behavior_observed = numbers(B, n_timesteps, n_behaviors)
    neurons = torch.stack([torch.randperm(V, generator=generator)[:N] for _ in range(B)])
    fields = {
        "traces": traces, "observed": observed, "behavior": behavior,
        "behavior_observed": behavior_observed, "stimulus": traces.new_zeros(B, n_timesteps, 0),
        "neurons": neurons, "valid": torch.ones(B, n_timesteps, dtype=torch.bool),
        "recording": torch.zeros(B, dtype=torch.int64), "start": torch.zeros(B, dtype=torch.int64),
    }  # fmt: skip
    return Batch(**{**fields, **changes})


def latents(network, batch):
    with torch.no_grad():
        mean, log_variance = network.encode(batch)
    return torch.cat([mean, log_variance], -1)


@pytest.fixture
def steady_noise(monkeypatch):
    """Standard normal draws that depend on a time step and not on the length of the window."""
    noise = torch.randn(100, K, generator=torch.Generator().manual_seed(5)).double()

    def draw(tensor):
        return noise[: tensor.shape[1]].expand(tensor.shape)

    monkeypatch.setattr(variational, "randn_like", draw)


# -- what moves the latents, and what must not -------------------------------------------------


@pytest.mark.parametrize("prior", ["normal", "ar1"])
def test_every_input_moves_the_latents(prior):
    network, batch = make(prior, trained=True), make_batch(missing=0.0)
    before = latents(network, batch)
    for t in range(T):
        for field, width in (("traces", N), ("behavior", Q)):
            for c in range(width):
                changed = getattr(batch, field).clone()
                changed[:, t, c] += 1
                moved = latents(network, replace(batch, **{field: changed})) - before
                assert (moved[:, t].abs().amax(-1) > 1e-6).all(), (field, t, c)
                # The corrections carry it to other time steps too.
                assert moved.abs().amax((0, 2)).min() > 1e-9
    for n in range(N):
        changed = batch.neurons.clone()
        changed[:, n] = (changed[:, n] + 1) % V
        moved = latents(network, replace(batch, neurons=changed)) - before
        assert (moved.abs().amax((1, 2)) > 1e-6).all()


@pytest.mark.parametrize("likelihood", ["gaussian", "student_t"])
def test_what_is_not_observed_reaches_neither_latents_nor_loss_nor_gradient(
    likelihood, steady_noise
):
    network = make(trained=True, noise="heteroscedastic", likelihood=likelihood)
    batch = make_batch(missing=0.3)
    batch.neurons[:, -1] = -1  # a neuron unknown to the model
    batch.observed[:, :, -1] = False
    batch.valid[0, -2:] = False
    batch.observed[0, -2:], batch.behavior_observed[0, -2:] = False, False
    batch.shown, batch.behavior_shown = batch.observed, batch.behavior_observed

    def outcome(fill):
        filled = replace(
            batch,
            traces=torch.where(batch.observed, batch.traces, fill),
            behavior=torch.where(batch.behavior_observed, batch.behavior, fill),
        )
        network.zero_grad()
        loss = network.loss(filled).loss
        loss.backward()
        gradient = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
        return latents(network, filled), loss.detach(), gradient

    expected = outcome(0.0)
    assert all(torch.isfinite(g).all() for g in expected[2].values())
    for fill in (torch.nan, torch.inf, 1e6):
        z, loss, gradient = outcome(fill)
        same(z[batch.valid], expected[0][batch.valid])
        same(loss, expected[1])
        for name, value in expected[2].items():
            same(gradient[name], value)


def test_what_is_hidden_is_scored_but_not_seen():
    network, batch = make(trained=True), make_batch()
    generator = torch.Generator().manual_seed(7)
    shown = batch.observed & (torch.rand(B, T, N, generator=generator) > 0.4)
    behavior_shown = batch.behavior_observed & torch.tensor([True, False])
    batch = replace(batch, shown=shown, behavior_shown=behavior_shown)
    changed = replace(
        batch,
        traces=torch.where(batch.hidden, batch.traces + 100, batch.traces),
        behavior=torch.where(behavior_shown, batch.behavior, 100.0),
    )
    same(latents(network, changed), latents(network, batch))
    with torch.no_grad():
        for a, b in zip(network.predictive(changed), network.predictive(batch)):
            same(a, b)
        torch.manual_seed(0)
        parts = network.loss(batch).parts
        torch.manual_seed(0)
        other = network.loss(changed).parts
    same(parts["shown"], other["shown"])
    same(parts["kl"], other["kl"])
    assert other["hidden"] > parts["hidden"] + 100


@pytest.mark.parametrize("prior", ["normal", "ar1"])
def test_padding_changes_nothing(prior, steady_noise):
    network, batch = make(prior, trained=True, free_bits=0.1), make_batch()
    padded = make_batch(n_timesteps=T + 3, seed=9)
    for name in ("traces", "observed", "behavior", "behavior_observed", "stimulus"):
        getattr(padded, name)[:, :T] = getattr(batch, name)
    padded.observed[:, T:] = padded.behavior_observed[:, T:] = padded.valid[:, T:] = False
    fields = {"traces": torch.nan, "observed": False, "shown": False, "neurons": -1}
    for name, value in fields.items():  # neurons that only pad
        setattr(padded, name, torch.nn.functional.pad(getattr(padded, name), (0, 2), value=value))
    padded.neurons[:, :N] = batch.neurons
    same(latents(network, padded)[:, :T], latents(network, batch))
    with torch.no_grad():
        ours, theirs = network.loss(padded), network.loss(batch)
        same(ours.loss, theirs.loss)
        for name, value in theirs.parts.items():
            same(ours.parts[name], value)
        bound = network.bound(padded)
        same(bound[:, :T], network.bound(batch), 1e-6)
        assert (bound[:, T:] == 0).all()
        for a, b in zip(network.predictive(padded), network.predictive(batch)):
            same(a[:, :T, :N], b)


# -- causality ---------------------------------------------------------------------------------


def test_causal_latents_rest_on_the_past_alone():
    network, batch = make(causal=True, lags=(0, 2), trained=True), make_batch()
    before, cut = latents(network, batch), 4
    with torch.no_grad():
        traces_before = network.predictive(batch)[0]
    later = {}
    for name in ("traces", "behavior"):
        later[name] = getattr(batch, name).clone()
        later[name][:, cut:] += 5
    changed = replace(batch, **later)
    changed.observed = changed.shown = batch.observed & (torch.arange(T)[:, None] != cut)
    after = latents(network, changed)
    same(after[:, :cut], before[:, :cut])
    assert ((after - before)[:, cut:].abs().amax(-1) > 1e-6).all()
    with torch.no_grad():
        same(network.predictive(changed)[0][:, :cut], traces_before[:, :cut])
    plain = make(lags=(0, 2), trained=True)
    assert (latents(plain, changed) - latents(plain, batch))[:, 0].abs().max() > 1e-6


@pytest.mark.parametrize("prior", ["normal", "ar1"])
def test_causal_inference_over_windows_rests_on_the_past_alone(prior):
    network = make(prior, causal=True, lags=(0, 2), trained=True)
    rng = np.random.default_rng(0)
    traces, behavior = rng.standard_normal((40, V)), rng.standard_normal((40, Q))
    traces[rng.random(traces.shape) < 0.1] = np.nan

    def stitched(traces, behavior):
        store = RecordingStore(
            [Recording(traces, behavior)], [np.arange(V)], device="cpu", dtype=torch.float64
        )
        plan = plan_windows(store.lengths, 12, 5, causal=True)
        encode = lambda batch: {"mean": network.encode(batch)[0]}  # noqa: E731
        return infer_windows(store, plan, 4, encode, causal=True)[0]["mean"]

    full = stitched(traces, behavior)
    for cut in (9, 12, 23, 31):
        np.testing.assert_allclose(stitched(traces[:cut], behavior[:cut]), full[:cut], atol=1e-9)
        changed = traces.copy()
        changed[cut:] = 3.0
        after = stitched(changed, behavior)
        np.testing.assert_allclose(after[:cut], full[:cut], atol=1e-9)
        assert np.abs(after[cut:] - full[cut:]).min(axis=1).max() > 1e-6


# -- behavior, noise and the loss --------------------------------------------------------------


def test_lags_shift_the_right_way():
    values = torch.arange(1.0, 6.0)[None, :, None]
    assert shifted(values, -2).flatten().tolist() == [3, 4, 5, 0, 0]
    assert shifted(values, 1).flatten().tolist() == [0, 1, 2, 3, 4]
    assert shifted(values, 1, 9).flatten().tolist() == [9, 1, 2, 3, 4]
    assert shifted(values, 0).flatten().tolist() == [1, 2, 3, 4, 5]
    assert shifted(values, 7).flatten().tolist() == [0] * 5
    assert shifted(values > 4, -2).flatten().tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("lag", [-3, 0, 2])
def test_behavior_before_the_activity_has_a_positive_lag(lag):
    network = make("normal", n_behaviors=1, lags=(lag,))
    batch = make_batch(n_behaviors=1, missing=0.0, shown=torch.zeros(B, T, N, dtype=torch.bool))
    changed = batch.behavior.clone()
    changed[:, 3] += 1
    moved = latents(network, replace(batch, behavior=changed)) - latents(network, batch)
    assert moved[0].abs().amax(-1).nonzero().flatten().tolist() == [3 + lag]


def test_heteroscedastic_noise_varies_over_time():
    batch = make_batch(n_behaviors=0, missing=0.0)
    for noise, varies in (("neuron", False), ("heteroscedastic", True)):
        network = make("normal", n_behaviors=0, noise=noise)
        with torch.no_grad():
            mean, std = network.predictive(batch)
            if varies:
                network.scale_read_out.normal_()
                again, std = network.predictive(batch)
                same(again, mean)
        assert (std.square().std(1) > 1e-2).all() == varies
        assert (std.square().std(1) > 1e-9).any() == varies


@pytest.mark.parametrize("elbo_weight", [0.0, 0.3, 1.0])
def test_parts_of_the_loss_are_there_and_add_up(elbo_weight):
    network, batch = make(trained=True, elbo_weight=elbo_weight, beta=0.5), make_batch()
    batch.shown = batch.observed & (torch.arange(N) != 0)
    terms = network.loss(batch)
    assert set(terms.parts) == {"shown", "hidden", "kl", "penalty", "kl_per_component"}
    assert all(torch.isfinite(value).all() for value in terms.parts.values())
    assert terms.parts["kl_per_component"].shape == (K,)
    shown, hidden, kl, penalty = (terms.parts[n] for n in ("shown", "hidden", "kl", "penalty"))
    same(terms.loss.detach(), (hidden + elbo_weight * (shown + 0.5 * kl) + penalty).detach())
    network.n_entries.fill_(20.0)
    expected = 0.5 * 5.0 * (network.information[:, None] * network.read_out.square()).sum() / 20
    same(network.penalty().detach(), expected.detach())
    same(penalty.detach(), 20 * expected.detach())


def test_hidden_entries_are_scored_where_the_mean_decodes_and_shown_ones_where_a_draw_does(
    steady_noise,
):
    network, batch = make(trained=True, beta=0.0), make_batch()
    batch.shown = batch.observed & (torch.arange(N) != 0)
    hidden, n_scored = batch.observed & ~batch.shown, batch.observed.sum()
    with torch.no_grad():
        parts, posterior = network.loss(batch).parts, network.posterior(batch)
        draw, log_scale = network.decode(posterior.draw(), batch)
        mean, _ = network.decode(posterior.mean, batch)
        same(network.predictive(batch)[0], mean)
        same(network.predicted(batch), mean)
    noise, traces = log_scale.exp().expand_as(mean), batch.traces.nan_to_num()
    assert (draw - mean).abs().min() > 1e-6
    of_draw = torch.distributions.Normal(draw, noise).log_prob(traces)
    # What a draw adds to the prediction's variance stands for what all of them add.
    spread = (noise.square() + (draw - mean).square()).sqrt()
    of_mean = torch.distributions.Normal(mean, spread).log_prob(traces)
    same(parts["shown"], -of_draw[batch.shown].sum() / n_scored)
    same(parts["hidden"], -of_mean[hidden].sum() / n_scored)


def test_without_refinement_the_decoder_rests_on_the_belief_and_is_trained_alone(steady_noise):
    network, batch = make(trained=True), make_batch()
    batch.shown = batch.observed & (torch.arange(N) != 0)
    refined = latents(network, batch)
    network.refining = False
    belief = network.belief(batch)
    found = latents(network, batch)
    same(found[..., :K], belief.mean)
    same(found[..., K:].exp(), belief.covariance.diagonal(dim1=-2, dim2=-1))
    assert (found - refined).abs().min() > 1e-6
    terms = network.loss(batch)
    assert set(terms.parts) == {"hidden", "penalty"}
    same(terms.loss.detach(), sum(terms.parts.values()).detach())
    terms.loss.backward()
    trained = {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None}
    assert trained == {"drive", "features", "read_out", "log_scale"}


def test_free_bits_floor_the_kl():
    network, batch = make(trained=True), make_batch()
    parameter = network.refine.weight

    def loss():
        torch.manual_seed(0)
        network.zero_grad()
        terms = network.loss(batch)
        terms.loss.backward()
        return terms.loss.item(), terms.parts, parameter.grad.clone()

    plain, parts, gradient = loss()
    n_scored, n_steps = batch.observed.sum().item(), B * T
    kl = parts["kl"].item() * n_scored / n_steps
    network.free_bits = 0.5 * kl / K
    assert loss()[0] == pytest.approx(plain)
    network.free_bits = 2 * kl / K
    floored, _, without_kl = loss()
    assert floored - plain == pytest.approx(kl * n_steps / n_scored)
    network.free_bits, network.beta = 0.0, 0.0
    same(loss()[2], without_kl)  # a KL under its floor has no gradient
    assert (gradient - without_kl).abs().max() > 1e-4


def test_beta_and_free_bits_follow_their_schedules():
    network, batch = make(trained=True, beta=0.5, free_bits=9.0), make_batch()
    n_scored, n_steps = batch.observed.sum().item(), B * T

    def charge(epoch):
        """What the loss holds beyond the fit to the traces."""
        network.anneal(epoch, 20)
        torch.manual_seed(0)
        terms = network.loss(batch)
        rest = sum(terms.parts[name] for name in ("shown", "hidden", "penalty"))
        return (terms.loss - rest).item(), terms.parts["kl"].item()

    assert charge(0)[0] == pytest.approx(0, abs=1e-9)
    charged, kl = charge(2)
    assert charged == pytest.approx(0.5 * 2 / 6 * kl)
    floor = 9.0 * K * n_steps / n_scored
    assert floor > kl
    assert charge(3)[0] == pytest.approx(0.5 * 3 / 6 * floor)
    assert charge(19)[0] == pytest.approx(0.5 * floor)


def test_only_matrices_decay_and_the_read_out_has_a_prior_instead():
    network = make(noise="heteroscedastic")
    groups = network.parameter_groups(0.1)
    decayed = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
    every = [id(p) for g in groups for p in g["params"]]
    assert sorted(every) == sorted(id(p) for p in network.parameters() if p.requires_grad)
    spared = {n for n, p in network.named_parameters() if id(p) not in decayed}
    assert {"read_out", "log_scale", "refine.bias", "prior.log_time_constant"} <= spared
    assert {"embed.weight", "refine.weight"}.isdisjoint(spared)


def test_fixed_noise_is_not_trained():
    assert not make(noise="fixed").log_scale.requires_grad
    assert make().log_scale.requires_grad
    assert math.isfinite(make(noise="fixed").loss(make_batch()).loss.item())
