"""The same columns for every recording, whichever neurons it has."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from skneurovae.common.missing import plain_array
from skneurovae.common.parameters import with_plain_parameters
from skneurovae.common.rollback import all_or_nothing
from skneurovae.common.versions import Versioned
from skneurovae.recordings import NeuronVocabulary, check_recordings


class AlignNeurons(Versioned, TransformerMixin, BaseEstimator):
    """Give every recording the same columns, one per identity of the training set.

    A column is NaN where a recording lacks the neuron; two neurons of one identity (left and right
    of a class) are averaged over those that are observed. Neurons that `fit` did not see are left
    out, with a warning.

    Attributes
    ----------
    identities_ : ndarray of shape (n_identities,)
        Labels of the columns.
    n_features_in_ : int
        Only where columns alone tell neurons apart.

    See Also
    --------
    RowWise : Any transformer of scikit-learn behind this one.
    Pooled : Latents from the observed neurons alone, no NaN to be filled by hand.

    Examples
    --------
    >>> import numpy as np
    >>> from skneurovae import Recording
    >>> from skneurovae.baselines import AlignNeurons
    >>> one = Recording(np.array([[1.0, 2.0]]), identities=np.array(["AVA", "RIM"]))
    >>> two = Recording(np.array([[3.0, 4.0]]), identities=np.array(["RIM", "SMD"]))
    >>> AlignNeurons().fit([one, two]).transform([one, two])
    [array([[ 1.,  2., nan]]), array([[nan,  3.,  4.]])]
    """

    @all_or_nothing
    @with_plain_parameters
    def fit(self, X, y=None, *, mask=None, identities=None):
        """Learn the identities.

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
        AlignNeurons
            The fitted estimator.

        Raises
        ------
        ValueError
            If the recordings are malformed or their neurons cannot be told apart.
        """
        recordings, _ = check_recordings(
            X, mask=mask, identities=identities, estimator=self, reset=True
        )
        self._vocabulary = NeuronVocabulary()
        self._vocabulary.extend(recordings)
        self.identities_ = self._vocabulary.labels
        return self

    def transform(self, X, *, mask=None, identities=None):
        """Traces in the order of `identities_`.

        Parameters
        ----------
        X : recordings in any form that `fit` takes
        mask, identities : array-like or list, default=None
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_timesteps, n_identities), 3-D array or list
            In the form of `X`; a list of Recording becomes a list of arrays.

        Raises
        ------
        ValueError
            If no neuron of a recording is known.
        """
        recordings, form, rows = self._check(X, mask, identities)
        n_columns = len(self.identities_)
        return form.wrap([align(r.traces, row, n_columns) for r, row in zip(recordings, rows)])

    def inverse_transform(self, Z, like):
        """Tables with the columns of `identities_` back to each recording's own neurons.

        Parameters
        ----------
        Z : ndarray of shape (n_timesteps, n_identities), 3-D array or list of such
        like : recordings in any form that `fit` takes, as many as `Z` has
            Whose neurons are wanted; their traces are not used.

        Returns
        -------
        ndarray of shape (n_timesteps, n_neurons), 3-D array or list
            In the form of `like`. NaN where a neuron is unknown.

        Raises
        ------
        ValueError
            If `Z` has another number of recordings or columns.
        """
        recordings, form, rows = self._check(like, None, None)
        tables = [plain_array(z) for z in ([Z] if form.kind == "array" else Z)]
        widths = [table.shape[-1] for table in tables]
        if len(tables) != len(recordings) or set(widths) != {len(self.identities_)}:
            raise ValueError(
                f"Z must hold {len(recordings)} tables of {len(self.identities_)} columns; "
                f"got {len(tables)} with {sorted(set(widths))} columns."
            )
        return form.wrap([np.where(row >= 0, z[:, row], np.nan) for z, row in zip(tables, rows)])

    def get_feature_names_out(self, input_features=None):
        """Identities as strings.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        ndarray of object of shape (n_identities,)
        """
        check_is_fitted(self)
        return np.array([str(label) for label in self.identities_], dtype=object)

    def _check(self, X, mask, identities):
        check_is_fitted(self)
        recordings, form = check_recordings(
            X, mask=mask, identities=identities, estimator=self, reset=False
        )
        return recordings, form, self._vocabulary.rows(recordings)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def align(traces, columns, n_columns):
    """Put the neurons of one recording into the columns of a common table.

    Parameters
    ----------
    traces : ndarray of shape (n_timesteps, n_neurons)
        NaN = not observed.
    columns : ndarray of int of shape (n_neurons,)
        Column of each neuron; one below 0 is left out.
    n_columns : int

    Returns
    -------
    ndarray of shape (n_timesteps, n_columns), in the dtype of the traces
        NaN where nothing was observed; the mean of what was where neurons share a column.
    """
    traces, columns = traces[:, columns >= 0], columns[columns >= 0]
    observed = ~np.isnan(traces)
    total = np.zeros((n_columns, len(traces)), dtype=traces.dtype)
    count = np.zeros((n_columns, len(traces)), dtype=traces.dtype)
    np.add.at(total, columns, np.where(observed, traces, 0.0).T)
    np.add.at(count, columns, observed.T)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(traces.dtype).T
