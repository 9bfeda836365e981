"""Linear encoding model: traces of each identity from lagged behavior."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from sklearn.base import BaseEstimator

from skneurovae.baselines.lagged_design import LaggedBehavior
from skneurovae.common.moments import moments_by_row, own_moments
from skneurovae.common.parameters import with_plain_parameters
from skneurovae.common.rollback import all_or_nothing
from skneurovae.common.versions import Versioned
from skneurovae.metrics import co_smoothing_score
from skneurovae.recordings import NeuronVocabulary, check_recordings
from skneurovae.recordings.doubts import tell_doubts, tell_extrapolation
from skneurovae.recordings.lags import check_lags, reached

ALPHAS = np.logspace(0, 6, 13)  # ridge penalties tried, in time steps of standardized behavior
N_FOLDS = 5


class LaggedRidge(LaggedBehavior, Versioned, BaseEstimator):
    """Ridge regression of every identity on behavior at past and future lags.

    It never looks at the traces it predicts, so it is the bar for any model that claims to predict
    neurons from behavior. Real neurons follow and lead behavior by seconds: lags matter more than
    nonlinearity.

    Parameters
    ----------
    lags : int or sequence of int, default=10
        In time steps; a positive lag is behavior of the past. An int n means -n, ..., n.
    alpha : float, default=None
        Ridge penalty, in time steps of standardized behavior. None chooses it for each identity
        among 13 values from 1 to 1e6 by cross-validation on the training data, in five blocks of
        contiguous time of each recording. (Leave-one-out would be misled by autocorrelation.)

    Attributes
    ----------
    identities_ : ndarray of shape (n_identities,)
    neuron_scale_ : ndarray of shape (n_identities,)
        Standard deviation of each neuron in training, in units of the traces; scores use it.
    alpha_ : ndarray of shape (n_identities,)
        Penalty of each identity.
    coef_ : ndarray of shape (n_identities, n_lags, n_behaviors)
        Weights on the standardized behavior.
    intercept_ : ndarray of shape (n_identities,)
    lags_ : ndarray of shape (n_lags,)
    behavior_mean_, behavior_scale_ : ndarray of shape (n_behaviors,)
        Of the training data, over observed entries.
    n_behaviors_in_ : int
    n_features_in_ : int
        Only after a fit on an array.

    Notes
    -----
    Missing behavior, also behavior beyond both ends of a recording, counts as the training mean of
    its channel. A recording without behavior is therefore predicted at the intercepts. Missing
    traces are left out of the sums, so each identity is fitted to its observed samples.

    Examples
    --------
    >>> from skneurovae.baselines import LaggedRidge
    >>> from skneurovae.datasets import make_worms
    >>> worms, _ = make_worms(3, n_timesteps=200, n_identities=60, random_state=0)
    >>> LaggedRidge(lags=8).fit(worms[:2]).predict(worms)[2].shape
    (200, 60)
    """

    def __init__(self, lags=10, *, alpha=None):
        self.lags = lags
        self.alpha = alpha

    @all_or_nothing
    @with_plain_parameters
    def fit(self, X, y=None, *, behavior=None, mask=None, identities=None):
        """Fit all identities.

        Parameters
        ----------
        X : array-like of shape (n_timesteps, n_neurons), 3-D array, list of arrays or of Recording
        y : None
            Ignored.
        behavior : array-like or list, default=None
            For the array forms of `X`.
        mask : array-like or list, default=None
            True = observed.
        identities : array-like or list, default=None

        Returns
        -------
        LaggedRidge
            The fitted estimator.

        Raises
        ------
        ValueError
            If no recording has behavior, or `lags` or `alpha` are out of range.
        """
        recordings, _ = check_recordings(
            X, mask=mask, behavior=behavior, identities=identities, estimator=self, reset=True
        )
        tell_doubts(recordings)
        if self.n_behaviors_in_ == 0:
            raise ValueError("LaggedRidge predicts from behavior, but no recording has behavior.")
        if self.alpha is not None and self.alpha < 0:
            raise ValueError(f"alpha must be None or not negative; got {self.alpha}.")
        self.lags_ = check_lags(self.lags)
        self._vocabulary = NeuronVocabulary()
        rows = self._vocabulary.extend(recordings)
        self.identities_ = self._vocabulary.labels
        traces, n_rows = [r.traces for r in recordings], len(self.identities_)
        _, self.neuron_scale_ = moments_by_row(traces, rows, n_rows)
        self._fit_behavior(recordings)

        # Lags beyond the length of every recording get no weight, and cost nothing.
        used = reached(self.lags_, [r.n_timesteps for r in recordings])
        columns = np.append(np.repeat(used, self.n_behaviors_in_), True)
        moments = self._moments(recordings, rows, columns)
        self.alpha_ = self._choose_alpha(moments) if self.alpha is None else (
            np.full(len(self.identities_), float(self.alpha))
        )  # fmt: skip
        weights = _solve(*(m.sum(0) for m in moments[:2]), self.alpha_)
        self.intercept_ = weights[:, -1]
        self.coef_ = np.zeros((len(self.identities_), len(self.lags_), self.n_behaviors_in_))
        self.coef_[:, used] = weights[:, :-1].reshape(-1, used.sum(), self.n_behaviors_in_)
        return self

    def predict(self, X, *, behavior=None, mask=None, identities=None):
        """Traces predicted from behavior; those in `X` are not used where the neuron is known.

        Parameters
        ----------
        X : recordings in any form that `fit` takes
        behavior, mask, identities : array-like or list, default=None
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_timesteps, n_neurons), 3-D array or list
            In the form of `X`. A neuron unknown to the model is predicted by its own observed mean.

        Raises
        ------
        ValueError
            If no neuron of a recording is known.
        """
        recordings, form = self._check(X, behavior, mask, identities)
        tell_extrapolation(recordings, self._behavior_range)
        weights = np.column_stack([self.coef_.reshape(len(self.coef_), -1), self.intercept_])
        predicted = []
        for recording, rows in zip(recordings, self._vocabulary.rows(recordings)):
            traces = np.tile(own_moments(recording)[0], (recording.n_timesteps, 1))
            traces[:, rows >= 0] = self._design(recording) @ weights[rows[rows >= 0]].T
            predicted.append(traces)
        return form.wrap(predicted)

    def score(self, X, y=None, *, behavior=None, mask=None, identities=None):
        """R2 of the prediction, as `skneurovae.metrics.co_smoothing_score` takes it.

        Parameters
        ----------
        X : recordings in any form that `fit` takes
        y : None
            Ignored.
        behavior, mask, identities : array-like or list, default=None
            As in `fit`.

        Returns
        -------
        float
        """
        recordings, _ = self._check(X, behavior, mask, identities)
        return co_smoothing_score(self, recordings)

    def _design(self, recording):
        """Standardized behavior at all lags and a column of ones, (n_timesteps, n_weights)."""
        return np.column_stack([self._lagged_behavior(recording), np.ones(recording.n_timesteps)])

    def _moments(self, recordings, rows, used):
        """Normal equations of each fold and identity: (F, V, D, D), (F, V, D), (F, V).

        D are those columns of the design that are `used`.
        """
        n_weights = used.sum()
        shape = (N_FOLDS, len(self.identities_), n_weights)
        second, cross, square = np.zeros((*shape, n_weights)), np.zeros(shape), np.zeros(shape[:2])
        for recording, r in zip(recordings, rows):
            design = self._design(recording)[:, used]
            edges = np.linspace(0, recording.n_timesteps, N_FOLDS + 1).astype(int)
            for fold, (start, stop) in enumerate(pairwise(edges)):
                block, traces = design[start:stop], recording.traces[start:stop]
                observed = ~np.isnan(traces)
                values = np.where(observed, traces, 0.0)
                np.add.at(cross[fold], r, values.T @ block)
                np.add.at(square[fold], r, (values**2).sum(0))
                # Neurons with the same missing samples share one product.
                masks, which = np.unique(observed, axis=1, return_inverse=True)
                products = np.stack([block[m].T @ block[m] for m in masks.T])
                np.add.at(second[fold], r, products[which.ravel()])
        return second, cross, square

    def _choose_alpha(self, moments):
        """The penalty with the least squared error on left-out blocks, for each identity."""
        second, cross, square = moments
        errors = np.zeros((len(ALPHAS), len(self.identities_)))
        for fold in range(N_FOLDS):
            for i, alpha in enumerate(ALPHAS):
                w = _solve(second.sum(0) - second[fold], cross.sum(0) - cross[fold], alpha)
                fitted = np.einsum("vd,vde,ve->v", w, second[fold], w, optimize=True)
                errors[i] += square[fold] - 2 * (w * cross[fold]).sum(1) + fitted
        return ALPHAS[errors.argmin(0)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        return tags


def _solve(second, cross, alpha):
    """Ridge solutions (V, D) with a free intercept in the last column."""
    penalty = np.zeros(cross.shape) + np.reshape(alpha, (-1, 1))
    # A trace of a penalty keeps an identity without data, or alpha = 0, solvable.
    penalty = penalty + 1e-8 * (1 + np.einsum("vdd->v", second)[:, None] / cross.shape[1])
    penalty[:, -1] = 1e-8
    ridge = second + penalty[:, :, None] * np.eye(cross.shape[1])
    return np.linalg.solve(ridge, cross[..., None])[..., 0]
