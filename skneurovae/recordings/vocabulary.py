"""Which neuron of a recording is which neuron of a model."""

from __future__ import annotations

import warnings

import numpy as np

from skneurovae.common.data_warning import level_of_caller


class NeuronVocabulary:
    """Map every neuron of every recording to a row of per-neuron parameters.

    - A neuron with an identity has the row of that identity, in every recording.
    - A neuron without one has a row per session and column, if its recording has a session.
    - Recordings with neither identities nor session share one row per column, and so must all have
      the same number of neurons.
    - In a recording without session in which only some neurons have an identity, the others get
      rows that no other recording has.

    Attributes
    ----------
    labels : ndarray of object, shape (n_rows,)
        Identity of each row; "session:column" or "recording number:column" for a neuron without
        one; where recordings share columns the column, an int, or "column 3" next to identities.

    Examples
    --------
    >>> import numpy as np
    >>> from skneurovae.recordings import NeuronVocabulary, Recording
    >>> vocabulary = NeuronVocabulary()
    >>> worm = Recording(np.zeros((5, 3)), identities=np.array(["AVA", "", "RIB"]), session="w1")
    >>> vocabulary.extend([worm])
    [array([0, 1, 2])]
    >>> vocabulary.labels.tolist()
    ['AVA', 'w1:1', 'RIB']
    """

    # Plain lists and dicts with plain keys, so that skops stores them without further trust.
    def __init__(self):
        self._labels = []
        self._by_label = {}
        self._by_session = {}  # rows of the unlabeled columns of a session, -1 = labeled
        self._by_column = []
        self._n_private = 0

    def __len__(self):
        return len(self._labels)

    @property
    def labels(self):
        """Identity, or what stands for it, of each row."""
        labels = np.empty(len(self), dtype=object)
        labels[:] = self._labels
        if self._by_label:  # an integer column must not look like an identity
            for row in self._by_column:
                labels[row] = f"column {labels[row]}"
        return labels

    def extend(self, recordings):
        """Add the neurons of recordings.

        Parameters
        ----------
        recordings : list of Recording

        Returns
        -------
        list of ndarray of int64, shape (n_neurons,)
            Row of every neuron, those included that no later call can find.

        Raises
        ------
        ValueError
            If neurons cannot be told apart; nothing is added then.
        """
        self._check(recordings)
        return [self._add_recording(recording) for recording in recordings]

    def rows(self, recordings):
        """Find the neurons of recordings.

        Parameters
        ----------
        recordings : list of Recording

        Returns
        -------
        list of ndarray of int64, shape (n_neurons,)
            Row of every neuron, -1 where it is unknown; one `UserWarning` tells of those.

        Raises
        ------
        ValueError
            If no neuron of a recording is known, or the neurons cannot be those of before.
        """
        self._check(recordings)
        found, unknown, n_unlabeled = [], {}, 0
        for index, recording in enumerate(recordings):
            labels = _labels_of(recording)
            home = self._home(recording, labels)
            rows = [
                self._by_label.get(label, -1) if label else home[column] if home else -1
                for column, label in enumerate(labels)
            ]
            if max(rows) < 0:
                raise ValueError(self._none_known(index, recording, labels))
            lost = [label for label, row in zip(labels, rows) if row < 0]
            unknown.update(dict.fromkeys(label for label in lost if label))
            n_unlabeled += sum(not label for label in lost)
            found.append(np.array(rows, dtype=np.int64))
        if unknown or n_unlabeled:
            _warn(list(unknown), n_unlabeled)
        return found

    def _add_recording(self, recording):
        labels = _labels_of(recording)
        home, name = self._home(recording, labels), recording.session
        if not home:
            home = [-1] * len(labels)
            if not any(labels) and recording.session is None:
                self._by_column = home
            elif recording.session is None:
                self._n_private += 1
                name = f"recording {self._n_private}"
            elif not all(labels):
                self._by_session[recording.session] = home
        shared = home is self._by_column
        for column, label in enumerate(labels):
            if label:
                if label not in self._by_label:
                    self._by_label[label] = self._add(label)
            elif home[column] < 0:
                home[column] = self._add(column if shared else f"{name}:{column}")
        rows = [self._by_label[label] if label else home[c] for c, label in enumerate(labels)]
        return np.array(rows, dtype=np.int64)

    def _add(self, label):
        self._labels.append(label)
        return len(self._labels) - 1

    def _home(self, recording, labels):
        """Rows of the unlabeled columns of a recording, by column; empty if none is known."""
        if recording.session is not None:
            return self._by_session.get(recording.session, [])
        return [] if any(labels) else self._by_column

    def _check(self, recordings):
        """Refuse recordings whose neurons cannot be matched with each other and those of before."""
        kind = type(next(iter(self._by_label), None))
        widths = {session: len(rows) for session, rows in self._by_session.items()}
        if self._by_column:
            widths[None] = len(self._by_column)
        for index, recording in enumerate(recordings):
            labels = _labels_of(recording)
            known = next((label for label in labels if label), None)
            if known is not None:
                kind = type(known) if kind is type(None) else kind
                if type(known) is not kind:
                    raise ValueError(
                        f"identities of recording {index} are of type {type(known).__name__}, "
                        f"those seen before of type {kind.__name__}; give the same kind to all."
                    )
            session = recording.session
            if all(labels) or (known is not None and session is None):
                continue
            n_neurons = widths.setdefault(session, len(labels))
            if len(labels) != n_neurons:
                others = "recordings without identities and session"
                others = others if session is None else f"recordings of session {session!r}"
                raise ValueError(
                    f"recording {index} has {len(labels)} neurons, but {others} have {n_neurons}: "
                    "neurons cannot be told by their column; give identities or session."
                )

    def _none_known(self, index, recording, labels):
        named = [label for label in labels if label]
        if named:
            what = f"its identities are {', '.join(map(str, named[:5]))}"
        else:
            what = f"it has no identities, and its session is {recording.session!r}"
        return (
            f"no neuron of recording {index} is known to the model: {what}; the model knows "
            f"{', '.join(map(str, self._labels[:5]))}{', ...' if len(self) > 5 else ''}. "
            "Give identities or session as in fit."
        )


def _labels_of(recording):
    """Plain str or int of every neuron, falsy = unknown."""
    if recording.identities is None:
        return [0] * recording.n_neurons
    return np.asarray(recording.identities).tolist()


def _warn(unknown, n_unlabeled):
    parts = []
    if unknown:
        more = ", ..." if len(unknown) > 5 else ""
        parts.append(f"identities {', '.join(map(str, unknown[:5]))}{more}")
    if n_unlabeled:
        parts.append(f"{n_unlabeled} neurons without identity (session= tells them by column)")
    text = f"Unknown to the model and left out: {' and '.join(parts)}."
    warnings.warn(text, UserWarning, stacklevel=level_of_caller())
