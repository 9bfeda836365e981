"""Smooth functions of behavior: their shapes, their range, and what models make of them."""

import copy

import numpy as np
import pytest
import torch

from skneurovae import NeuroBehaviorVAE, Recording
from skneurovae.datasets import make_linear_track
from skneurovae.estimators.kinds import behavior_kinds
from skneurovae.estimators.linear_start import start_basis
from skneurovae.networks.behavior import N_FUNCTIONS, BehaviorBasis

KINDS = ("linear", "bounded", "angle")
LOW, HIGH = np.array([-1.0, 2.0, -np.pi]), np.array([3.0, 2.5, np.pi])
SMALL = {
    "model_dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "random_state": 0,
    "device": "cpu",
}  # fmt: skip


def basis_of(kinds=KINDS, lags=(0,), low=LOW, high=HIGH):
    basis = BehaviorBasis(kinds, lags).double()
    basis.low.copy_(torch.as_tensor(np.array(low)))
    basis.high.copy_(torch.as_tensor(np.array(high)))
    return basis


def place_of(values, low, high):
    """Where in its range a channel is, from 0 to 1."""
    return (np.clip(values, low, high) - low) / (high - low)


def bumps_of(place):
    """Six raised cosines with centers at 0, 0.2, ..., 1, which are 0 from 0.4 on."""
    distance = np.abs(place[..., None] - np.linspace(0, 1, 6)) / 0.4
    return np.where(distance < 1, 0.5 * (1 + np.cos(np.pi * distance)), 0.0)


def functions_of(behavior, low=LOW, high=HIGH):
    """All functions of a linear, a bounded and an angular channel, in this order."""
    linear, bounded = (place_of(behavior[..., q], low[q], high[q]) for q in (0, 1))
    turns = behavior[..., 2, None] * np.array([1, 1, 2, 2, 3, 3]) - np.pi / 2 * np.arange(6) % np.pi
    return np.concatenate(
        [linear[..., None], bounded[..., None], bumps_of(bounded), np.cos(turns)], -1
    )


def random_behavior(*shape, seed=0):
    """Channels that leave the ranges at both ends."""
    uniform = np.random.RandomState(seed).rand(*shape, 3)
    return LOW - 0.2 * (HIGH - LOW) + 1.4 * (HIGH - LOW) * uniform


# -- the functions -----------------------------------------------------------------------------


def test_every_function_is_that_of_a_formula():
    behavior = random_behavior(4, 30)
    found = basis_of().functions(torch.from_numpy(behavior)).numpy()
    assert found.shape == (4, 30, sum(N_FUNCTIONS.values()))
    np.testing.assert_allclose(found, functions_of(behavior), atol=1e-12)


def test_owner_and_sizes_tell_which_function_is_of_which_channel():
    basis = basis_of(lags=(-1, 0, 3))
    assert basis.owner.tolist() == [0] + [1] * 7 + [2] * 6
    assert (basis.n_functions, basis.n_outputs, basis.n_copies) == (14, 42, 14.0)
    behavior = random_behavior(1, 20)
    before = basis.functions(torch.from_numpy(behavior)).numpy()
    for q in range(3):
        moved = behavior.copy()
        moved[..., q] = 0.5 * (LOW + HIGH)[q] + 0.3 * (moved[..., q] - LOW[q])
        after = basis.functions(torch.from_numpy(moved)).numpy()
        changed = np.abs(after - before).max((0, 1)) > 1e-3
        np.testing.assert_array_equal(changed, basis.owner.numpy() == q)


def test_functions_saturate_at_the_ends_of_the_range():
    basis = basis_of()
    ends = torch.from_numpy(np.stack([LOW, HIGH]))
    beyond = torch.from_numpy(np.stack([LOW - 1e3, HIGH + 1e3]))
    beyond[:, 2] = ends[:, 2]  # an angle has no end
    np.testing.assert_array_equal(basis.functions(beyond), basis.functions(ends))
    middle = torch.from_numpy(0.5 * (LOW + HIGH))[None]
    assert not torch.equal(basis.functions(middle), basis.functions(ends[:1]))


