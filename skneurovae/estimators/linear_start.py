"""Start a precision network as the best linear model of its recordings."""

from __future__ import annotations

import numpy as np
import torch

from skneurovae.baselines.linear_gaussian import (
    LinearGaussian,
    Moments,
    infer,
    read_out,
)
from skneurovae.baselines.linear_selection import fit_linear_gaussian
from skneurovae.baselines.poisson_regression import poisson_regression
from skneurovae.common.moments import moments_by_row, standardization, unit_of
from skneurovae.networks.precision import shifted


def stabilized(traces):
    """Root of counts with constant variance, as the network's encoder takes it (Anscombe 1948)."""
    return 2 * np.sqrt(traces + 0.375)


def start_linear(network, recordings, rows, *, shrinkage, dynamics, random_state):
    """Fit the linear model and write it into `network`.

    Parameters
    ----------
    network : PrecisionNetwork
    recordings : list of Recording
    rows : list of ndarray
        Row of each neuron in the network's tables.
    shrinkage : float or "auto"
    dynamics : bool
        AR(1) latents, or static ones.
    random_state : numpy.random.RandomState

    Returns
    -------
    choice : Choice
        Hyperparameters of the linear model.
    """
    if network.likelihood.is_count:
        encoded = [r.replace(traces=stabilized(r.traces)) for r in recordings]
    else:
        encoded = recordings
    offset, scale = standardization([r.traces for r in encoded], rows, network.n_neurons)
    _write(network, input_offset=offset, input_scale=scale)
    if network.lags:
        _write(network, **_behavior_units(recordings, len(network.behavior_offset)))
    data = [channels(network, r, row) for r, row in zip(encoded, rows)]
    model, choice = fit_linear_gaussian(
        data,
        len(network.loadings),
        network.n_neurons,
        network.loadings.shape[1],
        shrinkage=shrinkage,
        smoothing="ar1" if dynamics else 0.0,
        n_lags=max(len(network.lags), 1),
        causal=network.causal,
        # Squared errors of roots go with the deviance of counts: their noise is about 1 from two
        # counts per bin on, and falls below with what a bin can tell. Other traces are compared in
        # units of each neuron's spread.
        weights=scale**2 if network.likelihood.is_count else None,
        random_state=random_state,
    )
    _write(network, loadings=model.loadings, center=model.offset, psi=model.noise, phi=model.phi)
    _write(network, evidence=model.evidence)
    _write(network, n_entries=count_entries(recordings))
    _write(network, shrinkage=choice.shrinkage)
    if dynamics:
        tau = -1 / np.log(np.clip(model.phi, 1e-4, 0.9999))
        network.prior.log_time_constant.data.copy_(torch.as_tensor(np.log(tau)))
    start_decoder(network, recordings, rows, data, np.arange(network.n_neurons))
    return choice


def count_entries(recordings):
    """Number of observed entries of all traces."""
    return float(sum((~np.isnan(r.traces)).sum() for r in recordings))


def take_over(network, old):
    """Copy the weights of `old` into `network`, which may have more neurons."""
    state = network.state_dict()
    for name, value in old.state_dict().items():
        if state[name].shape == value.shape:
            state[name] = value.clone()
        elif name in ("loadings", "center", "psi", "evidence"):  # neurons, then lagged behavior
            state[name][: old.n_neurons] = value[: old.n_neurons]
            state[name][network.n_neurons :] = value[old.n_neurons :]
        else:
            state[name][: len(value)] = value
    network.load_state_dict(state)


def grow_linear(network, recordings, rows, n_before):
    """Give rows from `n_before` on the loadings of one M-step on their own recordings."""
    new = np.arange(n_before, network.n_neurons)
    counts = network.likelihood.is_count
    encoded = [r.replace(traces=stabilized(r.traces)) if counts else r for r in recordings]
    offset, scale = standardization([r.traces for r in encoded], rows, network.n_neurons)
    for name, value in (("input_offset", offset), ("input_scale", scale)):
        getattr(network, name)[new] = torch.as_tensor(value[new], dtype=torch.float32)
    data = [channels(network, r, row) for r, row in zip(encoded, rows)]
    model = linear_model(network)
    old = [(np.where(np.isin(row, new), np.nan, values), row) for values, row in data]
    moments = Moments.empty(len(model.offset), model.n_components)
    for (values, row), belief in zip(data, infer(old, model, network.causal)):
        moments.add(values, row, belief)
    network.evidence[new] = network.evidence[0].item()
    for name, value in zip(
        ("loadings", "center", "psi"), read_out(moments, network.shrinkage.item())
    ):
        getattr(network, name)[new] = torch.as_tensor(value[new], dtype=torch.float32)
    start_decoder(network, recordings, rows, data, new)


