"""Small sequential models and data."""

import numpy as np
import torch

from skneurovae import DSAE, FHVAE, LFADS, Recording
from skneurovae.recordings import check_recordings
from skneurovae.recordings.batches import RecordingStore

TINY = {
    "static_dim": 2, "dynamic_dim": 2, "read_in_dim": 4, "encoder_dim": 4, "generator_dim": 6,
    "max_iter": 2, "n_samples": 4, "batch_size": 8, "random_state": 0, "device": "cpu",
}  # fmt: skip


def lfads(**parameters):
    return LFADS(3, **{**TINY, "controller_dim": 4, **parameters})


def dsae(**parameters):
    return DSAE(3, **{**TINY, "prior_dim": 64 if "prior" in parameters else 4, **parameters})


def fhvae(**parameters):
    return FHVAE(3, **{**TINY, "window_length": 10, **parameters})


MODELS = {
    "lfads": lfads,
    "lfads without controller": lambda **p: lfads(
        **{"dynamic_dim": 0, "controller_dim": 64, **p}
    ),
    "lfads causal": lambda **p: lfads(**{"causal": True, "static_length": 4, **p}),
    "dsae full": dsae,
    "dsae factorized": lambda **p: dsae(**{"variant": "factorized", **p}),
    "dsae ar1": lambda **p: dsae(**{"prior": "ar1", **p}),
    "fhvae": fhvae,
    "fhvae hierarchical": lambda **p: fhvae(**{"n_sequences_at_once": 2, **p}),
}  # fmt: skip


def spikes(n_trials=6, lengths=(12, 20), n_neurons=7, seed=0):
    """Counts of trials of different lengths."""
    rng = np.random.RandomState(seed)
    return [
        rng.poisson(1.0, (rng.randint(lengths[0], lengths[1] + 1), n_neurons)).astype(float)
        for _ in range(n_trials)
    ]


def rates_of(log_rates, trials):
    """Rates of log rates: free up to the largest count of each neuron, below twice that."""
    largest = np.log(np.maximum(np.concatenate(trials).max(0), 1))
    above = np.maximum(np.asarray(log_rates) - largest, 0)
    bounded = np.minimum(log_rates, largest) + np.log(2) * above / (above + np.log(2))
    return np.exp(bounded)


def sessions():
    """Trials of two sessions whose different neurons follow the same slow signal."""
    rng = np.random.RandomState(0)
    weights = {"a": rng.standard_normal(5), "b": rng.standard_normal(8)}
    signals = [np.sin(np.arange(15) / 3 + phase)[:, None] for phase in range(8)]
    return [
        Recording(rng.poisson(np.exp(signal * weights[s])).astype(float), session=s)
        for s, signal in zip("abababab", signals)
    ]


def spied(model, trials, monkeypatch):
    """Batches that reach the loss of a fit, and the fitted model."""
    seen, loss = [], model._network_class.loss

    def spy(network, batch):
        if network.training:
            seen.append(batch)
        return loss(network, batch)

    monkeypatch.setattr(model._network_class, "loss", spy)
    return model.fit(trials), seen


def held_out_of(model, trials, monkeypatch):
    """Places of the trials that validate, and the fitted model."""
    parts = []
    split = type(model)._split

    def spy(estimator, recordings, rows):
        parts.append(split(estimator, recordings, rows))
        return parts[-1]

    monkeypatch.setattr(type(model), "_split", spy)
    model.fit(trials)
    (_, (held_out, _)), = parts  # fmt: skip
    counts = [t.traces if isinstance(t, Recording) else t for t in trials]
    return [
        i for i, c in enumerate(counts)
        if any(np.array_equal(c, r.traces) for r in held_out)
    ], model  # fmt: skip


def stirred(model, size=0.3):
    """The model with weights large enough that everything shows."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in model.network_.named_parameters():
            if "log_time" not in name:
                value += size * torch.randn_like(value)
    return model


def network_and_batch(name, lengths=(10, 10, 7), n_neurons=7, **parameters):
    """A stirred network in double precision, and a batch."""
    trials = [t[:n] for t, n in zip(spikes(3, (10, 10), n_neurons), lengths)]
    model = MODELS[name](max_iter=1, **parameters).fit(trials)
    model.network_.double().eval()
    network = stirred(model).network_
    recordings, _ = check_recordings(trials)
    store = RecordingStore(
        recordings, [np.arange(n_neurons)] * 3, device="cpu", dtype=torch.float64
    )
    return network, store.batch(np.array([(i, 0, n) for i, n in enumerate(lengths)]))
