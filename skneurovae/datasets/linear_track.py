"""Simulated animals that run back and forth on a linear track, with hippocampal place cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.utils import check_random_state

from skneurovae.datasets.processes import check_ranges
from skneurovae.recordings import Recording

KINDS = ("place", "directional", "noisy", "silent")
BACKGROUND_HZ = 0.2  # of place cells outside their fields
NOISY_HZ = (1.0, 8.0)  # rates of cells that do not tell place
PAUSE_S = (0.3, 1.5)  # at either end of the track
RAMP = 0.15  # of the track, over which an animal gains and loses its speed
SLOWEST = 0.15  # speed at the very ends, as a fraction of that of the lap


@dataclass(frozen=True, eq=False)
class LinearTrackTruth:
    """What `make_linear_track` drew; lists have one entry per animal.

    Attributes
    ----------
    position : list of ndarray of shape (n_timesteps,)
        In m.
    direction : list of ndarray of shape (n_timesteps,)
        1.0 on the way to the far end and while resting there, else 0.0.
    rates : list of ndarray of shape (n_timesteps, n_neurons)
        Expected counts per time step.
    kinds : list of ndarray of str of shape (n_neurons,)
        "place" (one field, whatever the direction), "directional" (a field in one direction only),
        "noisy" (a constant rate) or "silent".
    centers : list of ndarray of shape (n_neurons,)
        Of the fields, in m; NaN where there is none.
    preferred : list of ndarray of shape (n_neurons,)
        Direction in which a directional cell fires, NaN for the others.
    """

    position: list[np.ndarray]
    direction: list[np.ndarray]
    rates: list[np.ndarray]
    kinds: list[np.ndarray]
    centers: list[np.ndarray]
    preferred: list[np.ndarray]


def make_linear_track(
    n_animals=4,
    *,
    n_timesteps=8000,
    n_neurons=60,
    track_length=1.6,
    field_width=0.12,
    peak_hz=12.0,
    directional=0.5,
    noisy=0.15,
    silent=0.1,
    rate_hz=40.0,
    random_state=None,
):
    """Simulate animals on a linear track: spike counts of place cells, position and direction.

    Animals run from end to end at a speed of their own in each lap (0.2 to 0.8 m/s), slow down
    near the ends and rest there. Every animal has its own cells, so nothing but position and
    direction is shared.

    Parameters
    ----------
    n_animals : int, default=4
    n_timesteps : int, default=8000
        Of each animal; the default is 200 s.
    n_neurons : int or sequence of int, default=60
        Of every animal, or of each.
    track_length : float, default=1.6
        In m.
    field_width : float, default=0.12
        Standard deviation of a place field, in m; cells differ by factors of about 1.3.
    peak_hz : float, default=12.0
        Typical rate in the center of a field, in spikes per second; cells differ by factors of
        about 1.5.
    directional : float, default=0.5
        Share of the cells with a field that fire in one direction only.
    noisy, silent : float, default=0.15 and 0.1
        Shares of all cells that fire at a constant rate, and that never fire.
    rate_hz : float, default=40.0
        Time steps per second, so 25 ms each.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    recordings : list of Recording
        Counts per time step; behavior is position in m and direction (0 or 1); `session` is the
        animal.
    truth : LinearTrackTruth

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    The defaults follow the recordings that CEBRA was shown on: four rats on a track of 1.6 m, 48 to
    120 cells, bins of 25 ms (hc-11: Grosmark & Buzsaki, Science 351, 2016).

    Examples
    --------
    >>> from skneurovae.datasets import make_linear_track
    >>> recordings, truth = make_linear_track(2, n_timesteps=400, random_state=0)
    >>> recordings[0].traces.shape, recordings[0].behavior.shape
    ((400, 60), (400, 2))
    """
    widths = np.broadcast_to(n_neurons, max(n_animals, 1))
    check_ranges([
        ("n_animals", n_animals, 1, np.inf),
        ("n_timesteps", n_timesteps, 1, np.inf),
        ("n_neurons", min(widths), 1, np.inf),
        ("track_length", track_length, 1e-6, np.inf),
        ("field_width", field_width, 1e-6, np.inf),
        ("peak_hz", peak_hz, 0, np.inf),
        ("directional", directional, 0, 1),
        ("noisy", noisy, 0, 1),
        ("silent", silent, 0, 1 - noisy),
        ("rate_hz", rate_hz, 1e-6, np.inf),
    ])  # fmt: skip
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    recordings, truth = [], LinearTrackTruth([], [], [], [], [], [])
    for animal, width in enumerate(widths.tolist()):
        rng = np.random.default_rng([seed, animal])
        kinds = _kinds(rng, width, directional, noisy, silent)
        has_field = np.isin(kinds, ("place", "directional"))
        centers = np.where(has_field, rng.uniform(0, track_length, width), np.nan)
        preferred = np.where(kinds == "directional", rng.integers(0, 2, width), np.nan)
        sigma = field_width * np.exp(0.25 * rng.standard_normal(width))
        peak = peak_hz * np.exp(0.4 * rng.standard_normal(width))
        constant = np.where(kinds == "noisy", rng.uniform(*NOISY_HZ, width), 0.0)
        constant = np.where(has_field, BACKGROUND_HZ, constant)

        position, direction = _run(rng, n_timesteps, track_length, rate_hz)
        bump = np.exp(-(((position[:, None] - centers) / sigma) ** 2) / 2)
        firing = has_field & ~((kinds == "directional") & (preferred != direction[:, None]))
        rates = (constant + np.where(firing, peak * bump, 0.0)) / rate_hz
        recordings.append(
            Recording(
                rng.poisson(rates).astype(np.float32),
                behavior=np.column_stack([position, direction]),
                session=f"animal{animal:02d}",
                rate_hz=rate_hz,
            )
        )
        for values, value in zip(
            vars(truth).values(), (position, direction, rates, kinds, centers, preferred)
        ):
            values.append(value)
    return recordings, truth


def _kinds(rng, n_neurons, directional, noisy, silent):
    """Kind of each neuron, in the shares that were asked for."""
    n_silent, n_noisy = round(silent * n_neurons), round(noisy * n_neurons)
    n_silent = min(n_silent, n_neurons - n_noisy)
    n_directional = round(directional * (n_neurons - n_silent - n_noisy))
    counts = {"silent": n_silent, "noisy": n_noisy, "directional": n_directional}
    counts["place"] = n_neurons - sum(counts.values())
    return rng.permutation(np.repeat(list(counts), list(counts.values())))


def _run(rng, n_timesteps, length, rate_hz):
    """Position and direction, starting at a random moment of a lap."""
    positions, directions, n = [], [], 0
    skipped = int(rng.integers(0, 5 * rate_hz))
    outward = bool(rng.integers(2))
    while n < n_timesteps + skipped:
        speed = rng.uniform(0.2, 0.8) * length / 1.6
        lap, place = [0.0], 0.0
        while place < length:
            near_end = min(place, length - place) / (RAMP * length)
            place += speed / rate_hz * max(SLOWEST, min(1.0, near_end))
            lap.append(min(place, length))
        lap += [length] * int(rng.uniform(*PAUSE_S) * rate_hz)
        positions.append(np.array(lap) if outward else length - np.array(lap))
        directions.append(np.full(len(lap), float(outward)))
        n += len(lap)
        outward = not outward
    kept = slice(skipped, skipped + n_timesteps)
    return np.concatenate(positions)[kept], np.concatenate(directions)[kept]
