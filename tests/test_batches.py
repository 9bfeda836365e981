"""Windows become padded tensors without losing or inventing anything."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from skneurovae.recordings import Recording, check_recordings
from skneurovae.recordings.batches import RecordingStore, make_batches
from skneurovae.recordings.windows import plan_windows

CPU = torch.device("cpu")


def make_recordings(shapes, n_behaviors=2, seed=0):
    rng = np.random.default_rng(seed)
    recordings = []
    for n_timesteps, n_neurons in shapes:
        traces = rng.normal(size=(n_timesteps, n_neurons))
        traces[rng.random(traces.shape) < 0.2] = np.nan
        behavior = rng.normal(size=(n_timesteps, n_behaviors))
        behavior[rng.random(behavior.shape) < 0.2] = np.nan
        recordings.append(Recording(traces, behavior=behavior))
    return recordings


def make_store(recordings, rows=None, **options):
    rows = [np.arange(r.n_neurons) for r in recordings] if rows is None else rows
    return RecordingStore(recordings, rows, **{"device": CPU, "dtype": torch.float64, **options})


def test_a_batch_holds_the_windows_and_zeros_behind_them():
    recordings = make_recordings([(12, 5), (7, 3)])
    store = make_store(recordings, [np.array([4, -1, 0, 2, 3]), np.array([7, 8, 9])])
    assert (store.lengths, store.n_neurons) == ([12, 7], [5, 3])
    rows = np.array([(0, 2, 10), (1, 0, 7)])
    batch = store.batch(rows)
    assert batch.traces.shape == (2, 8, 5)
    assert batch.behavior.shape == (2, 8, 2)
    assert batch.stimulus.shape == (2, 8, 0)
    for i, (index, start, stop) in enumerate(rows):
        recording, t, n = recordings[index], stop - start, store.n_neurons[index]
        for name, seen, width in [("traces", "observed", n), ("behavior", "behavior_observed", 2)]:
            source = getattr(recording, name)[start:stop]
            found, mask = getattr(batch, name)[i].numpy(), getattr(batch, seen)[i].numpy()
            np.testing.assert_array_equal(found[:t, :width], np.nan_to_num(source))
            expected = ~np.isnan(source)
            if name == "traces" and index == 0:
                expected[:, 1] = False  # unknown to the model
            np.testing.assert_array_equal(mask[:t, :width], expected)
            for padded in (found, mask):
                assert not padded[t:].any()
                assert not padded[:, width:].any()
    assert batch.neurons.tolist() == [[4, -1, 0, 2, 3], [7, 8, 9, -1, -1]]
    assert batch.valid.tolist() == [[True] * 8, [True] * 7 + [False]]
    assert batch.recording.tolist() == [0, 1]
    assert batch.start.tolist() == [2, 0]
    assert batch.shown is batch.observed
    assert batch.behavior_shown is batch.behavior_observed
    assert not batch.hidden.any()
    batch.shown = torch.zeros_like(batch.observed)
    assert torch.equal(batch.hidden, batch.observed)


def test_absent_behavior_and_stimulus():
    with_both = Recording(np.ones((4, 2)), behavior=np.ones((4, 3)), stimulus=np.ones((4, 1)))
    store = make_store([with_both, Recording(np.ones((4, 2)))])
    batch = store.batch(plan_windows(store.lengths, 4, 4))
    assert batch.behavior_observed.float().mean((1, 2)).tolist() == [1, 0]
    assert batch.stimulus.sum((1, 2)).tolist() == [4, 0]
    store = make_store([Recording(np.ones((4, 2)))])
    assert store.batch([(0, 0, 4)]).behavior.shape == (1, 4, 0)
    store = make_store([Recording(np.ones((4, 2)))], n_behaviors=3)
    batch = store.batch([(0, 0, 4)])
    assert batch.behavior.shape == (1, 4, 3)
    assert not batch.behavior_observed.any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("signs", [(1, 1), (1, -1)])
def test_traces_whose_sum_overflows_are_finite_and_complete(signs):
    traces = np.repeat(np.float32(3e38) * np.array(signs, np.float32), 200)[:, None]
    (recording,), _ = check_recordings([traces])
    batch = make_store([recording]).batch([(0, 0, 400)])
    assert batch.observed.all()
    np.testing.assert_array_equal(batch.traces[0, :, 0], traces[:, 0])


def test_arrays_are_copied_and_may_be_read_only(tmp_path):
    np.save(tmp_path / "traces.npy", np.ones((6, 2)))
    traces = np.load(tmp_path / "traces.npy", mmap_mode="r")
    store = make_store([Recording(traces)])
    store.batch([(0, 0, 6)]).traces.fill_(5)
    assert store.batch([(0, 0, 6)]).traces.unique().tolist() == [1]
    own = np.ones((6, 2))
    store = make_store([Recording(own)])
    own[:] = 9
    assert store.batch([(0, 0, 6)]).traces.unique().tolist() == [1]


def test_dtype_and_what_does_not_fit_into_it():
    recordings = make_recordings([(5, 2)])
    batch = make_store(recordings, dtype=torch.float32).batch([(0, 0, 5)])
    assert batch.traces.dtype == batch.behavior.dtype == batch.stimulus.dtype == torch.float32
    huge = [*recordings, Recording(np.full((5, 2), 1e200))]
    make_store(huge)
    with pytest.raises(ValueError, match=r"traces of recording 1 reach 1e\+200, beyond"):
        make_store(huge, dtype=torch.float32)


def test_recordings_over_the_budget_stay_off_the_device_and_batches_move():
    recordings = make_recordings([(6, 2)])
    for budget, home in [(10_000, "meta"), (10, "cpu")]:
        store = make_store(recordings, device=torch.device("meta"), budget=budget)
        assert {t.device.type for t in store._recordings[0].values()} == {home}
    batch = store.batch([(0, 0, 6)])
    tensors = {name: t for name, t in vars(batch).items() if torch.is_tensor(t)}
    homes = {name: t.device.type for name, t in tensors.items()}
    assert homes.pop("twins") == "cpu"  # what is decided by it must not wait for the device
    assert set(homes.values()) == {"meta"}


def test_rows_must_be_one_per_neuron():
    recordings = make_recordings([(5, 2), (5, 3)])
    with pytest.raises(ValueError, match=r"rows of recording 1 must have shape \(3,\)"):
        make_store(recordings, [np.arange(2), np.arange(4)])


SHAPES = [(40, 5), (23, 6), (9, 6), (70, 30), (64, 31), (3, 100), (41, 90), (40, 7), (5, 1)]


@pytest.mark.parametrize("batch_size", [1, 4, 7, 1000])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_window_is_in_one_batch_and_little_is_padding(batch_size, shuffle):
    store = make_store(make_recordings(SHAPES))
    plan = plan_windows(store.lengths, 10, 4, causal=True)
    blocks = make_batches(plan, store, batch_size, shuffle=shuffle)
    assert sorted(map(tuple, np.concatenate(blocks))) == list(map(tuple, plan))
    for block in blocks:
        assert 1 <= len(block) <= batch_size
        batch = store.batch(block)
        neurons = (batch.neurons >= 0).sum(1)
        steps = batch.valid.sum(1)
        assert (neurons >= 0.75 * neurons.max()).all()
        assert (steps >= 0.75 * steps.max()).all()
        assert int((neurons * steps).sum()) > (1 - 7 / 16) * batch.traces.numel()


def test_batches_of_one_kind_are_equally_large():
    store = make_store(make_recordings([(100, 5)]))
    plan = plan_windows(store.lengths, 10, 10)
    sizes = [len(block) for block in make_batches(plan, store, 4, shuffle=False)]
    assert sizes == [4, 3, 3]


def test_shuffling_mixes_recordings_and_follows_the_seed():
    store = make_store(make_recordings([(200, 8), (200, 9), (200, 10), (30, 50)]))
    plan = plan_windows(store.lengths, 10, 5)

    def draw(seed):
        return make_batches(
            plan, store, 8, shuffle=True, generator=torch.Generator().manual_seed(seed)
        )

    first, again, other = draw(0), draw(0), draw(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert [b.tolist() for b in first] != [b.tolist() for b in other]
    assert len(first) == len(other)
    mixed = [len(set(block[:, 0])) > 1 for block in first if store.n_neurons[block[0, 0]] < 50]
    assert np.mean(mixed) > 0.9
    wide = [i for i, block in enumerate(first) if 3 in block[:, 0]]
    assert wide != [i for i, block in enumerate(other) if 3 in block[:, 0]]


def test_shuffling_takes_the_global_generator_without_one():
    store = make_store(make_recordings([(200, 8)]))
    plan = plan_windows(store.lengths, 10, 5)
    orders = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            orders.append([b.tolist() for b in make_batches(plan, store, 8, shuffle=True)])
    assert orders[0] == orders[1] != orders[2]


def test_windows_with_two_columns_of_one_identity_are_marked():
    recordings = make_recordings([(5, 4), (5, 4), (5, 3)])
    rows = [np.array([2, 0, 2, 1]), np.array([-1, 3, -1, 0]), np.array([4, 5, 5])]
    store = make_store(recordings, rows)
    batch = store.batch([(0, 0, 3), (1, 1, 4), (2, 0, 3)])
    assert batch.twins.tolist() == [True, False, True]
    assert replace(batch, twins=None).twins.tolist() == [True, False, True]
    chance = torch.arange(36.0).reshape(3, 3, 4)
    drawn = batch.one_per_identity(chance)
    for window, columns in enumerate([[0, 1, 0, 3], [0, 1, 0, 3], [0, 1, 1, 3]]):
        # Unknown neurons may share their numbers, since they are never shown.
        assert torch.equal(drawn[window], chance[window][:, columns])
    assert replace(batch, twins=torch.zeros(3) > 0).one_per_identity(chance) is chance
