"""Checkpoints of CeNeuroVAE as estimators: its results, from its files."""

import pickle

import numpy as np
import pytest
import torch
from published import PublishedNetwork

from skneurovae import NeuroBehaviorVAE, Recording


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    network = PublishedNetwork(9, 2, 4, model_dim=16, hidden=20, n_layers=2, n_heads=2).eval()
    path = tmp_path_factory.mktemp("ceneurovae") / "checkpoint.pt"
    state = {"epoch": 3, "model_state": network.state_dict(), "optim_state": {}}
    torch.save({**state, "best_loss_val": 0.1}, path)
    return network, path


@pytest.mark.parametrize("identities", [None, [f"neuron {i}" for i in range(1, 9)]])
def test_published_checkpoints_give_the_published_latents(identities, checkpoint):
    network, path = checkpoint
    rng = np.random.RandomState(0)
    traces, behavior = rng.standard_normal((60, 6)), rng.standard_normal((60, 2))
    rows = np.array([3, 1, 8, 5, 2, 7])
    scale = np.array([2.0, 0.5])
    model = NeuroBehaviorVAE.from_ceneurovae(
        path, identities=identities, behavior_scale=scale, window_length=60, n_heads=2
    )
    names = rows if identities is None else np.array(identities)[rows - 1]
    recording = Recording(traces, behavior * scale, identities=names)
    with torch.no_grad():
        x, b = (torch.tensor(a, dtype=torch.float32)[None] for a in (traces, behavior))
        mean, log_variance = network.encode(x, b)
        decoded = network.decode(mean, b, torch.tensor(rows)[None])[0]
    latents, std = model.transform([recording], return_std=True)
    np.testing.assert_allclose(latents[0], mean[0], atol=1e-5)
    np.testing.assert_allclose(std[0], torch.exp(0.5 * log_variance)[0], atol=1e-5)
    columns = [list(model.identities_).index(name) for name in names]
    ours = model.inverse_transform(latents[0], behavior=recording.behavior)[:, columns]
    np.testing.assert_allclose(ours, decoded, atol=1e-5)
    assert decoded.std() > 0.01
    assert np.isfinite(model.predict([recording])[0]).all()
    assert np.isfinite(model.sample(10, random_state=0)).all()
    kept = model.n_components_, model.likelihood_, model.normalize_, model.behavior_kind_
    assert kept == (4, "gaussian", "identity", ("linear", "linear"))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform([recording])[0], latents[0])
    model.set_params(max_iter=1).partial_fit([recording])  # trains on
    assert np.abs(model.transform([recording])[0] - latents[0]).max() > 0


def test_checkpoints_come_as_files_or_dicts(checkpoint):
    network, path = checkpoint
    load = NeuroBehaviorVAE.from_ceneurovae
    models = [load(c, n_heads=2) for c in (path, str(path), network.state_dict())]
    assert {m.n_components for m in models} == {4}
    with pytest.raises(ValueError, match="normalize='recording' needs recordings"):
        load(path, n_heads=2, normalize="recording")
    weights = [m.network_.to_mu.weight for m in models]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])
