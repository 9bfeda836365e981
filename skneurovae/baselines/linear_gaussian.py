"""Linear-Gaussian latent dynamics with missing data: exact inference and EM.

The model behind `MissingFactorAnalysis` and the start of `NeuroBehaviorVAE`. A channel (a neuron,
or a behavior at one lag) of row c in a table shared by all recordings is read out of K latents::

    x_ct = L_c . z_t + mu_c + e_ct,   e_ct ~ N(0, psi_c)
    z_t = phi z_{t-1} + w_t,          z_t ~ N(0, 1) per component, stationary

`phi = 0` is factor analysis. Each observed entry adds its natural parameters to the belief, so a
missing entry is exact: it adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skneurovae.common.moments import unit_of, variance_of_sums

SEQUENCE_LENGTH = 200  # recursions run over pieces of about this length, many pieces at a time
NOISE_FLOOR = 0.02  # of a channel's variance: no channel may be explained without noise


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """Parameters of the linear-Gaussian model.

    Attributes
    ----------
    loadings : ndarray of shape (n_rows, n_components)
    offset, noise : ndarray of shape (n_rows,)
        Mean and noise variance of a channel, in the units of the channel (squared).
    phi : ndarray of shape (n_components,)
        Autocorrelation of each latent from one time step to the next; 0 is a static latent.
    evidence : ndarray of shape (n_rows,)
        Weight of a channel's observations in the belief. Below 1 it corrects for noise that is
        itself correlated in time, or for one sample that stands in several channels, either of
        which the belief would otherwise count again and again.
    """

    loadings: np.ndarray
    offset: np.ndarray
    noise: np.ndarray
    phi: np.ndarray
    evidence: np.ndarray

    @property
    def n_components(self):
        return self.loadings.shape[1]


def natural_parameters(channels, rows, model):
    """Natural parameters that the observed entries add to the belief at each time step.

    Parameters
    ----------
    channels : ndarray of shape (n_timesteps, n_channels)
        NaN = not observed.
    rows : ndarray of shape (n_channels,)
        Row of each channel in the tables of `model`.
    model : LinearGaussian

    Returns
    -------
    information : ndarray of shape (n_timesteps, n_components)
        Sum over observed channels of L (x - mu) / psi.
    precision : ndarray of shape (n_runs, n_components, n_components)
        Sum over observed channels of L L' / psi, for each run of equal masks.
    lengths : ndarray of shape (n_runs,)
        Time steps of each run.
    """
    loadings = model.loadings[rows]
    weighted = loadings * (model.evidence / model.noise)[rows, None]
    observed = ~np.isnan(channels)
    information = np.where(observed, channels - model.offset[rows], 0.0) @ weighted
    outer = (weighted[:, :, None] * loadings[:, None, :]).reshape(len(rows), -1)
    starts, lengths = mask_runs(observed)
    precision = observed[starts].astype(float) @ outer
    return information, precision.reshape(len(starts), model.n_components, -1), lengths


def mask_runs(observed):
    """Starts and lengths of the runs of time steps that observe the same channels.

    Recordings usually miss whole channels for a while, so a run shares its covariances.
    """
    starts = np.append(0, np.flatnonzero((observed[1:] != observed[:-1]).any(1)) + 1)
    return starts, np.diff(np.append(starts, len(observed)))


def smooth(information, precision, phi, causal=False, group=None):
    """Posterior of the latents given natural parameters: a Kalman filter and RTS smoother.

    Covariances depend on what is observed, not on its values: sequences that observe the same share
    them, which saves most of the work where nothing is missing.

    Parameters
    ----------
    information : ndarray of shape (n_sequences, n_timesteps, n_components)
    precision : ndarray of shape (n_groups, n_timesteps, n_components, n_components)
    phi : ndarray of shape (n_components,)
    causal : bool, default=False
        Stop at the filter: the posterior at t rests on what is up to t.
    group : ndarray of int, shape (n_sequences,), default=None
        Entry of `precision` that belongs to each sequence; its own by default.

    Returns
    -------
    mean : ndarray of shape (n_sequences, n_timesteps, n_components)
    covariance : ndarray of shape (n_groups, n_timesteps, n_components, n_components)
    lag_covariance : ndarray of shape (n_groups, n_timesteps - 1, n_components)
        Cov(z_t, z_{t+1}) of each component with itself; 0 if `causal`.

    Source: Rauch, Tung & Striebel 1965; the update in information form, as missing entries need.
    """
    group = np.arange(len(information)) if group is None else group
    identity = np.eye(information.shape[-1])
    mean, covariance = np.empty_like(information), np.empty_like(precision)
    predicted = np.empty_like(precision)
    innovation = np.diag(1 - phi**2)
    prior, expected = np.broadcast_to(identity, precision[:, 0].shape), np.zeros_like(mean[:, 0])
    n_timesteps = information.shape[1]
    for t in range(n_timesteps):
        if t:
            prior = phi[:, None] * covariance[:, t - 1] * phi + innovation
            expected = phi * mean[:, t - 1]
        predicted[:, t] = prior
        updated = np.linalg.solve(identity + prior @ precision[:, t], prior)
        covariance[:, t] = updated = (updated + updated.swapaxes(1, 2)) / 2
        error = information[:, t] - _times(precision[:, t], expected, group)
        mean[:, t] = expected + _times(updated, error, group)
    if causal:
        return mean, covariance, np.zeros((len(precision), n_timesteps - 1, len(phi)))
    gain = np.linalg.solve(predicted[:, 1:], phi[:, None] * covariance[:, :-1]).swapaxes(2, 3)
    lag_covariance = np.empty((len(precision), n_timesteps - 1, len(phi)))
    for t in range(n_timesteps - 2, -1, -1):
        G = gain[:, t]
        mean[:, t] += _times(G, mean[:, t + 1] - phi * mean[:, t], group)
        lag_covariance[:, t] = np.einsum("skl,slk->sk", G, covariance[:, t + 1])
        covariance[:, t] += G @ (covariance[:, t + 1] - predicted[:, t + 1]) @ G.swapaxes(1, 2)
    return mean, covariance, lag_covariance


def _times(matrices, vectors, group):
    """Product of each vector with the matrix of its group."""
    if len(matrices) == 1:
        return vectors @ matrices[0].T
    return (matrices[group] @ vectors[..., None])[..., 0]


def infer(recordings, model, causal=False):
    """Posterior of the latents of each recording.

    Parameters
    ----------
    recordings : list of (channels, rows)
    model : LinearGaussian
    causal : bool, default=False
        See `smooth`.

    Returns
    -------
    beliefs : list of (mean, covariance, lag_covariance)
        Shapes as in `smooth`, without the leading axis. Recordings much longer than
        `SEQUENCE_LENGTH` are cut into equal pieces that start from the stationary prior.
    """
    natural = [natural_parameters(channels, rows, model) for channels, rows in recordings]
    if not model.phi.any():
        return [_static(*parameters) for parameters in natural]
    pieces = []
    for number, (information, _, _) in enumerate(natural):
        count = max(1, round(len(information) / SEQUENCE_LENGTH))
        edges = np.linspace(0, len(information), count + 1).astype(int)
        pieces += [(number, a, b) for a, b in zip(edges[:-1], edges[1:])]
    constant = [len(lengths) == 1 for _, _, lengths in natural]
    natural = [
        (i, precision if len(lengths) == 1 else np.repeat(precision, lengths, axis=0))
        for i, precision, lengths in natural
    ]
    beliefs = [[] for _ in recordings]
    lengths = np.array([b - a for _, a, b in pieces])
    order = np.argsort(lengths, kind="stable")
    # Pieces of one length run side by side; padding at the end is never observed, adds nothing.
    for block in _blocks(order, lengths):
        longest = lengths[block].max()
        information, precision, group, known = [], [], [], {}
        for j in block:
            number, start, stop = pieces[j]
            information.append(_padded(natural[number][0][start:stop], longest))
            # Pieces that observe the same channels throughout have the same covariances.
            key = (number, stop - start) if constant[number] else j
            if key not in known:
                known[key] = len(precision)
                own = natural[number][1]
                own = np.repeat(own, stop - start, 0) if constant[number] else own[start:stop]
                precision.append(_padded(own, longest))
            group.append(known[key])
        mean, covariance, lag_covariance = smooth(
            np.stack(information), np.stack(precision), model.phi, causal, np.array(group)
        )
        for i, (j, k) in enumerate(zip(block, group)):
            number, length = pieces[j][0], lengths[j]
            beliefs[number].append(
                (pieces[j][1], mean[i, :length], covariance[k, :length],
                 _padded(lag_covariance[k, : length - 1], length))
            )  # fmt: skip
    return [
        tuple(np.concatenate(parts) for parts in list(zip(*sorted(b, key=lambda p: p[0])))[1:])
        for b in beliefs
    ]


def _static(information, precision, lengths):
    """Posterior of latents that are independent over time."""
    covariance = np.linalg.inv(precision + np.eye(information.shape[1]))
    if len(lengths) == 1:
        mean = information @ covariance[0]
        covariance = np.broadcast_to(covariance, (len(mean), *covariance.shape[1:]))
    else:
        covariance = np.repeat(covariance, lengths, axis=0)
        mean = np.einsum("tkl,tl->tk", covariance, information)
    return mean, covariance, np.zeros_like(mean)


def _blocks(order, lengths, tolerance=1.25):
    """Split an ascending order into runs in which the longest is at most `tolerance` the first."""
    block = []
    for j in order:
        if block and lengths[j] > tolerance * lengths[block[0]]:
            yield block
            block = []
        block.append(j)
    yield block


def _padded(array, length):
    return np.concatenate([array, np.zeros((length - len(array), *array.shape[1:]))])


@dataclass
class Moments:
    """Expected sufficient statistics of the read-out of each row: [z; 1] against the channel."""

    second: np.ndarray  # (n_rows, K + 1, K + 1)
    cross: np.ndarray  # (n_rows, K + 1)
    square: np.ndarray  # (n_rows,)
    count: np.ndarray  # (n_rows,)

    @classmethod
    def empty(cls, n_rows, n_components):
        K = n_components + 1
        zeros = np.zeros
        return cls(zeros((n_rows, K, K)), zeros((n_rows, K)), zeros(n_rows), zeros(n_rows))

    def add(self, channels, rows, belief):
        """Add a recording under its belief `(mean, covariance, ...)`."""
        mean, covariance = belief[:2]
        K = mean.shape[1]
        observed = ~np.isnan(channels)
        values = np.where(observed, channels, 0.0)
        extended = np.column_stack([mean, np.ones(len(mean))])
        starts, lengths = mask_runs(observed)
        if len(starts) > len(mean) // 8:
            second = extended[:, :, None] * extended[:, None, :]
            second[:, :K, :K] += covariance
            second = observed.astype(float).T @ second.reshape(len(mean), -1)
            second = second.reshape(-1, K + 1, K + 1)
        else:
            second = np.zeros((channels.shape[1], K + 1, K + 1))
            for start, length in zip(starts, lengths):
                span = slice(start, start + length)
                shared = extended[span].T @ extended[span]
                shared[:K, :K] += covariance[span].sum(0)
                second[observed[start]] += shared
        np.add.at(self.second, rows, second)
        np.add.at(self.cross, rows, values.T @ extended)
        np.add.at(self.square, rows, (values**2).sum(0))
        np.add.at(self.count, rows, observed.sum(0))


def read_out(moments, shrinkage):
    """Ridge solution of loadings, offset and noise from accumulated moments.

    Parameters
    ----------
    moments : Moments
    shrinkage : float
        Ridge on the loadings in units of the accumulated second moments (time steps). It is the
        precision of a Gaussian prior on the loadings times the noise variance. Together with the
        unit prior on the latents it shrinks singular values, so that needless components vanish.

    Returns
    -------
    loadings, offset, noise : ndarrays of shape (n_rows, n_components), (n_rows,), (n_rows,)
        A row without data has zero loadings, zero offset and unit noise.
    """
    K = moments.cross.shape[1] - 1
    count = np.maximum(moments.count, 1)
    variance = unit_of(variance_of_sums(moments.count, moments.cross[:, K], moments.square))
    ridge = np.diag(np.append(np.full(K, shrinkage + 1e-3), 1e-6))
    solution = np.linalg.solve(moments.second + ridge, moments.cross[..., None])[..., 0]
    fitted = np.einsum("rk,rkl,rl->r", solution, moments.second, solution)
    residual = moments.square - 2 * (solution * moments.cross).sum(1) + fitted
    noise = np.maximum(residual / count, NOISE_FLOOR * variance)
    return solution[:, :K], solution[:, K], np.where(moments.count > 0, noise, 1.0)


def fit_em(recordings, model, *, shrinkage, n_iter, learn_phi=False, tol=1e-4):
    """Expectation-maximization from a given start.

    Parameters
    ----------
    recordings : list of (channels, rows)
    model : LinearGaussian
        The start; `phi` stays as it is unless `learn_phi`.
    shrinkage : float
        See `read_out`.
    n_iter : int
    learn_phi : bool
        Re-estimate the time constant of every component.
    tol : float
        Stop when the mean relative fall of the noise variance in a step is below this.

    Returns
    -------
    LinearGaussian
    """
    n_rows = len(model.offset)
    for _ in range(n_iter):
        beliefs = infer(recordings, model)
        moments = Moments.empty(n_rows, model.n_components)
        for (channels, rows), belief in zip(recordings, beliefs):
            moments.add(channels, rows, belief)
        loadings, offset, noise = read_out(moments, shrinkage)
        fall = np.mean((model.noise - noise) / model.noise)
        model = replace(model, loadings=loadings, offset=offset, noise=noise)
        if learn_phi:
            model = replace(model, phi=_autocorrelation(beliefs))
        if abs(fall) < tol:
            break
    return model


def _autocorrelation(beliefs):
    """Expected lag-one autocorrelation of each component, kept inside [0, 0.999]."""
    cross, now, later = 0.0, 0.0, 0.0
    for mean, covariance, lag_covariance in beliefs:
        square = mean**2 + np.einsum("tkk->tk", covariance)
        cross = cross + (mean[:-1] * mean[1:] + lag_covariance[:-1]).sum(0)
        now, later = now + square[:-1].sum(0), later + square[1:].sum(0)
    return np.clip(cross / np.sqrt(now * later + 1e-12), 0.0, 0.999)


def random_start(recordings, n_rows, n_components, random_state):
    """Random loadings at the scale of each channel; its mean and most of its variance as noise."""
    moments = Moments.empty(n_rows, 0)
    for channels, rows in recordings:
        n_timesteps = len(channels)
        moments.add(channels, rows, (np.zeros((n_timesteps, 0)), np.zeros((n_timesteps, 0, 0))))
    _, offset, variance = read_out(moments, 0.0)
    loadings = random_state.standard_normal((n_rows, n_components)) * np.sqrt(variance)[:, None]
    loadings *= np.where(moments.count > 0, np.sqrt(0.3 / n_components), 0.0)[:, None]
    return LinearGaussian(loadings, offset, 0.7 * variance, np.zeros(n_components), np.ones(n_rows))
