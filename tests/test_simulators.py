"""Simulators besides make_worms: the truth is what made the data."""

import numpy as np
import pytest

from skneurovae.datasets import make_latent_counts, make_linear_track, make_movie_responses
from skneurovae.recordings import check_recordings

SIMULATORS = {
    "latent counts": lambda seed: make_latent_counts(2, n_timesteps=300, random_state=seed),
    "linear track": lambda seed: make_linear_track(2, n_timesteps=300, random_state=seed),
    "movie": lambda seed: make_movie_responses(2, n_frames=100, random_state=seed),
}


@pytest.mark.parametrize("make", SIMULATORS.values(), ids=SIMULATORS)
def test_same_seed_same_data_other_seed_other_data(make):
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    (first, truth), (again, same), (other, _) = make(0), make(0), make(1)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    for a, b, c, rate, rate_again in zip(first, again, other, truth.rates, same.rates):
        np.testing.assert_array_equal(a.traces, b.traces)
        np.testing.assert_array_equal(rate, rate_again)
        assert (a.traces != c.traces).any()
    assert (first[0].traces != first[1].traces).any()
    check_recordings(first)  # as estimators take them


def z_scores(counts, rates):
    """Deviation of total counts from their expectation, in Poisson standard deviations."""
    return (counts.sum(0) - rates.sum(0)) / np.sqrt(np.maximum(rates.sum(0), 1e-12))


def assert_poisson(counts, rates):
    active = rates.sum(0) > 0
    assert np.abs(z_scores(counts, rates)[active]).max() < 5
    # Time steps of high and of low rate apart: rates tell when, not only how much.
    high = rates > np.median(rates, 0)
    for part in (high, ~high):
        masked = z_scores(np.where(part, counts, 0), np.where(part, rates, 0))
        assert np.abs(masked[active]).max() < 5
    assert not counts[:, ~active].any()


# -- latent counts ---------------------------------------------------------------------------------


def test_counts_come_from_the_rates_of_the_latents():
    recordings, truth = make_latent_counts(2, n_timesteps=6000, n_neurons=50, random_state=0)
    for number, recording in enumerate(recordings):
        assert recording.traces.shape == (6000, 50)
        np.testing.assert_array_equal(recording.behavior[:, 0], truth.labels[number])
        rates = truth.flows[number].rates(truth.latents[number])
        np.testing.assert_allclose(rates, truth.rates[number])
        assert_poisson(recording.traces, rates)
        assert rates.min() > 1 / 9.1
        assert rates.max() < 9.1
    assert np.abs(truth.rates[0].mean(0) - truth.rates[1].mean(0)).max() > 0.1


@pytest.mark.parametrize("n_neurons", [4, 5, 100])
def test_map_to_rates_is_invertible(n_neurons):
    _, truth = make_latent_counts(n_timesteps=200, n_neurons=n_neurons, random_state=0)
    found = truth.flows[0].latents(truth.rates[0])
    inside = np.abs(np.log(truth.rates[0])).max(1) < 2.19  # else float64 has rounded tanh to 1
    assert inside.mean() > 0.5
    np.testing.assert_allclose(found[inside], truth.latents[0][inside], atol=1e-6)


@pytest.mark.parametrize("time_constant", [None, 20])
def test_distribution_of_label_and_latent(time_constant):
    _, truth = make_latent_counts(
        n_timesteps=60000, n_neurons=4, time_constant=time_constant, random_state=0
    )
    c, z = truth.labels[0], truth.latents[0]
    tolerance = 0.01 if time_constant is None else 0.05
    share = np.histogram(c, 8, (0, 2 * np.pi))[0] / len(c)
    np.testing.assert_allclose(share, 1 / 8, atol=tolerance)
    residual = z - np.column_stack([c, 2 * np.sin(c)])
    spread = np.abs(np.sin(c))
    for steep in (spread > 0.9, spread < 0.1):
        variance = [0.6 - 0.3 * spread[steep].mean(), 0.3 * spread[steep].mean()]
        np.testing.assert_allclose(residual[steep].var(0), variance, rtol=0.15)
    lag_one = np.corrcoef(residual[:-1, 0], residual[1:, 0])[0, 1]
    expected = 0 if time_constant is None else np.exp(-1 / time_constant)
    assert abs(lag_one - expected) < 0.03


# -- linear track ----------------------------------------------------------------------------------


def test_animals_run_from_end_to_end():
    recordings, truth = make_linear_track(3, n_timesteps=8000, random_state=0)
    for animal, position, direction in zip(recordings, truth.position, truth.direction):
        np.testing.assert_array_equal(animal.behavior, np.column_stack([position, direction]))
        assert position.min() == 0
        assert position.max() == 1.6
        assert 10 < (np.diff(direction) != 0).sum() < 100
        step = np.diff(position)
        same = np.diff(direction) == 0
        assert np.abs(step[same]).max() <= 0.8 / 40 + 1e-12
        assert np.abs(step).max() <= 0.8 / 40 + 1e-12  # nor is there a jump where it turns
        assert (step[same & (direction[1:] == 1)] >= 0).all()
        assert (step[same & (direction[1:] == 0)] <= 0).all()
        assert set(position[1:][np.diff(direction) != 0]) <= {0.0, 1.6}


