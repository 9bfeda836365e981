"""One leak, and lists of them that stay readable."""

from __future__ import annotations

from dataclasses import dataclass, replace

N_OF_A_KIND = 5


class LeakError(ValueError):
    """A comparison whose scores would be inflated."""


@dataclass(frozen=True)
class Leak:
    """One leak.

    Parameters
    ----------
    kind : str
        "shared recording", "overlap", "copy", "neighbors in time", "group", "session", "scaling",
        "behavior as target", "trace as target", "mask tells the target",
        "identities tell the target", "behavior copies a trace", "twin neurons", "fitted model",
        "rows".
    message : str
        What leaks, where, with what evidence, and what to do.
    certain : bool
        Whether scores are inflated for sure; otherwise it is a reason to doubt them.
    """

    kind: str
    message: str
    certain: bool = True


def readable(leaks):
    """The certain ones first, and at most five of a kind, the last of which counts the rest."""
    by_kind = {}
    for leak in leaks:
        by_kind.setdefault((leak.kind, leak.certain), []).append(leak)
    kept = []
    for same in by_kind.values():
        shown, rest = same[:N_OF_A_KIND], len(same) - N_OF_A_KIND
        if rest > 0:
            last = shown[-1]
            shown[-1] = replace(last, message=f"{last.message} And {rest} more of this kind.")
        kept += shown
    return sorted(kept, key=lambda leak: not leak.certain)
