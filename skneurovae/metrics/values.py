"""How good predictions are, as plain functions of arrays."""

from __future__ import annotations

import numpy as np

from skneurovae.common.missing import float_array, plain_array
from skneurovae.common.moments import observed_mean, varies

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
    given, prediction = plain_array(traces), float_array(prediction)
    traces = given.astype(float)
    if traces.shape != prediction.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, traces have {traces.shape}.")
    scored = ~np.isnan(traces)
    if mask is not None:
        scored &= plain_array(mask).astype(bool)
    # A NaN would drop out of the mean over neurons and so flatter the model.
    if not np.isfinite(prediction[scored]).all():
        bad = np.flatnonzero((scored & ~np.isfinite(prediction)).any(0))
        raise ValueError(f"prediction of neuron {bad[0]} is NaN or infinite where it is evaluated.")
    evaluated = np.where(scored, traces, np.nan)
    total = (np.where(scored, traces - observed_mean(evaluated), 0.0) ** 2).sum(0)
    error = (np.where(scored, traces - prediction, 0.0) ** 2).sum(0)
    moves = varies(np.where(scored, given, np.nan).astype(given.dtype))
    return np.where(moves, 1 - error / np.where(moves, total, 1.0), np.nan)


def bits_per_spike(counts, rates, null=None):
    """Gain in Poisson log-likelihood over constant rates, in bits per spike.

    ``(NLL_null - NLL_model) / (n_spikes ln 2)`` with
    ``NLL = sum(rate - count ln rate + ln count!)`` over all evaluated bins of all neurons.

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

    See Also
    --------
    bits_per_spike_per_neuron : The same for each neuron.

    Notes
    -----
    The code of the benchmark lifts rates of exactly 0 to 1e-9 and leaves others below 1e-9 alone.

    References
    ----------
    Pei et al., "Neural Latents Benchmark '21", NeurIPS Datasets and Benchmarks 2021, section 3.

    Examples
    --------
    >>> from skneurovae.metrics import bits_per_spike
    >>> bits_per_spike([[0], [2]], [[0], [2]])  # 2 ln 2 nats better than one spike per bin
    1.0
    """
    gain, n_spikes = _poisson_gain(counts, rates, null)
    if n_spikes.sum() == 0:
        raise ValueError("counts hold no spike, so bits per spike are undefined.")
    return float(gain.sum() / (n_spikes.sum() * np.log(2)))


def bits_per_spike_per_neuron(counts, rates, null=None):
    """Gain in Poisson log-likelihood of each neuron, in bits per spike of this neuron.

    The pooled `bits_per_spike` is their mean, weighted by the number of spikes.

    Parameters
    ----------
    counts : array-like of shape (..., n_neurons)
        Spike counts per bin; NaN = not evaluated.
    rates : array-like of the same shape
        Predicted counts per bin, clipped below at 1e-9.
    null : array-like of shape (n_neurons,), default=None
        As in `bits_per_spike`.

    Returns
    -------
    ndarray of shape (n_neurons,)
        NaN for a neuron without a spike.

    Raises
    ------
    ValueError
        If shapes differ, counts or rates are negative, or rates are not finite.
    """
    gain, n_spikes = _poisson_gain(counts, rates, null)
    fires = n_spikes > 0
    return np.where(fires, gain / (np.where(fires, n_spikes, 1) * np.log(2)), np.nan)


def _poisson_gain(counts, rates, null):
    """Log-likelihood of rates minus that of the null, in nats, and number of spikes, per neuron."""
    counts, rates = float_array(counts), float_array(rates)
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
    if null is None:
        null = counts.sum(0) / np.maximum(scored.sum(0), 1)

    def log_likelihood(rate):
        rate = np.maximum(rate, MIN_RATE)
        return np.where(scored, counts * np.log(rate) - rate, 0.0).sum(0)  # ln count! cancels

    gain = log_likelihood(rates) - log_likelihood(np.broadcast_to(null, counts.shape))
    return gain, counts.sum(0)


def circular_error(angles_true, angles_predicted):
    """Mean absolute difference of angles, ``mean |wrap(predicted - true)|``.

    Parameters
    ----------
    angles_true : array-like of shape (n_timesteps,) or (n_timesteps, n_angles)
        In radians; NaN = not evaluated.
    angles_predicted : array-like of the same shape
        In radians, in any turn of the circle.

    Returns
    -------
    float
        In radians, from 0 to pi; pi / 2 is chance for a prediction that knows nothing.

    Raises
    ------
    ValueError
        If shapes differ, a prediction is not finite where it is evaluated, or nothing is.
    """
    _, difference = _angles(angles_true, angles_predicted)
    return float(np.nanmean(np.abs(np.angle(np.exp(1j * difference)))))


