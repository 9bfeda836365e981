"""Sampling of pairs against brute force, and what CEBRA gets wrong."""

import numpy as np
import pytest
import torch

from skneurovae.recordings.nearest import Nearest
from skneurovae.recordings.pairs import Pairing, PairSampler


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def draw(pairing, behavior, session=None, n_steps=40, batch_size=256, lengths=None):
    lengths = [len(b) for b in behavior] if lengths is None else lengths
    session = [0] * len(lengths) if session is None else session
    return PairSampler(pairing, lengths, session, behavior).draw(n_steps, batch_size).numpy()


def flat(draws):
    return draws.transpose(1, 0, 2, 3).reshape(3, -1)


def column(*values):
    return np.asarray(values, dtype=object if isinstance(values[0], str) else None)[:, None]


def labels(**kw):
    return Pairing("discrete", channels=(0,), discrete=(0,), **kw)


# -- time ------------------------------------------------------------------------------------------


def test_pairs_in_time_never_cross_the_end_of_a_recording():
    lengths = [7, 30, 3, 12]
    r, p, n = flat(draw(Pairing("time", time_offset=(4,)), None, lengths=lengths, batch_size=512))
    of = np.repeat(range(4), lengths)
    assert (p == r + 4).all()
    assert (of[r] == of[p]).all()
    assert set(r) == {t for t in range(52) if t + 4 < 52 and of[t] == of[t + 4]}
    assert set(n) == set(p)  # negatives are distributed as positives


def test_several_time_offsets_are_drawn_equally_often():
    r, p, _ = flat(draw(Pairing("time", time_offset=(1, 5)), None, lengths=[300]))
    gaps, counts = np.unique(p - r, return_counts=True)
    assert gaps.tolist() == [1, 5]
    assert abs(counts[0] / counts.sum() - 0.5) < 0.03


def test_sessions_have_equal_shares_and_negatives_of_their_own():
    draws = draw(Pairing("time"), None, session=[0, 0, 1], lengths=[50, 50, 900], batch_size=256)
    assert draws.shape == (40, 3, 2, 128)
    sides = draws >= 100
    assert (sides == sides[:, :1, :, :1]).all()
    assert (sides[:, 0, 0, 0] != sides[:, 0, 1, 0]).all()


