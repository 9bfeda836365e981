"""Start a precision network as the best linear model of its recordings."""

from __future__ import annotations

import copy

import numpy as np
import torch
from sklearn.utils import check_random_state

from skneurovae.baselines.linear_gaussian import (
    LinearGaussian,
    Moments,
    infer,
    read_out,
)
from skneurovae.baselines.linear_selection import (
    choose_n_components,
    fit_linear_gaussian,
    hidden_columns,
)
from skneurovae.baselines.poisson_regression import poisson_regression
from skneurovae.common.moments import (
    column_moments,
    largest_by_row,
    moments_by_row,
    standardization,
    unit_of,
)
from skneurovae.objectives import get_likelihood, log_ceiling

FACTORS = (1.0, 3.0, 10.0, 30.0)  # on the ridge of Poisson regressions
# Blocks of time; neurons, and time steps of each, by which a factor is chosen.
N_BLOCKS, MOST_JUDGED, MOST_SAMPLES = 3, 30, 6000


def stabilized(traces):
    """Root of counts with constant variance, as the network's encoder takes it (Anscombe 1948)."""
    return 2 * np.sqrt(traces + 0.375)


def start_linear(network, recordings, rows, *, choice=None, shrinkage, dynamics, random_state):
    """Fit the linear model and write it into `network`.

    Parameters
    ----------
    network : PrecisionNetwork
    recordings : list of Recording
    rows : list of ndarray
        Row of each neuron in the network's tables.
    choice : Choice, default=None
        Hyperparameters, if they are known.
    shrinkage : float or "auto"
    dynamics : bool
        AR(1) latents, or static ones.
    random_state : numpy.random.RandomState

    Returns
    -------
    choice : Choice
        Hyperparameters of the linear model.
    """
    encoded = _encoded(network, recordings)
    offset, scale = standardization([r.traces for r in encoded], rows, network.n_neurons)
    _write(network, input_offset=offset, input_scale=scale)
    if network.basis is not None:
        start_basis(network.basis, recordings)
    data = [channels(network, r, row) for r, row in zip(encoded, rows)]
    model, choice = fit_linear_gaussian(
        data,
        len(network.loadings),
        network.n_neurons,
        network.loadings.shape[1],
        shrinkage=shrinkage,
        smoothing="ar1" if dynamics else 0.0,
        n_lags=network.basis.n_copies if network.basis is not None else 1,
        causal=network.causal,
        # Squared errors of roots go with the deviance of counts: their noise is about 1 from two
        # counts per bin on, and falls below with what a bin can tell. Other traces are compared in
        # units of each neuron's spread.
        weights=scale**2 if network.likelihood.is_count else None,
        choice=choice,
        random_state=random_state,
    )
    _write(network, loadings=model.loadings, center=model.offset, psi=model.noise, phi=model.phi)
    _write(network, evidence=model.evidence)
    _write(network, n_entries=count_entries(recordings))
    _write(network, shrinkage=choice.shrinkage)
    if dynamics:
        tau = -1 / np.log(np.clip(model.phi, 1e-4, 0.9999))
        network.prior.log_time_constant.data.copy_(torch.as_tensor(np.log(tau)))
    every = np.arange(network.n_neurons)
    start_decoder(network, recordings, rows, data, every, judge=shrinkage == "auto")
    return choice


def _encoded(network, recordings):
    """Recordings with traces as the encoder takes them."""
    if not network.likelihood.is_count:
        return recordings
    return [r.replace(traces=stabilized(r.traces)) for r in recordings]


def raise_ceiling(network, recordings, rows):
    """Let log rates rise to the largest counts of further recordings."""
    if network.likelihood.has_log_link:
        largest = largest_by_row([r.traces for r in recordings], rows, network.n_neurons)
        raised = torch.as_tensor(
            np.where(np.isfinite(largest), log_ceiling(largest, True), -np.inf)
        )
        network.ceiling.copy_(torch.maximum(network.ceiling, raised.to(network.ceiling)))


def count_entries(recordings):
    """Number of observed entries of all traces."""
    return max(1.0, float(sum((~np.isnan(r.traces)).sum() for r in recordings)))


def number_of_components(recordings, rows, n_rows, likelihood, random_state):
    """Number of components by hidden neurons of held-out parts, under a static linear model."""
    counts = get_likelihood(likelihood).is_count
    tables = [stabilized(r.traces) if counts else r.traces for r in recordings]
    offset, scale = standardization(tables, rows, n_rows)
    data = [
        (((t - offset[row]) / scale[row])[:, row >= 0], row[row >= 0])
        for t, row in zip(tables, rows)
    ]
    return choose_n_components(
        data, n_rows, weights=scale**2 if counts else None,
        random_state=check_random_state(random_state),
    )  # fmt: skip


