"""Simulated worms: animals that share identified neurons, with the truth that made them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter
from scipy.special import i0e
from sklearn.utils import check_random_state

from skneurovae.datasets.processes import ar1
from skneurovae.metrics import r2_per_neuron
from skneurovae.recordings import Recording

MARGIN = 8  # longest lag between a latent and a behavior, in time steps
GAP = 20  # length of a gap of missing samples, in time steps


@dataclass(frozen=True, eq=False)
class WormsTruth:
    """What `make_worms` drew; lists have one entry per animal, in the order of the recordings.

    Attributes
    ----------
    regime : str
    latents : list of ndarray of shape (n_timesteps, n_components)
        Positions in radians, in (-pi, pi], in the regime "curved".
    signals : list of ndarray of shape (n_timesteps, n_recorded)
        Traces without noise, also where samples are missing.
    behavior : list of ndarray of shape (n_timesteps, n_behaviors)
        Behavior without noise.
    identities : ndarray of shape (n_identities,)
        All names; row i of the parameters belongs to name i.
    parameters : dict of ndarray
        Read-out of each identity before the perturbation of an animal: "loadings"
        (n_identities, n_components), or "centers" and "log_width" in "curved"; in "gated" also
        "gating" (n_identities, n_visible), the direction of the states that raises the gain;
        "log_gain", "baseline" and "noise" (standard deviation) of shape (n_identities, 1).
    lags, mixing : ndarray of shape (n_behaviors, n_visible)
        Behavior q shows feature f `lags[q, f]` time steps late (early when negative), with weight
        `mixing[q, f]`. The features are the first half of the latents, in "gated" the first third,
        or cosine and sine of the first half of the positions.
    """

    regime: str
    latents: list[np.ndarray]
    signals: list[np.ndarray]
    behavior: list[np.ndarray]
    identities: np.ndarray
    parameters: dict[str, np.ndarray]
    lags: np.ndarray
    mixing: np.ndarray

    def oracle_r2(self, recordings):
        """Mean of the classical R2 of the noiseless signals over neurons, one value per recording.

        No prediction from other neurons can be expected to pass it, by the same measure: that of
        scores with ``average="mean"``.

        Parameters
        ----------
        recordings : list of Recording
            As returned together with this truth.

        Returns
        -------
        ndarray of shape (n_animals,)
        """
        pairs = zip(recordings, self.signals, strict=True)
        return np.array([np.nanmean(r2_per_neuron(r.traces, signal)) for r, signal in pairs])


def make_worms(
    n_animals=10,
    *,
    regime="linear",
    n_timesteps=800,
    n_identities=100,
    n_recorded=60,
    n_components=None,
    n_behaviors=3,
    noise=None,
    missing=0.0,
    animal_spread=0.2,
    first_animal=0,
    random_state=None,
):
    """Simulate animals that share identified neurons, latent dynamics and behavior.

    Latents move on their own time constants and are read out by the neurons. Half of them are
    visible in behavior, which follows or leads each of them by two to eight time steps; the other
    half is invisible there. Every animal has its own random subset of the identities and its own
    perturbation of their read-out.

    Parameters
    ----------
    n_animals : int, default=10
    regime : {"linear", "curved", "slow", "gated"}, default="linear"
        - "linear": latents with time constants of 8 to 40 time steps, nearly linear read-out.
        - "curved": the latents are positions on circles; a neuron fires in a bump around its
          preferred position on all circles at once, so few linear components see little.
        - "slow": as "linear" with noise of about 12 times the variance of the signal and time
          constants from 20 to 200 time steps: only averages over time show the latents.
        - "gated": the visible latents, here a third, are states that switch the gain of the
          neurons between -0.8 and 1.2, so constant loadings see the average only.
    n_timesteps : int or (int, int), default=800
        Length of every recording, or the bounds (both included) of lengths drawn per animal.
    n_identities : int, default=100
        Neurons of the species, named "N000", "N001", ...
    n_recorded : int, default=60
        Neurons recorded in each animal, at most `n_identities`.
    n_components : int, default=None
        Number of latents. None is 2 in "curved", 8 in "gated" (which needs 2 or more) and
        6 otherwise.
    n_behaviors : int, default=3
    noise : float, default=None
        Typical standard deviation of the white noise; signals have about unit variance. None is
        the regime's own: 0.75 in "linear", 0.85 in "curved", 3 in "slow", 0.75 in "gated".
    missing : float, default=0.0
        Expected fraction of samples that are NaN, at most 0.99, in gaps of 20 time steps or more.
    animal_spread : float, default=0.2
        Standard deviation of an animal's read-out parameters around those of the species, in units
        of their spread over identities, and of the width of the bump for preferred positions.
    first_animal : int, default=0
        Number of the first animal. Animal a is the same in every call with the same other
        arguments, so `first_animal=10` gives animals that a model of the first ten never saw.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    recordings : list of Recording
        `session` is the animal's name, `identities` are strings.
    truth : WormsTruth

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> from skneurovae.datasets import make_worms
    >>> recordings, truth = make_worms(3, n_timesteps=200, random_state=0)
    >>> recordings[0].traces.shape, truth.latents[0].shape
    ((200, 60), (200, 6))
    """
    if regime not in REGIMES:
        raise ValueError(f"regime must be one of {', '.join(REGIMES)}; got {regime!r}.")
    kind = REGIMES[regime]
    n_components = kind.n_components if n_components is None else n_components
    bounds = (n_timesteps, n_timesteps) if np.isscalar(n_timesteps) else tuple(n_timesteps)
    for name, value, low, high in [
        ("n_animals", n_animals, 1, np.inf),
        ("n_timesteps", bounds[0], 2, bounds[-1]),
        ("n_recorded", n_recorded, 1, n_identities),
        ("n_components", n_components, kind.least_components, np.inf),
        ("n_behaviors", n_behaviors, 1, np.inf),
        ("missing", missing, 0, 0.99),
    ]:
        if not low <= value <= high:
            raise ValueError(
                f"{name} must lie between {low} and {high} in regime {regime!r}; got {value}."
            )
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)

    species = np.random.default_rng([seed, 0])
    parameters = kind.draw(species, n_identities, n_components)
    parameters["log_gain"] = 0.3 * species.standard_normal((n_identities, 1))
    baseline = species.standard_normal((n_identities, 1))
    spread = np.exp(0.3 * species.standard_normal((n_identities, 1)))
    deviation = (kind.noise if noise is None else noise) * spread
    n_features = kind.features(np.zeros((1, n_components))).shape[1]
    mixing, lags = _draw_behavior(species, n_behaviors, n_features)
    names = np.array([f"N{i:03d}" for i in range(n_identities)], dtype=object)

    recordings, latents, signals, behaviors = [], [], [], []
    for animal in range(first_animal, first_animal + n_animals):
        rng = np.random.default_rng([seed, 1 + animal])
        chosen = np.sort(rng.permutation(n_identities)[:n_recorded])
        own = _perturbed(rng, parameters, chosen, animal_spread)
        length = int(rng.integers(*bounds, endpoint=True))
        moving = kind.move(rng, length + 2 * MARGIN, n_components)
        behavior = _behavior(kind.features(moving), mixing, lags)
        z = moving[MARGIN : MARGIN + length]
        signal = baseline[chosen].T + np.exp(own["log_gain"]).T * kind.read_out(z, own)
        traces = signal + deviation[chosen].T * rng.standard_normal(signal.shape)
        traces[_gaps(rng, traces.shape, missing)] = np.nan
        recordings.append(
            Recording(
                traces,
                behavior=behavior + 0.3 * rng.standard_normal(behavior.shape),
                identities=names[chosen],
                session=f"worm{animal:02d}",
            )
        )
        latents.append(z)
        signals.append(signal)
        behaviors.append(behavior)

    parameters |= {"baseline": baseline, "noise": deviation}
    truth = WormsTruth(regime, latents, signals, behaviors, names, parameters, lags, mixing)
    return recordings, truth


@dataclass(frozen=True)
class _Regime:
    draw: Callable  # (rng, n_identities, n_components) -> read-out parameters of the identities
    move: Callable  # (rng, n_timesteps, n_components) -> latents
    features: Callable  # latents -> what behavior can show of them
    read_out: Callable  # (latents, parameters) -> signals of about unit variance
    noise: float
    n_components: int = 6
    least_components: int = 1


def _wander(fastest, slowest):
    def move(rng, n_timesteps, n_components):
        return ar1(rng, n_timesteps, np.geomspace(slowest, fastest, n_components))

    return move


def _visible_half(latents):
    return latents[:, : (latents.shape[1] + 1) // 2]


def _draw_loadings(rng, n_identities, n_components):
    return {"loadings": rng.standard_normal((n_identities, n_components)) / np.sqrt(n_components)}


def _nearly_linear(latents, parameters):
    return 2 * np.tanh(latents @ parameters["loadings"].T / 2)


def _circle(rng, n_timesteps, n_components):
    """Positions on circles; their velocity is an AR(1) process of 20 time steps."""
    velocity = 0.1 * ar1(rng, n_timesteps, np.full(n_components, 20.0))
    position = rng.uniform(-np.pi, np.pi, n_components) + np.cumsum(velocity, 0)
    return np.angle(np.exp(1j * position))


def _cosine_sine(positions):
    visible = _visible_half(positions)
    return np.column_stack([np.cos(visible), np.sin(visible)])


def _draw_bumps(rng, n_identities, n_components):
    return {
        "centers": rng.uniform(-np.pi, np.pi, (n_identities, n_components)),
        "log_width": np.log(rng.uniform(0.35, 0.7, (n_identities, 1))),
    }


def _bumps(positions, parameters):
    """Product of von Mises bumps, scaled to the variance that a uniform position would give."""
    sharpness = np.exp(-2 * parameters["log_width"]).T
    distance = 1 - np.cos(positions[:, None, :] - parameters["centers"])
    bump = np.exp(-sharpness * distance.sum(2))
    # Over one circle the bump averages exp(-k) I0(k), its square exp(-2k) I0(2k).
    n = positions.shape[1]
    mean, square = i0e(sharpness) ** n, i0e(2 * sharpness) ** n
    return (bump - mean) / np.sqrt(square - mean**2)


def _draw_gated(rng, n_identities, n_components):
    """Loadings on all latents, and for each neuron the states that raise its gain."""
    direction = rng.standard_normal((n_identities, (n_components + 1) // 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return _draw_loadings(rng, n_identities, n_components) | {"gating": direction}


def _states(latents):
    return latents[:, : (latents.shape[1] + 1) // 3]


def _gated(latents, parameters):
    """Gains between -0.8 and 1.2 on the hidden latents; the states themselves show a little."""
    states = _states(latents)
    n_states = states.shape[1]
    hidden = latents[:, n_states:]
    loadings = 1.25 * parameters["loadings"].T
    gain = 0.2 + np.tanh(5 * states @ parameters["gating"].T)
    return 0.4 * states @ loadings[:n_states] + gain * (hidden @ loadings[n_states:])


REGIMES = {
    "linear": _Regime(_draw_loadings, _wander(8, 40), _visible_half, _nearly_linear, noise=0.75),
    "curved": _Regime(_draw_bumps, _circle, _cosine_sine, _bumps, noise=0.85, n_components=2),
    "slow": _Regime(_draw_loadings, _wander(20, 200), _visible_half, _nearly_linear, noise=3.0),
    "gated": _Regime(_draw_gated, _wander(8, 40), _states, _gated, 0.75, 8, least_components=2),
}


def _perturbed(rng, parameters, chosen, animal_spread):
    """The read-out of one animal: that of the species plus noise in units of its own spread."""
    own = {}
    for name, value in parameters.items():
        # A bump is the same neuron's while it moves by less than its width.
        unit = np.exp(parameters["log_width"][chosen]) if name == "centers" else value.std()
        value = value[chosen]
        own[name] = value + animal_spread * unit * rng.standard_normal(value.shape)
    return own


def _draw_behavior(rng, n_behaviors, n_features):
    """Mixing and lags: behavior q shows mostly feature q, and a little of every other."""
    mixing = 0.3 * rng.standard_normal((n_behaviors, n_features))
    mixing[np.arange(n_behaviors), np.arange(n_behaviors) % n_features] += 1
    lags = rng.integers(2, MARGIN + 1, mixing.shape) * rng.choice([-1, 1], mixing.shape)
    return mixing, lags


def _behavior(features, mixing, lags):
    """Mix lagged features; they reach MARGIN steps beyond both ends of the behavior."""
    steps = np.arange(MARGIN, len(features) - MARGIN)
    lagged = features[steps[:, None, None] - lags, np.arange(features.shape[1])]
    return (mixing * lagged).sum(2)


def _gaps(rng, shape, fraction):
    """True in gaps of `GAP` steps or more that cover `fraction` of the samples in expectation."""
    # A sample is missing when one of the GAP steps up to it starts a gap.
    starts = rng.random((shape[0] + GAP - 1, shape[1])) < 1 - (1 - fraction) ** (1 / GAP)
    return lfilter(np.ones(GAP), [1], starts, axis=0)[GAP - 1 :] > 0.5