def test_bumps_add_up_to_the_same_within_the_range():
    inside = np.zeros((101, 3))
    inside[:, 1] = np.linspace(LOW[1], HIGH[1], 101)
    values = basis_of().functions(torch.from_numpy(inside)).numpy()[:, 2:8]
    # Of four bumps that reach anywhere, opposite pairs add up to 1; at the ends two are left out.
    place = np.linspace(0, 1, 101)
    np.testing.assert_allclose(values[(place >= 0.2) & (place <= 0.8)].sum(1), 2.0, atol=1e-9)
    assert values.sum(1).min() >= 1.5 - 1e-9
    assert (values.argmax(1) == np.round(place * 5)).mean() > 0.9
    assert values.min() >= 0
    assert values.max() == pytest.approx(1.0)


def test_angles_are_periodic():
    behavior = torch.from_numpy(random_behavior(2, 9))
    turned = behavior.clone()
    turned[..., 2] += 2 * np.pi
    basis = basis_of()
    np.testing.assert_allclose(basis.functions(turned), basis.functions(behavior), atol=1e-12)
    turned[..., 2] += 0.5
    assert (basis.functions(turned) - basis.functions(behavior))[..., 8:].abs().max() > 0.1


# -- lags and what is not seen -----------------------------------------------------------------


def test_lags_and_standardization():
    basis = basis_of(lags=(-2, 0, 1))
    rng = np.random.RandomState(1)
    offset, scale = rng.standard_normal(14), 0.5 + rng.rand(14)
    basis.offset.copy_(torch.from_numpy(offset))
    basis.scale.copy_(torch.from_numpy(scale))
    behavior = random_behavior(3, 12)
    everything = torch.ones(behavior.shape, dtype=torch.bool)
    values, seen = basis(torch.from_numpy(behavior), everything, basis.lags)
    plain = (functions_of(behavior) - offset) / scale
    expected = np.zeros((3, 12, 3, 14))
    expected[:, :-2, 0], expected[:, :, 1], expected[:, 1:, 2] = plain[:, 2:], plain, plain[:, :-1]
    np.testing.assert_allclose(values, expected.reshape(3, 12, -1), atol=1e-12)
    there = np.ones((3, 12, 3, 14), dtype=bool)
    there[:, -2:, 0], there[:, :1, 2] = False, False
    np.testing.assert_array_equal(seen, there.reshape(3, 12, -1))
    assert values.shape[-1] == basis.n_outputs


@pytest.mark.parametrize("fill", [np.nan, np.inf, 1e30, 0.0])
def test_what_is_not_seen_is_zero_and_moves_nothing(fill):
    basis = basis_of(lags=(-1, 0))
    basis.offset.fill_(0.3)
    behavior = random_behavior(2, 10)
    seen = np.random.RandomState(2).rand(*behavior.shape) > 0.4
    values, there = basis(
        torch.from_numpy(np.where(seen, behavior, fill)), torch.from_numpy(seen), basis.lags
    )
    full, _ = basis(
        torch.from_numpy(behavior), torch.ones(behavior.shape, dtype=torch.bool), basis.lags
    )
    owned = seen[..., basis.owner.numpy()]
    now = np.where(owned, full[..., 14:], 0.0)
    np.testing.assert_array_equal(values[..., 14:], now)
    np.testing.assert_array_equal(there[..., 14:], owned)
    np.testing.assert_array_equal(values[:, :-1, :14], now[:, 1:])
    assert not values[:, -1, :14].any()
    assert 0.2 < owned.mean() < 0.9


# -- from data ---------------------------------------------------------------------------------


