"""Encoders: receptive fields, windows against whole recordings, attention inside a window only."""

import numpy as np
import pytest
import torch

from skneurovae import Recording
from skneurovae.networks.contrastive import Augmentation, ContrastiveNetwork, PairBatch
from skneurovae.networks.convolutional import NETWORKS, convolve, receptive_field
from skneurovae.recordings.batches import RecordingStore
from skneurovae.recordings.stitching import infer_windows
from skneurovae.recordings.windows import plan_windows

PARAMETERS = {"offset1": 5592, "offset5": 11336, "offset10": 17800}  # of CEBRA, 120 neurons, 8 out


def network(name="offset10", n_neurons=5, **changes):
    torch.manual_seed(0)
    settings = {
        "network": name, "hidden_dim": 8, "parts": ((0, 3, 1.0, True),), "objective": "infonce",
        "gamma": 2.0, "similarity": "cosine", "temperature": 1.0, "min_temperature": None,
        "unit_slices": (), "n_layers": 1, "n_heads": 2, "dropout": 0.0, "n_alike": 5,
    }  # fmt: skip
    made = ContrastiveNetwork(n_neurons, 3, **{**settings, **changes}).eval()
    made.table.offset.normal_()
    made.table.scale.uniform_(0.5, 2)
    torch.nn.init.normal_(made.table.missing)
    return made.double()


def store_of(recordings, rows=None):
    rows = [np.arange(r.n_neurons) for r in recordings] if rows is None else rows
    return RecordingStore(recordings, rows, device="cpu", dtype=torch.float64)


def recordings(gaps=True, lengths=(40, 7, 25)):
    rng = np.random.default_rng(0)
    made = [rng.standard_normal((n, 5)) for n in lengths]
    if gaps:
        made[0][3:9, 2] = np.nan
        made[-1][:, 4] = np.nan
    return [Recording(traces) for traces in made]


def encode(model, store):
    plan = np.array([(i, 0, n) for i, n in enumerate(store.lengths)])
    function = lambda batch: {"z": model.encode(batch)}  # noqa: E731
    return [r["z"] for r in infer_windows(store, plan, 2, function)]


def by_hand(model, traces):
    """The convolutional networks from their definition, with PyTorch's own convolution."""
    x = (torch.from_numpy(traces) - model.table.offset) / model.table.scale
    gaps = torch.isnan(x).double()
    x = torch.nan_to_num(x)
    left, right = model.left, model.right
    rows = torch.arange(-left, len(x) + right - 1).clamp(0, len(x) - 1)

    def conv(x, weight, bias=None):  # (T, C), kernel of (k, C, D)
        return torch.nn.functional.conv1d(x.T[None], weight.permute(2, 1, 0), bias)[0].T

    def kernel(table):
        return table.view(len(table), model.table.kernel, -1).transpose(0, 1)

    gelu = torch.nn.functional.gelu
    h = conv(x[rows], kernel(model.table.weight), model.table.bias)
    h = h + conv(gaps[rows], kernel(model.table.missing))
    for layer in model.core:
        if hasattr(layer, "convolution"):
            inner = layer.convolution
            h = h[1:-1] + gelu(conv(h, inner.weight, inner.bias))
        elif hasattr(layer, "weight"):
            h = conv(h, layer.weight, layer.bias)
        else:
            h = gelu(h)
    return h.detach().numpy()