def start_decoder(network, recordings, rows, data, chosen):
    """Linear part of the decoder of rows `chosen`: the same loadings, or a Poisson regression."""
    model = linear_model(network)
    if not network.likelihood.is_count:
        scale, offset = network.input_scale.numpy(), network.input_offset.numpy()
        neurons = slice(0, network.n_neurons)
        values = {
            "decoder_loadings": model.loadings[neurons],
            "output_offset": offset + scale * model.offset[neurons],
            "output_scale": scale,
            "log_scale": 0.5 * np.log(model.noise[neurons]) * (network.noise != "fixed"),
        }
    else:
        beliefs = infer(data, model, network.causal)
        loadings, offset = _log_linear(recordings, rows, beliefs, network, chosen)
        dispersion = np.full(network.n_neurons, -2.0)
        values = {
            "decoder_loadings": loadings, "output_offset": offset,
            "output_scale": np.ones(network.n_neurons), "log_scale": dispersion,
        }  # fmt: skip
    for name, value in values.items():
        table = getattr(network, name).data
        table[chosen] = torch.as_tensor(value[chosen], dtype=table.dtype)


def _log_linear(recordings, rows, beliefs, network, chosen):
    """Poisson regression of each neuron's counts on the latents."""
    loadings = np.zeros((network.n_neurons, network.loadings.shape[1]))
    offset = np.zeros(network.n_neurons)
    for n in chosen:
        parts = []
        for recording, row, (mean, *_) in zip(recordings, rows, beliefs):
            for column in np.flatnonzero(row == n):
                counts = recording.traces[:, column]
                seen = ~np.isnan(counts)
                parts.append((mean[seen], counts[seen]))
        latents = np.concatenate([z for z, _ in parts])
        counts = np.concatenate([c for _, c in parts])
        offset[n] = np.log(max(counts.mean(), 0.1 / len(counts)) if len(counts) else 1.0)
        if counts.sum() > 0:
            penalty = network.shrinkage.item()
            loadings[n], offset[n], _ = poisson_regression(latents, counts, penalty)
    return loadings, offset


def linear_model(network):
    """The linear model that `network` holds."""
    names = ("loadings", "center", "psi", "phi", "evidence")
    return LinearGaussian(*(getattr(network, n).detach().cpu().double().numpy() for n in names))


def channels(network, recording, row):
    """Standardized neurons and lagged behavior of a recording with their rows."""
    known = row >= 0
    offset, scale = network.input_offset.numpy(), network.input_scale.numpy()
    values = [((recording.traces - offset[row]) / scale[row])[:, known]]
    if network.lags and recording.behavior is not None:
        units = network.behavior_offset.numpy(), network.behavior_scale.numpy()
        behavior = (recording.behavior - units[0]) / units[1]
        behavior = torch.from_numpy(behavior)[None]
        values += [shifted(behavior, lag, np.nan)[0].numpy() for lag in network.lags]
        row = np.concatenate([row[known], np.arange(network.n_neurons, len(network.loadings))])
    else:
        row = row[known]
    return np.concatenate(values, axis=1), row


def _behavior_units(recordings, n_behaviors):
    given = [r.behavior for r in recordings if r.behavior is not None]
    rows = [np.arange(n_behaviors)] * len(given)
    offset, std = moments_by_row(given, rows, n_behaviors)
    return {"behavior_offset": offset, "behavior_scale": unit_of(std)}


def start_pooled(network, recordings, rows, n_before=0):
    """Units of a pooled network from its recordings, for rows from `n_before` on."""
    offset, scale = standardization([r.traces for r in recordings], rows, network.n_neurons)
    new = np.arange(n_before, network.n_neurons)
    network.offset[new] = torch.as_tensor(offset[new], dtype=torch.float32)
    network.scale[new] = torch.as_tensor(scale[new], dtype=torch.float32)
    if not n_before and len(network.behavior_offset):
        _write(network, **_behavior_units(recordings, len(network.behavior_offset)))
    return network


def _write(network, **arrays):
    for name, value in arrays.items():
        buffer = getattr(network, name)
        buffer.copy_(torch.as_tensor(value, dtype=buffer.dtype))
