"""Whether folds test new recordings of known sessions, new sessions, or a mixture of both."""

from __future__ import annotations

from skneurovae.model_selection.leaks.leak import Leak
from skneurovae.model_selection.leaks.sides import Sides

KNOWN = "new recordings of sessions that training holds too"
NEW = "sessions that training does not hold"


def what_is_tested(X, recordings, splits):
    """What the folds ask of a model, in words.

    Parameters
    ----------
    X : list
        As given.
    recordings : list of Recording
    splits : list of (train, test)

    Returns
    -------
    str
        "" where recordings have no sessions, or only one.
    """
    if any(getattr(item, "fold", None) is not None for item in X):
        return "held-out parts of the recordings of training"
    known, new = (
        sum(counts) for counts in zip(*_counts(recordings, Sides(splits, len(X))), (0, 0))
    )
    if known and new:
        return f"{known} {KNOWN}, and {new} of {NEW}"
    return KNOWN if known else NEW if new else ""


def mixed_sessions(X, recordings, sides):
    """Folds that test some sessions they trained on, and others that they did not.

    New recordings of known sessions are a fair question, and so are new sessions; a mean over both
    is an answer to neither.

    Parameters
    ----------
    X : list
        As given.
    recordings : list of Recording
    sides : Sides

    Yields
    ------
    Leak
    """
    if any(getattr(item, "fold", None) is not None for item in X):
        return
    for fold, (known, new) in enumerate(_counts(recordings, sides)):
        if known and new:
            yield Leak(
                "session",
                f"fold {fold} tests {known} {KNOWN}, and {new} of {NEW}: the score mixes two "
                "questions. Split by session (GroupKFold), or within every session.",
                certain=False,
            )
            return


def _counts(recordings, sides):
    """Tested recordings of sessions that train, and of others, for each fold."""
    sessions = [recording.session for recording in recordings]
    if None in sessions or len(set(sessions)) < 2:
        return
    for train, test in zip(sides.train, sides.test):
        trained = {session for session, used in zip(sessions, train) if used}
        known = [session in trained for session, used in zip(sessions, test) if used]
        yield sum(known), len(known) - sum(known)
