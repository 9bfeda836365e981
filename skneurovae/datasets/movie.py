"""Simulated responses to repeats of one movie, in spikes and in calcium."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter
from sklearn.utils import check_random_state

from skneurovae.datasets.processes import ar1, check_ranges
from skneurovae.recordings import Recording

MODALITIES = ("spikes", "calcium")
AREAS = {"V1": 0.8, "LM": 0.5, "AM": 0.2}
SMOOTH_S = 0.5  # standard deviation over which features change
DECAY_S = 0.6  # of calcium
NOISE = 0.3  # of calcium traces, in the jump of one spike
DEPTH = 1.2  # standard deviation of log rates
PRIVATE_S = 0.3  # time constant of what is not the movie's


@dataclass(frozen=True, eq=False)
class MovieTruth:
    """What `make_movie_responses` drew.

    Attributes
    ----------
    features : ndarray of shape (n_frames, n_features)
        Of the frames, of variance 1.
    frame : list of ndarray of int of shape (n_frames,)
        Number of the frame on show, one array per recording.
    rates : list of ndarray of shape (n_frames, n_neurons)
        Expected spikes per frame, one array per recording.
    areas : dict of ndarray of str of shape (n_neurons,)
        Area of each neuron, by session.
    reliability : dict of str to float
        Share of the variance of log rates that the movie drives, by area.
    """

    features: np.ndarray
    frame: list[np.ndarray]
    rates: list[np.ndarray]
    areas: dict[str, np.ndarray]
    reliability: dict[str, float]


def make_movie_responses(
    n_repeats=10,
    *,
    n_frames=900,
    n_features=12,
    n_neurons=90,
    modalities=MODALITIES,
    areas=None,
    rate_hz=30.0,
    mean_hz=4.0,
    random_state=None,
):
    """Simulate two recordings of different neurons and modalities that saw the same movie.

    Features of the frames change smoothly. The log rate of a neuron is a random direction in the
    features with a delay of up to 0.2 s, plus fluctuations of its own that differ between repeats;
    the share of the movie is the reliability of its area. Spikes are Poisson; calcium traces are
    spikes that decay over 0.6 s, with noise.

    Parameters
    ----------
    n_repeats : int, default=10
        Of the movie, in every session.
    n_frames : int, default=900
        The default is 30 s.
    n_features : int, default=12
    n_neurons : int, default=90
        Of every session, spread evenly over the areas.
    modalities : sequence of {"spikes", "calcium"}, default=("spikes", "calcium")
        One session for each.
    areas : dict of str to float, default=None
        Reliability of each area, from 0 to 1. None is 0.8 in "V1", 0.5 in "LM" and 0.2 in "AM".
    rate_hz : float, default=30.0
        Frames per second; a time step is a frame.
    mean_hz : float, default=4.0
        Typical rate in spikes per second.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    recordings : list of Recording
        One per repeat, those of a session after each other; `stimulus` holds the features, and
        `session` is named after the modality.
    truth : MovieTruth

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> from skneurovae.datasets import make_movie_responses
    >>> recordings, truth = make_movie_responses(2, n_frames=100, random_state=0)
    >>> [r.session for r in recordings]
    ['spikes0', 'spikes0', 'calcium1', 'calcium1']
    >>> recordings[0].traces.shape, recordings[0].stimulus.shape
    ((100, 90), (100, 12))
    """
    areas = dict(AREAS if areas is None else areas)
    check_ranges([
        ("n_repeats", n_repeats, 1, np.inf),
        ("n_frames", n_frames, 2, np.inf),
        ("n_features", n_features, 1, np.inf),
        ("n_neurons", n_neurons, max(len(areas), 1), np.inf),
        ("rate_hz", rate_hz, 1e-6, np.inf),
        ("mean_hz", mean_hz, 0, np.inf),
        *((f"reliability of area {name!r}", share, 0, 1) for name, share in areas.items()),
    ])  # fmt: skip
    if not areas:
        raise ValueError("areas is empty; give the reliability of one area or more.")
    for modality in modalities:
        if modality not in MODALITIES:
            raise ValueError(f"modalities must be among {', '.join(MODALITIES)}; got {modality!r}.")
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    film = np.random.default_rng([seed, 0])
    features = gaussian_filter1d(
        film.standard_normal((n_frames, n_features)), SMOOTH_S * rate_hz, axis=0, mode="reflect"
    )
    features = (features - features.mean(0)) / features.std(0)

    frame, rates, area_of, recordings = [], [], {}, []
    for number, modality in enumerate(modalities):
        rng = np.random.default_rng([seed, 1 + number])
        session = f"{modality}{number}"
        names = np.array(list(areas))[np.arange(n_neurons) * len(areas) // n_neurons]
        share = np.array([areas[name] for name in names])
        drive = _drive(rng, features, n_neurons, rate_hz)
        level = mean_hz / rate_hz * np.exp(0.5 * rng.standard_normal(n_neurons))
        for _ in range(n_repeats):
            private = ar1(rng, n_frames, np.full(n_neurons, PRIVATE_S * rate_hz))
            log_rate = np.sqrt(share) * drive + np.sqrt(1 - share) * private
            rate = level * np.exp(DEPTH * log_rate - DEPTH**2 / 2)
            spikes = rng.poisson(rate).astype(float)
            if modality == "calcium":
                spikes = lfilter([1], [1, -np.exp(-1 / (DECAY_S * rate_hz))], spikes, axis=0)
                spikes += NOISE * rng.standard_normal(spikes.shape)
            recordings.append(
                Recording(
                    spikes.astype(np.float32), stimulus=features, session=session, rate_hz=rate_hz
                )
            )
            frame.append(np.arange(n_frames))
            rates.append(rate)
        area_of[session] = names
    return recordings, MovieTruth(features, frame, rates, area_of, areas)


def _drive(rng, features, n_neurons, rate_hz):
    """What the movie asks of each neuron, of variance 1; before the movie its first frame is on."""
    n_frames, n_features = features.shape
    weights = rng.standard_normal((n_features, n_neurons)) / np.sqrt(n_features)
    delays = rng.integers(0, max(1, int(0.2 * rate_hz)) + 1, n_neurons)
    shown = np.maximum(np.arange(n_frames)[:, None] - delays, 0)
    drive = (features @ weights)[shown, np.arange(n_neurons)]
    return (drive - drive.mean(0)) / drive.std(0)
