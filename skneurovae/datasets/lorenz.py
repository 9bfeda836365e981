"""Simulated spikes of chaotic dynamics, and of trials with a static and a dynamic side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter
from sklearn.utils import check_random_state

from skneurovae.recordings import Recording

DT = 0.006  # units of Lorenz time in a millisecond
SIGMA, RHO, BETA = 10.0, 28.0, 8 / 3
BURN_IN = 500  # milliseconds before a trial, by which a trajectory is on the attractor


@dataclass(frozen=True, eq=False)
class LorenzTruth:
    """What `make_lorenz` drew; lists have one entry per trial, in the order of the trials.

    Attributes
    ----------
    rates : list of ndarray of shape (n_timesteps, n_neurons)
        Expected counts per bin.
    latents : list of ndarray of shape (n_timesteps, 3)
        State at the middle of each bin, within -1 and 1.
    conditions : ndarray of int, shape (n_conditions * n_trials,)
        Trials of one condition have the same latents.
    loadings : ndarray of shape (3, n_neurons)
    """

    rates: list[np.ndarray]
    latents: list[np.ndarray]
    conditions: np.ndarray
    loadings: np.ndarray


def make_lorenz(
    n_conditions=65, n_trials=20, *, n_neurons=30, duration=1000, bin_width=20, base_rate=5.0,
    random_state=None,
):  # fmt: skip
    """Spikes of neurons driven by a Lorenz attractor, the common test of single-trial rates.

    Euler steps of 0.006 with sigma = 10, rho = 28, beta = 8/3, one per millisecond, from initial
    states N(0, 1) + (0, 0, 25), of which the first 500 are dropped; each dimension is centered and
    divided by its largest absolute value over all conditions. Log rates are linear in the three
    states, with weights uniform between 1 and 2 of random sign; a neuron fires at most once in a
    millisecond, with probability ``1 - exp(-rate)``.

    Parameters
    ----------
    n_conditions : int, default=65
        Initial states.
    n_trials : int, default=20
        Trials of each condition, which differ in their spikes alone.
    n_neurons : int, default=30
    duration : int, default=1000
        Of a trial, in milliseconds; a multiple of `bin_width`.
    bin_width : int, default=20
        In milliseconds.
    base_rate : float, default=5.0
        Spikes per second where all states are 0.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    trials : list of Recording
        Counts, (duration / bin_width, n_neurons) each, condition by condition; with `rate_hz`.
    truth : LorenzTruth

    Raises
    ------
    ValueError
        If `duration` is no multiple of `bin_width`, or a number is not positive.

    References
    ----------
    Sussillo et al. (2016), LFADS, section 4.1, with the numbers of its public generator: 65
    conditions, 25 to 35 neurons, 20 to 30 trials each, one second.

    Examples
    --------
    >>> from skneurovae.datasets import make_lorenz
    >>> trials, truth = make_lorenz(3, 2, random_state=0)
    >>> len(trials), trials[0].traces.shape, truth.latents[0].shape
    (6, (50, 30), (50, 3))
    """
    sizes = {
        "n_conditions": n_conditions, "n_trials": n_trials, "n_neurons": n_neurons,
        "bin_width": bin_width, "base_rate": base_rate, "duration": duration,
    }  # fmt: skip
    _check_positive(sizes)
    if duration % bin_width:
        raise ValueError(f"duration={duration} must be a multiple of bin_width={bin_width}.")
    rng = check_random_state(random_state)
    state = rng.standard_normal((n_conditions, 3)) + np.array([0.0, 0.0, 25.0])
    path = np.empty((BURN_IN + duration, n_conditions, 3))
    for step in path:
        x, y, z = state.T
        slope = np.stack([SIGMA * (y - x), x * (RHO - z) - y, x * y - BETA * z], 1)
        state = state + DT * slope
        step[:] = state
    path = path[BURN_IN:]
    path = path - path.mean((0, 1))
    path = (path / np.abs(path).max((0, 1))).transpose(1, 0, 2)
    loadings = rng.uniform(1, 2, (3, n_neurons)) * rng.choice([-1, 1], (3, n_neurons))
    chance = -np.expm1(-np.exp(path @ loadings + np.log(base_rate / 1000)))
    shape = n_conditions, duration // bin_width, bin_width, n_neurons
    expected = chance.reshape(shape).sum(2)
    middle = path[:, bin_width // 2 :: bin_width]
    trials, rates, latents = [], [], []
    for condition in range(n_conditions):
        for _ in range(n_trials):
            spikes = rng.random_sample(shape[1:]) < chance[condition].reshape(shape[1:])
            trials.append(
                Recording(spikes.sum(1).astype(float), session="lorenz", rate_hz=1000 / bin_width)
            )
            rates.append(expected[condition])
            latents.append(middle[condition])
    conditions = np.repeat(np.arange(n_conditions), n_trials)
    return trials, LorenzTruth(rates, latents, conditions, loadings)


@dataclass(frozen=True, eq=False)
class StaticDynamicTruth:
    """What `make_static_dynamic` drew; lists have one entry per trial.

    Attributes
    ----------
    conditions : ndarray of int, shape (n_trials,)
        The static side of each trial.
    static : ndarray of shape (n_trials, n_static)
        Vector of the condition of each trial.
    dynamic : list of ndarray of shape (n_timesteps, n_dynamic)
        Signals of unit variance, independent of the conditions.
    rates : list of ndarray of shape (n_timesteps, n_neurons)
        Expected counts per bin.
    static_loadings, dynamic_loadings : ndarray of shape (n_static or n_dynamic, n_neurons)
    bias : float
        Log rates are ``bias + static @ static_loadings + dynamic @ dynamic_loadings``.
    """

    conditions: np.ndarray
    static: np.ndarray
    dynamic: list[np.ndarray]
    rates: list[np.ndarray]
    static_loadings: np.ndarray
    dynamic_loadings: np.ndarray
    bias: float

    def expected(self, static, dynamic):
        """Rates of any static vector with any dynamics: what a swap of the two should give.

        Parameters
        ----------
        static : ndarray of shape (n_static,)
        dynamic : ndarray of shape (n_timesteps, n_dynamic)

        Returns
        -------
        ndarray of shape (n_timesteps, n_neurons)
        """
        drive = static @ self.static_loadings + dynamic @ self.dynamic_loadings
        return np.exp(self.bias + drive)


def make_static_dynamic(
    n_trials=200, *, n_timesteps=50, n_neurons=40, n_conditions=4, n_static=2, n_dynamic=2,
    time_constant=10.0, mean_count=0.5, strength=0.7, random_state=None,
):  # fmt: skip
    """Trials with a condition that stays and signals that change, a test of disentanglement.

    Each trial has one of a few conditions, a vector that is the same at all its time steps, and
    dynamic signals that are AR(1) processes drawn anew for every trial, whatever its condition.
    Both act on log rates, each neuron mixing all of them.

    Parameters
    ----------
    n_trials, n_timesteps, n_neurons : int, default=200, 50, 40
    n_conditions : int, default=4
        Conditions, drawn with equal probability.
    n_static, n_dynamic : int, default=2
        Dimensions of the vector of a condition, and number of signals.
    time_constant : float, default=10.0
        Of the signals, in time steps.
    mean_count : float, default=0.5
        Count per bin of a neuron that nothing drives.
    strength : float, default=0.7
        Standard deviation of the log rates over conditions, and over time.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    trials : list of Recording
        Counts, (n_timesteps, n_neurons) each; behavior is the dynamic signals.
    truth : StaticDynamicTruth

    Raises
    ------
    ValueError
        If a number is not positive.

    Examples
    --------
    >>> from skneurovae.datasets import make_static_dynamic
    >>> trials, truth = make_static_dynamic(5, random_state=0)
    >>> trials[0].traces.shape, truth.static.shape
    ((50, 40), (5, 2))
    """
    sizes = {
        "n_trials": n_trials, "n_timesteps": n_timesteps, "n_neurons": n_neurons,
        "n_conditions": n_conditions, "n_static": n_static, "n_dynamic": n_dynamic,
        "time_constant": time_constant, "mean_count": mean_count, "strength": strength,
    }  # fmt: skip
    _check_positive(sizes)
    rng = check_random_state(random_state)
    vectors = rng.standard_normal((n_conditions, n_static))
    static_loadings, dynamic_loadings = (
        strength * rng.standard_normal((n, n_neurons)) / np.sqrt(n) for n in (n_static, n_dynamic)
    )
    conditions = rng.randint(n_conditions, size=n_trials)
    phi, bias = np.exp(-1 / time_constant), float(np.log(mean_count))
    dynamic, rates, trials = [], [], []
    truth = StaticDynamicTruth(
        conditions, vectors[conditions], dynamic, rates, static_loadings, dynamic_loadings, bias
    )
    for vector in truth.static:
        shocks = np.sqrt(1 - phi**2) * rng.standard_normal((n_timesteps, n_dynamic))
        shocks[0] /= np.sqrt(1 - phi**2)
        dynamic.append(lfilter([1], [1, -phi], shocks, axis=0))
        rates.append(truth.expected(vector, dynamic[-1]))
        counts = rng.poisson(rates[-1]).astype(float)
        trials.append(Recording(counts, behavior=dynamic[-1], session="simulated"))
    return trials, truth


def _check_positive(values):
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value!r}.")