@pytest.mark.parametrize("name", ["linear", "offset1", "offset5", "offset10", "offset36"])
def test_encoders_are_their_definition(name):
    model, data = network(name), recordings()
    for found, recording in zip(encode(model, store_of(data)), data):
        np.testing.assert_allclose(found, by_hand(model, recording.traces), atol=1e-10)


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes_are_those_of_cebra(name):
    model = network(name, 120, hidden_dim=32)
    # Without ours for missing entries; here 3 components, CEBRA's count is for 8.
    counted = sum(p.numel() for n, p in model.named_parameters() if n != "table.missing")
    kernel, width, _ = model.core[-1].weight.shape
    assert counted + 5 * (kernel * width + 1) == PARAMETERS[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_an_embedding_depends_on_its_window_and_nothing_else(name):
    model = network(name)
    left, right = receptive_field(name)
    data = recordings(gaps=False, lengths=(120,))
    before = encode(model, store_of(data))[0]
    traces = data[0].traces.copy()
    traces[60] += 1.0
    after = encode(model, store_of([Recording(traces)]))[0]
    changed = np.flatnonzero((before != after).any(1))
    assert changed.tolist() == list(range(60 - right + 1, 60 + left + 1))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n", [3, 400])
def test_windows_are_what_whole_recordings_give(name, n):
    """Few or many windows take other paths through the layers; ends are padded alike."""
    model, data = network(name), recordings()
    store = store_of(data)
    strips = model.prepare(store.strips(model.left, model.right))
    whole = torch.from_numpy(np.concatenate(encode(model, store)))
    steps = torch.randint(72, (2, n))
    torch.testing.assert_close(model.embed(strips, steps), whole[steps], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("n", [4, 500])
def test_windows_of_sessions_with_other_neurons(n):
    model = network(n_neurons=9)
    data = [*recordings(), *recordings()]
    rows = [np.array(r) for r in
            ([0, 1, 2, 3, 4], [5, 6, 7, 8, 0], [0, 1, 2, 3, 4], [2, 1, 0, 8, 7], [5, 6, 7, 8, 0],
             [1, -1, 3, -1, 8])]  # fmt: skip
    store = store_of(data, rows)
    strips = model.prepare(store.strips(model.left, model.right))
    assert strips.order == [0, 2, 1, 4, 3, 5]
    assert strips.session == [0, 0, 1, 1, 2, 3]
    embedded = encode(model, store)
    whole = torch.from_numpy(np.concatenate([embedded[i] for i in strips.order]))
    steps = torch.randint(len(whole), (n,))
    torch.testing.assert_close(model.embed(strips, steps), whole[steps], atol=1e-9, rtol=1e-9)


def test_neurons_unknown_to_the_model_change_nothing():
    model, data = network(), recordings(lengths=(40,))
    changed = data[0].traces.copy()
    changed[:, 3] = 100.0
    rows = [np.array([0, 1, 2, -1, 4])]
    results = [encode(model, store_of([Recording(t)], rows))[0] for t in (data[0].traces, changed)]
    np.testing.assert_array_equal(*results)
    assert (results[0] != encode(model, store_of(data))[0]).any()


@pytest.mark.parametrize("name", NETWORKS)
def test_long_recordings_in_pieces_are_the_same(name):
    model, store = network(name), store_of(recordings(lengths=(500, 90, 20)))
    left, right = receptive_field(name)
    plan = plan_windows(store.lengths, 100, 100 - (left + right - 1))
    function = lambda batch: {"z": model.encode(batch)}  # noqa: E731
    pieces = infer_windows(store, plan, 2, function, context=(left, right - 1))
    for piece, whole in zip(pieces, encode(model, store)):
        np.testing.assert_allclose(piece["z"], whole, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_of_a_batch_do_not_see_each_other(name):
    """Attention across the batch made the embedding of a row depend on the others."""
    model, store = network(name), store_of(recordings(lengths=(200,)))
    strips = model.prepare(store.strips(model.left, model.right))
    position = strips.window[torch.tensor([20, 60, 140])]
    features, _ = model.window_features(strips, position)
    alone, _ = model.window_features(strips, position[:1])
    for layer in model.core:
        features, alone = layer(features), layer(alone)
    torch.testing.assert_close(features[:, :1], alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("skip", "wide"), [(False, 3), (True, 3), (False, 11)])
def test_convolution_has_the_right_gradients_twice(skip, wide):
    arguments = [torch.randn(s, dtype=torch.float64, requires_grad=True)
                 for s in ((5, 2, wide), (3, wide, 3), (3,))]  # fmt: skip
    function = lambda *a: convolve(*a, skip=skip)  # noqa: E731
    assert torch.autograd.gradcheck(function, arguments)
    assert torch.autograd.gradgradcheck(function, arguments)


def test_jacobian_is_that_of_finite_differences():
    model = network("offset5", unit_slices=((0, 3),))
    data = recordings(gaps=False, lengths=(30,))
    strips = model.prepare(store_of(data).strips(2, 3))
    ((_, which, found),) = model.jacobian(strips, torch.tensor([12]))
    assert which.tolist() == [0]
    assert found.shape == (3, 5, 1, 5)
    for lag in range(5):
        for neuron in range(5):
            sides = []
            for step in (1e-5, -1e-5):
                traces = data[0].traces.copy()
                traces[10 + lag, neuron] += step * model.table.scale[neuron].item()
                sides.append(encode(model, store_of([Recording(traces)]))[0][12])
            slope = (sides[0] - sides[1]) / 2e-5
            np.testing.assert_allclose(found[:, lag, 0, neuron].detach(), slope, atol=1e-7)


def test_augmentations_do_what_they_say():
    traces = torch.ones(4, 3000, 2, dtype=torch.float64)
    noisy, _ = Augmentation(noise=0.3)(traces, None)
    assert noisy.std().item() == pytest.approx(0.3, rel=0.02)
    scaled, _ = Augmentation(amplitude=0.5)(traces, None)
    assert (scaled == scaled[:1, :, :1]).all()  # one factor for each window
    assert 0.5 <= scaled.min() < 0.51
    assert 1.49 < scaled.max() <= 1.5
    gaps = torch.zeros_like(traces)
    gaps[0, 0, 0] = 1
    kept, missing = Augmentation(dropout=0.25)(traces * (1 - gaps), gaps)
    assert ((kept == 0) == (missing == 1)).all()
    assert missing[0, 0, 0] == 1
    assert (missing[1:] == missing[1:2]).all()  # whole neurons of a window
    assert missing.mean().item() == pytest.approx(0.25, abs=0.02)
    assert not Augmentation().active


def test_augmentation_acts_in_training_only():
    model = network(augmentation=(1.0, 0.0, 0.0))
    strips = model.prepare(store_of(recordings()).strips(5, 5))
    batch = PairBatch(strips, [torch.randint(72, (3, 1, 20))])
    assert model.loss(batch).loss == model.loss(batch).loss
    model.train()
    assert model.loss(batch).loss != model.loss(batch).loss


def test_zero_output_of_the_network_is_finite():
    model = network(unit_slices=((0, 3),))
    for parameter in model.parameters():
        parameter.data.zero_()
    z = encode(model, store_of(recordings()))
    assert all((part == 0).all() for part in z)


@pytest.mark.parametrize("within", [False, True])
def test_negatives_of_other_sessions_count_only_where_they_should(within):
    model = network(parts=((0, 3, 1.0, within),))
    triples = torch.randn(3, 2, 6, 3)  # of two sessions
    before, n_negatives = model.ratios(triples, 0)
    assert n_negatives == (6 if within else 12)
    triples[2, 1] = torch.randn(6, 3)
    after, _ = model.ratios(triples, 0)
    same = (before.reshape(2, 6) == after.reshape(2, 6)).all(1)
    assert same.tolist() == [within, False]
