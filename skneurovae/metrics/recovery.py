"""How well the latents of a simulator were found."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from skneurovae.common.moments import varies
from skneurovae.metrics.alignment import affine_r2, check_blocks, check_latents, halves


def latent_r2(truth, latents, *, cross_fitted=True, n_blocks=10):
    """R2 of the true latents from an affine map of the inferred ones, mean over true latents.

    Parameters
    ----------
    truth : array-like of shape (n_samples, n_true) or (n_samples,), or list of such
        One array per recording in a list; they are concatenated.
    latents : array-like of shape (n_samples, n_components), or list of such
    cross_fitted : bool, default=True
        True: contiguous blocks of samples go to two halves in turn, the map is fitted on one half
        and scored on the other, both ways. False: fitted and scored on the same samples, which
        favors many components.
    n_blocks : int, default=10
        Each should be much longer than the autocorrelation time. Used if `cross_fitted`.

    Returns
    -------
    float
        At most 1; constant true latents are left out.

    Raises
    ------
    ValueError
        If numbers of samples differ, values are not finite, or every true latent is constant.

    See Also
    --------
    mean_correlation : One to one, without a map that mixes.
    """
    truth, latents = _pair(truth, latents)
    half = None
    if cross_fitted:
        check_blocks(n_blocks, len(truth))
        half = halves(len(truth), n_blocks)
    score = affine_r2(latents, truth, half)
    if np.isnan(score):
        raise ValueError("every true latent is constant.")
    return score


def mean_correlation(truth, latents):
    """Mean correlation coefficient (MCC): |Pearson| of true and inferred latents, matched.

    Each true latent gets one inferred latent of its own, so that the sum of absolute correlations
    is largest (Hungarian matching). Unlike `latent_r2` this falls when latents are mixed.

    Parameters
    ----------
    truth : array-like of shape (n_samples, n_true) or (n_samples,), or list of such
    latents : array-like of shape (n_samples, n_components), or list of such

    Returns
    -------
    float
        From 0 to 1. Mean over the true latents: one that is left without a partner counts 0, as
        does the correlation with a constant.

    Raises
    ------
    ValueError
        If numbers of samples differ or values are not finite.

    References
    ----------
    Hyvarinen & Morioka, "Unsupervised Feature Extraction by Time-Contrastive Learning and Nonlinear
    ICA", NeurIPS 2016.
    """
    truth, latents = _pair(truth, latents)
    correlation = np.abs(_standardized(truth).T @ _standardized(latents))
    rows, columns = linear_sum_assignment(correlation, maximize=True)
    return float(correlation[rows, columns].sum() / truth.shape[1])


def _pair(truth, latents):
    truth, latents = check_latents(truth, "truth"), check_latents(latents, "latents")
    if len(truth) != len(latents):
        raise ValueError(f"truth has {len(truth)} samples, latents have {len(latents)}.")
    return truth, latents


def _standardized(columns):
    """Columns of mean 0 and length 1, or 0 where they are constant."""
    deviation = columns - columns.mean(0)
    length = np.linalg.norm(deviation, axis=0)
    moves = varies(columns)
    return np.where(moves, deviation / np.where(moves, length, 1.0), 0.0)
