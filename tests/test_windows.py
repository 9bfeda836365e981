"""Windows cover everything, and their weights sum to one."""

import numpy as np
import pytest

from skneurovae.recordings.windows import blend_weights, plan_windows

LENGTHS = [1, 3, 7, 8, 9, 20, 23, 64]
SIZES = [(1, 1), (4, 1), (4, 3), (8, 4), (8, 8), (100, 50)]


def rows_of(plan, recording):
    return plan[plan[:, 0] == recording]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("window_length", "stride"), SIZES)
def test_every_time_step_is_in_a_window_and_no_window_is_too_long(window_length, stride, causal):
    plan = plan_windows(LENGTHS, window_length, stride, causal=causal)
    assert plan.dtype == np.int64
    for recording, n_timesteps in enumerate(LENGTHS):
        rows = rows_of(plan, recording)
        covered = np.concatenate([np.arange(start, stop) for _, start, stop in rows])
        assert sorted(set(covered)) == list(range(n_timesteps))
        assert np.all(np.diff(rows[:, 1]) > 0)
        sizes = rows[:, 2] - rows[:, 1]
        assert sizes.max() == min(window_length, n_timesteps)
        if not causal:
            assert sizes.min() == sizes.max()


def test_last_window_ends_with_the_recording():
    plan = plan_windows([10], 4, 3)
    assert plan.tolist() == [[0, 0, 4], [0, 3, 7], [0, 6, 10]]
    plan = plan_windows([9], 4, 3)
    assert plan.tolist() == [[0, 0, 4], [0, 3, 7], [0, 5, 9]]


def test_causal_last_window_is_cut_off_and_every_window_adds_something():
    plan = plan_windows([9, 4, 5], 4, 3, causal=True)
    assert plan.tolist() == [
        [0, 0, 4], [0, 3, 7], [0, 6, 9], [1, 0, 4], [2, 0, 4], [2, 3, 5],
    ]  # fmt: skip


@pytest.mark.parametrize(("window_length", "stride"), SIZES)
def test_causal_windows_and_weights_do_not_depend_on_what_comes_later(window_length, stride):
    whole = plan_windows([50], window_length, stride, causal=True)
    whole_weights = blend_weights(whole, 50, causal=True)
    for cut in range(1, 50):
        rows = plan_windows([cut], window_length, stride, causal=True)
        expected = whole[: len(rows)].copy()
        expected[:, 2] = np.minimum(expected[:, 2], cut)
        np.testing.assert_array_equal(rows, expected)
        for weight, later in zip(blend_weights(rows, cut, causal=True), whole_weights):
            np.testing.assert_array_equal(weight, later[: len(weight)])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("window_length", "stride"), SIZES)
def test_weights_sum_to_one(window_length, stride, causal):
    for n_timesteps in LENGTHS:
        rows = plan_windows([n_timesteps], window_length, stride, causal=causal)
        total = np.zeros(n_timesteps)
        for (_, start, stop), weight in zip(rows, blend_weights(rows, n_timesteps, causal)):
            assert weight.shape == (stop - start,)
            assert (weight >= 0).all()
            total[start:stop] += weight
        np.testing.assert_allclose(total, 1, rtol=1e-14)


def test_overlaps_fade_along_a_straight_line():
    first, second = blend_weights([(0, 0, 10), (0, 6, 16)], 16)
    np.testing.assert_allclose(first, [1] * 6 + [0.8, 0.6, 0.4, 0.2])
    np.testing.assert_allclose(second, [0.2, 0.4, 0.6, 0.8] + [1] * 6)


def test_causal_weights_take_each_step_from_the_window_with_most_past():
    rows = plan_windows([11], 4, 2, causal=True)
    weights = blend_weights(rows, 11, causal=True)
    for (_, start, stop), weight in zip(rows, weights):
        for time in range(start, stop):
            earliest = min(s for _, s, e in rows if s <= time < e)
            assert weight[time - start] == (start == earliest)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="window_length must be at least 1, got 0"):
        plan_windows([10], 0, 1)
    with pytest.raises(ValueError, match="stride must be between 1 and window_length=4, got 5"):
        plan_windows([10], 4, 5)
    with pytest.raises(ValueError, match="stride must be between 1 and window_length=4, got 0"):
        plan_windows([10], 4, 0)
    with pytest.raises(ValueError, match="rows leave out time step 4"):
        blend_weights([(0, 0, 4), (0, 5, 9)], 9)


def test_with_context_each_step_is_from_one_window_that_holds_its_context():
    rows = [(0, 0, 10), (0, 5, 15), (0, 10, 20)]
    weights = blend_weights(rows, 20, context=(3, 2))
    total = np.zeros(20)
    for (_, start, stop), weight in zip(rows, weights):
        total[start:stop] += weight
        for step in start + np.flatnonzero(weight):
            assert step - 3 >= start or start == 0
            assert step + 2 < stop or stop == 20
    assert (total == 1).all()
    with pytest.raises(ValueError, match="leave out time step 8"):
        blend_weights([(0, 0, 10), (0, 7, 17)], 17, context=(3, 2))
