"""ContrastiveEmbedding: what training sees, when it stops, and what nothing trains."""

import warnings

import numpy as np
import pytest
import torch
from test_contrastive_embedding import model, ring

from skneurovae import ContrastiveEmbedding, Recording
from skneurovae.estimators import contrastive_training
from skneurovae.networks.contrastive import ContrastiveNetwork
from skneurovae.recordings.pairs import Pairing, PairSampler


@pytest.fixture(scope="module")
def data():
    return ring()


@pytest.fixture
def batches(monkeypatch):
    """Batches of all training steps of the test."""
    seen, loss = [], ContrastiveNetwork.loss

    def record(self, batch):
        if self.training:
            seen.append(batch)
        return loss(self, batch)

    monkeypatch.setattr(ContrastiveNetwork, "loss", record)
    return seen


# -- windows that share samples --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "low", "high"), [(None, -0.1, 0.1), (10, -0.1, 0.1), (1, 0.5, 2)]
)
def test_noise_has_goodness_of_fit_only_where_windows_overlap(offset, low, high):
    noise = np.random.default_rng(0).standard_normal((1600, 8))
    made = model(time_offset=offset, max_iter=3, steps_per_epoch=40).fit(noise[:1000])
    assert low < made.score(noise[1010:]) < high


@pytest.mark.parametrize(
    ("network", "length", "offset"),
    [("offset1", 400, 1), ("offset5", 400, 5), ("offset36", 400, 36), ("offset36", 40, 10)],
)
def test_pairs_in_time_are_a_window_apart_by_default(network, length, offset, batches):
    model(network=network, max_iter=1, early_stopping=False).fit(ring(length)[0])
    for batch in batches:
        reference, positive, _ = batch.steps[0]
        assert (positive - reference == offset).all()


def test_changes_of_behavior_are_over_one_step_by_default(data):
    made = model(max_iter=1).fit(data[0], behavior=data[1])
    assert made._pairings[0]["time_offset"] == (1,)


# -- steps, jitter, penalty ------------------------------------------------------------------------


def test_an_epoch_has_the_steps_that_were_asked_for(data, batches):
    for steps, epochs in ((3, 2), (7, 1)):
        batches.clear()
        made = model(steps_per_epoch=steps, max_iter=epochs).fit(data[0])
        assert len(batches) == steps * epochs
        assert len(made.loss_curve_) == epochs
    batches.clear()
    made.partial_fit(data[0])
    assert len(batches) == 7


def test_jitter_shifts_windows_in_their_recording_by_so_many_steps(data, batches):
    pieces = [Recording(data[0][:300], session="a"), Recording(data[0][300:310], session="a")]
    parameters = {"time_offset": 2, "early_stopping": False, "batch_size": 512, "max_iter": 1}
    model(**parameters, time_jitter=3).fit(pieces)
    reference, positive, _ = torch.stack([batch.steps[0] for batch in batches]).unbind(1)
    gaps = (positive - reference).unique().tolist()
    assert gaps == list(range(2 - 6, 2 + 6 + 1))
    assert ((reference < 300) == (positive < 300)).all()
    assert reference.min() >= 0
    assert positive.max() < 310


def test_jitter_is_drawn_evenly_and_stops_at_the_ends():
    first, last = contrastive_training.ends_of([100, 5], "cpu")
    steps = torch.tensor([50, 99, 100, 104]).repeat(3000, 1)
    moved = contrastive_training.jittered(steps, 2, first, last)
    shares = [torch.bincount(moved[:, i] - moved[:, i].min()) / 3000 for i in range(4)]
    assert [moved[:, i].min().item() for i in range(4)] == [48, 97, 100, 102]
    for found, expected in zip(
        shares, ([0.2] * 5, [0.2, 0.2, 0.6], [0.6, 0.2, 0.2], [0.2, 0.2, 0.6])
    ):
        np.testing.assert_allclose(found, expected, atol=0.04)