def test_functions_have_mean_0_and_spread_1_in_training():
    rng = np.random.RandomState(3)
    tables = []
    for n in (120, 60):
        behavior = np.stack([rng.randn(n), 5 + rng.rand(n) ** 2, rng.rand(n) * 6.2 - 3.1], 1)
        behavior[rng.rand(n, 3) < 0.2] = np.nan
        tables.append(behavior)
    recordings = [Recording(np.zeros((len(b), 2)), behavior=b) for b in tables]
    recordings.append(Recording(np.zeros((30, 2))))  # without behavior
    basis = BehaviorBasis(KINDS, (0,))
    start_basis(basis, recordings)
    stacked = np.concatenate(tables)
    np.testing.assert_allclose(basis.low, np.nanmin(stacked, 0), rtol=1e-6)
    np.testing.assert_allclose(basis.high, np.nanmax(stacked, 0), rtol=1e-6)
    expected = functions_of(stacked, np.nanmin(stacked, 0), np.nanmax(stacked, 0))
    expected[np.isnan(stacked)[:, basis.owner.numpy()]] = np.nan  # an unseen bump is no 0
    np.testing.assert_allclose(basis.offset, np.nanmean(expected, 0), atol=1e-5)
    np.testing.assert_allclose(basis.scale, np.nanstd(expected, 0), atol=1e-5)
    values, seen = copy.deepcopy(basis).double()(
        torch.from_numpy(stacked)[None], ~torch.isnan(torch.from_numpy(stacked))[None], (0,)
    )
    standard = np.where(seen[0], values[0], np.nan)
    np.testing.assert_allclose(np.nanmean(standard, 0), 0, atol=1e-4)
    np.testing.assert_allclose(np.nanstd(standard, 0), 1, atol=1e-4)


@pytest.mark.parametrize("kind", ["linear", "bounded", "angle"])
@pytest.mark.parametrize(
    "channel",
    [
        np.full(40, 3.0),
        np.full(40, np.nan),
        np.full(40, 1e9),
        1.7e12 + np.arange(40.0),  # a clock, in float32 without any range
        np.append(np.full(39, np.nan), 2.0),
    ],
    ids=["constant", "never observed", "large constant", "clock", "once"],
)
def test_channels_without_a_range_give_finite_functions(kind, channel):
    basis = BehaviorBasis((kind,), (0, 1))
    start_basis(basis, [Recording(np.zeros((40, 1)), behavior=channel[:, None])])
    assert (basis.high > basis.low).all()
    assert (basis.scale > 0).all()
    behavior = torch.from_numpy(channel).float()[None, :, None]
    values, _ = basis(behavior, ~torch.isnan(behavior), (0, 1))
    assert torch.isfinite(values).all()


def walk(n, seed=0):
    """An angle that turns round and round, with noise."""
    rng = np.random.RandomState(seed)
    return np.cumsum(0.15 + 0.1 * rng.standard_normal(n))


def channel_cases():
    turning = walk(2000)
    rng = np.random.RandomState(1)
    back = 1.6 * np.abs(np.arange(2000) / 200 % 2 - 1)
    return {
        "angle from 0": (turning % (2 * np.pi), "angle"),
        "angle from -pi": ((turning + np.pi) % (2 * np.pi) - np.pi, "angle"),
        "angle with gaps": (np.where(rng.rand(2000) < 0.1, np.nan, turning % (2 * np.pi)), "angle"),
        "position": (back, "bounded"),
        "position of the range of a turn": (2 * np.pi * back / 1.6, "bounded"),
        "degrees": (np.degrees(turning % (2 * np.pi)), "bounded"),
        "noise of the range of a turn": (2 * np.pi * rng.rand(2000), "bounded"),
        "sine": (np.sin(turning), "bounded"),
        "cosine": (np.cos(turning), "bounded"),
        "label": (rng.randint(2, size=2000).astype(float), "linear"),
        "six values": (rng.randint(6, size=2000).astype(float), "linear"),
        "seven values": (rng.randint(7, size=2000).astype(float), "bounded"),
        "constant": (np.ones(2000), "linear"),
        "never observed": (np.full(2000, np.nan), "linear"),
    }


@pytest.mark.parametrize("name", channel_cases())
def test_kinds_are_recognized(name):
    channel, expected = channel_cases()[name]
    whole = Recording(np.zeros((2000, 1)), behavior=channel[:, None])
    assert behavior_kinds("auto", [whole], 1) == (expected,)
    parts = [whole.replace(traces=np.zeros((500, 1)), behavior=b) for b in
             np.split(channel[:, None], 4)]  # fmt: skip
    assert behavior_kinds("auto", [*parts, Recording(np.zeros((9, 1)))], 1) == (expected,)


