"""Splitters that scikit-learn lacks: entries, neurons and the future of a recording.

`cross_validate` and `GridSearchCV` split lists, but here what is held out lies *inside* recordings.
So each splitter makes views first, a list with the training and the test form of every recording in
every fold, and then splits that list::

    splitter = ContiguousSpeckles(3)
    views = splitter.views(recordings)
    cross_validate(model, views, cv=splitter, scoring=held_out_score)
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from sklearn.utils import check_random_state

from skneurovae.metrics import hide_neurons, neuron_folds
from skneurovae.metrics.asking import known_neurons, training_scale
from skneurovae.metrics.explained import check_average, explained
from skneurovae.model_selection.segments import cut
from skneurovae.recordings import check_recordings


class ViewSplitter(ABC):
    """What the splitters share: `views` makes the list, `split` yields its indices."""

    def views(self, X):
        """Training and test views of recordings in all folds.

        Parameters
        ----------
        X : recordings in any form that `skneurovae.recordings.check_recordings` takes

        Returns
        -------
        views : list of Segment
            For fitting, scoring and splitting as they are. A view for training lacks what its fold
            holds out; a view for testing has it, and says which entries these are.

        Raises
        ------
        ValueError
            If a recording is too small for the folds.
        """
        recordings, _ = check_recordings(X)
        views = []
        for source, recording in enumerate(recordings):
            for fold, (train, test, held_out) in enumerate(self._folds(recording, source)):
                views.append(cut(train, source, slice(None), fold=fold))
                views.append(cut(test, source, slice(None), fold=fold, held_out=held_out))
        return views

    def split(self, X, y=None, groups=None):
        """Yield the training and test indices of each fold.

        Parameters
        ----------
        X : list of Segment
            Of `views`.
        y, groups : None
            Ignored.

        Yields
        ------
        train, test : ndarray of int

        Raises
        ------
        ValueError
            If `X` did not come from `views`, or from those of a splitter with other folds.
        """
        folds = [getattr(view, "fold", None) for view in X]
        if any(fold is None for fold in folds) or set(folds) != set(range(self.n_splits)):
            raise ValueError(
                f"X must be the list that views(X) of this {type(self).__name__} made, with "
                f"{self.n_splits} folds: what it holds out lies inside recordings."
            )
        tested = np.array([view.held_out is not None for view in X])
        for fold in range(self.n_splits):
            now = np.array(folds) == fold
            yield np.flatnonzero(now & ~tested), np.flatnonzero(now & tested)

    def get_n_splits(self, X=None, y=None, groups=None):
        """Number of folds.

        Parameters
        ----------
        X, y, groups : object
            Ignored.

        Returns
        -------
        int
        """
        return self.n_splits

    @abstractmethod
    def _folds(self, recording, source):
        """Yield `(training, test, held_out)` of each fold."""


class HeldOutNeurons(ViewSplitter):
    """Each fold holds out neurons of every recording, which the others must predict.

    They are hidden in training as well, so a model knows of a neuron what *other* recordings tell,
    and of a neuron that no other recording has nothing. To hide neurons at test time alone, use
    `co_smoothing_score`.

    Parameters
    ----------
    n_splits : int, default=3
    random_state : int, default=0
        Of the assignment. Recording number i uses `random_state` + i, so that a neuron hidden in
        one recording is shown in others.

    Examples
    --------
    >>> from skneurovae.datasets import make_worms
    >>> from skneurovae.model_selection import HeldOutNeurons
    >>> worms, _ = make_worms(2, n_timesteps=100, random_state=0)
    >>> splitter = HeldOutNeurons(3)
    >>> [(len(train), len(test)) for train, test in splitter.split(splitter.views(worms))]
    [(2, 2), (2, 2), (2, 2)]
    """

    def __init__(self, n_splits=3, *, random_state=0):
        self.n_splits = n_splits
        self.random_state = random_state

    def _folds(self, recording, source):
        assigned = neuron_folds(recording, self.n_splits, self.random_state + source)
        for fold in range(self.n_splits):
            hidden = assigned == fold
            kept = hide_neurons(recording, hidden)
            yield kept, recording, np.broadcast_to(hidden, recording.traces.shape)


class ContiguousSpeckles(ViewSplitter):
    """Each fold holds out contiguous spans of single neurons, as Wold's speckles but in time.

    Parameters
    ----------
    n_splits : int, default=3
        Every entry is held out in one fold.
    span_length : int, default=20
        Time steps of a span; no shorter than the autocorrelation of the traces, or neighbors in
        time give the entry away.
    random_state : int, RandomState instance or None, default=0

    References
    ----------
    Wold, Technometrics 20(4), 1978, for speckles.

    Examples
    --------
    >>> import numpy as np
    >>> from skneurovae.model_selection import ContiguousSpeckles
    >>> views = ContiguousSpeckles(4, span_length=10).views(np.ones((200, 5)))
    >>> sum(view.held_out.sum() for view in views if view.held_out is not None)
    np.int64(1000)
    """

    def __init__(self, n_splits=3, *, span_length=20, random_state=0):
        self.n_splits = n_splits
        self.span_length = span_length
        self.random_state = random_state

    def _folds(self, recording, source):
        n_timesteps, n_neurons = recording.traces.shape
        if n_timesteps < self.n_splits * self.span_length:
            raise ValueError(
                f"recording {source} has {n_timesteps} time steps; {self.n_splits} folds of "
                f"span_length={self.span_length} need {self.n_splits * self.span_length}."
            )
        rng = check_random_state(self.random_state)
        span = np.arange(n_timesteps)[:, None] + rng.randint(self.span_length, size=n_neurons)
        span //= self.span_length
        fold_of = np.stack([balanced(rng, span.max() + 1, self.n_splits) for _ in range(n_neurons)])
        fold_of = fold_of.T[span, np.arange(n_neurons)]
        for fold in range(self.n_splits):
            held_out = fold_of == fold
            train = recording.replace(traces=np.where(held_out, np.nan, recording.traces))
            yield train, recording, held_out


class ForwardChaining(ViewSplitter):
    """Each fold trains on the past of every recording and tests on what follows, after a gap.

    Parameters
    ----------
    n_splits : int, default=3
        A recording is cut into `n_splits` + 1 blocks; fold k trains on the first k + 1 and tests on
        the next.
    gap : int, default=0
        Time steps left out between both: at least the longest window that a model or a filter
        looks back, plus the horizon of a forecast.

    Notes
    -----
    Test views have all entries marked: score them with any scorer.

    Examples
    --------
    >>> import numpy as np
    >>> from skneurovae.model_selection import ForwardChaining
    >>> views = ForwardChaining(2, gap=10).views(np.ones((300, 5)))
    >>> [(view.start, view.stop) for view in views]
    [(0, 100), (110, 200), (0, 200), (210, 300)]
    """

    def __init__(self, n_splits=3, *, gap=0):
        self.n_splits = n_splits
        self.gap = gap

    def _folds(self, recording, source):
        edges = np.linspace(0, recording.n_timesteps, self.n_splits + 2).astype(int)
        if np.diff(edges).min() <= self.gap:
            raise ValueError(
                f"recording {source} has {recording.n_timesteps} time steps, too few for "
                f"{self.n_splits + 1} blocks longer than gap={self.gap}."
            )
        for begin, end in zip(edges[1:-1], edges[2:]):
            test = cut(recording, source, slice(int(begin) + self.gap, int(end)))
            everything = np.ones(test.traces.shape, dtype=bool)
            yield cut(recording, source, slice(0, int(begin))), test, everything


def held_out_score(estimator, X, y=None, *, average="pooled"):
    """R2 of the entries that a splitter held out, which the estimator does not see.

    Parameters
    ----------
    estimator : fitted estimator with `predict`
    X : list of Segment
        Test views of `HeldOutNeurons` or `ContiguousSpeckles`.
    y : None
        Ignored.
    average : {"pooled", "mean", "median"}, default="pooled"
        As in `skneurovae.metrics.co_smoothing_score`, whose definition this is.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If an item of `X` holds nothing out or holds out everything, or no neuron can be scored.
    """
    check_average(average)
    shown = []
    for index, view in enumerate(X):
        held_out = getattr(view, "held_out", None)
        if held_out is None or np.all(held_out):
            raise ValueError(
                f"recording {index} of X has no held-out entries beside shown ones; give test "
                "views of HeldOutNeurons or ContiguousSpeckles."
            )
        shown.append(view.replace(traces=np.where(held_out, np.nan, view.traces), held_out=None))
    truth = [
        np.where(view.held_out & known_neurons(estimator, view), view.traces, np.nan) for view in X
    ]
    scale = [training_scale(estimator, view) for view in X]
    return explained(X, truth, estimator.predict(shown), scale, average)


def balanced(rng, size, n_folds):
    """Random folds of about equal size."""
    return rng.permutation(np.arange(size) % n_folds)