def test_with_many_sessions_each_batch_takes_some_of_them():
    draws = draw(Pairing("time"), None, session=range(20), lengths=[40] * 20, batch_size=128)
    assert draws.shape == (40, 3, 4, 32)
    assert set(np.unique(draws[:, 0] // 40)) == set(range(20))


# -- labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [(False, True), (1, 2), (0, 5), (-3, 4), ("left", "right")])
def test_uniform_prior_works_for_any_labels(values):
    data = column(*([values[0]] * 90 + [values[1]] * 10))
    r, p, n = flat(draw(labels(prior="uniform"), [data]))
    assert (data[r] == data[p]).all()
    assert (r != p).all()
    for steps in (r, n):
        assert abs((steps >= 90).mean() - 0.5) < 0.03
        counts = np.bincount(steps, minlength=100)
        assert counts[:90].max() < 2 * counts[:90].mean()  # no step takes a third of all
        assert counts[90:].max() < 1.3 * counts[90:].mean()


def test_empirical_prior_draws_labels_as_often_as_they_occur():
    data = column(*([0.0] * 90 + [5.0] * 10))
    r, _, n = flat(draw(labels(), [data]))
    assert abs((r >= 90).mean() - 0.1) < 0.02
    assert abs((n >= 90).mean() - 0.1) < 0.02


def test_positives_of_a_label_are_uniform_over_its_other_steps():
    data = column(*[0.0, 1.0] * 10)
    r, p, _ = flat(draw(labels(), [data]))
    counts = np.zeros((20, 20))
    np.add.at(counts, (r, p), 1)
    possible = (data == data.T) & ~np.eye(20, dtype=bool)
    assert (counts[~possible] == 0).all()
    assert counts[possible].min() > 0.5 * counts[possible].mean()


def test_all_labels_agree_and_a_step_alone_is_not_drawn():
    data = np.array([[0, 0], [0, 1], [0, 1], [1, 1], [1, 1], [1, 1]], dtype=float)
    r, p, n = flat(draw(Pairing("discrete", channels=(0, 1), discrete=(0, 1)), [data]))
    assert (data[r] == data[p]).all()
    assert 0 not in set(r) | set(p) | set(n)


def test_labels_across_sessions_and_a_label_that_one_lacks():
    data = [column(*[0.0, 1.0] * 20), column(*[0.0, 2.0] * 20)]
    draws = draw(labels(), data, session=[0, 1])
    r, p, _ = flat(draws)
    joint = np.concatenate(data)
    assert (joint[r] == joint[p]).all()
    crossed = (r >= 40) != (p >= 40)
    shared = joint[r, 0] == 0
    assert abs(crossed[shared].mean() - 0.5) < 0.03
    assert not crossed[~shared].any()


# -- continuous ------------------------------------------------------------------------------------


def test_the_positive_is_the_closest_after_a_change_from_the_data():
    """With one possible change the query is known, so brute force tells the positive."""
    rng = np.random.default_rng(0)
    data = np.c_[np.arange(60) * 0.5, np.arange(60) * -2.0]  # every change over 3 steps is alike
    data = data + np.tile(rng.standard_normal((3, 2)), (20, 1))
    pairing = Pairing("time_delta", channels=(0, 1), time_offset=(3,))
    r, p, _ = flat(draw(pairing, [data]))
    scaled = data / data.std(0)
    query = scaled[r] + np.array([1.5, -6.0]) / data.std(0)
    distance = ((query[:, None] - scaled) ** 2).sum(2)
    distance[np.arange(len(r)), r] = np.inf
    np.testing.assert_array_equal(p, distance.argmin(1))


def test_changes_never_cross_the_end_of_a_recording():
    data = [np.zeros((30, 1)) + shift for shift in (0.0, 100.0)]
    r, p, _ = flat(draw(Pairing("time_delta", channels=(0,)), data))
    assert ((r < 30) == (p < 30)).all()  # a change of 100 would lead to the other recording


def test_equal_behavior_is_drawn_uniformly():
    """Argmin takes the first: ten levels over a thousand steps had ten different positives."""
    data = np.repeat(np.arange(10.0), 100)[:, None]
    _, p, _ = flat(draw(Pairing("time_delta", channels=(0,)), [data], n_steps=100))
    assert len(np.unique(p)) == 1000
    counts = np.bincount(p, minlength=1000).reshape(10, 100)
    assert (counts.max(1) < 2 * counts.mean(1)).all()


@pytest.mark.parametrize("dims", [1, 2])
def test_nearest_is_brute_force_without_itself(dims):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, (80, dims)).astype(float)
    ids = np.sort(rng.choice(80, 50, replace=False))
    queries, excluded = rng.normal(3, 2, (4000, dims)), rng.choice(80, 4000)
    store = Nearest(torch.from_numpy(ids), torch.from_numpy(values))
    found = store.draw(torch.from_numpy(queries), torch.from_numpy(excluded)).numpy()
    distance = ((queries[:, None] - values[ids]) ** 2).sum(2)
    distance[excluded[:, None] == ids] = np.inf
    chosen = distance[np.arange(4000), np.searchsorted(ids, found)]
    np.testing.assert_allclose(chosen, distance.min(1))
    assert np.isin(found, ids).all()


def test_nearest_of_one_item_is_not_itself():
    store = Nearest(torch.tensor([4]), torch.zeros(6, 1))
    assert store.draw(torch.zeros(2, 1), torch.tensor([4, 3])).tolist() == [-1, 4]


def test_halfway_between_two_values_neither_is_preferred():
    store = Nearest(torch.tensor([0, 1]), torch.tensor([[0.0], [1.0], [9.0]]))
    drawn = store.draw(torch.full((4000, 1), 0.5), torch.full((4000,), 2))
    assert abs(drawn.double().mean().item() - 0.5) < 0.05


@pytest.mark.parametrize("delta", [0.05, 0.5])
def test_gaussian_changes_have_their_width(delta):
    data = np.linspace(0, 100, 20001)[:, None]
    r, p, _ = flat(draw(Pairing("delta", channels=(0,), delta=delta), [data]))
    inner = (r > 2000) & (r < 18000)
    assert np.std(data[p[inner]] - data[r[inner]]) == pytest.approx(delta, rel=0.05)


def test_circular_behavior_has_no_edge():
    data = (np.arange(3600) * 0.1)[:, None] % 360
    circular = Pairing("delta", channels=(0,), circular={0: 360.0}, delta=20.0)
    r, p, _ = flat(draw(circular, [data]))
    gap = (data[p] - data[r] + 180) % 360 - 180
    near_edge = data[r, 0] < 5
    assert near_edge.any()
    assert np.std(gap[near_edge]) == pytest.approx(20, rel=0.2)
    assert abs(np.mean(gap[near_edge])) < 4  # both sides of 0
    assert (data[p[near_edge], 0] > 180).mean() > 0.3
    line = Pairing("delta", channels=(0,), delta=20.0)
    r, p, _ = flat(draw(line, [data]))
    assert (data[p[data[r, 0] < 5], 0] < 180).all()


def test_mixed_is_the_closest_among_steps_with_the_label():
    rng = np.random.default_rng(0)
    data = np.c_[rng.integers(0, 2, 400) * 5.0, rng.random(400)]
    pairing = Pairing("delta", channels=(0, 1), discrete=(0,), delta=1e-9)
    r, p, _ = flat(draw(pairing, [data]))
    gap = np.abs(data[r, 1][:, None] - data[:, 1])
    gap[(data[r, 0][:, None] != data[:, 0]) | (r[:, None] == np.arange(400))] = np.inf
    np.testing.assert_array_equal(p, gap.argmin(1))


@pytest.mark.parametrize("conditional", ["time_delta", "delta"])
def test_sessions_use_the_conditional_and_cross(conditional):
    """CEBRA takes any conditional with several sessions, and ignores it."""
    data = [np.linspace(0, 100, 2000)[:, None], np.linspace(0, 100, 3000)[:, None]]
    pairing = Pairing(conditional, channels=(0,), delta=5.0)
    r, p, _ = flat(draw(pairing, data, session=[0, 1]))
    joint = np.concatenate(data)[:, 0]
    crossed = (r >= 2000) != (p >= 2000)
    assert abs(crossed.mean() - 0.5) < 0.03
    inner = (joint[r] > 20) & (joint[r] < 80)
    expected = 5.0 if conditional == "delta" else 0.0
    assert np.std(joint[p[inner]] - joint[r[inner]]) == pytest.approx(expected, abs=0.3)


def test_each_session_is_assigned_to_equally_many_references():
    data = [np.random.default_rng(i).random((500, 1)) for i in range(4)]
    draws = draw(Pairing("time_delta", channels=(0,)), data, session=range(4))
    for step in draws:
        assert (np.bincount(step[1].ravel() // 500) == 64).all()


@pytest.mark.parametrize("pairing", [Pairing("time_delta", channels=(0, 1)), labels()])
def test_steps_without_behavior_are_not_drawn(pairing):
    data = np.random.default_rng(0).integers(0, 4, (300, 2)).astype(float)
    data[50:90, 0] = np.nan
    missing = np.isnan(data).any(1)
    drawn = flat(draw(pairing, [data, None], lengths=[300, 100])).ravel()
    assert (drawn < 300).all()
    assert not missing[drawn].any()
    assert set(drawn) == set(np.flatnonzero(~missing))


def test_a_channel_that_is_not_used_may_be_nan():
    data = np.c_[np.random.default_rng(0).random(100), np.full(100, np.nan)]
    assert set(flat(draw(Pairing("time_delta", channels=(0,)), [data]))[0]) == set(range(100))


@pytest.mark.parametrize(
    ("pairing", "behavior", "message"),
    [
        (Pairing("time", time_offset=(50,)), None, "time_offset=50 .* n_samples = 20"),
        (Pairing("time_delta", channels=(0,), time_offset=(50,)), "x", "time_offset=50 .*longer"),
        (Pairing("time_delta", channels=(0,)), None, "needs behavior"),
        (Pairing("time_delta", channels=(0,)), np.full((20, 1), np.nan), "finds no pair"),
        (labels(), np.arange(20.0)[:, None], "finds no pair"),
    ],
)
def test_where_no_pair_can_be_drawn(pairing, behavior, message):
    behavior = np.random.default_rng(0).random((20, 1)) if isinstance(behavior, str) else behavior
    with pytest.raises(ValueError, match=message):
        PairSampler(pairing, [20], [0], [behavior])


def test_the_same_seed_gives_the_same_pairs():
    data = np.random.default_rng(0).random((300, 2))
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(draw(Pairing("time_delta", channels=(0, 1)), [data]))
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()
