"""How good predictions are, as plain functions of arrays."""

from __future__ import annotations

import numpy as np

MIN_RATE = 1e-9  # counts per bin; rates are clipped here, as in the Neural Latents Benchmark


def r2_per_neuron(traces, prediction, mask=None):
    """Coefficient of determination of each neuron, 1 - SSE / SST.

    Both sums run over the evaluated entries of the neuron, and SST is taken around their mean, so 0
    is what the best constant reaches on these very entries.

    Parameters
    ----------
    traces : array-like of shape (n_timesteps, n_neurons)
        NaN = not observed, not evaluated.
    prediction : array-like of shape (n_timesteps, n_neurons)
    mask : array-like of bool of shape (n_timesteps, n_neurons), default=None
        True = evaluated; None = every observed entry.

    Returns
    -------
    ndarray of shape (n_neurons,)
        NaN for a neuron that is constant or has no evaluated entry.

    Raises
    ------
    ValueError
        If the shapes differ or a prediction is not finite where it is evaluated.
    """
    traces, prediction = np.asarray(traces, dtype=float), np.asarray(prediction, dtype=float)
    if traces.shape != prediction.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, traces have {traces.shape}.")
    scored = ~np.isnan(traces)
    if mask is not None:
        scored &= np.asarray(mask, dtype=bool)
    # A NaN would drop out of the mean over neurons and so flatter the model.
    if not np.isfinite(prediction[scored]).all():
        bad = np.flatnonzero((scored & ~np.isfinite(prediction)).any(0))
        raise ValueError(f"prediction of neuron {bad[0]} is NaN or infinite where it is evaluated.")
    count = scored.sum(0)
    values = np.where(scored, traces, 0.0)
    mean = values.sum(0) / np.maximum(count, 1)
    total = (np.where(scored, traces - mean, 0.0) ** 2).sum(0)
    error = (np.where(scored, traces - prediction, 0.0) ** 2).sum(0)
    varies = total > count * (1e-12 * np.abs(values).max(0, initial=0.0)) ** 2
    return np.where(varies, 1 - error / np.where(varies, total, 1.0), np.nan)


def bits_per_spike(counts, rates, null=None):
    """Gain in Poisson log-likelihood over constant rates, in bits per spike.

    ``(log p(counts | rates) - log p(counts | null)) / (n_spikes ln 2)``

    Parameters
    ----------
    counts : array-like of shape (..., n_neurons)
        Spike counts per bin; NaN = not evaluated.
    rates : array-like of the same shape
        Predicted counts per bin (not per second), clipped below at 1e-9.
    null : array-like of shape (n_neurons,), default=None
        Counts per bin that the model is compared with; None is the mean of each neuron over the
        evaluated bins.

    Returns
    -------
    float
        0 = no better than the null. Sums over all neurons, so busy neurons weigh most.

    Raises
    ------
    ValueError
        If shapes differ, counts or rates are negative, rates not finite, or there is no spike.

    References
    ----------
    Pei et al., "Neural Latents Benchmark '21", NeurIPS Datasets and Benchmarks 2021, section 3.
    """
    counts, rates = np.asarray(counts, dtype=float), np.asarray(rates, dtype=float)
    if counts.shape != rates.shape:
        raise ValueError(f"rates have shape {rates.shape}, counts have {counts.shape}.")
    n_neurons = counts.shape[-1]
    counts, rates = counts.reshape(-1, n_neurons), rates.reshape(-1, n_neurons)
    scored = ~np.isnan(counts)
    counts = np.where(scored, counts, 0.0)
    if (counts < 0).any():
        raise ValueError("counts must not be negative; z-scored traces have no bits per spike.")
    if not (np.isfinite(rates) & (rates >= 0))[scored].all():
        raise ValueError("rates must be finite and not negative where counts are evaluated.")
    n_spikes = counts.sum()
    if n_spikes == 0:
        raise ValueError("counts hold no spike, so bits per spike are undefined.")
    if null is None:
        null = counts.sum(0) / np.maximum(scored.sum(0), 1)

    def log_likelihood(rate):
        rate = np.maximum(rate, MIN_RATE)
        return np.where(scored, counts * np.log(rate) - rate, 0.0).sum()  # log(counts!) cancels

    gain = log_likelihood(rates) - log_likelihood(np.broadcast_to(null, counts.shape))
    return float(gain / (n_spikes * np.log(2)))
