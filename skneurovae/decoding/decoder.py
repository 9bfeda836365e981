"""BehaviorDecoder, the last step of a pipeline over recordings."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import recall_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from skneurovae.common.missing import missing_entries, plain_array
from skneurovae.common.moments import column_moments, unit_of
from skneurovae.common.parameters import with_plain_parameters
from skneurovae.common.rollback import all_or_nothing
from skneurovae.common.versions import Versioned
from skneurovae.decoding.values import check_kind, decoding_quality
from skneurovae.recordings import Recording, check_recordings
from skneurovae.recordings.lags import check_lags, contiguous_folds, lagged, reached

ALPHAS = tuple(np.logspace(-2, 5, 15))  # ridge penalties tried, in time steps
N_NEIGHBORS = (1, 4, 16, 64)  # tried by "knn"
N_FOLDS = 5


class BehaviorDecoder(Versioned, BaseEstimator):
    """Decode behavior from the latents of recordings.

    Latents are standardized by the training set, taken at `lags`, and given to a regressor or
    classifier, one for each target. Angles are decoded through their cosine and sine, so that the
    seam at 2 pi is no edge.

    Parameters
    ----------
    estimator : "ridge", "knn", or regressor or classifier of scikit-learn, default="ridge"
        "ridge" chooses its penalty among `alphas` for each target, "knn" its number of neighbors
        among 1, 4, 16 and 64, by cross-validation on five blocks of contiguous time of each
        recording. Another estimator is cloned and fitted as it is.
    lags : int or sequence of int, default=0
        Time steps between behavior and the latents it is decoded from: a positive lag is latents of
        the past. An int n means -n, ..., n. Lags never cross recordings.
    kind : {"continuous", "circular", "categorical"}, default="continuous"
        What behavior is: numbers, angles in radians, or classes.
    alphas : sequence of float, default=15 values from 0.01 to 1e5
        Penalties that "ridge" tries, in time steps of standardized latents. One value is taken
        without cross-validation.

    Attributes
    ----------
    estimators_ : list of estimator
        Fitted, one per target.
    kind_ : str
        `kind` in `fit`.
    lags_ : ndarray of int of shape (n_lags,)
    mean_, scale_ : ndarray of shape (n_components,)
        Of the training latents, over observed entries.
    n_features_in_ : int
        Number of components.
    n_targets_ : int

    Notes
    -----
    Missing latents, also those beyond both ends of a recording, count as their training mean. Time
    steps with a missing target are left out of the fit of that target.

    The decoder cannot know whether its latents saw the behavior that it decodes. In
    ``Pipeline([("encode", NeuroBehaviorVAE()), ("decode", BehaviorDecoder())])`` they did if the
    recordings of `fit` carry behavior: the decoder then learns to read latents that it will not
    get once behavior is hidden. Give such a pipeline recordings without behavior, and behavior as
    `y`; `decoding_score` always hides it.

    References
    ----------
    Pei et al., "Neural Latents Benchmark '21", 2021, for ridge with a searched penalty; Schneider,
    Lee & Mathis, Nature 617, 2023, for nearest neighbors.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from skneurovae.baselines import MissingFactorAnalysis
    >>> from skneurovae.datasets import make_worms
    >>> from skneurovae.decoding import BehaviorDecoder
    >>> worms, _ = make_worms(4, n_timesteps=200, n_identities=60, random_state=0)
    >>> behavior = [worm.behavior for worm in worms]
    >>> pipeline = make_pipeline(MissingFactorAnalysis(4, random_state=0), BehaviorDecoder(lags=2))
    >>> pipeline.fit(worms[:3], behavior[:3]).predict(worms)[3].shape == behavior[3].shape
    True
    """

    def __init__(self, estimator="ridge", *, lags=0, kind="continuous", alphas=ALPHAS):
        self.estimator = estimator
        self.lags = lags
        self.kind = kind
        self.alphas = alphas

    @all_or_nothing
    @with_plain_parameters
    def fit(self, Z, y):
        """Fit one regressor or classifier per target.

        Parameters
        ----------
        Z : array-like of shape (n_timesteps, n_components), 3-D array or list of arrays
            Latents, time first.
        y : array-like of shape (n_timesteps, n_targets) or (n_timesteps,), or list of such
            Behavior; a list if `Z` is one, or a 3-D array. Missing are NaN, None, "" and what a
            masked array or a table of pandas or polars takes for missing.

        Returns
        -------
        BehaviorDecoder
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If lengths or widths differ, a target has fewer than two time steps, or a parameter is
            out of range.
        """
        check_kind(self.kind)
        named = isinstance(self.estimator, str)
        if named and self.estimator not in ("ridge", "knn"):
            raise ValueError(
                f'estimator must be "ridge", "knn" or an estimator; got {self.estimator!r}.'
            )
        alphas = np.asarray(self.alphas)
        if not alphas.size or alphas.dtype.kind not in "iuf" or not (alphas >= 0).all():
            raise ValueError(f"alphas must be penalties of 0 or more; got {self.alphas!r}.")
        self.kind_, self.lags_ = self.kind, check_lags(self.lags)
        recordings, form = _check_latents(Z, reset=True)
        widths = sorted({r.n_neurons for r in recordings})
        if len(widths) > 1:
            raise ValueError(f"Z must have as many components in all recordings; got {widths}.")
        self.n_features_in_ = widths[0]
        # Lags beyond the length of every recording have nothing to give.
        self._used = reached(self.lags_, [r.n_timesteps for r in recordings])
        targets, self._flat = split_targets(y, recordings, form)
        self.n_targets_ = targets[0].shape[1]
        stacked = np.concatenate([r.traces for r in recordings]).astype(float)
        self.mean_, std = column_moments(stacked)
        self.scale_ = unit_of(std)
        design = np.concatenate([self._design(r) for r in recordings])
        self.estimators_ = []
        for target in range(self.n_targets_):
            columns = [t[:, target] for t in targets]
            seen = [~missing_entries(c) for c in columns]
            lengths = [int(s.sum()) for s in seen]
            if sum(lengths) < 2:
                raise ValueError(
                    f"target {target} of y has {sum(lengths)} sample(s) that are observed; at "
                    "least 2 are needed."
                )
            values = np.concatenate([c[s] for c, s in zip(columns, seen)])
            values = _as_kind(values, self.kind, target)
            inputs = design[np.concatenate(seen)]
            self.estimators_.append(self._fit_one(inputs, values, lengths))
        return self

    def predict(self, Z):
        """Behavior of each time step.

        Parameters
        ----------
        Z : latents in any form that `fit` takes

        Returns
        -------
        ndarray of shape (n_timesteps, n_targets) or (n_timesteps,), 3-D array or list
            In the form of `Z`, with the dimensions that `y` had in `fit`. Angles lie from 0 to
            2 pi.

        Raises
        ------
        ValueError
            If the number of components is not that of `fit`.
        """
        check_is_fitted(self)
        recordings, form = _check_latents(Z, reset=False)
        for index, recording in enumerate(recordings):
            if recording.n_neurons != self.n_features_in_:
                raise ValueError(
                    f"X has {recording.n_neurons} features, but BehaviorDecoder is expecting "
                    f"{self.n_features_in_} features as input (latents of recording {index})."
                )
        decoded = []
        for recording in recordings:
            design = self._design(recording)
            columns = [np.asarray(e.predict(design)) for e in self.estimators_]
            if self.kind_ == "circular":
                columns = [np.arctan2(c[:, 1], c[:, 0]) % (2 * np.pi) for c in columns]
            decoded.append(columns[0] if self._flat else np.column_stack(columns))
        return form.wrap(decoded)

    def score(self, Z, y):
        """Mean over targets of `decoding_quality`, all recordings stacked.

        Parameters
        ----------
        Z, y
            As in `fit`.

        Returns
        -------
        float
            R2 if continuous, one minus the ratio of circular variances if circular, balanced
            accuracy if categorical. Constant targets are left out.

        Raises
        ------
        ValueError
            If all targets are constant, or `y` has another number of targets than in `fit`.
        """
        check_is_fitted(self)
        recordings, form = _check_latents(Z, reset=False)
        targets, _ = split_targets(y, recordings, form)
        decoded = self.predict(Z)
        decoded = [decoded] if form.kind == "array" else list(decoded)
        decoded = [d.reshape(len(d), -1) for d in decoded]
        if targets[0].shape[1] != self.n_targets_:
            raise ValueError(
                f"y has {targets[0].shape[1]} targets; BehaviorDecoder was fitted with "
                f"{self.n_targets_}."
            )
        scores = decoding_quality(np.concatenate(targets), np.concatenate(decoded), self.kind_)
        if np.isnan(scores).all():
            raise ValueError("no target can be scored: all are constant or missing.")
        return float(np.nanmean(scores))

    def _design(self, recording):
        """Standardized latents at all lags, 0 where missing."""
        latents = (recording.traces - self.mean_) / self.scale_
        return np.nan_to_num(lagged(latents, self.lags_[self._used]).reshape(len(latents), -1))

    def _fit_one(self, inputs, values, lengths):
        """Fitted regressor or classifier of one target."""
        categorical = self.kind == "categorical"
        if self.kind == "circular":
            values = np.column_stack([np.cos(values), np.sin(values)])
        if not isinstance(self.estimator, str):
            model = clone(self.estimator)
            if values.ndim == 2 and not get_tags(model).target_tags.multi_output:
                model = MultiOutputRegressor(model)
            return model.fit(inputs, values)
        fold = contiguous_folds(lengths, N_FOLDS)
        if self.estimator == "ridge":
            if not categorical:
                columns = values.reshape(len(values), -1)
                return Ridge(_best_alpha(inputs, columns, fold, self.alphas)).fit(inputs, values)
            model = RidgeClassifier(class_weight="balanced")
            grid = {"alpha": list(self.alphas)}
        else:
            model = KNeighborsClassifier() if categorical else KNeighborsRegressor()
            smallest = len(fold) - np.bincount(fold).max()  # training rows of the smallest set
            grid = {"n_neighbors": [n for n in N_NEIGHBORS if n <= max(smallest, 1)]}
        name, candidates = next(iter(grid.items()))
        if len(candidates) == 1 or len(np.unique(fold)) == 1:
            return model.set_params(**{name: candidates[len(candidates) // 2]}).fit(inputs, values)
        scoring = _balanced_accuracy if categorical else "neg_mean_squared_error"
        search = GridSearchCV(model, grid, cv=PredefinedSplit(fold), scoring=scoring)
        return search.fit(inputs, values).best_estimator_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags


def split_targets(y, recordings, form):
    """Behavior of each recording as a 2-D array.

    Parameters
    ----------
    y : array-like or list
        One entry per recording, or, for a single 2-D array, its behavior.
    recordings : list of Recording
    form : Form
        In which they came.

    Returns
    -------
    targets : list of ndarray of shape (n_timesteps, n_targets)
    flat : bool
        Whether all were 1-D.

    Raises
    ------
    ValueError
        If `y` does not have one row per time step of each recording, or as many targets in all.
    """
    if y is None:
        raise ValueError("decoding requires y to be passed, but the target y is None.")
    entries = [y] if form.kind == "array" else list(y)
    if len(entries) != len(recordings):
        raise ValueError(f"y has {len(entries)} entries; there are {len(recordings)} recordings.")
    targets = []
    flat = True
    for index, (entry, recording) in enumerate(zip(entries, recordings)):
        try:
            values = plain_array(entry)
        except ValueError as error:
            raise ValueError(f"y of recording {index} must be an array: {error}") from error
        flat = flat and values.ndim == 1
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or len(values) != recording.n_timesteps or values.size == 0:
            raise ValueError(
                f"y of recording {index} must have shape ({recording.n_timesteps},) or "
                f"({recording.n_timesteps}, n_targets); got {np.shape(entry)}."
            )
        if values.dtype.kind == "f" and np.isinf(values).any():
            raise ValueError(f"y of recording {index} holds infinity; give finite values.")
        targets.append(values)
    widths = sorted({t.shape[1] for t in targets})
    if len(widths) > 1:
        raise ValueError(f"y must have as many targets in all recordings; got {widths}.")
    return targets, flat


def _as_kind(values, kind, target):
    """Observed values of a target as what `kind` says they are: floats, or classes."""
    if kind != "categorical":
        try:
            return values.astype(float)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"kind={kind!r} needs numbers, target {target} of y: {error}"
            ) from error
    values = np.array(values.tolist())  # objects, which mark missing classes by None, are none
    odd = values[values != np.floor(values)].tolist() if values.dtype.kind == "f" else []
    if odd:
        raise ValueError(
            f"kind='categorical' needs classes, which are whole numbers or names; target {target} "
            f"of y holds {odd[0]!r}."
        )
    return values


def _check_latents(Z, reset):
    if isinstance(Z, list) and any(isinstance(z, Recording) for z in Z):
        raise TypeError(
            "BehaviorDecoder takes latents, not Recording; put an encoder or AlignNeurons() before."
        )
    return check_recordings(Z, reset=reset)


def _best_alpha(inputs, values, fold, alphas):
    """Penalty of least squared error on left-out folds.

    As scikit-learn's search would find it, but one decomposition per fold serves all penalties, and
    decoders are fitted hundreds of times in a cross-fitted score.
    """
    errors = np.zeros(len(alphas))
    if len(alphas) == 1 or len(np.unique(fold)) == 1:
        return alphas[len(alphas) // 2]
    for f in np.unique(fold):
        left, kept = fold == f, fold != f
        center, mean = inputs[kept].mean(0), values[kept].mean(0)
        shifted = inputs[kept] - center
        power, axes = np.linalg.eigh(shifted.T @ shifted)
        weights = axes.T @ (shifted.T @ (values[kept] - mean))
        held = (inputs[left] - center) @ axes
        for i, alpha in enumerate(alphas):
            # What has no power has no weight either; the floor only avoids 0 / 0.
            scale = np.maximum(power, 0) + max(alpha, 1e-12 * power.max(), 1e-300)
            errors[i] += ((values[left] - mean - held @ (weights / scale[:, None])) ** 2).sum()
    return alphas[errors.argmin()]


def _balanced_accuracy(estimator, inputs, values):
    """Mean recall of the classes that a fold has, so that a frequent class cannot choose alone."""
    present = np.unique(values)
    return recall_score(values, estimator.predict(inputs), labels=present, average="macro")