@pytest.mark.parametrize("max_iter", [1, 5, 20, 100])
def test_the_penalty_rises_along_a_line_to_its_full_weight(max_iter):
    made = ContrastiveEmbedding(jacobian_penalty=2.0)
    made.n_behaviors_in_, made._vocabulary = 0, [0]
    network = ContrastiveNetwork(**made._network_arguments())
    weights = []
    for epoch in range(max_iter):
        network.anneal(epoch, max_iter)
        weights.append(network.penalty)
    ramp = max(1, min(10, max_iter // 5))
    np.testing.assert_allclose(weights[:ramp], 2.0 * np.arange(1, ramp + 1) / ramp)
    assert set(weights[ramp:]) <= {2.0}
    network.anneal(max_iter, max_iter)  # as partial_fit and validation do
    assert network.penalty == 2.0


def test_the_penalty_acts_in_a_fit_of_one_epoch(data):
    curves = [model(jacobian_penalty=p, max_iter=1).fit(data[0]).loss_curve_ for p in (0.0, 9.0)]
    assert curves[1][0] > curves[0][0] + 0.1


def test_validation_counts_the_penalty_in_full(data):
    """Otherwise the weights of an epoch before the end of the ramp could be kept."""
    free, held = (
        model(jacobian_penalty=p, max_iter=1).fit(data[0]).validation_scores_[0] for p in (0.0, 9.0)
    )
    assert held > free + 0.1
    twice = model(jacobian_penalty=18.0, max_iter=1).fit(data[0]).validation_scores_[0]
    assert twice - free == pytest.approx(2 * (held - free), rel=1e-4)


def test_attention_can_be_penalized(data):
    made = model(network="attention", jacobian_penalty=1.0, max_iter=1).fit(data[0])
    assert made.history_[0]["jacobian"] > 0
    assert np.isfinite(made.transform(data[0])).all()


def test_derivatives_by_what_was_not_observed_are_0(data):
    traces = data[0].copy()
    traces[:, 3] = np.nan
    made = model(max_iter=1).fit(data[0])
    found = made.jacobian(traces, max_samples=20)
    assert (found[:, :, 3] == 0).all()
    assert (found[:, :, 4] != 0).all()


# -- early stopping --------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", ["time", "time_delta", "hybrid"])
def test_a_short_recording_does_not_keep_an_untrained_start(conditional):
    n = 300
    traces, angle = ring(n + 400, seed=4)
    made = model(conditional=conditional, max_iter=4, steps_per_epoch=30)
    behavior = np.c_[np.cos(angle), np.sin(angle)]
    made.fit(traces[:n], behavior=behavior[:n])
    start = model(conditional=conditional, learning_rate=1e-12, max_iter=1)
    start.fit(traces[:n], behavior=behavior[:n])
    assert np.argmin(made.validation_scores_) > 0
    later = slice(n + 20, None)
    assert made.score(traces[later], behavior=behavior[later]) > 0.1 + start.score(
        traces[later], behavior=behavior[later]
    )


def test_blocks_are_long_enough_for_the_pairs(data):
    """Five blocks of thirty steps held no pair over forty, and early stopping was off."""
    traces = ring(1000)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = model(time_offset=40).fit(traces)
    assert len(made.validation_scores_) == 3
    with pytest.warns(UserWarning, match="held out for early stopping give no pair"):
        made = model(time_offset=300).fit(traces)
    assert made.validation_scores_ == []


def test_no_neuron_is_held_out_that_no_other_recording_has():
    """The weights of the only recording of a session would stay random."""
    recordings = [Recording(ring(150, 6, i)[0], session="many") for i in range(5)]
    recordings.append(Recording(ring(150, 7, 9)[0], session="one"))
    for seed in range(12):
        made = model(random_state=seed, max_iter=1)
        made._least_known = 1.0
        rows = [np.arange(6)] * 5 + [np.arange(6, 13)]
        torch.manual_seed(seed)
        train, held_out = made._split(recordings, rows)
        assert {n for row in train[1] for n in row} == set(range(13))
        assert len(held_out[0]) == 1


# -- sessions --------------------------------------------------------------------------------------


def test_columns_in_another_order_are_one_session(data, batches):
    names, order = np.array(list("abcdefghijkl")), np.random.default_rng(0).permutation(12)
    halves = [
        Recording(data[0][:300], identities=names),
        Recording(data[0][300:], identities=names),
    ]
    moved = [halves[0], Recording(data[0][300:, order], identities=names[order])]
    results = []
    for X in (halves, moved):
        batches.clear()
        made = model(max_iter=1).fit(X)
        assert batches[0].steps[0].shape[1] == 1  # one session has the whole batch
        results.append((made.transform(X), made.score(X), made.jacobian(X, max_samples=9)))
    for a, b in zip(results[0][0], results[1][0]):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert results[0][1] == pytest.approx(results[1][1], abs=1e-5)
    np.testing.assert_allclose(results[0][2][1][:, :, order], results[1][2][1], atol=1e-5)


def test_small_batches_still_bring_sessions_together():
    """A batch of one session has positives and negatives of its own only."""
    behavior = [np.random.default_rng(i).random((200, 1)) for i in range(3)]
    pairing = Pairing("time_delta", channels=(0,))
    torch.manual_seed(0)
    draws = PairSampler(pairing, [200] * 3, range(3), behavior).draw(50, 32)
    assert draws.shape == (50, 3, 2, 16)
    assert (draws[:, 0] // 200 != draws[:, 1] // 200).float().mean() > 0.3


def test_a_session_that_nothing_trains_is_named(data):
    traces, angle = data
    sessions = [
        Recording(traces, behavior=angle, session="seen"),
        Recording(traces, session="blind"),
    ]
    with pytest.warns(UserWarning, match=r"Nothing trains the weights of 12 neurons \(blind:0"):
        model(max_iter=1).fit(sessions)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(max_iter=1, conditional="hybrid").fit(sessions)  # pairs in time train it


# -- parameters and labels -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "n_components"),
    [
        ({"conditional": "hybrid"}, 3),
        ({"conditional": "hybrid", "similarity": "euclidean", "normalize": True}, 2),
        ({"conditional": [{"conditional": "time", "components": (0, 1)},
                          {"conditional": "time", "components": (1, 4)}]}, 4),
    ],
)  # fmt: skip
def test_a_part_of_one_component_of_length_1_is_refused(parameters, n_components, data):
    made = ContrastiveEmbedding(n_components, **parameters)
    with pytest.raises(ValueError, match="component 0 alone has length 1"):
        made.fit(data[0], behavior=data[1])


def test_one_component_learns_with_the_squared_distance_only(data):
    with pytest.warns(UserWarning, match="component 0 alone has length 1"):
        model(max_iter=1).set_params(n_components=1).fit(data[0])
    made = model(similarity="euclidean", max_iter=4, steps_per_epoch=30)
    made.set_params(n_components=1).fit(data[0])
    assert made.history_[-1]["bits"][0] > made.history_[0]["bits"][0] + 0.1


PART = {"conditional": "time", "components": (0, 4)}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"time_offset": 3, "conditional": [{**PART, "time_offset": 2}]}, "every part has its own"),
        ({"conditional": [{**PART, "weight": np.nan}]}, "weight of part 0 must be positive"),
        ({"conditional": [{**PART, "components": 3}]}, "components of part 0 must be"),
        ({"conditional": [{**PART, "conditional": "delta", "delta": np.nan}]}, "needs delta"),
        ({"conditional": [{**PART, "conditional": "delta", "channels": 0}]}, "channels of part 0"),
        ({"time_offset": [True]}, "time_offset must be positive"),
    ],
)
def test_wrong_parts(parameters, message, data):
    with pytest.raises(ValueError, match=message):
        model(**parameters).fit(data[0], behavior=data[1])


