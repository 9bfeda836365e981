"""Smoothing in time, as a first step of a pipeline."""

from __future__ import annotations

from numbers import Real

import numpy as np
from scipy.ndimage import gaussian_filter1d
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from skneurovae.common.frames import like_frame
from skneurovae.common.parameters import with_plain_parameters
from skneurovae.common.rollback import all_or_nothing
from skneurovae.common.versions import Versioned
from skneurovae.recordings import Recording, check_recordings


class GaussianSmoother(OneToOneFeatureMixin, Versioned, TransformerMixin, BaseEstimator):
    """Smooth the traces of each recording in time by a Gaussian.

    Missing entries have no weight (normalized convolution) and stay missing: a smoother that filled
    them would hand its guesses to the next step as observations.

    Parameters
    ----------
    width : float, default=2.0
        Standard deviation in time steps; 0 leaves the traces as they are. The kernel ends at four
        standard deviations, and at both ends of the recording.

    Attributes
    ----------
    width_ : float
        `width` in `fit`.
    n_features_in_ : int
        Only where columns alone tell neurons apart.

    Notes
    -----
    Smoothing carries each entry into its neighbors in time. To score hidden entries, hide them
    first and smooth then, as the scorers of `skneurovae.metrics` do with a pipeline that begins
    with this step. To smooth a data set once and hide spans of the result leaks what is hidden, and
    to split it into folds leaks across their seams.

    The smoother looks ahead as well as back, so a forecast from smoothed traces has seen the future
    if the cut was made after smoothing.

    References
    ----------
    Knutsson & Westin, "Normalized and differential convolution", CVPR 1993.

    Examples
    --------
    >>> from skneurovae.baselines import GaussianSmoother
    >>> GaussianSmoother(0.5).fit_transform([[0.0], [1.0], [0.0]]).round(3)
    array([[0.119],
           [0.787],
           [0.119]])
    """

    def __init__(self, width=2.0):
        self.width = width

    @all_or_nothing
    @with_plain_parameters
    def fit(self, X, y=None):
        """Check recordings and width; nothing is learned.

        Parameters
        ----------
        X : array-like of shape (n_timesteps, n_neurons), 3-D array, list of arrays or of Recording
            NaN = not observed.
        y : None
            Ignored.

        Returns
        -------
        GaussianSmoother
            The fitted estimator.

        Raises
        ------
        ValueError
            If `width` is not a number of 0 or more or the recordings are malformed.
        """
        valid = isinstance(self.width, Real) and 0 <= self.width < np.inf
        if not valid or isinstance(self.width, bool):
            raise ValueError(f"width must be a finite number of 0 or more; got {self.width!r}.")
        check_recordings(X, estimator=self, reset=True)
        self.width_ = self.width
        return self

    def transform(self, X):
        """Smooth each recording.

        Parameters
        ----------
        X : recordings in any form that `fit` takes

        Returns
        -------
        array, DataFrame or list
            In the form of `X`, down to the entries of a list: a Recording keeps its behavior,
            stimulus, identities and session, a DataFrame its columns and index.

        Raises
        ------
        ValueError
            If the recordings are malformed.
        """
        check_is_fitted(self)
        recordings, form = check_recordings(X, estimator=self, reset=False)
        items = [X] if form.kind == "array" else X
        return form.wrap([
            _like(item, smooth_gaussian(recording.traces, self.width_))
            for item, recording in zip(items, recordings)
        ])  # fmt: skip

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def smooth_gaussian(traces, width):
    """Gaussian mean of the observed neighbors in time of every observed entry.

    Parameters
    ----------
    traces : ndarray of shape (n_timesteps, n_neurons)
    width : float
        Standard deviation in time steps.

    Returns
    -------
    ndarray of the same shape and dtype
        NaN where `traces` is.
    """
    if width == 0:
        return traces.copy()
    observed = ~np.isnan(traces)
    # What lies beyond both ends has no weight, so that a wider kernel only takes time.
    radius = min(int(4 * width + 0.5), len(traces))
    values, weights = (
        gaussian_filter1d(a.astype(float), width, axis=0, mode="constant", radius=radius)
        for a in (np.where(observed, traces, 0.0), observed)
    )
    smoothed = values / np.where(observed, weights, 1.0)
    return np.where(observed, smoothed, np.nan).astype(traces.dtype)


def _like(item, traces):
    """Traces in the container of `item`."""
    if isinstance(item, Recording):
        return item.replace(traces=_like(item.traces, traces))
    return like_frame(item, traces)
