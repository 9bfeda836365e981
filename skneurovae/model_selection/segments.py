"""Pieces of recordings that remember where they come from."""

from __future__ import annotations

from dataclasses import dataclass

import joblib
import numpy as np

from skneurovae.recordings import Recording, check_recordings


@dataclass(frozen=True, eq=False, repr=False)
class Segment(Recording):
    """A contiguous piece of a recording.

    Parameters
    ----------
    traces, behavior, stimulus, identities, session, rate_hz
        See `skneurovae.Recording`.
    source : int or str, default=0
        Which recording it was cut from: its place in the list, and where it has no session a name
        made of its numbers.
    start : int, default=0
        Its first time step there.
    fold : int or None, default=None
        Fold of the splitter that made it; None for those of `segment`.
    held_out : ndarray of bool of shape (n_timesteps, n_neurons), default=None
        Entries that are scored, in a piece that a splitter made for testing.
    """

    source: int | str = 0
    start: int = 0
    fold: int | None = None
    held_out: np.ndarray | None = None

    @property
    def stop(self):
        """Time step of the source after the last one."""
        return self.start + self.n_timesteps


def segment(X, length, gap=0):
    """Cut recordings into contiguous pieces, to be split as wholes.

    A long recording is cut before it is split: no window of a model spans a seam then, and with a
    gap of about the autocorrelation time no two pieces share a neighborhood.

    Parameters
    ----------
    X : recordings in any form that `skneurovae.recordings.check_recordings` takes
    length : int
        Time steps of a piece. What is left at the end of a recording is a piece of its own if it
        has at least half of them, and is dropped otherwise.
    gap : int, default=0
        Time steps dropped between neighboring pieces.

    Returns
    -------
    segments : list of Segment
        Pieces of one recording share a session (its own, or a name made of its numbers), and with
        it their unlabelled neurons.

    Raises
    ------
    ValueError
        If `length` is below 1, `gap` is negative, or a recording is shorter than half of `length`.

    Examples
    --------
    >>> import numpy as np
    >>> from skneurovae.model_selection import segment
    >>> pieces = segment(np.zeros((1000, 20)), length=300, gap=20)
    >>> [(piece.start, piece.stop) for piece in pieces]
    [(0, 300), (320, 620), (640, 940)]
    """
    if length < 1 or gap < 0:
        raise ValueError(f"length must be 1 or more and gap 0 or more; got {length} and {gap}.")
    recordings, _ = check_recordings(X)
    pieces = []
    for source, recording in enumerate(recordings):
        starts = range(0, recording.n_timesteps, length + gap)
        spans = [slice(a, min(a + length, recording.n_timesteps)) for a in starts]
        spans = [s for s in spans if s.stop - s.start >= length / 2]
        if not spans:
            raise ValueError(
                f"recording {source} has {recording.n_timesteps} time steps, less than half of "
                f"length={length}."
            )
        pieces += [cut(recording, source, span) for span in spans]
    return pieces


def cut(recording, source, span, **fields):
    """The piece `span` of a recording as a `Segment`."""
    parts = {
        name: None if (array := getattr(recording, name)) is None else array[span]
        for name in ("traces", "behavior", "stimulus")
    }
    begin = getattr(recording, "start", 0) + (span.start or 0)
    session = recording.session
    if session is None:  # a number would be that of another recording in another call
        source = session = f"recording {joblib.hash(recording.traces)[:8]}"
    return Segment(
        **parts,
        identities=recording.identities,
        session=session,
        rate_hz=recording.rate_hz,
        source=getattr(recording, "source", source),
        start=begin,
        **fields,
    )