def test_each_channel_has_a_kind_of_its_own():
    cases = channel_cases()
    behavior = np.stack([cases[n][0] for n in ("label", "angle from 0", "position")], 1)
    recordings = [Recording(np.zeros((2000, 1)), behavior=behavior)]
    assert behavior_kinds("auto", recordings, 3) == ("linear", "angle", "bounded")
    assert behavior_kinds("linear", recordings, 3) == ("linear",) * 3
    given = ["bounded", "linear", "angle"]
    assert behavior_kinds(given, recordings, 3) == tuple(given)
    assert behavior_kinds(np.array(given), recordings, 3) == tuple(given)
    assert behavior_kinds("auto", [Recording(np.zeros((9, 1)))], 0) == ()


@pytest.mark.parametrize(
    ("kinds", "n_behaviors", "message"),
    [
        (["bounded"], 2, "for each of 2 channels"),
        (["bounded", "round"], 2, "for each of 2 channels"),
        ("bounded", 0, "no meaning without behavior"),
    ],
)
def test_wrong_kinds_are_refused(kinds, n_behaviors, message):
    behavior = np.random.RandomState(0).rand(60, n_behaviors) if n_behaviors else None
    with pytest.raises(ValueError, match=message):
        behavior_kinds(kinds, [Recording(np.zeros((60, 1)), behavior=behavior)], n_behaviors)
    X = np.random.RandomState(1).rand(60, 4)
    model = NeuroBehaviorVAE(2, behavior_kind=kinds, max_iter=1, window_length=16, **SMALL)
    with pytest.raises(ValueError, match=message):
        model.fit(X, behavior=behavior)


def test_an_unknown_kind_is_refused_and_pooled_takes_none():
    X = np.random.RandomState(1).rand(60, 4)
    with pytest.raises(ValueError, match="behavior_kind"):
        NeuroBehaviorVAE(2, behavior_kind="round", **SMALL).fit(X, behavior=X[:, :1])
    pooled = NeuroBehaviorVAE(2, neuron_encoder="pooled", behavior_kind="angle", **SMALL)
    with pytest.raises(ValueError, match="behavior_kind='angle' needs neuron_encoder='precision'"):
        pooled.fit(X, behavior=X[:, :1])


# -- in models ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "bounded"])
def test_predictions_far_outside_of_training_are_those_at_its_end(kind):
    rng = np.random.RandomState(0)
    behavior = np.linspace(-1, 2, 240)[rng.permutation(240)][:, None]
    X = np.tanh(behavior @ rng.standard_normal((1, 6)) * 2) + 0.2 * rng.standard_normal((240, 6))
    model = NeuroBehaviorVAE(
        2, behavior_kind=kind, behavior_lags=(0,), max_iter=2, window_length=16, shrinkage=10.0,
        early_stopping=False, **SMALL,
    ).fit(X, behavior=behavior)  # fmt: skip
    assert model.behavior_kind_ == (kind,)
    for end, beyond in ((-1.0, -500.0), (2.0, 500.0)):
        at_end = model.predict_from_behavior(np.full((16, 1), end))
        with pytest.warns(UserWarning, match="extrapolated"):
            far = model.predict_from_behavior(np.full((16, 1), beyond))
        np.testing.assert_allclose(far, at_end, atol=1e-5)
    inside = model.predict_from_behavior(np.full((16, 1), 0.0))
    assert np.abs(inside - at_end).max() > 0.1


def test_tuning_curves_of_place_cells_are_recovered():
    recordings, truth = make_linear_track(
        1, n_timesteps=4000, n_neurons=24, directional=0.0, silent=0.0, random_state=1
    )
    model = NeuroBehaviorVAE(
        4, likelihood="poisson", max_iter=6, shrinkage=100.0, **{**SMALL, "hidden_dim": 32}
    ).fit(recordings)
    assert model.behavior_kind_ == ("bounded", "linear")
    place = np.linspace(0, 1.6, 60)
    curves = np.mean([
        model.predict_from_behavior(
            np.stack([np.repeat(place, 17), np.full(60 * 17, way)], 1)
        )[8::17] for way in (0.0, 1.0)
    ], 0)  # fmt: skip
    bins = np.digitize(truth.position[0], np.linspace(0, 1.6, 61)[1:-1])
    true = np.stack([truth.rates[0][bins == b].mean(0) for b in range(60)])
    fields = truth.kinds[0] == "place"
    found = [np.corrcoef(a, b)[0, 1] for a, b in zip(curves.T[fields], true.T[fields])]
    assert fields.sum() > 10
    assert np.mean(found) >= 0.9
