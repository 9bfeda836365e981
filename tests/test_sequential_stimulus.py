"""External inputs: their units, and that their values reach what a fitted model makes."""

import numpy as np
import pytest
import torch
from sequential_cases import (
    MODELS,
    dsae,
    fhvae,
    held_out_of,
    lfads,
    rates_of,
    spikes,
    stirred,
)

from skneurovae import Recording

TRIALS = spikes(6)
STIMULI = [
    [3.0, -40.0] + [2.0, 10.0] * np.random.RandomState(i).standard_normal((len(t), 2))
    for i, t in enumerate(TRIALS)
]
DRIVEN = [Recording(t, stimulus=s) for t, s in zip(TRIALS, STIMULI)]
SHIFT = np.array([4.0, 0.0])
MAKES = [lfads, MODELS["lfads without controller"], dsae, fhvae]
NAMES = ["lfads", "lfads without controller", "dsae", "fhvae"]


def driven(make, **parameters):
    """A stirred model of trials with a stimulus."""
    return stirred(make(max_iter=1, **parameters).fit(DRIVEN))


@pytest.mark.parametrize("make", MAKES, ids=NAMES)
def test_a_stimulus_is_in_units_of_what_is_trained_on(make, monkeypatch):
    with monkeypatch.context() as patch:
        (place,), model = held_out_of(make(max_iter=1), DRIVEN, patch)
    trained = np.concatenate([s for i, s in enumerate(STIMULI) if i != place])
    network = model.network_
    np.testing.assert_allclose(network.stimulus_offset, trained.mean(0), rtol=1e-5)
    np.testing.assert_allclose(network.stimulus_scale, trained.std(0), rtol=1e-5)
    rows = model._vocabulary.rows(DRIVEN)
    store = model._store(DRIVEN, rows, torch.device("cpu"), torch.float32)
    read = [network.stimulus(store.batch([(i, 0, len(s))]))[0] for i, s in enumerate(STIMULI)]
    read = torch.cat([values for i, values in enumerate(read) if i != place])
    torch.testing.assert_close(read.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(read.std(0, correction=0), torch.ones(2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("make", MAKES, ids=NAMES)
def test_samples_follow_the_stimulus(make, monkeypatch):
    model, got = driven(make), []
    generate = type(model.network_).generate

    def spy(network, stimulus, *arguments):
        got.append(stimulus)
        return generate(network, stimulus, *arguments)

    monkeypatch.setattr(type(model.network_), "generate", spy)
    given = STIMULI[0][:12]
    draws = [
        model.sample(12, stimulus=s, n_samples=5, random_state=0) for s in (given, given + SHIFT)
    ]
    assert not np.array_equal(*draws)
    network = model.network_
    expected = (torch.as_tensor(given) - network.stimulus_offset) / network.stimulus_scale
    torch.testing.assert_close(got[0], expected.float().expand(5, -1, -1))


@pytest.mark.parametrize("make", [dsae, fhvae], ids=["dsae", "fhvae"])
def test_swaps_keep_the_stimulus_of_their_dynamics(make):
    model = driven(make, window_length=20)
    own = model.swap(DRIVEN, order=range(6))
    other = [r.replace(stimulus=r.stimulus + SHIFT) if i == 2 else r for i, r in enumerate(DRIVEN)]
    order = [1, 2, 3, 4, 5, 0]
    a, b = model.swap(DRIVEN, order), model.swap(other, order)
    for i in range(6):  # trial 1 gets the static latent of trial 2, but not its stimulus
        assert np.allclose(a[i], b[i], rtol=1e-9) == (i != 2)
    if make is dsae:
        np.testing.assert_allclose(own[3], model.inverse_transform(model.transform(DRIVEN)[3]))


@pytest.mark.parametrize("fix", ["static", "dynamic"])
def test_generated_trials_are_what_the_decoder_makes_of_their_latents(fix, monkeypatch):
    """With the stimulus of the trial; by hand."""
    model = driven(dsae)
    network = model.network_.double()
    drawn, named = [], model.infer(DRIVEN[:1])
    prior = network.dynamic_prior if fix == "static" else network.static_prior
    sample = type(prior).sample

    def spy(prior, *sizes):
        drawn.append(sample(prior, *sizes))
        return drawn[-1]

    monkeypatch.setattr(type(prior), "sample", spy)
    rates = model.generate(DRIVEN[0], fix, n_samples=3, random_state=0)
    n = len(TRIALS[0])
    if fix == "static":
        f, z = torch.as_tensor(named["static_mean"][0]).expand(3, -1), drawn[0]
    else:
        f, z = drawn[0], torch.as_tensor(named["dynamic_mean"][0]).expand(3, -1, -1)
    external = torch.as_tensor(STIMULI[0]) - network.stimulus_offset
    external = (external / network.stimulus_scale).expand(3, -1, -1)
    hidden = network.generator.hidden(torch.cat([z, f[:, None].expand(-1, n, -1), external], -1))
    factors = network.generator.to_factors(hidden)
    log_rates = (factors @ network.read_out.T + network.bias).detach().numpy()
    np.testing.assert_allclose(rates, rates_of(log_rates, TRIALS), rtol=1e-6)
