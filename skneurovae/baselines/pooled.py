"""PCA, factor analysis and other row-wise transformers over recordings that share neurons."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.utils.validation import check_is_fitted

from skneurovae.baselines.align import align
from skneurovae.common.missing import plain_array
from skneurovae.common.moments import column_moments, moments_by_row, own_moments, unit_of
from skneurovae.common.parameters import with_plain_parameters
from skneurovae.common.rollback import all_or_nothing
from skneurovae.common.versions import Versioned
from skneurovae.metrics import co_smoothing_score
from skneurovae.recordings import NeuronVocabulary, check_recordings
from skneurovae.recordings.doubts import tell_doubts


class Pooled(ClassNamePrefixFeaturesOutMixin, Versioned, TransformerMixin, BaseEstimator):
    """Fit a row-wise linear transformer over recordings with missing samples and shared neurons.

    The recordings are stacked in time, one column per identity (two neurons with one identity are
    averaged). Missing entries, among them all neurons that an animal lacks, start at the mean of
    the column; then rounds of fit, inference from the observed entries and reconstruction fill them
    (iterative PCA, the EM algorithm of the least-squares problem).

    Latents are always inferred from the observed neurons alone: by least squares, or, for a model
    with one noise variance per column (FactorAnalysis), as the posterior mean. With nothing missing
    both are exactly the transformer's own `transform`.

    Parameters
    ----------
    estimator : transformer
        Unfitted, with an affine reconstruction: either `inverse_transform` with `components_` (PCA,
        FastICA, ...) or `components_` and `mean_` (FactorAnalysis). For others see `RowWise`.
    n_rounds : int, default=20
        Most rounds of filling; one fit is enough, and done, where nothing is missing.
    tol : float, default=1e-3
        Filling ends when no round changes the filled entries by more than this, as root mean
        square in units of the standard deviation of the observed entries.

    Attributes
    ----------
    estimator_ : transformer
        Fitted on the filled table.
    identities_ : ndarray of shape (n_identities,)
        Labels of the columns of the table.
    neuron_scale_ : ndarray of shape (n_identities,)
        Standard deviation of each neuron in training, in units of the traces; scores use it.
    n_iter_ : int
        Rounds of filling.
    n_features_in_ : int
        Only after a fit on an array.

    Notes
    -----
    Least squares has no prior: where few of the neurons that drive a component are observed, noise
    is amplified and scores can fall far below zero. FactorAnalysis shrinks instead.

    Filled entries lie on the fitted subspace and so hide noise: noise variances are divided by the
    observed fraction of the column. `MissingFactorAnalysis` has no such approximation.

    The many small decompositions gain nothing from several threads, and on a busy machine these
    wait for each other: FactorAnalysis then takes ten times longer. The number of threads is one
    for the whole process, so it is yours to set: ``OMP_NUM_THREADS=1`` before Python starts, or
    `threadpoolctl.threadpool_limits` around the fit.

    References
    ----------
    Josse & Husson, "missMDA", J. Stat. Software 70(1), 2016, section 2, for the rounds of filling.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from skneurovae.baselines import Pooled
    >>> from skneurovae.datasets import make_worms
    >>> worms, _ = make_worms(3, n_timesteps=200, n_identities=60, random_state=0)
    >>> model = Pooled(PCA(3)).fit(worms[:2])
    >>> model.transform(worms)[2].shape
    (200, 3)
    """

    def __init__(self, estimator, *, n_rounds=20, tol=1e-3):
        self.estimator = estimator
        self.n_rounds = n_rounds
        self.tol = tol

    @all_or_nothing
    @with_plain_parameters
    def fit(self, X, y=None, *, mask=None, identities=None):
        """Fit the transformer.

        Parameters
        ----------
        X : array-like of shape (n_timesteps, n_neurons), 3-D array, list of arrays or of Recording
        y : None
            Ignored.
        mask : array-like or list, default=None
            True = observed.
        identities : array-like or list, default=None

        Returns
        -------
        Pooled
            The fitted estimator.

        Raises
        ------
        ValueError
            If the recordings are malformed or their neurons cannot be told apart.
        TypeError
            If the transformer has no affine reconstruction.
        """
        recordings, _ = check_recordings(
            X, mask=mask, identities=identities, estimator=self, reset=True
        )
        tell_doubts(recordings)
        self._vocabulary = NeuronVocabulary()
        rows = self._vocabulary.extend(recordings)
        self.identities_ = self._vocabulary.labels
        n_columns = len(self._vocabulary)
        _, self.neuron_scale_ = moments_by_row([r.traces for r in recordings], rows, n_columns)
        table = np.concatenate([align(r.traces, c, n_columns) for r, c in zip(recordings, rows)])
        missing = np.isnan(table)
        observed_fraction = np.maximum(1 - missing.mean(0), 1 / len(table))
        filled = np.where(missing, column_moments(table)[0], table)
        unit = float(unit_of(filled[~missing].std(dtype=float)))
        self.n_iter_ = 0
        while missing.any() and self.n_iter_ < self.n_rounds:
            offset, loadings, noise = _read_out(_fit_round(self.estimator, filled))
            noise = None if noise is None else noise / observed_fraction
            latents = _infer(table, offset, loadings, noise)
            change = (offset + latents @ loadings - filled)[missing]
            self.n_iter_ += 1
            if np.sqrt(np.mean(change**2)) <= self.tol * unit:
                break
            filled[missing] += change
        self.estimator_ = clone(self.estimator).fit(filled)
        self._offset, self._loadings, noise = _read_out(self.estimator_)
        self._noise = None if noise is None else noise / observed_fraction
        return self

    def transform(self, X, *, mask=None, identities=None):
        """Latents inferred from the observed neurons of each time step.

        Parameters
        ----------
        X : recordings in any form that `fit` takes
        mask, identities : array-like or list, default=None
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_timesteps, n_components), 3-D array or list
            In the form of `X`. Where nothing is observed: the mean, zero.

        Raises
        ------
        ValueError
            If no neuron of a recording is known.
        """
        recordings, form = self._check(X, mask, identities)
        latents = [z for z, _ in self._latents(recordings)]
        return form.wrap([z.astype(r.traces.dtype) for z, r in zip(latents, recordings)])

    def predict(self, X, *, mask=None, identities=None):
        """Traces reconstructed from the latents, also where they were not observed.

        Parameters
        ----------
        X : recordings in any form that `fit` takes
        mask, identities : array-like or list, default=None
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
        recordings, form = self._check(X, mask, identities)
        predicted = []
        for recording, (latents, rows) in zip(recordings, self._latents(recordings)):
            traces = np.tile(own_moments(recording)[0], (recording.n_timesteps, 1))
            traces[:, rows >= 0] = self.inverse_transform(latents)[:, rows[rows >= 0]]
            predicted.append(traces)
        return form.wrap(predicted)

    def inverse_transform(self, Z):
        """Traces of all identities, in the order of `identities_`.

        Parameters
        ----------
        Z : ndarray of shape (n_timesteps, n_components) or list of such

        Returns
        -------
        ndarray of shape (n_timesteps, n_identities) or list of such
        """
        check_is_fitted(self)
        if isinstance(Z, list):
            return [self.inverse_transform(z) for z in Z]
        return self._offset + plain_array(Z) @ self._loadings

    def score(self, X, y=None, *, mask=None, identities=None):
        """Co-smoothing R2 (see `skneurovae.metrics.co_smoothing_score`).

        Parameters
        ----------
        X : recordings in any form that `fit` takes
        y : None
            Ignored.
        mask, identities : array-like or list, default=None
            As in `fit`.

        Returns
        -------
        float
        """
        recordings, _ = self._check(X, mask, identities)
        return co_smoothing_score(self, recordings)

    @property
    def _n_features_out(self):
        return len(self._loadings)

    def _check(self, X, mask, identities):
        check_is_fitted(self)
        return check_recordings(X, mask=mask, identities=identities, estimator=self, reset=False)

    def _latents(self, recordings):
        for recording, rows in zip(recordings, self._vocabulary.rows(recordings)):
            known = rows >= 0
            columns = rows[known]
            noise = None if self._noise is None else self._noise[columns]
            traces = recording.traces[:, known]
            yield _infer(traces, self._offset[columns], self._loadings[:, columns], noise), rows

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _fit_round(estimator, table):
    """Fit to a table, or to a short one with the same components.

    PCA and factor analysis know of a table its mean and its covariance alone, and twice as many
    rows as there are columns can have any.
    """
    model = clone(estimator)
    n_rows, n_columns = table.shape
    by_moments = type(model) in (PCA, FactorAnalysis) and isinstance(model.n_components, Integral)
    if not by_moments or n_rows <= 2 * n_columns:
        return model.fit(table)
    mean = table.mean(0)
    root = np.linalg.qr(table - mean, mode="r") * np.sqrt(n_columns / n_rows)
    if isinstance(model, FactorAnalysis):  # whose tolerance is of a sum over rows
        model.set_params(tol=model.tol * 2 * n_columns / n_rows)
    return model.fit(mean + np.concatenate([root, -root]))