def unlearned(recordings, rows, n_neurons):
    """Rows of which the recordings hold nothing."""
    seen = np.zeros(n_neurons, dtype=bool)
    for recording, row in zip(recordings, rows):
        np.logical_or.at(seen, row, ~np.isnan(recording.traces).all(0))
    return np.flatnonzero(~seen)


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


def grow_linear(network, recordings, rows, new):
    """Give the rows `new` the loadings of one M-step on their own recordings."""
    encoded = _encoded(network, recordings)
    offset, scale = standardization([r.traces for r in encoded], rows, network.n_neurons)
    for name, value in (("input_offset", offset), ("input_scale", scale)):
        getattr(network, name)[new] = torch.as_tensor(value[new], dtype=torch.float32)
    data = [channels(network, r, row) for r, row in zip(encoded, rows)]
    model = linear_model(network)
    old = [(np.where(np.isin(row, new), np.nan, values), row) for values, row in data]
    moments = Moments.empty(len(model.offset), model.n_components)
    for (values, row), belief in zip(data, infer(old, model, network.causal)):
        moments.add(values, row, belief)
    others = np.setdiff1d(np.arange(network.n_neurons), new)
    network.evidence[new] = network.evidence[others[0]].item()
    for name, value in zip(
        ("loadings", "center", "psi"), read_out(moments, network.shrinkage.item())
    ):
        getattr(network, name)[new] = torch.as_tensor(value[new], dtype=torch.float32)
    start_decoder(network, recordings, rows, data, new)


def start_decoder(network, recordings, rows, data, chosen, judge=False):
    """Linear part of the decoder of rows `chosen`: the same loadings, or a Poisson regression.

    With `judge` the ridge of the latter is chosen, and is from then on that of the network.
    """
    model = linear_model(network)
    n_neurons = network.n_neurons
    if not network.likelihood.is_count:
        scale, offset = network.input_scale.numpy(), network.input_offset.numpy()
        neurons = slice(0, n_neurons)
        values = {
            "decoder_loadings": model.loadings[neurons],
            "output_offset": offset + scale * model.offset[neurons],
            "output_scale": scale,
            "log_scale": 0.5 * np.log(model.noise[neurons]) * (network.noise != "fixed"),
            "information": 1 / model.noise[neurons],
        }
    else:
        counts = [_counts_of(n, recordings, rows) for n in range(n_neurons)]
        rates = np.array([np.mean(c) if len(c) else 0.0 for c in counts])
        loadings, offset, excess = _log_linear(
            recordings, rows, data, network, chosen, rates, judge
        )
        values = {
            "decoder_loadings": loadings,
            "output_offset": offset,
            "output_scale": np.ones(n_neurons),
            "log_scale": np.log(np.clip(excess, 0.01, 10.0)),
            "information": rates,
            "ceiling": log_ceiling(
                largest_by_row([r.traces for r in recordings], rows, n_neurons), True
            ),
        }
    for name, value in values.items():
        table = getattr(network, name).data
        table[chosen] = torch.as_tensor(value[chosen], dtype=table.dtype)


def _counts_of(neuron, recordings, rows):
    """All observed counts of a neuron."""
    found = [r.traces[:, row == neuron].ravel() for r, row in zip(recordings, rows)]
    found = np.concatenate(found)
    return found[~np.isnan(found)]


def _log_linear(recordings, rows, data, network, chosen, rates, judge):
    """Poisson regression of each neuron's counts on latents that rest on other neurons.

    Posterior means that contain the very counts that are regressed on them promise too much: as in
    scoring, each neuron is hidden once, with a third of the others. The ridge is in time steps, as
    that on loadings, and so counts as often as what a time step tells: the mean count.
    """
    model = linear_model(network)
    parts = {n: [] for n in chosen}
    for columns in hidden_columns(data, data, network.n_neurons, 0):
        alone = [len(np.unique(row)) == 1 for _, row in data]  # and predicted from nothing else
        masked = [
            (values if single else np.where(hidden, np.nan, values), row)
            for (values, row), hidden, single in zip(data, columns, alone)
        ]
        beliefs = infer(masked, model, network.causal)
        for recording, row, pair, hidden, belief in zip(recordings, rows, data, columns, beliefs):
            for n in np.unique(pair[1][hidden]):
                for column in np.flatnonzero(row == n) if n in parts else ():
                    counts = recording.traces[:, column]
                    seen = ~np.isnan(counts)
                    parts[n].append((belief[0][seen], counts[seen]))
    samples = {
        n: [np.concatenate(values) for values in zip(*pairs)]
        for n, pairs in parts.items()
        if rates[n] > 0
    }
    if judge:
        network.shrinkage *= _stronger(samples, rates, network.shrinkage.item())
    loadings = np.zeros((network.n_neurons, model.n_components))
    excess = np.zeros(network.n_neurons)  # variance beyond the mean, over the squared mean
    offset = np.log(np.maximum(rates, 0.1 / sum(r.n_timesteps for r in recordings)))
    for n, (latents, counts) in samples.items():
        ridge = network.shrinkage.item() * rates[n]
        loadings[n], offset[n], _ = poisson_regression(latents, counts, ridge)
        expected = np.exp(latents @ loadings[n] + offset[n])
        beyond = ((counts - expected) ** 2 - expected).sum()
        excess[n] = beyond / (expected**2).sum()
    return loadings, offset, excess


