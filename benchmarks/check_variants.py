"""What must hold of the variants before their scores mean anything: `ablation.py --check`."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import torch
import variants
from sklearn.base import clone
from variants import AttentionVAE, GainedAttentionVAE, GainedVAE, NeuronGainedVAE

from skneurovae import NeuroBehaviorVAE
from skneurovae.datasets import make_worms
from skneurovae.recordings import Recording

KINDS = (AttentionVAE, GainedVAE, NeuronGainedVAE, GainedAttentionVAE)


def check():
    """Raise AssertionError where a variant is not what it says."""
    worms, _ = make_worms(
        6, n_timesteps=(90, 150), n_identities=24, n_recorded=16, n_components=3, missing=0.05,
        random_state=0,
    )  # fmt: skip
    options = {"n_components": 3, "max_iter": 1, "learning_rate": 1e-12, "random_state": 0}
    start = NeuroBehaviorVAE(**options).fit(worms[:5])
    fitted = [clone(kind(**options)).fit(worms[:5]) for kind in KINDS]
    expected = start.predict(worms[5:])[0]
    for model in fitted:
        kept = variants.LATENT_WEIGHT, variants.NEURON_SPREAD
        variants.LATENT_WEIGHT, variants.NEURON_SPREAD = 1e12, 1e-6  # gains of 1
        error = np.abs(model.predict(worms[5:])[0] - expected).max()
        variants.LATENT_WEIGHT, variants.NEURON_SPREAD = kept
        assert error < 1e-5, f"{type(model).__name__} starts elsewhere, by {error}"
        if isinstance(model, GainedVAE):
            assert np.abs(model.predict(worms[5:])[0] - expected).max() > 1e-3
        again = pickle.loads(pickle.dumps(model))
        assert np.array_equal(again.predict(worms[5:])[0], model.predict(worms[5:])[0])
        check_inputs(model, worms)
    check_recovery()
    print("All checks passed.")


def check_inputs(model, worms):
    """What is shown moves the latents, what is hidden does not; nothing shown pools to nothing."""
    store = model._store(
        worms[:2], model._vocabulary.rows(worms[:2]), torch.device("cpu"), torch.float64
    )
    batch = store.batch([[0, 0, 90], [1, 0, 80]])
    chance = torch.rand(batch.shown.shape, generator=torch.Generator().manual_seed(0))
    shown = batch.shown & (chance < 0.6)
    shown[..., 3] = False
    batch = replace(batch, shown=shown)
    network = model._new_network(model._arguments)
    network.load_state_dict(model.network_.state_dict())
    network = network.double().eval()
    if hasattr(network, "pool"):
        assert network.add.weight.abs().max() < 1e-6, "attention does not start at zero"
    with torch.no_grad():  # none of the corrections at zero
        for name, parameter in network.named_parameters():
            if name.split(".")[0] in ("refine", "add", "deviation", "read_out"):
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))

        def outputs(batch):
            mean, log_variance = network.encode(batch)
            decoded = network.decode(network.posterior(batch).mean, batch)[0]
            return torch.cat([mean, log_variance, decoded], -1)

        before = outputs(batch)
        noise = torch.randn(batch.traces.shape, generator=torch.Generator().manual_seed(2))
        hidden = torch.where(batch.shown, batch.traces, batch.traces + 9 * noise)
        assert torch.equal(outputs(replace(batch, traces=hidden)), before), "hidden entries show"
        changed = batch.traces.clone()
        t, n = batch.shown[0].nonzero()[7]
        changed[0, t, n] += 1
        moved = outputs(replace(batch, traces=changed)) - before
        assert moved[0, t].abs().max() > 1e-4
        assert moved[1].abs().max() == 0, "one recording shows in another"
        if not hasattr(network, "pool"):
            return
        pooled = network.pool(batch)
        moved = network.pool(replace(batch, traces=changed)) - pooled
        assert moved[0, t].abs().max() > 1e-4
        moved[0, t] = 0
        assert moved.abs().max() == 0, "attention over neurons has reached another time step"
        other = batch.neurons.clone()
        other[:, 3] = (other[:, 3] + 1) % network.n_neurons
        assert torch.equal(network.pool(replace(batch, neurons=other)), pooled), "hidden neurons"
        for name, value in ("input_offset", 0), ("input_scale", 1), ("center", 0):
            getattr(network, name).fill_(value)  # from here on only its token tells of a neuron
        others = replace(batch, neurons=batch.neurons.roll(1, 1))
        assert (network.pool(others) - network.pool(batch)).abs().max() > 1e-2, "no identity"
        nothing = replace(batch, shown=torch.zeros_like(batch.shown))
        assert not network.pool(nothing).any()


def check_recovery(n_animals=8, n_neurons=40, n_timesteps=600):
    """Gains that made the data are found, and predict hidden neurons better than none."""
    rng = np.random.default_rng(0)
    loadings = rng.standard_normal((n_neurons, 2)) / 2**0.5
    truth = np.exp(0.5 * rng.standard_normal((n_animals, 2)))
    worms = []
    for animal in range(n_animals):
        latents = np.zeros((n_timesteps, 2))
        for t in range(1, n_timesteps):
            latents[t] = 0.9 * latents[t - 1] + np.sqrt(1 - 0.81) * rng.standard_normal(2)
        signal = latents * truth[animal] @ loadings.T
        traces = signal + 1.5 * rng.standard_normal(signal.shape)
        worms.append(
            Recording(traces, session=f"worm{animal}", identities=np.arange(n_neurons) + 1)
        )
    options = {"n_components": 2, "max_iter": 1, "learning_rate": 1e-12, "random_state": 0}
    start = NeuroBehaviorVAE(**options).fit(worms[:6])
    model = GainedVAE(**options).fit(worms[:6])
    found = []
    for worm in worms:
        store = model._store(
            [worm], model._vocabulary.rows([worm]), torch.device("cpu"), torch.float32
        )
        found.append(model.network_.estimate_gains(store.batch([[0, 0, n_timesteps]])).latents[0])
    # The components of the model are a rotation of the true ones; the power of the signal is not.
    power = (torch.stack(found).square() * model.network_.loadings.square().sum(0)).sum(1).numpy()
    true_power = (truth**2 * (loadings**2).sum(0)).sum(1)
    correlation = np.corrcoef(np.log(power), np.log(true_power))[0, 1]
    assert correlation > 0.9, f"gains are not found: correlation {correlation:.2f}"
    scores = start.score(worms[6:]), model.score(worms[6:])
    assert scores[1] > scores[0], f"known gains do not help: {scores}"
    print(f"gains: correlation {correlation:.2f}, R2 {scores[0]:.4f} without, {scores[1]:.4f} with")