def _read_out(model):
    """Offset (n_columns,), loadings (n_components, n_columns) and noise (n_columns,) or None."""
    if hasattr(model, "inverse_transform") and hasattr(model, "components_"):
        n_components = len(model.components_)
        offset = model.inverse_transform(np.zeros((1, n_components)))
        return offset[0], model.inverse_transform(np.eye(n_components)) - offset, None
    if hasattr(model, "components_") and hasattr(model, "mean_"):
        noise = getattr(model, "noise_variance_", None)
        return model.mean_, model.components_, None if np.ndim(noise) == 0 else noise
    name = type(model).__name__
    raise TypeError(
        f"estimator must reconstruct its input, by inverse_transform or by components_ and mean_; "
        f"{name} does not. For its latents alone: make_pipeline(AlignNeurons(), RowWise({name}()))."
    )


def _infer(traces, offset, loadings, noise):
    """Latents of each time step from its observed neurons.

    Least squares, of least norm where the neurons do not determine all latents; the posterior mean
    under a standard normal prior when noise variances are given.
    """
    observed = ~np.isnan(traces)
    weighted = loadings if noise is None else loadings / noise
    information = np.where(observed, traces - offset, 0.0) @ weighted.T
    # Time steps with the same neurons share one inverse; packed, masks are quick to compare.
    _, first, which = np.unique(
        np.packbits(observed, axis=1), axis=0, return_index=True, return_inverse=True
    )
    outer = (weighted[:, None] * loadings).reshape(-1, loadings.shape[1])
    precision = observed[first].astype(float) @ outer.T
    precision = precision.reshape(len(first), len(loadings), len(loadings))
    if noise is None:
        inverse = np.linalg.pinv(precision, rcond=1e-6, hermitian=True)
    else:
        inverse = np.linalg.inv(precision + np.eye(len(loadings)))
    return np.einsum("tk,tkl->tl", information, inverse[which.ravel()])
