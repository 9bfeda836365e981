"""Simulated spike counts of a two-dimensional latent that a circular label moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from sklearn.utils import check_random_state

from skneurovae.datasets.processes import ar1, check_ranges
from skneurovae.recordings import Recording

WIDTH = 30  # hidden units of the random networks
CLOSED = 2.2  # log rates lie between minus and plus this, around that of the mean rate
N_REFERENCE = 4096  # latents that set the scale of the read-out


@dataclass(frozen=True, eq=False)
class LatentCountsTruth:
    """What `make_latent_counts` drew; lists have one entry per session.

    Attributes
    ----------
    labels : list of ndarray of shape (n_timesteps,)
        c, in radians, in [0, 2 pi).
    latents : list of ndarray of shape (n_timesteps, 2)
    rates : list of ndarray of shape (n_timesteps, n_neurons)
        Expected counts per time step.
    flows : list of RandomFlow
        The read-out of each session: ``flow.rates(latents)`` are its rates, for any latents.
    """

    labels: list[np.ndarray]
    latents: list[np.ndarray]
    rates: list[np.ndarray]
    flows: list[RandomFlow]


class RandomFlow:
    """Random invertible map from latents to log rates: one layer that adds dimensions, couplings.

    Parameters
    ----------
    rng : numpy.random.Generator
    n_latents, n_neurons : int
    n_blocks : int
        RealNVP coupling blocks.
    mean_rate : float
        Rate where the log rate of a neuron is in the middle of its range.

    References
    ----------
    Dinh, Sohl-Dickstein & Bengio, "Density estimation using Real NVP", ICLR 2017, eq. 7.
    """

    def __init__(self, rng, n_latents, n_neurons, n_blocks, mean_rate):
        self.n_latents, self.mean_rate = n_latents, mean_rate
        self.lift = _random_network(rng, n_latents, n_neurons - n_latents)
        half = n_neurons // 2
        self.blocks = [
            (
                rng.permutation(n_neurons),
                _random_network(rng, half, n_neurons - half),
                _random_network(rng, half, n_neurons - half),
            )
            for _ in range(n_blocks)
        ]
        label = rng.uniform(0, 2 * np.pi, N_REFERENCE)
        raw = self._raw(_latents(label, rng.standard_normal((N_REFERENCE, 2))))
        self.center, self.scale = raw.mean(0), raw.std(0)

    def rates(self, latents):
        """Expected counts per time step, (n_timesteps, n_neurons)."""
        standard = (self._raw(latents) - self.center) / self.scale
        return self.mean_rate * np.exp(CLOSED * np.tanh(standard))

    def latents(self, rates):
        """The latents that have these rates: the inverse, (n_timesteps, n_latents)."""
        standard = np.arctanh(np.log(rates / self.mean_rate) / CLOSED)
        x = standard * self.scale + self.center
        for order, log_scale, shift in reversed(self.blocks):
            half = len(order) // 2
            fixed, moved = x[:, :half], x[:, half:]
            moved = (moved - _run(shift, fixed)) * np.exp(-np.tanh(_run(log_scale, fixed)))
            x = np.empty_like(x)
            x[:, order] = np.hstack([fixed, moved])
        return x[:, : self.n_latents]

    def _raw(self, latents):
        x = np.hstack([latents, _run(self.lift, latents)])
        for order, log_scale, shift in self.blocks:
            half = len(order) // 2
            fixed, moved = x[:, order[:half]], x[:, order[half:]]
            moved = moved * np.exp(np.tanh(_run(log_scale, fixed))) + _run(shift, fixed)
            x = np.hstack([fixed, moved])
        return x


def make_latent_counts(
    n_sessions=1,
    *,
    n_timesteps=15000,
    n_neurons=100,
    n_blocks=4,
    mean_rate=1.0,
    time_constant=None,
    random_state=None,
):
    """Simulate spike counts of a latent whose place and spread follow a circular label.

    The label c is uniform on [0, 2 pi). Given c the latent is normal with mean ``(c, 2 sin c)``
    and variances ``0.6 - 0.3 |sin c|`` and ``0.3 |sin c|``. A random invertible map leads to the
    log rates of the neurons, and counts are Poisson. This is the synthetic experiment of CEBRA and,
    before it, of pi-VAE.

    Parameters
    ----------
    n_sessions : int, default=1
        Each has neurons of its own, that is a map of its own, and draws of its own.
    n_timesteps : int, default=15000
        Of each session.
    n_neurons : int, default=100
        Of each session, 4 or more.
    n_blocks : int, default=4
        RealNVP coupling blocks of the map.
    mean_rate : float, default=1.0
        Geometric mean of the range of rates, in counts per time step; rates lie between 1/9 and 9
        times this.
    time_constant : float, default=None
        In time steps. None: time steps are independent, as published. Otherwise label and latent
        wander with this time constant, with the same distribution at every single time step.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    recordings : list of Recording
        Counts, with the label in radians as behavior of shape (n_timesteps, 1), and a session of
        their own.
    truth : LatentCountsTruth

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    Zhou & Wei, "Learning identifiable and interpretable latent models of high-dimensional neural
    activity using pi-VAE", NeurIPS 2020, section 4.1; Schneider, Lee & Mathis, Nature 617, 2023,
    methods, "Synthetic data".

    Examples
    --------
    >>> from skneurovae.datasets import make_latent_counts
    >>> (recording,), truth = make_latent_counts(n_timesteps=500, random_state=0)
    >>> recording.traces.shape, truth.latents[0].shape
    ((500, 100), (500, 2))
    """
    check_ranges([
        ("n_sessions", n_sessions, 1, np.inf),
        ("n_timesteps", n_timesteps, 1, np.inf),
        ("n_neurons", n_neurons, 4, np.inf),
        ("n_blocks", n_blocks, 0, np.inf),
        ("mean_rate", mean_rate, 1e-6, 1e6),
        ("time_constant", 1 if time_constant is None else time_constant, 0.1, np.inf),
    ])  # fmt: skip
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    recordings, truth = [], LatentCountsTruth([], [], [], [])
    for session in range(n_sessions):
        rng = np.random.default_rng([seed, session])
        flow = RandomFlow(rng, 2, n_neurons, n_blocks, mean_rate)
        normal = (
            rng.standard_normal((n_timesteps, 3))
            if time_constant is None
            else ar1(rng, n_timesteps, np.full(3, float(time_constant)))
        )
        label = 2 * np.pi * ndtr(normal[:, 0])
        latents = _latents(label, normal[:, 1:])
        rates = flow.rates(latents)
        recordings.append(
            Recording(
                rng.poisson(rates).astype(np.float32),
                behavior=label[:, None],
                session=f"session{session:02d}",
            )
        )
        truth.labels.append(label)
        truth.latents.append(latents)
        truth.rates.append(rates)
        truth.flows.append(flow)
    return recordings, truth


def _latents(label, standard_normal):
    spread = np.abs(np.sin(label))
    mean = np.column_stack([label, 2 * np.sin(label)])
    return mean + np.sqrt(np.column_stack([0.6 - 0.3 * spread, 0.3 * spread])) * standard_normal


def _random_network(rng, n_in, n_out):
    """Weights of two hidden layers of `WIDTH` units."""
    sizes = [n_in, WIDTH, WIDTH, n_out]
    return [
        (rng.standard_normal((a, b)) / np.sqrt(a), rng.uniform(-1, 1, b))
        for a, b in zip(sizes, sizes[1:])
    ]


def _run(network, x):
    for weight, bias in network[:-1]:
        x = np.tanh(x @ weight + bias)
    weight, bias = network[-1]
    return x @ weight + bias