def test_training_goes_on_with_the_same_standardization_only(data):
    made = model(max_iter=1).fit(data[0]).set_params(standardize=True)
    with pytest.raises(ValueError, match="standardize is True, but the last fit had False"):
        made.partial_fit(data[0])


@pytest.mark.parametrize("max_iter", [0, 1.5, "many"])
def test_adapting_takes_whole_epochs(max_iter, data):
    made = model(max_iter=1).fit([Recording(data[0], session="a")])
    with pytest.raises(ValueError, match="max_iter must be a positive integer"):
        made.adapt([Recording(data[0], session="b")], max_iter=max_iter)


def test_names_as_labels_in_every_form_of_input(data):
    traces, angle = data
    names = np.where(np.cos(angle) > 0, "right", "left")
    expected = model(discrete="all", max_iter=1).fit(traces, behavior=names).transform(traces)
    found = model(discrete="all", max_iter=1).fit(traces, behavior=names.tolist())
    np.testing.assert_array_equal(found.transform(traces), expected)
    both = traces[:500].reshape(2, 250, -1)
    of_both = names[:500].reshape(2, 250, 1)
    stacked = model(discrete="all", max_iter=1).fit(both, behavior=of_both)
    listed = model(discrete="all", max_iter=1).fit(list(both), behavior=list(of_both))
    np.testing.assert_array_equal(stacked.transform(both), listed.transform(list(both)))