def circular_r2(angles_true, angles_predicted):
    """Coefficient of determination of angles.

    ``1 - mean(1 - cos(predicted - true)) / (1 - R)`` with R the length of the mean of
    ``exp(i true)``. ``1 - cos`` is half the squared distance of points on the unit circle, and
    ``1 - R`` (the circular variance) is the least that a constant angle reaches: 1 is perfect and
    0 is the circular mean of the truth, as in R2.

    Parameters
    ----------
    angles_true : array-like of shape (n_timesteps,) or (n_timesteps, n_angles)
        In radians; NaN = not evaluated.
    angles_predicted : array-like of the same shape
        In radians, in any turn of the circle.

    Returns
    -------
    float
        Mean over the angles. Not bounded below: a random guess at uniform angles gets 0, the
        opposite direction -1.

    Raises
    ------
    ValueError
        If shapes differ, a prediction is not finite where it is evaluated, or a true angle is
        constant or has no evaluated entry.

    References
    ----------
    Circular variance: Mardia & Jupp, "Directional Statistics", 2000, section 2.3.
    """
    true, difference = _angles(angles_true, angles_predicted)
    if np.isnan(true).all(0).any():
        raise ValueError("an angle of angles_true has no evaluated entry.")
    spread = circular_variance(true)
    if not (varies(np.cos(true)) | varies(np.sin(true))).all():
        raise ValueError("an angle of angles_true is constant, so its R2 is undefined.")
    error = 2 * np.nanmean(np.sin(difference / 2) ** 2, axis=0)  # 1 - cos, with all its digits
    return float(np.mean(1 - error / spread))


def circular_variance(angles):
    """One minus the length of the mean of ``exp(i angle)``, without loss of digits near 0.

    Parameters
    ----------
    angles : ndarray of shape (n_timesteps, ...)
        In radians; NaN = not observed.

    Returns
    -------
    ndarray of shape (...)
    """
    center = np.angle(np.nanmean(np.exp(1j * angles), axis=0))
    return 2 * np.nanmean(np.sin((angles - center) / 2) ** 2, axis=0)


def _angles(true, predicted):
    """True angles and differences as columns; NaN = not evaluated."""
    true, predicted = float_array(true), float_array(predicted)
    if true.shape != predicted.shape:
        raise ValueError(
            f"angles_predicted has shape {predicted.shape}, angles_true has {true.shape}."
        )
    scored = ~np.isnan(true)
    if not scored.any():
        raise ValueError("angles_true has no evaluated entry.")
    if not (np.isfinite(predicted) & np.isfinite(true))[scored].all():
        raise ValueError("angles must be finite wherever angles_true is not NaN.")
    true = true.reshape(len(true), -1)
    return true, np.where(np.isnan(true), np.nan, predicted.reshape(true.shape)) - true


def infonce_bits(loss, batch_size, n_sessions=1):
    """Goodness of fit of a contrastive model, ``(ln(batch_size n_sessions) - loss) / ln 2``.

    The loss of a model that cannot tell the positive from the negatives is the logarithm of the
    number of negatives; this is what the model gains on it. Comparable only between models of one
    way of sampling, and to be taken on data held out from training.

    Parameters
    ----------
    loss : float or array-like
        InfoNCE in nats, summed over the negatives without their mean:
        ``-psi(positive) + ln sum_j exp psi(negative_j)``.
    batch_size : int
        Negatives per session.
    n_sessions : int, default=1
        Sessions from which negatives are pooled. Without it, a collapsed model of two sessions
        would show 1 bit.

    Returns
    -------
    float or ndarray
        In bits; 0 = chance.

    Raises
    ------
    ValueError
        If `batch_size` or `n_sessions` is below 1.

    References
    ----------
    Schneider, Lee & Mathis, Nature 617, 2023, and CEBRA's `goodness_of_fit_score`; the bound is of
    van den Oord, Li & Vinyals, arXiv:1807.03748, section 2.3.
    """
    if batch_size < 1 or n_sessions < 1:
        raise ValueError(
            f"batch_size and n_sessions must be 1 or more; got {batch_size} and {n_sessions}."
        )
    bits = (np.log(batch_size * n_sessions) - np.asarray(loss, dtype=float)) / np.log(2)
    return bits if bits.ndim else float(bits)
