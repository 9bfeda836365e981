"""Poisson encoding model: spike counts of each identity from lagged behavior and other neurons."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from skneurovae.baselines.align import align
from skneurovae.baselines.lagged_design import LaggedBehavior
from skneurovae.baselines.poisson_regression import poisson_regression
from skneurovae.common.moments import column_moments, moments_by_row, own_moments, unit_of
from skneurovae.common.parameters import with_plain_parameters
from skneurovae.common.rollback import all_or_nothing
from skneurovae.common.versions import Versioned
from skneurovae.metrics import co_smoothing_bits
from skneurovae.recordings import NeuronVocabulary, check_recordings
from skneurovae.recordings.doubts import tell_doubts, tell_extrapolation
from skneurovae.recordings.lags import check_lags, contiguous_folds, lagged, reached

ALPHAS = np.logspace(0, 5, 6)  # penalties tried, in time steps of standardized inputs
N_FOLDS = 5


class PoissonGLM(LaggedBehavior, Versioned, BaseEstimator):
    """Poisson regression of every identity on lagged behavior and on the past of other neurons.

    The rate of neuron v is ``exp(b_v + sum_l B_vl . behavior(t - l) + sum_l C_vl . x(t - l))``, the
    second sum only with `coupling`: x are the counts of the other identities at past lags. A
    neuron's own counts, and those of a twin of the same identity, never enter its prediction.

    Parameters
    ----------
    lags : int or sequence of int, default=10
        Of behavior, in time steps; a positive lag is behavior of the past. An int n means
        -n, ..., n.
    coupling : bool, default=False
        Whether other neurons' past counts are inputs too.
    coupling_lags : int or sequence of int, default=5
        In time steps, 1 or more (past). An int n means 1, ..., n.
    alpha : float, default=None
        Ridge penalty, in time steps of standardized inputs: the fit minimizes
        ``sum (rate - count log rate) + alpha |weights|^2 / 2``. None chooses it for each identity
        among six values from 1 to 1e5 by Poisson deviance on five blocks of contiguous time of each
        recording.
    max_iter : int, default=100
        Most Newton steps of each fit.

    Attributes
    ----------
    identities_ : ndarray of shape (n_identities,)
    neuron_scale_ : ndarray of shape (n_identities,)
        Standard deviation of each neuron in training, in units of the traces; scores use it.
    alpha_ : ndarray of shape (n_identities,)
        Penalty of each identity.
    coef_ : ndarray of shape (n_identities, n_lags, n_behaviors)
        Weights on the standardized behavior, in log rate.
    coupling_ : ndarray of shape (n_identities, n_coupling_lags, n_identities)
        Weights of the target (first axis) on the standardized counts of the others (last axis);
        zero on the diagonal. No lags without `coupling`.
    intercept_ : ndarray of shape (n_identities,)
        Log rate, in counts per bin, at the mean of all inputs.
    lags_, coupling_lags_ : ndarray of int
    behavior_mean_, behavior_scale_ : ndarray of shape (n_behaviors,)
    count_mean_, count_scale_ : ndarray of shape (n_identities,)
        Of the training data, over observed entries.
    n_behaviors_in_ : int
    n_features_in_ : int
        Only where columns alone tell neurons apart.

    See Also
    --------
    LaggedRidge : The same for continuous traces, without coupling.

    Notes
    -----
    Missing samples of the target are left out. A missing input counts as its training mean: of
    behavior that was not observed, a neuron that a recording lacks or that a scorer hides, and what
    lies before the start of the recording.

    An identity without a spike in training gets the rate of half a spike in all its samples.

    References
    ----------
    Pillow et al., "Spatio-temporal correlations and visual signalling in a complete neuronal
    population", Nature 454, 2008, without the neuron's own history.

    Examples
    --------
    >>> import numpy as np
    >>> from skneurovae.baselines import PoissonGLM
    >>> rng = np.random.default_rng(0)
    >>> behavior = rng.standard_normal((300, 1))
    >>> counts = rng.poisson(np.exp(np.hstack([behavior, -behavior])))
    >>> model = PoissonGLM(lags=[0], alpha=1.0).fit(counts, behavior=behavior)
    >>> model.coef_[:, 0, 0].round(1)
    array([ 1., -1.])
    """

    def __init__(self, lags=10, *, coupling=False, coupling_lags=5, alpha=None, max_iter=100):
        self.lags = lags
        self.coupling = coupling
        self.coupling_lags = coupling_lags
        self.alpha = alpha
        self.max_iter = max_iter

    @all_or_nothing
    @with_plain_parameters
    def fit(self, X, y=None, *, behavior=None, mask=None, identities=None):
        """Fit all identities.

        Parameters
        ----------
        X : array-like of shape (n_timesteps, n_neurons), 3-D array, list of arrays or of Recording
            Spike counts per bin; NaN = not observed.
        y : None
            Ignored.
        behavior : array-like or list, default=None
            For the array forms of `X`.
        mask : array-like or list, default=None
            True = observed.
        identities : array-like or list, default=None

        Returns
        -------
        PoissonGLM
            The fitted estimator.

        Raises
        ------
        ValueError
            If there is nothing to predict from, counts are negative, or a parameter is out of
            range.
        """
        recordings, _ = check_recordings(
            X, mask=mask, behavior=behavior, identities=identities, estimator=self, reset=True
        )
        tell_doubts(recordings)
        self._check_inputs(recordings)
        self._vocabulary = NeuronVocabulary()
        rows = self._vocabulary.extend(recordings)
        self.identities_ = self._vocabulary.labels
        n_identities = len(self.identities_)
        traces = [r.traces for r in recordings]
        _, self.neuron_scale_ = moments_by_row(traces, rows, n_identities)
        if n_identities == 1 and self.n_behaviors_in_ == 0:
            raise ValueError(
                "coupling without behavior needs two different neurons or more; X has 1 feature(s)."
            )
        self._fit_behavior(recordings)
        tables = [align(r.traces, row, n_identities) for r, row in zip(recordings, rows)]
        self.count_mean_, std = column_moments(np.concatenate(tables))
        self.count_scale_ = unit_of(std)

        n_lags, n_past = len(self.lags_), len(self.coupling_lags_)
        self.coef_ = np.zeros((n_identities, n_lags, self.n_behaviors_in_))
        self.coupling_ = np.zeros((n_identities, n_past, n_identities))
        self.intercept_, self.alpha_ = np.zeros(n_identities), np.zeros(n_identities)
        designs = [
            np.hstack([self._lagged_behavior(recording), self._past(table)])
            for recording, table in zip(recordings, tables)
        ]
        # Lags beyond the length of every recording get no weight, and cost nothing.
        lengths = [r.n_timesteps for r in recordings]
        of_behavior = np.repeat(reached(self.lags_, lengths), self.n_behaviors_in_)
        of_past = reached(self.coupling_lags_, lengths)[:, None]
        for v in range(n_identities):
            others = of_past & (np.arange(n_identities) != v)
            used = np.append(of_behavior, others)
            weights = np.zeros(len(used))
            weights[used], self.intercept_[v], self.alpha_[v] = self._fit_one(
                *_samples(recordings, rows, designs, v, used)
            )
            split = self.coef_[v].size
            self.coef_[v] = weights[:split].reshape(self.coef_[v].shape)
            self.coupling_[v] = weights[split:].reshape(n_past, n_identities)
        return self

    def predict(self, X, *, behavior=None, mask=None, identities=None):
        """Expected counts per bin, from behavior and, with `coupling`, the past of other neurons.

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
        n_identities = len(self.identities_)
        weights = np.hstack([a.reshape(n_identities, -1) for a in (self.coef_, self.coupling_)])
        predicted = []
        for recording, rows in zip(recordings, self._vocabulary.rows(recordings)):
            past = self._past(align(recording.traces, rows, n_identities))
            design = np.hstack([self._lagged_behavior(recording), past])
            known = rows[rows >= 0]
            counts = np.tile(own_moments(recording)[0].astype(float), (recording.n_timesteps, 1))
            counts[:, rows >= 0] = np.exp(design @ weights[known].T + self.intercept_[known])
            predicted.append(counts)
        return form.wrap(predicted)

    def score(self, X, y=None, *, behavior=None, mask=None, identities=None):
        """Bits per spike, as `skneurovae.metrics.co_smoothing_bits` takes them.

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
        return co_smoothing_bits(self, recordings)

    def _check_inputs(self, recordings):
        """Refuse what cannot be fitted, and set the lags."""
        if self.n_behaviors_in_ == 0 and not self.coupling:
            raise ValueError(
                "PoissonGLM predicts from behavior, but no recording has behavior; give it, or "
                "coupling=True."
            )
        if self.alpha is not None and self.alpha < 0:
            raise ValueError(f"alpha must be None or not negative; got {self.alpha}.")
        self.lags_ = check_lags(self.lags)
        self.coupling_lags_ = np.empty(0, dtype=int)
        if self.coupling:
            self.coupling_lags_ = check_lags(self.coupling_lags, "coupling_lags", past=True)
            if self.coupling_lags_.min() < 1:
                raise ValueError(
                    f"coupling_lags must be 1 or more, the past; got {self.coupling_lags!r}."
                )
        for index, recording in enumerate(recordings):
            lowest = np.nanmin(recording.traces)
            if lowest < 0:
                raise ValueError(
                    f"Negative values in data of recording {index}, {lowest:g}; PoissonGLM needs "
                    "counts."
                )

    def _past(self, table):
        """Standardized counts at the coupling lags, (n_timesteps, n_lags * n_identities)."""
        counts = (table - self.count_mean_) / self.count_scale_
        return np.nan_to_num(lagged(counts, self.coupling_lags_).reshape(len(table), -1))

    def _fit_one(self, design, counts, lengths):
        """Weights, intercept and penalty of one identity."""
        if counts.sum() == 0:
            low = np.log(0.5 / max(len(counts), 1))
            return np.zeros(design.shape[1]), low, ALPHAS[-1] if self.alpha is None else self.alpha
        alpha = self._best_alpha(design, counts, lengths) if self.alpha is None else self.alpha
        weights, intercept, converged = poisson_regression(design, counts, alpha, self.max_iter)
        if not converged:
            warnings.warn(
                f"max_iter={self.max_iter} Newton steps were not enough; give more, or a larger "
                "alpha.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return weights, intercept, alpha

    def _best_alpha(self, design, counts, lengths):
        """Penalty by which counts of blocks of time are best predicted from the others."""
        fold = contiguous_folds(lengths, N_FOLDS)
        # A rate cannot be fitted where there is no spike.
        kept = [fold != f for f in np.unique(fold) if counts[fold != f].sum() > 0]
        if not kept:
            return ALPHAS[-1]

        def loss(train, alpha):
            weights, intercept, _ = poisson_regression(
                design[train], counts[train], alpha * train.mean(), self.max_iter
            )
            log_rates = design[~train] @ weights + intercept
            with np.errstate(over="ignore"):
                return np.mean(np.exp(log_rates) - counts[~train] * log_rates)

        losses = [np.mean([loss(train, alpha) for train in kept]) for alpha in ALPHAS]
        return ALPHAS[np.argmin(losses)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.input_tags.positive_only = True
        return tags


def _samples(recordings, rows, designs, identity, used):
    """Inputs and counts of all observed samples of one identity, and their number per neuron."""
    inputs, counts = [np.empty((0, used.sum()))], [np.empty(0)]
    for recording, row, design in zip(recordings, rows, designs):
        for column in np.flatnonzero(row == identity):
            trace = recording.traces[:, column]
            observed = ~np.isnan(trace)
            inputs.append(design[np.ix_(observed, used)])
            counts.append(trace[observed])
    return np.concatenate(inputs), np.concatenate(counts), [len(c) for c in counts]
