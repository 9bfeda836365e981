"""LFADS, DSAE and FHVAE as estimators: what a user asks them for."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from sequential_cases import MODELS, dsae, fhvae, lfads, sessions, spied, spikes, stirred
from sklearn.model_selection import GridSearchCV, KFold

from skneurovae import LFADS, Recording
from skneurovae.datasets import make_lorenz, make_static_dynamic
from skneurovae.metrics import co_smoothing_bits, r2_per_neuron

TRIALS = spikes(6)


@pytest.fixture(scope="module", params=MODELS)
def fitted(request):
    return MODELS[request.param]().fit(TRIALS)


def test_outputs_are_finite_and_have_their_shapes(fitted):
    factors, std = fitted.transform(TRIALS, return_std=True)
    rates, spread = fitted.predict(TRIALS, return_std=True)
    for trial, z, s, rate, r in zip(TRIALS, factors, std, rates, spread):
        assert z.shape == s.shape == (len(trial), 3)
        assert rate.shape == r.shape == trial.shape
        assert np.isfinite(np.concatenate([z, s, rate, r], 1)).all()
        assert (rate > 0).all()
        assert (s > 0).all()
        assert (r**2 >= rate * (1 - 1e-6)).all()  # at least the noise of a Poisson count
    assert np.isfinite(fitted.score(TRIALS))
    assert fitted.score(TRIALS) == co_smoothing_bits(fitted, TRIALS)


def test_named_outputs(fitted):
    named = fitted.infer(TRIALS)
    np.testing.assert_array_equal(named["factors"][0], fitted.transform(TRIALS)[0])
    np.testing.assert_allclose(named["rates"][0], fitted.predict(TRIALS)[0])
    static, dynamic, states = (fitted._names[n] for n in ("static", "dynamic", "states"))
    n = len(TRIALS[0])
    assert named[f"{static}_mean"][0].shape == named[f"{static}_std"][0].shape == (2,)
    assert named[f"{dynamic}_mean"][0].shape == (n, fitted.dynamic_dim)
    assert named[states][0].shape == (n, 6)
    assert all(np.isfinite(v).all() for values in named.values() for v in values)
    assert ("rates_without_inputs" in named) == isinstance(fitted, LFADS)


def test_rates_per_second_are_asked_for(fitted):
    trials = [Recording(t, rate_hz=50.0) for t in TRIALS]
    per_bin, per_second = (fitted.infer(trials, units=u) for u in ("bin", "hz"))
    for name in per_bin:
        factor = 50 if name.startswith("rates") else 1
        np.testing.assert_allclose(per_second[name][0], factor * per_bin[name][0])
    np.testing.assert_allclose(fitted.predict(trials)[0], per_bin["rates"][0])


def test_rates_are_averaged_not_log_rates(monkeypatch):
    model = lfads().fit([t[:12] for t in TRIALS])
    with torch.no_grad():
        model.network_.generator.to_start.weight.mul_(10)
        model.network_.read_out.mul_(3)
    locations = []
    decode = type(model.network_).decode

    def spy(network, latents, batch):
        result = decode(network, latents, batch)
        locations.append(result[0].unflatten(1, (4, 12)))
        return result

    monkeypatch.setattr(type(model.network_), "decode", spy)
    rates = model.predict(TRIALS[0][:12])
    np.testing.assert_allclose(rates, locations[0][0].exp().mean(0))
    assert (rates > locations[0][0].mean(0).exp().numpy()).all()  # Jensen


def test_n_samples_takes_effect_after_the_fit(fitted):
    few = fitted.predict(TRIALS)[0]
    again = pickle.loads(pickle.dumps(fitted)).set_params(n_samples=11)
    assert not np.array_equal(again.predict(TRIALS)[0], few)
    np.testing.assert_array_equal(fitted.predict(TRIALS)[0], few)


def test_missing_bins_and_neurons(fitted):
    gappy = [t.copy() for t in TRIALS]
    gappy[0][3:6] = np.nan
    gappy[1][:, 2] = np.nan
    gappy[2][:] = np.nan
    rates = fitted.predict(gappy)
    assert all(np.isfinite(r).all() for r in rates)
    assert not np.array_equal(rates[0], fitted.predict(TRIALS)[0])
    np.testing.assert_allclose(rates[3], fitted.predict(TRIALS)[3])
    model = MODELS["lfads"]().fit([*gappy[:2], *TRIALS[2:]])
    assert np.isfinite(model.predict(gappy)[2]).all()


def test_samples(fitted):
    counts = fitted.sample(15, n_samples=4, random_state=0)
    assert counts.shape == (4, 15, 7)
    assert (counts == np.round(counts)).all()
    assert (counts >= 0).all()
    np.testing.assert_array_equal(counts, fitted.sample(15, n_samples=4, random_state=0))
    assert not np.array_equal(counts, fitted.sample(15, n_samples=4, random_state=1))
    columns = fitted.sample(15, n_samples=4, random_state=0, identities=[2, 5])
    np.testing.assert_array_equal(columns, counts[:, :, [2, 5]])


def test_batches_do_not_matter(fitted):
    alone = [fitted.predict([t])[0] for t in TRIALS]
    for a, b in zip(fitted.predict(TRIALS), alone):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_long_recordings_are_windows():
    long = np.concatenate(spikes(4, (20, 20)))
    for model in (lfads(window_length=30), dsae(window_length=30), fhvae(alpha=0.0)):
        model.fit(long)
        assert model.transform(long).shape == (80, 3)
        named = model.infer(long)
        assert named["rates"].shape == (80, 7)
        assert np.isfinite(named["rates"]).all()


@pytest.mark.parametrize("make", [lfads, dsae, fhvae], ids=["lfads", "dsae", "fhvae"])
@pytest.mark.parametrize("likelihood", ["gaussian", "negative_binomial", "gamma"])
def test_other_observations(make, likelihood):
    rng = np.random.RandomState(0)
    trials = {
        "gaussian": [100 + 7 * rng.standard_normal((15, 5)) for _ in range(4)],
        "negative_binomial": spikes(4),
        "gamma": [rng.gamma(2.0, 3.0, (15, 5)) for _ in range(4)],
    }[likelihood]
    model = make(likelihood=likelihood).fit(trials)
    rates, std = model.predict(trials, return_std=True)
    assert abs(np.concatenate(rates).mean() / np.concatenate(trials).mean() - 1) < 0.5
    assert (np.concatenate(std) > 0).all()
    assert np.isfinite(model.score(trials))
    assert np.isfinite(model.sample(5)).all()


def test_a_stimulus_reaches_the_generator_alone():
    rng = np.random.RandomState(0)
    stimuli = [rng.standard_normal((len(t), 2)) for t in TRIALS]
    trials = [Recording(t, stimulus=s) for t, s in zip(TRIALS, stimuli)]
    for make in (lfads, MODELS["lfads without controller"], dsae, fhvae):
        model = make().fit(trials)
        other = [r.replace(stimulus=r.stimulus + 5) for r in trials]
        a, b = model.infer(trials), model.infer(other)
        static = model._names["static"]
        np.testing.assert_array_equal(a[f"{static}_mean"][0], b[f"{static}_mean"][0])
        assert not np.allclose(a["rates"][0], b["rates"][0], rtol=1e-6)
        assert model.sample(9, stimulus=np.zeros((9, 2))).shape == (1, 9, 7)
        with pytest.raises(ValueError, match="stimulus"):
            model.sample(9)
    later = [trials[0].replace(stimulus=np.r_[stimuli[0][:8], stimuli[0][8:] + 5])]
    model = MODELS["lfads without controller"](static_length=3).fit(trials)
    a, b = model.transform(trials[:1])[0], model.transform(later)[0]
    np.testing.assert_allclose(a[:8], b[:8], rtol=1e-9)
    assert not np.allclose(a[8:], b[8:], rtol=1e-6)


def test_behavior_is_not_seen():
    rng = np.random.RandomState(0)
    trials = [Recording(t, behavior=rng.standard_normal((len(t), 2))) for t in TRIALS]
    for make in (lfads, dsae, fhvae):
        a, b = make().fit(trials), make().fit(TRIALS)
        np.testing.assert_array_equal(a.transform(trials)[0], b.transform(TRIALS)[0])


# Models of their own


def test_swap_takes_static_from_one_trial_and_dynamics_from_another():
    trials = [t[:12] for t in TRIALS]
    model = dsae(max_iter=2).fit(trials)
    stirred(model)
    own = model.swap(trials, order=range(6))
    np.testing.assert_allclose(
        own[2], model.inverse_transform(model.transform(trials)[2]), rtol=1e-5
    )
    swapped = model.swap(trials)
    assert not np.allclose(swapped[2], own[2], rtol=1e-4)
    again = model.swap(trials, order=[5, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(again[2], swapped[2])
    other = [*trials[:1], trials[0], *trials[2:]]  # trial 2 gets the static latent of trial 0
    assert not np.allclose(model.swap(other)[2], swapped[2], rtol=1e-4)


def test_swap_gives_every_segment_the_vector_of_another_sequence():
    trials = [t[:25] for t in TRIALS[:3]]  # segments of 10, 10 and 5
    model = fhvae(max_iter=1, early_stopping=False).fit(trials)
    network = model.network_
    with torch.no_grad():
        for value in network.generator.parameters():
            value += 0.3 * torch.randn_like(value)
    swapped = model.swap(trials, order=[2, 0, 1])
    vectors = torch.as_tensor(model.sequence_vectors(trials))
    (piece,), _ = model._check([trials[0][10:20]])
    network = network.double()
    (batch,) = model._pieces(network, piece, *model._vocabulary.rows([piece]))
    with torch.no_grad():
        z = network.mean_path(batch).dynamic.mean
        factors = network.unroll(vectors[2:], z, network.stimulus(batch))
        rates = network.likelihood.mean(*network.decode(factors, batch))[0]
    np.testing.assert_allclose(swapped[0][10:20], rates)
    assert swapped[0].shape == trials[0].shape
    assert not np.allclose(swapped[0], model.swap(trials, order=[0, 1, 2])[0], rtol=1e-4)


@pytest.mark.parametrize("make", [dsae, fhvae])
def test_neurons_that_swaps_do_not_know_keep_their_mean(make):
    trials = [Recording(t[:12], identities=np.arange(1, 8)) for t in TRIALS]
    model = make().fit(trials)
    new = [r.replace(identities=np.r_[1:7, 99]) for r in trials]
    with pytest.warns(UserWarning, match="99") as caught:
        swapped = model.swap(new)
    assert len(caught) <= 2
    made = []
    if make is dsae:
        with pytest.warns(UserWarning, match="99"):
            made = model.generate(new[0], n_samples=2)
    for rates in [swapped[0], *made]:
        np.testing.assert_allclose(rates[:, 6], TRIALS[0][:12, 6].mean())
        assert not np.allclose(rates[:, :6], rates[:, 6:])


def test_samples_of_fhvae_are_sequences_of_segments():
    model = fhvae(max_iter=1, early_stopping=False).fit(TRIALS)
    network = model.network_
    with torch.no_grad():
        for value in network.generator.parameters():
            value += torch.randn_like(value)
    torch.manual_seed(0)
    static = network.static_prior.sample(2000, 3)
    torch.testing.assert_close(static.var((0, 1)), torch.tensor([1.25, 1.25]), rtol=0.1, atol=0)
    within = static.var(1).mean(0)
    torch.testing.assert_close(within, torch.tensor([0.25, 0.25]), rtol=0.1, atol=0)
    seen = []
    network.generator.rnn.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert model.sample(25, n_samples=3, random_state=0).shape == (3, 25, 7)
    assert [piece.shape[1] for piece in seen] == [10, 10, 5]
    assert not torch.equal(seen[0][:, 0], seen[1][:, 0])


def test_generate_keeps_one_latent_and_draws_the_other():
    model = dsae(max_iter=2, static_dim=3).fit(TRIALS)
    with torch.no_grad():
        for value in model.network_.generator.parameters():
            value += 0.5 * torch.randn_like(value)
    for fix in ("static", "dynamic"):
        rates = model.generate(TRIALS[0], fix, n_samples=3, random_state=0)
        assert rates.shape == (3, *TRIALS[0].shape)
        assert not np.allclose(rates[0], rates[1])
        np.testing.assert_array_equal(
            rates, model.generate(TRIALS[0], fix, n_samples=3, random_state=0)
        )
    # With f fixed to another trial's, other rates follow from the same draws.
    other = model.generate(TRIALS[1][: len(TRIALS[0])], "static", n_samples=3, random_state=0)
    n = len(other[0])
    mine = model.generate(TRIALS[0][:n], "static", n_samples=3, random_state=0)
    assert not np.allclose(other, mine)


def test_sequence_vectors_are_closed_form():
    trials = [t[:20] for t in spikes(4, (20, 20))]
    model = fhvae().fit(trials)
    vectors = model.sequence_vectors(trials)
    assert vectors.shape == (4, 2)
    means = [model.infer([t[:10]])["static_mean"][0] for t in trials]
    later = [model.infer([t[10:]])["static_mean"][0] for t in trials]
    expected = (np.array(means) + later) / 2.25
    np.testing.assert_allclose(vectors, expected)
    new = model.sequence_vectors(spikes(2, (20, 20), seed=3))
    assert new.shape == (2, 2)


def test_sequences_may_be_sessions(monkeypatch):
    model = fhvae(sequences="session", early_stopping=False)
    model, _ = spied(model, sessions(), monkeypatch)
    assert len(model.network_.static_prior.table) == 2
    vectors = model.sequence_vectors(sessions())
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])


def test_hierarchical_sampling_trains_on_some_sequences_at_a_time(monkeypatch):
    model = fhvae(n_sequences_at_once=2, max_iter=6, early_stopping=False)
    model, seen = spied(model, TRIALS, monkeypatch)
    assert len(model.network_.static_prior.table) == 2
    assert len({int(i) for b in seen for i in b.recording}) > 2
    assert all(len(set(b.recording.tolist())) <= 2 for b in seen)


def test_the_discriminative_term_pulls_segments_of_a_sequence_together():
    trials, _ = make_static_dynamic(
        12, n_timesteps=40, n_neurons=12, n_conditions=12, mean_count=2.0, random_state=0
    )
    spread = {}
    for alpha in (0.0, 50.0):
        model = fhvae(
            alpha=alpha, max_iter=10, learning_rate=2e-2, early_stopping=False, static_dim=4,
            encoder_dim=16, read_in_dim=16,
        ).fit(trials)  # fmt: skip
        means = np.array([model.infer([r.replace(traces=r.traces[i : i + 10], behavior=None)])
                          ["static_mean"][0] for r in trials for i in (0, 10, 20, 30)])  # fmt: skip
        means = means.reshape(12, 4, -1)
        spread[alpha] = means.mean(1).var(0).sum() / means.var((0, 1)).sum()
    assert spread[50.0] > spread[0.0]


# Training


def test_training_finds_rates_that_smoothing_does_not():
    trials, truth = make_lorenz(6, 12, n_neurons=20, base_rate=15.0, random_state=0)
    model = LFADS(
        6, generator_dim=32, encoder_dim=16, controller_dim=16, dynamic_dim=1, static_dim=8,
        max_iter=40, learning_rate=1e-2, hide_neurons=(0.0, 0.2), random_state=0,
    ).fit(trials)  # fmt: skip
    truth = np.concatenate(truth.rates)
    smooth = [[gaussian_filter1d(t.traces, width, axis=0) for t in trials] for width in (2, 4, 8)]
    best = max(r2_per_neuron(truth, np.concatenate(s)).mean() for s in smooth)
    ours = r2_per_neuron(truth, np.concatenate(model.predict(trials))).mean()
    assert ours > max(best, 0) + 0.1
    assert model.score(trials) > 0.1
    assert model.validation_scores_[0] > model.best_loss_


def test_the_best_weights_are_from_after_the_ramp():
    model = lfads(max_iter=10, kl_warmup=1.0).fit(TRIALS)
    assert model.best_loss_ == model.validation_scores_[-1]
    assert model.n_iter_ == 10


def test_grid_search():
    search = GridSearchCV(
        lfads(max_iter=1), {"dynamic_dim": [1, 2], "coordinated_dropout": [0.0, 0.3]}, cv=KFold(2)
    ).fit(TRIALS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.predict(TRIALS)[0].shape == TRIALS[0].shape


@pytest.mark.parametrize("make", [lfads, dsae, fhvae])
def test_divergence_is_said(make):
    model = make().fit(TRIALS)
    before = model.predict(TRIALS)[0]
    with pytest.raises(
        FloatingPointError, match=r"training diverged 4 times.* Lower learning_rate"
    ):
        model.set_params(learning_rate=1e20).fit(TRIALS)
    np.testing.assert_array_equal(model.predict(TRIALS)[0], before)


@pytest.mark.parametrize("make", [lfads, dsae, fhvae])
def test_one_divergence_is_survived(make, monkeypatch):
    model, calls = make(max_iter=4), []
    loss = model._network_class.loss

    def once_nan(network, batch):
        terms = loss(network, batch)
        calls.append(network.training)
        bad = network.training and sum(calls) == 3
        return replace(terms, loss=terms.loss * torch.nan) if bad else terms

    monkeypatch.setattr(model._network_class, "loss", once_nan)
    model.fit(TRIALS)
    assert model.n_rollbacks_ == 1
    assert np.isfinite(model.loss_curve_).all()
    assert np.isfinite(model.predict(TRIALS)[0]).all()


@pytest.mark.parametrize("name", MODELS)
def test_half_precision_trains(name):
    model = MODELS[name](precision="bf16").fit(TRIALS)
    assert np.isfinite(model.loss_curve_).all()
