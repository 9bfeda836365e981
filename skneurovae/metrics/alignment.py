"""Affine maps from one set of latents to another. Private."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LinearRegression

from skneurovae.common.missing import float_array
from skneurovae.metrics.values import r2_per_neuron


def check_latents(latents, name):
    """Latents as a finite float array (n_samples, n_components); recordings are concatenated."""
    if isinstance(latents, (list, tuple)) and latents and np.ndim(latents[0]) > 1:
        latents = np.concatenate([float_array(z) for z in latents])
    latents = float_array(latents)
    latents = latents[:, None] if latents.ndim == 1 else latents
    if latents.ndim != 2 or latents.size == 0:
        raise ValueError(f"{name} must have shape (n_samples, n_components); got {latents.shape}.")
    if not np.isfinite(latents).all():
        raise ValueError(f"{name} must be finite.")
    return latents


def check_blocks(n_blocks, n_samples):
    """Refuse blocks that leave a half without samples."""
    if not 2 <= n_blocks <= n_samples:
        raise ValueError(
            f"n_blocks must lie between 2 and the {n_samples} samples; got {n_blocks}."
        )


def halves(n_samples, n_blocks):
    """Half (0 or 1) of each sample: contiguous blocks go to the halves in turn."""
    return np.arange(n_samples) * n_blocks // n_samples % 2


def affine_r2(source, target, half=None):
    """Mean over columns of the R2 of a target, least squares on a source and a constant.

    Parameters
    ----------
    source : ndarray of shape (n_samples, n_sources)
    target : ndarray of shape (n_samples, n_targets)
    half : ndarray of int of shape (n_samples,), default=None
        Each half is predicted by the map fitted to the other; None fits and scores all samples.

    Returns
    -------
    float
        NaN if every target is constant; other constant columns are left out.
    """
    if half is None:
        prediction = LinearRegression().fit(source, target).predict(source)
    else:
        prediction = np.empty(target.shape)
        for h in (0, 1):
            fitted = LinearRegression().fit(source[half != h], target[half != h])
            prediction[half == h] = fitted.predict(source[half == h])
    scores = r2_per_neuron(target, prediction)
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else np.nan
