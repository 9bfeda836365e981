"""Units of a sequential network, and a read-in from principal-component regression."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from sklearn.linear_model import Ridge

from skneurovae.baselines.missing_factor_analysis import standardization

SMOOTHING = 2.0  # time steps, the standard deviation of the Gaussian
SMALL = 0.1  # relative size of what a regression leaves open


@torch.no_grad()
def start_rows(network, trained, measured, n_before, conditions=None):
    """Set units of rows from `n_before` on, and draw their read-in and read-out.

    Parameters
    ----------
    network : SequentialNetwork
    trained, measured : (list of Recording, list of ndarray)
        Recordings, and the row of each of their neurons. Units are those of `trained`; of neurons
        that are not observed there, those of `measured`.
    n_before : int
        Rows that stay as they are.
    conditions : list, default=None
        Condition of each recording of `trained`: the read-in then starts from principal components
        of the mean response to each condition. None draws it.
    """
    new = np.arange(n_before, network.n_neurons)
    recordings, rows = trained
    seen = np.zeros(network.n_neurons, dtype=bool)
    for recording, row in zip(recordings, rows):
        np.logical_or.at(seen, row, ~np.isnan(recording.traces).all(0))
    units = [standardization(*part, network.n_neurons) for part in (trained, measured)]
    network.set_units(*(np.where(seen, *pair) for pair in zip(*units)), new)
    # A recording holds the neurons of its own session only.
    width = np.mean([len(row) for row in rows])
    network.read_in[new] = torch.randn_like(network.read_in[new]) / width**0.5
    if not n_before and len(network.stimulus_offset):
        channels = np.concatenate([r.stimulus for r in recordings])
        network.stimulus_offset.copy_(torch.as_tensor(channels.mean(0)))
        spread = channels.std(0)
        network.stimulus_scale.copy_(torch.as_tensor(np.where(spread > 0, spread, 1.0)))
    if conditions is not None:
        offset, scale = network.offset.numpy(), network.scale.numpy()
        standard = [(r.traces - offset[row]) / scale[row] for r, row in zip(recordings, rows)]
        weights = component_regression(
            standard, rows, conditions, network.n_neurons, network.read_in.shape[1]
        )
        n = weights.shape[1]
        network.read_in[:, n:] *= SMALL
        network.read_in[:, :n] = torch.as_tensor(weights, dtype=network.read_in.dtype)


def component_regression(traces, rows, conditions, n_rows, n_components):
    """Read-in by which every session shows the same mean responses.

    Mean responses to the conditions, of the neurons of all sessions together, have principal
    components; the neurons of each session are regressed on them (ridge, penalty 1).

    Parameters
    ----------
    traces : list of ndarray of shape (n_timesteps, n_neurons)
        Standardized; NaN = not observed. Trials of a condition are cut to the shortest.
    rows : list of ndarray of shape (n_neurons,)
        Trials with the same rows are one session.
    conditions : list
        Of each trial. Conditions that some session lacks are left out.
    n_rows, n_components : int
        Rows of the result, and its most columns.

    Returns
    -------
    ndarray of shape (n_rows, at most n_components)
        Components have unit variance; a row of several sessions has their mean weights.

    Raises
    ------
    ValueError
        If the sessions share no condition.

    References
    ----------
    Pandarinath et al. (2018), Inferring single-trial neural population dynamics using sequential
    auto-encoders, methods ("stitching").
    """
    sessions = {}
    for trial, row, condition in zip(traces, rows, conditions):
        smooth = gaussian_filter1d(np.nan_to_num(trial), SMOOTHING, axis=0, mode="nearest")
        sessions.setdefault(tuple(row.tolist()), {}).setdefault(condition, []).append(smooth)
    shared = [c for c in dict.fromkeys(conditions) if all(c in s for s in sessions.values())]
    if not shared:
        raise ValueError("the sessions share no condition, from which the read-in could start.")
    length = {c: min(len(t) for s in sessions.values() for t in s[c]) for c in shared}
    means = [
        np.concatenate([np.mean([t[: length[c]] for t in session[c]], 0) for c in shared])
        for session in sessions.values()
    ]
    together = np.concatenate(means, 1)
    left, singular, _ = np.linalg.svd(together - together.mean(0), full_matrices=False)
    left = left[:, singular > 1e-6 * singular[:1]][:, :n_components] * np.sqrt(len(together))
    total, count = np.zeros((n_rows, left.shape[1])), np.zeros((n_rows, 1))
    for row, mean in zip(sessions, means):
        if left.shape[1]:
            weights = Ridge(alpha=1.0).fit(mean, left).coef_
            np.add.at(total, list(row), np.reshape(weights, (left.shape[1], -1)).T)
        np.add.at(count, list(row), 1)
    return total / np.maximum(count, 1)