def _stronger(samples, rates, shrinkage):
    """Factor on the ridge with which counts of held-out blocks of time are predicted best.

    The ridge was chosen for the linear model of roots; that of a log rate may need to be stronger.
    """
    loss = np.zeros(len(FACTORS))
    for n in list(samples)[:: max(1, len(samples) // MOST_JUDGED)]:
        latents, counts = (values[:MOST_SAMPLES] for values in samples[n])
        for later in np.array_split(np.arange(len(counts)), N_BLOCKS):
            kept = np.ones(len(counts), dtype=bool)
            kept[later] = False
            if not counts[kept].sum():
                continue
            for number, factor in enumerate(FACTORS):
                weights, offset, _ = poisson_regression(
                    latents[kept], counts[kept], factor * shrinkage * rates[n]
                )
                log_rates = latents[later] @ weights + offset
                with np.errstate(over="ignore"):
                    loss[number] += (np.exp(log_rates) - counts[later] * log_rates).sum()
    return FACTORS[int(np.argmin(loss))]


def linear_model(network):
    """The linear model that `network` holds."""
    names = ("loadings", "center", "psi", "phi", "evidence")
    return LinearGaussian(*(getattr(network, n).detach().cpu().double().numpy() for n in names))


def channels(network, recording, row):
    """Standardized neurons and lagged behavior of a recording with their rows."""
    known = row >= 0
    offset, scale = network.input_offset.numpy(), network.input_scale.numpy()
    values = [((recording.traces - offset[row]) / scale[row])[:, known]]
    if network.basis is not None and recording.behavior is not None:
        basis = copy.deepcopy(network.basis).double()
        behavior = torch.from_numpy(np.array(recording.behavior, dtype=float))[None]
        lagged, seen = basis(behavior, ~torch.isnan(behavior), network.lags)
        values.append(np.where(seen[0].numpy(), lagged[0].numpy(), np.nan))
        row = np.concatenate([row[known], np.arange(network.n_neurons, len(network.loadings))])
    else:
        row = row[known]
    return np.concatenate(values, axis=1), row


def start_basis(basis, recordings):
    """Range of each channel of behavior, and mean and spread of its functions."""
    given = [r.behavior.astype(float) for r in recordings if r.behavior is not None]
    behavior = np.concatenate(given) if given else np.empty((0, len(basis.kinds)))
    observed = ~np.isnan(behavior)
    low = np.where(observed, behavior, np.inf).min(0, initial=np.inf)
    high = np.where(observed, behavior, -np.inf).max(0, initial=-np.inf)
    varies = high > low
    _write(basis, low=np.where(varies, low, np.nan_to_num(low, posinf=0.0)))
    _write(basis, high=np.where(varies, high, basis.low.numpy() + 1))
    # In float32 a range far from 0 may have no width.
    above = torch.nextafter(basis.low, torch.full_like(basis.low, torch.inf))
    basis.high.copy_(torch.maximum(basis.high, above))
    functions = copy.deepcopy(basis).double().functions(torch.from_numpy(behavior)).numpy()
    functions = np.where(observed[:, basis.owner.numpy()], functions, np.nan)
    offset, std = column_moments(functions) if len(functions) else (0.0, 1.0)
    _write(basis, offset=offset, scale=unit_of(np.asarray(std)))


def start_pooled(network, recordings, rows, n_before=0):
    """Units of a pooled network from its recordings, for rows from `n_before` on."""
    offset, scale = standardization([r.traces for r in recordings], rows, network.n_neurons)
    new = np.arange(n_before, network.n_neurons)
    network.offset[new] = torch.as_tensor(offset[new], dtype=torch.float32)
    network.scale[new] = torch.as_tensor(scale[new], dtype=torch.float32)
    n_behaviors = len(network.behavior_offset)
    if not n_before and n_behaviors:
        given = [r.behavior for r in recordings if r.behavior is not None]
        offset, std = moments_by_row(given, [np.arange(n_behaviors)] * len(given), n_behaviors)
        _write(network, behavior_offset=offset, behavior_scale=unit_of(std))
    return network


def _write(network, **arrays):
    for name, value in arrays.items():
        buffer = getattr(network, name)
        buffer.copy_(torch.as_tensor(value, dtype=buffer.dtype))
