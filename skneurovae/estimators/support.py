"""Which traces a likelihood has a meaning for."""

from __future__ import annotations

import numpy as np


def check_support(likelihood, recordings):
    """Refuse traces outside of the support of a likelihood.

    Parameters
    ----------
    likelihood : str
        See `skneurovae.objectives.get_likelihood`.
    recordings : list of Recording

    Raises
    ------
    ValueError
        That names the recording and the first wrong value.
    """
    if likelihood not in ("poisson", "negative_binomial", "gamma"):
        return
    for number, recording in enumerate(recordings):
        seen = recording.traces[~np.isnan(recording.traces)]
        if likelihood == "gamma":
            what, wrong = "positive traces", seen[seen <= 0]
        else:
            what, wrong = "counts", seen[(seen < 0) | (seen != np.round(seen))]
        if len(wrong):
            raise ValueError(
                f"likelihood={likelihood!r} needs {what}, but traces of recording "
                f"{number} hold {wrong[0]:g}."
            )
