"""Factor analysis with missing data, loadings shared by identity: the linear model to beat."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skneurovae.baselines.linear_gaussian import infer
from skneurovae.baselines.linear_selection import fit_linear_gaussian, posterior_mean
from skneurovae.common.missing import plain_array
from skneurovae.common.moments import moments_by_row, neuron_units, own_moments
from skneurovae.common.parameters import with_plain_parameters
from skneurovae.common.rollback import all_or_nothing
from skneurovae.common.versions import Versioned
from skneurovae.metrics import co_smoothing_score
from skneurovae.recordings import NeuronVocabulary, check_recordings
from skneurovae.recordings.doubts import tell_doubts


class MissingFactorAnalysis(
    ClassNamePrefixFeaturesOutMixin, Versioned, TransformerMixin, BaseEstimator
):
    """Factor analysis of recordings with missing entries and different neurons.

    A neuron's trace is L z_t + mu plus white noise, with loadings, offset and noise of its
    identity. Latents are inferred from whatever is observed at each time step, exactly; the fit is
    expectation-maximization with a ridge on the loadings, which decides how well the model does on
    an animal that it has not seen.

    Parameters
    ----------
    n_components : int, default=8
        Number of latents. Shrinkage makes needless ones vanish.
    shrinkage : float or "auto", default="auto"
        Ridge on the loadings in units of accumulated second moments of the latents, which are time
        steps. "auto" chooses among 10 to 3,000 by co-smoothing held-out training recordings, or
        blocks of time where recordings share no neurons.
    smoothing : float, "auto" or "ar1", default=0.0
        Standard deviation in time steps of a Gaussian that smooths the latents, at most 10,000;
        "auto" chooses it (0 to 12) like `shrinkage`. "ar1" makes the latents stationary
        autoregressive processes inferred by a Kalman smoother, with time constants and weight of
        evidence chosen likewise.
    random_state : int, RandomState instance or None, default=None
        Of the starting loadings and the folds.

    Attributes
    ----------
    loadings_ : ndarray of shape (n_identities, n_components)
    mean_, noise_variance_ : ndarray of shape (n_identities,)
        In the units of the traces (squared).
    identities_ : ndarray of shape (n_identities,)
        Neurons in the order of the rows of `loadings_`.
    neuron_scale_ : ndarray of shape (n_identities,)
        Standard deviation of each neuron in training, in units of the traces; scores use it.
    model_ : LinearGaussian
        All parameters, with traces in units of each neuron's standard deviation.
    choice_ : Choice
        The hyperparameters chosen and the score by which they were.

    See Also
    --------
    sklearn.decomposition.FactorAnalysis : Without missing data, for one set of neurons.
    skneurovae.NeuroBehaviorVAE : Starts from this model.

    References
    ----------
    Rubin & Thayer 1982, EM algorithms for ML factor analysis.

    Examples
    --------
    >>> from skneurovae.baselines import MissingFactorAnalysis
    >>> from skneurovae.datasets import make_worms
    >>> recordings, _ = make_worms(4, n_timesteps=200, random_state=0)
    >>> model = MissingFactorAnalysis(4, random_state=0).fit(recordings[:3])
    >>> model.transform(recordings)[3].shape
    (200, 4)
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "shrinkage": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "smoothing": [Interval(Real, 0, 10_000, closed="both"), StrOptions({"auto", "ar1"})],
        "random_state": ["random_state"],
    }

    def __init__(self, n_components=8, *, shrinkage="auto", smoothing=0.0, random_state=None):
        self.n_components = n_components
        self.shrinkage = shrinkage
        self.smoothing = smoothing
        self.random_state = random_state

    @all_or_nothing
    @with_plain_parameters
    def fit(self, X, y=None, *, mask=None, identities=None):
        """Fit by expectation-maximization.

        Parameters
        ----------
        X : array, list of arrays, or list of Recording
            Traces, time first; every form that `skneurovae.recordings.check_recordings` takes.
        y : None
            Ignored.
        mask, identities : array or list, default=None
            For the array forms of `X`.

        Returns
        -------
        self : MissingFactorAnalysis
        """
        self._validate_params()
        recordings, _ = check_recordings(X, mask=mask, identities=identities, estimator=self)
        tell_doubts(recordings, n_components=self.n_components)
        self._vocabulary = NeuronVocabulary()
        rows = self._vocabulary.extend(recordings)
        self.identities_ = self._vocabulary.labels
        n_rows = len(self._vocabulary)
        self._offset, std = moments_by_row([r.traces for r in recordings], rows, n_rows)
        self._scale, self.neuron_scale_ = neuron_units(std), std
        self.model_, self.choice_ = fit_linear_gaussian(
            self._standardized(recordings, rows),
            n_rows,
            n_rows,
            self.n_components,
            shrinkage=self.shrinkage,
            smoothing=self.smoothing,
            random_state=check_random_state(self.random_state),
        )
        self.loadings_ = self.model_.loadings * self._scale[:, None]
        self.mean_ = self._offset + self._scale * self.model_.offset
        self.noise_variance_ = self.model_.noise * self._scale**2
        return self

    def transform(self, X, *, mask=None, identities=None, return_std=False):
        """Posterior means of the latents.

        Parameters
        ----------
        X, mask, identities
            As in `fit`.
        return_std : bool, default=False
            Also return the posterior standard deviations (without the effect of a Gaussian
            `smoothing`).

        Returns
        -------
        latents : array or list, in the form of `X`
            (n_timesteps, n_components) each.
        std : like `latents`, only if `return_std`
        """
        recordings, form, data, _ = self._known(X, mask, identities)
        means = posterior_mean(data, self.model_, self.choice_.width)
        latents = form.wrap([_cast(m, r) for m, r in zip(means, recordings)])
        if not return_std:
            return latents
        stds = [np.sqrt(np.einsum("tkk->tk", c)) for _, c, _ in infer(data, self.model_)]
        return latents, form.wrap([_cast(s, r) for s, r in zip(stds, recordings)])

    def predict(self, X, *, mask=None, identities=None, return_std=False):
        """Traces that the latents predict, also where nothing was observed.

        Parameters
        ----------
        X, mask, identities
            As in `fit`.
        return_std : bool, default=False
            Also return the standard deviation of an observation: noise of the neuron and
            uncertainty of the latents (without the effect of a Gaussian `smoothing`).

        Returns
        -------
        traces : array or list, in the form and units of `X`
            A neuron unknown to the model is predicted by its own observed mean.
        std : like `traces`, only if `return_std`
        """
        recordings, form, data, rows = self._known(X, mask, identities)
        means = posterior_mean(data, self.model_, self.choice_.width)
        predicted, stds = [], []
        for recording, mean, row in zip(recordings, means, rows):
            known = row >= 0
            own, spread = own_moments(recording)
            traces = np.tile(own, (recording.n_timesteps, 1))
            traces[:, known] = mean @ self.loadings_[row[known]].T + self.mean_[row[known]]
            predicted.append(_cast(traces, recording))
            stds.append(np.tile(spread, (recording.n_timesteps, 1)))
        if not return_std:
            return form.wrap(predicted)
        for std, row, (_, covariances, _) in zip(stds, rows, infer(data, self.model_)):
            parts = self.model_.loadings, self.model_.noise, self._scale
            loadings, noise, unit = (part[row[row >= 0]] for part in parts)
            # Diagonal of L C L' at every time step, without the rest of it, in units of the neuron.
            spread = ((loadings @ covariances) * loadings).sum(-1)
            std[:, row >= 0] = unit * np.sqrt(spread + noise)
        stds = [_cast(std, recording) for std, recording in zip(stds, recordings)]
        return form.wrap(predicted), form.wrap(stds)

    def inverse_transform(self, Z):
        """Traces of all `identities_` from latents.

        Parameters
        ----------
        Z : array of shape (n_timesteps, n_components) or list of such

        Returns
        -------
        traces : array of shape (n_timesteps, n_identities) or list of such
        """
        check_is_fitted(self)
        single = not isinstance(Z, (list, tuple))
        latents = [plain_array(z) for z in ([Z] if single else Z)]
        n_components = self._n_features_out
        for number, z in enumerate(latents):
            if z.ndim < 2 or z.shape[-1] != n_components:
                raise ValueError(
                    f"Z of recording {number} must have shape (n_timesteps, {n_components}), "
                    f"got {z.shape}."
                )
        traces = [z @ self.loadings_.T + self.mean_ for z in latents]
        return traces[0] if single else traces

    def score(self, X, y=None, *, mask=None, identities=None):
        """Co-smoothing R2; see `skneurovae.metrics.co_smoothing_score`.

        Parameters
        ----------
        X, y, mask, identities
            As in `fit`.

        Returns
        -------
        float
        """
        check_is_fitted(self)
        recordings, _ = check_recordings(
            X, mask=mask, identities=identities, estimator=self, reset=False
        )
        return co_smoothing_score(self, recordings)

    def _known(self, X, mask, identities):
        check_is_fitted(self)
        recordings, form = check_recordings(
            X, mask=mask, identities=identities, estimator=self, reset=False
        )
        rows = self._vocabulary.rows(recordings)
        return recordings, form, self._standardized(recordings, rows), rows

    def _standardized(self, recordings, rows):
        return [
            (((r.traces - self._offset[row]) / self._scale[row])[:, row >= 0], row[row >= 0])
            for r, row in zip(recordings, rows)
        ]

    @property
    def _n_features_out(self):
        return self.loadings_.shape[1]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _cast(array, recording):
    return array.astype(recording.traces.dtype, copy=False)
