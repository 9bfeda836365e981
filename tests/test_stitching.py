"""Results of windows are put together without a seam, at bounded memory."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
import torch

from skneurovae.recordings import Recording
from skneurovae.recordings.batches import RecordingStore
from skneurovae.recordings.stitching import infer_windows
from skneurovae.recordings.windows import plan_windows

SHAPES = [(40, 5), (7, 3), (23, 30), (10, 6), (1, 5)]


def make_store(shapes, seed=0, n_timesteps=None):
    rng = np.random.default_rng(seed)
    recordings = [Recording(rng.normal(size=shape)[:n_timesteps]) for shape in shapes]
    rows = [np.arange(r.n_neurons) for r in recordings]
    return recordings, RecordingStore(recordings, rows, device="cpu", dtype=torch.float64)


def echo(batch):
    """Functions of single time steps, in all ranks."""
    return {
        "neuron_double": 2 * batch.traces,
        "sum": batch.traces.sum(-1),
        "moments": torch.stack([batch.traces.sum(-1), batch.traces.square().sum(-1)], -1),
        "outer": torch.ones(*batch.traces.shape[:2], 2, 3, dtype=torch.float32),
    }


def past(batch):
    """Means over the window up to each time step."""
    steps = torch.arange(1, batch.traces.shape[1] + 1)
    return {"mean": batch.traces.sum(-1).cumsum(1) / steps}


def around(batch):
    """Distance to the nearer edge of the window: differs between overlapping windows."""
    n_steps = batch.valid.sum(1, keepdim=True)
    time = torch.arange(batch.valid.shape[1], dtype=torch.float64)
    return {"neuron_x": batch.traces * torch.minimum(time, n_steps - time)[..., None]}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("stride", [1, 4, 10])
def test_functions_of_single_time_steps_come_back_as_they_are(stride, causal):
    recordings, store = make_store(SHAPES)
    plan = plan_windows(store.lengths, 10, stride, causal=causal)
    results = infer_windows(store, plan, 4, echo, causal=causal)
    assert len(results) == len(recordings)
    for recording, result in zip(recordings, results):
        traces = recording.traces
        np.testing.assert_allclose(result["neuron_double"], 2 * traces)
        np.testing.assert_allclose(result["sum"], traces.sum(1))
        np.testing.assert_allclose(result["moments"][:, 1], (traces**2).sum(1))
        assert result["outer"].shape == (len(traces), 2, 3)
        np.testing.assert_allclose(result["outer"], 1, rtol=1e-6)
        assert result["outer"].dtype == np.float32
        assert result["sum"].dtype == np.float64


@pytest.mark.parametrize("function", [past, around])
@pytest.mark.parametrize("causal", [False, True])
def test_result_does_not_depend_on_the_batch_size(function, causal):
    _, store = make_store(SHAPES)
    plan = plan_windows(store.lengths, 10, 4, causal=causal)
    expected = infer_windows(store, plan, 1, function, causal=causal)
    for batch_size in (2, 3, 100):
        found = infer_windows(store, plan, batch_size, function, causal=causal)
        for a, b in zip(expected, found):
            assert a.keys() == b.keys()
            for name in a:
                np.testing.assert_allclose(a[name], b[name], rtol=1e-12, atol=1e-12)


def test_windows_fade_into_each_other():
    _, store = make_store([(16, 2)])
    plan = plan_windows(store.lengths, 10, 6)

    def number(batch):
        return {"x": (batch.start > 0).double()[:, None].expand(-1, 10)}

    (result,) = infer_windows(store, plan, 8, number)
    np.testing.assert_allclose(result["x"], [0] * 6 + [0.2, 0.4, 0.6, 0.8] + [1] * 6)


def test_causal_result_does_not_depend_on_what_comes_later():
    _, store = make_store([(40, 5)])
    plan = plan_windows(store.lengths, 10, 4, causal=True)
    (whole,) = infer_windows(store, plan, 4, past, causal=True)
    for cut in (1, 9, 10, 11, 25, 39):
        _, store = make_store([(40, 5)], n_timesteps=cut)
        plan = plan_windows(store.lengths, 10, 4, causal=True)
        (part,) = infer_windows(store, plan, 4, past, causal=True)
        np.testing.assert_array_equal(part["mean"], whole["mean"][:cut])


def test_no_more_windows_are_alive_than_a_batch_holds():
    _, store = make_store([(400, 5), (400, 5), (400, 50)])
    plan = plan_windows(store.lengths, 20, 10)
    alive, sizes = [], []

    def watch(batch):
        gc.collect()
        assert all(reference() is None for reference in alive)
        result = {"neuron_x": batch.traces + 1}
        alive.extend([weakref.ref(batch.traces), weakref.ref(result["neuron_x"])])
        sizes.append(len(batch.traces))
        assert torch.is_inference_mode_enabled()
        return result

    infer_windows(store, plan, 8, watch)
    assert max(sizes) <= 8
    assert sum(sizes) == len(plan)


def test_memory_does_not_grow_with_the_overlap():
    _, store = make_store([(3000, 20)])
    peaks = []
    for stride in (32, 4):
        plan = plan_windows(store.lengths, 32, stride)
        tracemalloc.start()
        infer_windows(store, plan, 4, lambda batch: {"neuron_x": batch.traces})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    results = 3000 * 20 * 8
    assert results < peaks[0] < peaks[1] < 3 * results  # eight times as many windows


def test_blended_draws_keep_their_variance_and_their_correlation():
    """Roots of weights: the mean of two independent draws would vary half as much."""
    _, store = make_store([(60, 1)])
    plan = plan_windows(store.lengths, 16, 8)
    torch.manual_seed(0)

    def draw(batch):
        return {"draw_walk": torch.randn(len(batch.valid), 1, 4000).expand(-1, 16, -1)}

    (result,) = infer_windows(store, plan, 4, draw)
    walk = result["draw_walk"]
    np.testing.assert_allclose(walk.std(1), 1, atol=0.05)
    neighbors = (walk[1:] * walk[:-1]).mean(1)
    assert neighbors.min() > 0.85  # no seam between windows
