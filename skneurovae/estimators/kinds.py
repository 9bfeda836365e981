"""What kind traces and behavior are of, where the user leaves it to the data."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from skneurovae.networks.behavior import N_FUNCTIONS
from skneurovae.recordings.doubts import are_counts

__all__ = ["behavior_kinds", "check_lags", "likelihood_of"]

JUMP = 0.8  # of the range: an angle that passes its end jumps so far in a step
FEW = 6  # values of a channel of behavior, up to which it is a label rather than a quantity


def likelihood_of(likelihood, noise, recordings):
    """The likelihood, "auto" replaced: "poisson" for counts, else "gaussian".

    Parameters
    ----------
    likelihood, noise : str
    recordings : list of Recording

    Raises
    ------
    ValueError
        If traces are taken for counts, for which `noise` has no meaning.
    """
    if likelihood != "auto":
        return likelihood
    if not are_counts(recordings):
        return "gaussian"
    if noise != "auto":
        raise ValueError(
            f"noise={noise!r} has no meaning for counts, which likelihood='auto' took traces for; "
            "use noise='auto', or name the likelihood."
        )
    return "poisson"


def behavior_kinds(kinds, recordings, n_behaviors):
    """Kind of each channel of behavior, see `skneurovae.networks.behavior.BehaviorBasis`.

    Recognized are angles, in radians: their range is that of a turn, within 2 %, and they jump from
    one end of it to the other. Channels of few values, such as labels, are "linear", all others
    "bounded".

    Parameters
    ----------
    kinds : str or sequence of str
        "auto", or one kind for all or for each channel.
    recordings : list of Recording
    n_behaviors : int

    Returns
    -------
    tuple of str, one per channel

    Raises
    ------
    ValueError
        If there is not one known kind per channel, or no behavior.
    """
    if not isinstance(kinds, str):
        kinds = list(kinds)
        if len(kinds) != n_behaviors or not set(kinds) <= set(N_FUNCTIONS):
            raise ValueError(
                f"behavior_kind must be one of {sorted(N_FUNCTIONS)} for each of {n_behaviors} "
                f"channels of behavior, got {kinds}."
            )
        return tuple(kinds)
    if kinds != "auto":
        if not n_behaviors:
            raise ValueError(f"behavior_kind={kinds!r} has no meaning without behavior.")
        return (kinds,) * n_behaviors
    tables = [r.behavior for r in recordings if r.behavior is not None]
    return tuple(_kind([table[:, q] for table in tables]) for q in range(n_behaviors))


def check_lags(estimator, lags):
    """Refuse lags of behavior that are not different integers, go too far, or have no behavior."""
    if not isinstance(estimator.behavior_lags, str):
        given = list(estimator.behavior_lags)
        if not all(isinstance(n, Integral) for n in given) or len(set(given)) < len(given):
            raise ValueError(f"behavior_lags must be different integers, got {given}.")
        if not estimator.n_behaviors_in_:
            raise ValueError(f"behavior_lags={given} has no meaning without behavior.")
    for lag in lags:
        if abs(lag) >= estimator.window_length or (estimator.causal and lag < 0):
            limit = "at least 0 if causal" if estimator.causal else "shorter than window_length"
            raise ValueError(f"behavior_lags must be {limit}, got {lag}.")


def _kind(pieces):
    values = np.concatenate(pieces).astype(float)
    values = values[~np.isnan(values)]
    if len(np.unique(values)) <= FEW:
        return "linear"
    extent = values.max() - values.min()
    if 0.98 * 2 * np.pi <= extent <= 2 * np.pi + 1e-6:
        steps = np.concatenate([np.abs(np.diff(piece.astype(float))) for piece in pieces])
        steps = steps[~np.isnan(steps)]
        jumps = steps > JUMP * extent
        if jumps.any() and np.median(steps) < 0.25 * extent:
            return "angle"
    return "bounded"
