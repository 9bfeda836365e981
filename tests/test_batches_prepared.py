"""Parts of batches, windows at any place, and what is computed of a batch in advance."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from skneurovae.common.randomness import seeded
from skneurovae.estimators.decoder_first import STRIP_LENGTH, shuffled_strips
from skneurovae.networks.precision import PrecisionNetwork
from skneurovae.recordings import Recording
from skneurovae.recordings.batches import RecordingStore
from skneurovae.recordings.masking import HidingSchedule
from skneurovae.recordings.windows import draw_windows

LENGTHS, N_ROWS, WINDOW = [70, 41, 9], 7, 16
KINDS = ("bounded", "angle")
SHARES = {"neurons": (0.2, 0.5), "spans": (0.0, 0.2), "behavior": 0.3, "everything": 0.2}


def recordings():
    rng = np.random.RandomState(0)
    made = []
    for n in LENGTHS:
        traces, behavior = rng.standard_normal((n, 5)), rng.rand(n, 2)
        traces[rng.rand(n, 5) < 0.1] = np.nan
        behavior[rng.rand(n, 2) < 0.1] = np.nan
        made.append(Recording(traces, behavior=behavior))
    return made


@pytest.fixture(scope="module")
def store():
    rng = np.random.RandomState(1)
    rows = [rng.permutation(N_ROWS)[:5] for _ in LENGTHS]
    rows[1][2] = -1
    return RecordingStore(recordings(), rows, device="cpu", dtype=torch.float32)


def batch_of(store, hidden=True, lengths=(0, 1, 2)):
    plan = draw_windows(store.lengths, WINDOW, [0.3, 0.6, 0.0])
    batch = store.batch(plan[np.isin(plan[:, 0], lengths)])
    with seeded(4):
        return HidingSchedule(**SHARES).hide(batch) if hidden else batch


def network_of(dynamic=True, behavior=True, likelihood="gaussian", causal=False):
    """A network of which no part is 0."""
    with seeded(2):
        network = PrecisionNetwork(
            N_ROWS, KINDS if behavior else (), n_components=3,
            lags=(0, 2) if behavior else (), prior="ar1" if dynamic else "normal",
            likelihood=likelihood, noise="neuron" if likelihood == "gaussian" else "auto",
            elbo_weight=1.0, beta=1.0, free_bits=0.0, shrinkage=3.0, model_dim=8, n_layers=1,
            n_heads=2, hidden_dim=6, dropout=0.0, causal=causal,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for name, value in (*network.named_parameters(), ("loadings", network.loadings)):
                if not name.startswith("prior"):
                    value.copy_(0.3 * torch.randn(value.shape, generator=generator))
            network.phi.fill_(0.7 if dynamic else 0.0)
    return network.eval()


# -- parts of batches --------------------------------------------------------------------------


def tensors(batch):
    """All tensors of a batch by name, those prepared among them."""
    fields = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    prepared = fields.pop("prepared") or {}
    del fields["padded"]
    return fields | prepared


def test_take_gives_the_windows_in_the_order_asked_for(store):
    batch = network_of().prepare(batch_of(store))
    chosen = torch.tensor([4, 0, 4, 2])
    taken = batch.take(chosen)
    assert tensors(taken).keys() == tensors(batch).keys()
    assert len(batch.prepared) == 7
    for name, value in tensors(batch).items():
        assert torch.equal(tensors(taken)[name], value[chosen]), name
    assert taken.padded is batch.padded is True
    assert not batch_of(store, lengths=(0,)).take(chosen[1:2]).padded
    assert batch_of(store).take(chosen).prepared is None


@pytest.mark.parametrize("dynamic", [True, False])
def test_take_steps_puts_time_steps_together(store, dynamic):
    batch = batch_of(store, lengths=(0,))
    if not dynamic:  # one covariance then serves all steps of a window
        whole = batch.shown.all(1, keepdim=True).expand_as(batch.shown)
        batch = dataclasses.replace(
            batch, shown=whole, behavior_shown=torch.zeros_like(batch.behavior_shown)
        )
    batch = network_of(dynamic).prepare(batch)
    assert (batch.prepared["factor"].shape[1] == 1) is not dynamic
    windows = torch.tensor([[0, 3, 1], [2, 2, 0]])
    steps = torch.tensor([[5, 0, 15], [7, 6, 5]])
    picked = batch.take_steps(windows, steps)
    per_window = {"neurons", "recording", "start", "gain", "twins"}
    for name, value in tensors(batch).items():
        found = tensors(picked)[name]
        for i in range(2):
            if name in per_window:
                assert torch.equal(found[i], value[windows[i, 0]]), name
                continue
            for j in range(3):
                step = steps[i, j] if value.shape[1] > 1 else 0
                assert torch.equal(found[i, j], value[windows[i, j], step]), name
    assert picked.traces.shape == (2, 3, 5)
    assert picked.prepared["factor"].shape == (2, 3, 3, 3)


def test_decoding_of_single_steps_is_that_of_their_windows(store):
    network, batch = network_of(), batch_of(store, lengths=(0,))
    network.refining = False
    prepared = network.prepare(batch)
    windows, steps = torch.tensor([[0, 3, 1, 1]]), torch.tensor([[5, 0, 15, 2]])
    with torch.no_grad():
        whole = network.predicted(batch)
        picked = network.predicted(prepared.take_steps(windows, steps))
    torch.testing.assert_close(picked, whole[windows, steps])


# -- prepared batches --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dynamic": False},
        {"behavior": False},
        {"causal": True},
        {"dynamic": False, "behavior": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("refining", [True, False])
def test_what_is_prepared_is_what_is_computed_on_the_way(store, options, refining):
    network, batch = network_of(**options), batch_of(store)
    network.refining = refining
    prepared = network.prepare(batch)
    assert batch.prepared is None
    belief = network.belief(batch)
    torch.testing.assert_close(prepared.prepared["mean"], belief.mean)
    factor = prepared.prepared["factor"]
    torch.testing.assert_close(factor @ factor.mT, belief.covariance, atol=1e-5, rtol=1e-4)

    def outcome(given):
        network.zero_grad()
        with seeded(5):
            terms = network.loss(given)
        terms.loss.backward()
        gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        with torch.no_grad():
            return [terms.loss.detach(), *terms.parts.values(), *gradients,
                    *network.evaluate(given), *network.encode(given)]  # fmt: skip

    for found, expected in zip(outcome(prepared), outcome(batch), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_parts_of_what_is_prepared_have_the_loss_of_parts(store):
    network, batch = network_of(), batch_of(store)
    chosen = torch.tensor([3, 1])
    with torch.no_grad(), seeded(5):
        found = network.loss(network.prepare(batch).take(chosen)).loss
    with torch.no_grad(), seeded(5):
        expected = network.loss(batch.take(chosen)).loss
        other = network.loss(batch.take(chosen + 1)).loss
    torch.testing.assert_close(found, expected)
    assert abs(other - expected) > 1e-3


def test_marginals_are_those_of_the_belief(store):
    batch = batch_of(store)
    belief = network_of().belief(batch)
    marginals = belief.marginals(batch.valid)
    torch.testing.assert_close(marginals.variance, belief.variance, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(marginals.entropy(batch.valid), belief.entropy(batch.valid))
    torch.testing.assert_close(marginals.lag_covariance, belief.lag_covariance)


def test_entropies_add_up_to_that_of_the_joint_path(store):
    network, batch = network_of(behavior=False), batch_of(store)
    entropies = network.prepare(batch).prepared["entropies"]
    loadings, noise = (v.double().numpy() for v in (network.loadings, network.psi))
    time = np.arange(WINDOW)
    prior = np.kron(0.7 ** np.abs(time[:, None] - time), np.eye(3))
    for window in (0, 5):
        rows = batch.neurons[window].clamp(min=0).numpy()
        precision = np.linalg.inv(prior)
        for t in time:
            seen = rows[batch.shown[window, t].numpy()]
            block = slice(3 * t, 3 * t + 3)
            precision[block, block] += loadings[seen].T @ (loadings[seen] / noise[seen, None])
        expected = 0.5 * (3 * WINDOW * np.log(2 * np.pi * np.e) - np.linalg.slogdet(precision)[1])
        assert entropies[window].sum().item() == pytest.approx(expected, abs=1e-3)


def test_what_is_hidden_is_not_in_what_is_prepared(store):
    network, batch = network_of(), batch_of(store)
    assert batch.hidden.any()
    changed = dataclasses.replace(
        batch,
        traces=torch.where(batch.shown, batch.traces, 1e3),
        behavior=torch.where(batch.behavior_shown, batch.behavior, torch.nan),
    )
    for name, value in network.prepare(batch).prepared.items():
        assert torch.equal(network.prepare(changed).prepared[name], value), name


# -- windows and strips ------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 5, 16, 100])
def test_drawn_windows_cover_every_step_at_full_length(length):
    rng = np.random.RandomState(0)
    for _ in range(30):
        lengths = rng.randint(1, 90, 4).tolist()
        plan = draw_windows(lengths, length, rng.rand(4))
        assert plan.dtype == np.int64
        for i, n in enumerate(lengths):
            own = plan[plan[:, 0] == i]
            assert (own[:, 2] - own[:, 1] == min(length, n)).all()
            assert own[0, 1] == 0
            assert own[-1, 2] == n
            assert (np.diff(own[:, 1]) >= 1).all()
            assert (own[1:, 1] <= own[:-1, 2]).all()  # no step between two is left out
            assert len(own) <= math.ceil(n / length) + 1


def test_windows_begin_at_the_places_that_are_drawn():
    starts = [draw_windows([64], 16, [offset])[:, 1].tolist() for offset in (0.0, 0.25, 0.99)]
    assert starts == [[0, 16, 32, 48], [0, 4, 20, 36, 48], [0, 15, 31, 47, 48]]
    inner = np.concatenate([
        draw_windows([64], 16, [o])[1:-1, 1] for o in np.random.RandomState(0).rand(400)
    ])  # fmt: skip
    assert np.array_equal(np.unique(inner % 16), np.arange(16))


def test_one_number_per_recording_is_needed():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        draw_windows([10, 20], 4, [0.5])


def test_strips_hold_steps_of_one_recording_in_random_order(store):
    batch = batch_of(store, hidden=False)
    with seeded(0):
        strips = shuffled_strips(batch)
    with seeded(0):
        assert torch.equal(strips, shuffled_strips(batch))
    with seeded(1):
        assert not torch.equal(strips, shuffled_strips(batch))
    windows, steps = strips.unbind(-1)
    assert strips.shape[1:] == (STRIP_LENGTH, 2)
    assert batch.valid[windows, steps].all()  # no padding
    owners = batch.recording[windows]
    assert (owners == owners[:, :1]).all()
    places = [tuple(pair) for strip in strips for pair in strip.tolist()]
    for recording, length in enumerate(LENGTHS):
        n_steps = batch.valid[batch.recording == recording].sum().item()
        own = [p for p in places if batch.recording[p[0]] == recording]
        if length < STRIP_LENGTH:  # some stand in it again
            assert len(own) == STRIP_LENGTH
            assert len(set(own)) == length
        else:
            assert len(own) == n_steps // STRIP_LENGTH * STRIP_LENGTH
            assert len(set(own)) == len(own)
    first = strips[owners[:, 0] == 0].flatten(0, 1)
    assert (first[1:, 1] - first[:-1, 1] == 1).double().mean() < 0.3
