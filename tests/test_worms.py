import numpy as np
import pytest

from skneurovae.datasets.worms import REGIMES, make_worms

ORACLE = {
    "linear": (0.45, 0.6),
    "curved": (0.45, 0.65),
    "slow": (0.05, 0.11),
    "gated": (0.45, 0.65),
}


@pytest.mark.parametrize("regime", REGIMES)
def test_shapes_and_oracle(regime):
    worms, truth = make_worms(4, regime=regime, random_state=0)
    low, high = ORACLE[regime]
    assert low < truth.oracle_r2(worms).mean() < high
    for worm, latents, signal, behavior in zip(
        worms, truth.latents, truth.signals, truth.behavior, strict=True
    ):
        assert worm.traces.shape == signal.shape == (800, 60)
        assert worm.behavior.shape == behavior.shape == (800, 3)
        assert latents.shape == (800, REGIMES[regime].n_components)
        assert len(set(worm.identities)) == 60
        assert set(worm.identities) <= set(truth.identities)
        assert not np.isnan(worm.traces).any()
    assert len({tuple(w.identities) for w in worms}) == 4
    assert len({w.session for w in worms}) == 4


def test_same_seed_same_data_and_animals_are_independent_of_how_many():
    first, truth = make_worms(3, n_timesteps=(50, 90), missing=0.2, random_state=3)
    again, _ = make_worms(3, n_timesteps=(50, 90), missing=0.2, random_state=3)
    later, later_truth = make_worms(
        1, first_animal=2, n_timesteps=(50, 90), missing=0.2, random_state=3
    )
    other, _ = make_worms(3, n_timesteps=(50, 90), missing=0.2, random_state=4)
    for a, b in zip([*first, first[2]], [*again, later[0]]):
        np.testing.assert_array_equal(a.traces, b.traces)
        np.testing.assert_array_equal(a.behavior, b.behavior)
        assert list(a.identities) == list(b.identities)
        assert a.session == b.session
    for name, value in truth.parameters.items():
        np.testing.assert_array_equal(value, later_truth.parameters[name])
    assert list(first[0].identities) != list(other[0].identities)


def test_an_identity_means_the_same_in_every_animal():
    worms, truth = make_worms(2, animal_spread=0.0, random_state=0)
    loadings = truth.parameters["loadings"]
    for worm, z, signal in zip(worms, truth.latents, truth.signals):
        rows = [list(truth.identities).index(name) for name in worm.identities]
        drive = 2 * np.tanh(z @ loadings[rows].T / 2)
        gain = np.exp(truth.parameters["log_gain"][rows].T)
        np.testing.assert_allclose(signal, truth.parameters["baseline"][rows].T + gain * drive)
    _, spread = make_worms(2, animal_spread=0.3, random_state=0)
    correlation = np.corrcoef(spread.signals[0].ravel(), truth.signals[0].ravel())[0, 1]
    assert 0.8 < correlation < 0.999


@pytest.mark.parametrize("regime", ["linear", "curved"])
def test_behavior_shows_lagged_visible_features_only(regime):
    _, truth = make_worms(1, regime=regime, n_timesteps=3000, random_state=1)
    assert (np.abs(truth.lags) >= 2).all()
    assert (np.abs(truth.lags) <= 8).all()
    assert (truth.lags < 0).any()
    assert (truth.lags > 0).any()
    z = truth.latents[0]
    visible = z[:, : (z.shape[1] + 1) // 2]
    features = visible if regime == "linear" else np.hstack([np.cos(visible), np.sin(visible)])
    middle = np.arange(8, 2992)
    expected = sum(
        truth.mixing[:, f] * features[middle[:, None] - truth.lags[:, f], f]
        for f in range(features.shape[1])
    )
    np.testing.assert_allclose(truth.behavior[0][middle], expected)


def test_time_constants_of_the_slow_regime_are_spread():
    _, truth = make_worms(1, regime="slow", n_timesteps=40000, n_recorded=2, random_state=0)
    z = truth.latents[0]
    lag_one = (z[1:] * z[:-1]).mean(0) / (z**2).mean(0)
    time_constants = -1 / np.log(lag_one)
    np.testing.assert_allclose(time_constants[[0, -1]], [200, 20], rtol=0.4)
    np.testing.assert_allclose(z.var(0), 1, atol=0.35)


def test_gains_change_sign_in_the_gated_regime():
    worms, truth = make_worms(
        1, regime="gated", n_timesteps=4000, animal_spread=0.0, random_state=0
    )
    rows = [list(truth.identities).index(name) for name in worms[0].identities]
    gating, loadings = truth.parameters["gating"][rows], truth.parameters["loadings"][rows]
    n_states = gating.shape[1]
    z = truth.latents[0]
    drive = z[:, n_states:] @ loadings[:, n_states:].T
    state = z[:, :n_states] @ gating.T
    signal = truth.signals[0] - truth.signals[0].mean(0)

    def correlation(when):
        triples = zip(drive.T, when.T, signal.T)
        return np.median([np.corrcoef(d[w], x[w])[0, 1] for d, w, x in triples])

    assert correlation(state > 0.5) > 0.8
    assert correlation(state < -0.5) < -0.6


def test_missing_samples_come_in_gaps():
    worms, _ = make_worms(2, n_timesteps=2000, missing=0.3, random_state=0)
    nan = np.isnan(worms[0].traces)
    assert abs(nan.mean() - 0.3) < 0.03
    padded = np.pad(nan.T, ((0, 0), (1, 1))).astype(int)
    starts, stops = np.argwhere(np.diff(padded) == 1), np.argwhere(np.diff(padded) == -1)
    lengths = stops[:, 1] - starts[:, 1]
    inside = (starts[:, 1] > 0) & (stops[:, 1] < 2000)
    assert lengths[inside].min() == 20
    full, _ = make_worms(2, n_timesteps=2000, random_state=0)
    np.testing.assert_array_equal(worms[0].traces[~nan], full[0].traces[~nan])


def test_ragged_lengths():
    worms, truth = make_worms(6, n_timesteps=(100, 110), n_recorded=5, random_state=0)
    lengths = [w.n_timesteps for w in worms]
    assert len(set(lengths)) > 1
    assert min(lengths) >= 100
    assert max(lengths) <= 110
    assert lengths == [len(z) for z in truth.latents] == [len(w.behavior) for w in worms]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"regime": "cubic"}, "regime must be one of linear, curved, slow, gated"),
        ({"n_recorded": 101}, "n_recorded must lie between 1 and 100"),
        ({"n_timesteps": (20, 10)}, "n_timesteps"),
        ({"regime": "gated", "n_components": 1}, "n_components must lie between 2"),
        ({"missing": 1.0}, "missing"),
        ({"n_behaviors": 0}, "n_behaviors"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_worms(1, **arguments)
