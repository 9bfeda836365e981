"""Estimators that know nothing of what they are asked, for nulls."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skneurovae.common.moments import column_moments, varies
from skneurovae.recordings import check_recordings

# Methods whose answers a proxy would hand on unshifted, and so make the null as good as the score.
NOT_SHIFTED = {
    "decision_function", "fit_predict", "fit_transform", "impute", "predict_from_behavior",
    "predict_log_proba", "predict_proba", "score", "score_samples",
}  # fmt: skip


class TimeShifted:
    """Fitted estimator whose predictions and latents are late, for a null.

    ``answer[t]`` is the estimator's ``answer[t - shift]``, circularly within each recording, so
    that its statistics over time stay and its relation to the data is lost. All other attributes
    are those of the estimator, except methods that answer in other ways, which would not be
    shifted: these are hidden.

    Parameters
    ----------
    estimator : fitted estimator, pipeline or meta-estimator
    shift : int
        In time steps, at most half of each recording, in either direction.
    truth : list of arrays of shape (n_timesteps, n_neurons), default=None
        Traces of the recordings that will be asked about, NaN = not observed. Shifted predictions
        of the same shapes then get, for each neuron, the mean of what it shows (or of all of it, if
        it was hidden as a whole) and the gain that fits best, with the sign that the model claims.
        Without, they are shifted and no more.

    Notes
    -----
    A shifted prediction that claims a variance v of a unit neuron has an R2 of about -v, so a null
    without gain measures boldness. With gain ``|cov(x, p)| / var(p)`` the R2 would be r^2, with r
    the correlation of prediction p and neuron x. Where r is negative the model would have lost, and
    its gain is taken ``sqrt(2) - 1`` times, which makes the R2 ``-r^2``. So the R2 is ``r |r|``,
    whose mean is 0 where nothing is related.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> from skneurovae.metrics import TimeShifted
    >>> TimeShifted(FunctionTransformer().fit([[0.0]]), 1).transform(np.array([[1], [2], [3]]))
    array([[3],
           [1],
           [2]])
    """

    def __init__(self, estimator, shift, truth=None):
        self.estimator = estimator
        self.shift = int(shift)
        self.truth = truth

    def __getattr__(self, name):
        # Without the first, a copy that is not yet filled would look for its estimator for ever.
        if name == "estimator" or name in NOT_SHIFTED:
            raise AttributeError(f"TimeShifted has no {name!r}: it shifts predict and transform.")
        return getattr(self.estimator, name)

    def __sklearn_is_fitted__(self):
        check_is_fitted(self.estimator)
        return True

    def predict(self, X, **options):
        """Predictions of the estimator, shifted and, given `truth`, scaled.

        Parameters
        ----------
        X : recordings
        **options
            Of the estimator's own method, such as ``return_std=True``.

        Returns
        -------
        array, list or tuple of such
            In the form in which the estimator answers.

        Raises
        ------
        ValueError
            If a recording is shorter than twice the shift, or an answer does not have one entry per
            recording and time step.
        """
        return self._shift(self.estimator.predict(X, **options), X, self.truth)

    def transform(self, X, **options):
        """Latents of the estimator, shifted.

        Parameters
        ----------
        X : recordings
        **options
            Of the estimator's own method, such as ``return_std=True``.

        Returns
        -------
        array, list or tuple of such
            In the form in which the estimator answers.

        Raises
        ------
        ValueError
            As `predict`.
        """
        return self._shift(self.estimator.transform(X, **options), X)

    def _shift(self, answer, X, truth=None):
        if isinstance(answer, tuple):  # standard deviations have no gain
            return tuple(
                self._shift(part, X, truth if n == 0 else None) for n, part in enumerate(answer)
            )
        recordings, form = check_recordings(X, reset=False)
        parts = [answer] if form.kind == "array" else answer
        lengths = [recording.n_timesteps for recording in recordings]
        if [len(part) if np.ndim(part) else 0 for part in parts] != lengths:
            raise ValueError(
                "TimeShifted needs answers with one entry per recording and time step."
            )
        if min(lengths) < 2 * abs(self.shift):
            raise ValueError(
                f"a shift of {self.shift} time steps needs recordings of "
                f"{2 * abs(self.shift)}; recording {np.argmin(lengths)} has {min(lengths)}."
            )
        late = [np.roll(np.asarray(part), self.shift, axis=0) for part in parts]
        if truth is not None and [p.shape for p in late] == [t.shape for t in truth]:
            late = [scaled(p, t, ~np.isnan(r.traces)) for p, t, r in zip(late, truth, recordings)]
        return form.wrap(late)


def scaled(prediction, traces, shown=None):
    """Predictions with gain and offset as `TimeShifted` says.

    Parameters
    ----------
    prediction, traces : arrays of shape (n_entries, n_neurons)
        NaN in `traces` = not observed.
    shown : array of bool of that shape, default=None
        Entries whose mean the model could know. For a neuron that shows none, and by default, these
        are all observed ones.

    Returns
    -------
    ndarray of shape (n_entries, n_neurons)
    """
    seen = ~np.isnan(traces)
    shown = seen if shown is None else seen & (shown | ~shown.any(0))
    x = np.where(seen, traces - _mean(traces, seen), 0.0)
    p = np.where(seen, prediction - _mean(prediction, seen), 0.0)
    moves = varies(np.where(seen, prediction, np.nan))
    gain = (x * p).sum(0) / np.where(moves, (p**2).sum(0), 1.0)
    gain = np.where(moves, np.where(gain > 0, gain, (1 - np.sqrt(2)) * gain), 0.0)
    result = _mean(traces, shown) + gain * (prediction - _mean(prediction, shown))
    # Counts and rates are not negative.
    positive = min(np.nanmin(traces, initial=0.0), prediction.min()) >= 0
    return np.maximum(result, 0.0) if positive else result


def _mean(values, where):
    """Mean of the entries of each column; 0 where there are none."""
    return column_moments(np.where(where, values, np.nan))[0]
