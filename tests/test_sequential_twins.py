"""Two columns of one identity are hidden together: one would give the other away."""

import numpy as np
import torch
from sequential_cases import lfads, network_and_batch, spied, spikes

from skneurovae import Recording
from skneurovae.recordings.batches import RecordingStore

ROW = np.array([2, 0, 2, 1, 0])
TRIALS = [Recording(t, identities=ROW + 1) for t in spikes(6, n_neurons=5)]


def alike(mask):
    """Whether each column is that of its twin, and columns of others are not."""
    same = (mask[..., :, None] == mask[..., None, :]).flatten(0, -3).all(0)
    return torch.equal(same, torch.as_tensor(ROW[:, None] == ROW))


def test_coordinated_dropout_draws_by_identity():
    network, _ = network_and_batch("lfads", n_neurons=5, coordinated_dropout=0.4)
    store = RecordingStore([TRIALS[0]] * 3, [ROW] * 3, device="cpu", dtype=torch.float64)
    batch = store.batch(np.array([(i, 0, 10) for i in range(3)]))
    network.train()
    kept = network.inputs(batch)[1]
    assert alike(kept)
    assert 0.3 < 1 - kept.double().mean() < 0.5
    assert network.inputs(store.batch(np.array([(0, 0, 10)])))[1].shape == (1, 10, 5)


def test_withheld_samples_are_drawn_by_identity(monkeypatch):
    _, seen = spied(lfads(sample_validation=0.3), TRIALS, monkeypatch)
    for batch in seen:
        rows = batch.neurons[0]
        for window, valid in zip(batch.observed, batch.valid):
            mask = window[valid]
            for row in (0, 1, 2):
                columns = mask[:, rows == row]
                assert (columns == columns[:, :1]).all()
            assert not (mask == mask[:, :1]).all()


def test_draws_without_twins_are_those_of_columns():
    """What other fits withhold stays as it was."""
    model = lfads(sample_validation=0.3)
    chance = np.random.RandomState([5, 1]).random_sample((9, 4))
    np.testing.assert_array_equal(model._kept_samples(1, 9, np.array([3, 0, 7, 1])), chance >= 0.3)