def test_counts_come_from_the_rates_of_place_and_direction():
    recordings, truth = make_linear_track(2, n_timesteps=20000, n_neurons=(40, 60), random_state=1)
    for number, recording in enumerate(recordings):
        rates, kinds = truth.rates[number], truth.kinds[number]
        assert recording.n_neurons == len(kinds) == (40, 60)[number]
        assert_poisson(recording.traces, rates)
        np.testing.assert_array_equal(np.ptp(rates, 0) == 0, np.isin(kinds, ("noisy", "silent")))
        np.testing.assert_array_equal(rates.max(0) == 0, kinds == "silent")
        position, direction = truth.position[number], truth.direction[number]
        for cell in np.flatnonzero(np.isin(kinds, ("place", "directional"))):
            center, preferred = truth.centers[number][cell], truth.preferred[number][cell]
            near = np.abs(position - center) < 0.02
            there = {d: rates[near & (direction == d), cell].mean() for d in (0.0, 1.0)}
            if kinds[cell] == "place":
                assert np.isnan(preferred)
                assert abs(there[0.0] / there[1.0] - 1) < 0.2
            else:
                assert there[preferred] > 5 * there[1 - preferred]
    assert (truth.kinds[1] == "silent").sum() == 6
    assert (truth.kinds[1] == "noisy").sum() == 9
    assert not np.array_equal(truth.centers[0], truth.centers[1][:40])


# -- movie -----------------------------------------------------------------------------------------


def test_repeats_show_the_same_features_to_two_modalities():
    recordings, truth = make_movie_responses(3, n_frames=300, random_state=0)
    assert [r.session for r in recordings] == ["spikes0"] * 3 + ["calcium1"] * 3
    for recording, frame, rates in zip(recordings, truth.frame, truth.rates):
        np.testing.assert_array_equal(recording.stimulus, truth.features[frame])
        assert recording.traces.shape == rates.shape == (300, 90)
    np.testing.assert_allclose(truth.features.std(0), 1)
    # Smooth: neighboring frames are alike, those seconds apart are not.
    lag = {n: np.mean(truth.features[n:] * truth.features[: 300 - n]) for n in (1, 90)}
    assert lag[1] > 0.98
    assert abs(lag[90]) < 0.4
    assert {name: (a == "V1").sum() for name, a in truth.areas.items()} == {
        "spikes0": 30,
        "calcium1": 30,
    }


def test_spikes_come_from_rates_and_calcium_decays():
    recordings, truth = make_movie_responses(20, n_frames=400, n_neurons=30, random_state=0)
    counts = np.concatenate([r.traces for r in recordings[:20]])
    assert_poisson(counts, np.concatenate(truth.rates[:20]))
    calcium = np.concatenate([r.traces for r in recordings[20:]])
    assert (calcium % 1 != 0).all()
    # Undone decay leaves the spikes that rates predict, and noise.
    decay = np.exp(-1 / 18)
    jumps = np.concatenate([r.traces[1:] - decay * r.traces[:-1] for r in recordings[20:]])
    rates = np.concatenate([rate[1:] for rate in truth.rates[20:]])
    variance = rates.sum(0) + len(rates) * 0.3**2 * (1 + decay**2)
    assert (np.abs(jumps.sum(0) - rates.sum(0)) / np.sqrt(variance)).max() < 5


def test_reliability_of_areas():
    recordings, truth = make_movie_responses(
        30, n_frames=300, modalities=["spikes"], areas={"all": 1.0, "half": 0.5, "none": 0.0},
        random_state=0,
    )  # fmt: skip
    log_rates = np.log(truth.rates)
    shared = log_rates.mean(0).var(0) / log_rates.reshape(-1, 90).var(0)
    found = {name: shared[truth.areas["spikes0"] == name].mean() for name in truth.reliability}
    for name, share in truth.reliability.items():
        assert abs(found[name] - (share + (1 - share) / 30)) < 0.08
    assert len(recordings) == 30


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (make_latent_counts, {"n_neurons": 3}, "n_neurons must lie between 4"),
        (make_latent_counts, {"time_constant": 0}, "time_constant"),
        (make_linear_track, {"silent": 0.9}, "silent must lie between 0 and 0.85"),
        (make_linear_track, {"n_animals": 0}, "n_animals"),
        (make_movie_responses, {"modalities": ["eeg"]}, "modalities must be among spikes, calcium"),
        (make_movie_responses, {"areas": {"V1": 1.5}}, "reliability of area 'V1'"),
        (make_movie_responses, {"areas": {}}, "areas is empty"),
    ],
)
def test_bad_arguments(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
