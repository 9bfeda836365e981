"""Any row-wise transformer of scikit-learn over recordings."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from skneurovae.baselines.align import AlignNeurons
from skneurovae.common.moments import column_moments
from skneurovae.common.parameters import with_plain_parameters
from skneurovae.common.rollback import all_or_nothing
from skneurovae.common.versions import Versioned
from skneurovae.recordings import check_recordings
from skneurovae.recordings.doubts import tell_doubts


class RowWise(Versioned, TransformerMixin, BaseEstimator):
    """Fit a row-wise transformer to recordings stacked in time; transform each by itself.

    For transformers that cannot reconstruct their input, such as UMAP or an isomap, and for those
    whose zero-filled latents are wanted for comparison. Where a linear one will do, `Pooled` infers
    its latents from the observed neurons alone and predicts traces too.

    Parameters
    ----------
    estimator : transformer
        Unfitted; rows are time steps. It must be able to transform new rows.
    fill : {None, "mean"}, default=None
        What a missing entry counts as: "mean" is the training mean of its column. With None an
        entry that is missing after alignment is an error.

    Attributes
    ----------
    estimator_ : transformer
        The fitted one.
    identities_ : ndarray of shape (n_identities,)
        Labels of its columns.
    mean_ : ndarray of shape (n_identities,)
        Training mean of each column over observed entries.
    n_features_in_ : int
        Only where columns alone tell neurons apart.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.pipeline import make_pipeline
    >>> from skneurovae.baselines import AlignNeurons, RowWise
    >>> from skneurovae.datasets import make_worms
    >>> worms, _ = make_worms(3, n_timesteps=200, n_identities=60, random_state=0)
    >>> pipeline = make_pipeline(AlignNeurons(), RowWise(PCA(3), fill="mean")).fit(worms[:2])
    >>> pipeline.transform(worms)[2].shape
    (200, 3)
    """

    def __init__(self, estimator, *, fill=None):
        self.estimator = estimator
        self.fill = fill

    @all_or_nothing
    @with_plain_parameters
    def fit(self, X, y=None, *, mask=None, identities=None):
        """Fit the transformer.

        Parameters
        ----------
        X : array-like of shape (n_timesteps, n_neurons), 3-D array, list of arrays or of Recording
            Aligned by identity here; what `AlignNeurons` gives is taken as it is.
        y : None
            Ignored.
        mask : array-like or list, default=None
            True = observed.
        identities : array-like or list, default=None

        Returns
        -------
        RowWise
            The fitted estimator.

        Raises
        ------
        ValueError
            If an entry is missing after alignment and `fill` is None.
        TypeError
            If the transformer cannot transform new rows.
        """
        if self.fill not in (None, "mean"):
            raise ValueError(f"fill must be None or 'mean'; got {self.fill!r}.")
        if not hasattr(self.estimator, "transform"):
            name = type(self.estimator).__name__
            raise TypeError(f"estimator must transform new rows; {name} has no transform.")
        recordings, _ = check_recordings(
            X, mask=mask, identities=identities, estimator=self, reset=True
        )
        tell_doubts(recordings)
        self._fill = self.fill
        self._aligner = AlignNeurons().fit(recordings)
        self.identities_ = self._aligner.identities_
        tables = self._aligner.transform(recordings)
        stacked = np.concatenate(tables)
        self.mean_, _ = column_moments(stacked)
        self.estimator_ = clone(self.estimator).fit(np.concatenate(self._filled(tables)))
        return self

    def transform(self, X, *, mask=None, identities=None):
        """What the transformer makes of each recording.

        Parameters
        ----------
        X : recordings in any form that `fit` takes
        mask, identities : array-like or list, default=None
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_timesteps, n_components), 3-D array or list
            In the form of `X`.

        Raises
        ------
        ValueError
            If an entry is missing after alignment and `fill` is None, or no neuron is known.
        """
        check_is_fitted(self)
        recordings, form = check_recordings(
            X, mask=mask, identities=identities, estimator=self, reset=False
        )
        tables = self._filled(self._aligner.transform(recordings))
        return form.wrap([np.asarray(self.estimator_.transform(table)) for table in tables])

    def get_feature_names_out(self, input_features=None):
        """Names that the transformer gives to its output.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        ndarray of object of shape (n_components,)
        """
        check_is_fitted(self)
        return self.estimator_.get_feature_names_out()

    def _filled(self, tables):
        if self._fill == "mean":
            return [np.where(np.isnan(t), self.mean_.astype(t.dtype), t) for t in tables]
        for index, table in enumerate(tables):
            missing = np.isnan(table).any(0)
            if missing.any():
                raise ValueError(
                    f"recording {index} has NaN in {missing.sum()} of {len(missing)} columns, "
                    f"first {self.identities_[missing.argmax()]!r}, and "
                    f"{type(self.estimator).__name__} takes none: give fill='mean', or "
                    "use Pooled."
                )
        return tables

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.fill is not None
        tags.input_tags.three_d_array = True
        return tags
