"""R2 of all entries together: the one definition behind the scores of traces.

A mean of R2 over neurons, or over short recordings, is ruled by those that hardly vary, since R2
divides by their own variance. So errors and variances are summed first, each neuron in units of its
spread, and divided once. A neuron or trial then moves the score by no more than its share of the
entries, in either direction.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from skneurovae.common.missing import plain_array
from skneurovae.common.moments import is_dead, moments_by_row, unit_of
from skneurovae.metrics.hiding import labels_of

AVERAGES = ("pooled", "mean", "median")


def number_neurons(recordings):
    """Number every neuron of every session, the same in all recordings of the session.

    Trials are recordings of one session. Recordings without a session share their neurons by
    column; those with identities may be of different animals, and each is a session of its own.

    Parameters
    ----------
    recordings : list of Recording

    Returns
    -------
    numbers : list of ndarray of int, shape (n_neurons,)
    n_numbers : int
    """
    known, numbers = {}, []
    for index, r in enumerate(recordings):
        labels = labels_of(r)
        session = index if r.session is None and any(labels) else r.session
        seen, own = Counter(), []
        for column, label in enumerate(labels):
            label = label or f"column {column}"
            # The second neuron of one identity is another neuron.
            own.append(known.setdefault((session, label, seen[label]), len(known)))
            seen[label] += 1
        numbers.append(np.array(own))
    return numbers, len(known)


def session_means(recordings, evaluated):
    """Mean of each neuron over what is evaluated of it in all recordings of its session.

    A null that knows the mean of each trial would know more than any model of the session may.

    Parameters
    ----------
    recordings : list of Recording
    evaluated : list of ndarray of shape (n_entries, n_neurons)
        NaN = not evaluated.

    Returns
    -------
    list of ndarray of shape (n_neurons,)
        One per recording; 0 where nothing is evaluated.
    """
    numbers, n_numbers = number_neurons(recordings)
    mean, _ = moments_by_row(evaluated, numbers, n_numbers)
    return [mean[own] for own in numbers]


def explained(recordings, truth, prediction, training_scale, average="pooled", center=None):
    """R2 of predictions of recordings.

    Over the evaluated entries of neuron n of a session, ``E_n = sum (x - prediction)^2`` and
    ``T_n = sum (x - m_n)^2`` with m_n their mean, all recordings of the session together.

    - "pooled": ``1 - sum_n E_n / u_n^2 / sum_n T_n / u_n^2``. The unit u_n is the standard
      deviation of the neuron in the training data of the estimator, or in the recordings, whichever
      is larger. Where the estimator does not tell, it is that in the recordings, but at least the
      median over all neurons. With the spread in training alone, a neuron that was nearly silent in
      training and fires in the test would count a thousand times. A neuron that is constant in
      both, or moved by rounding alone, is left out.
    - "mean" and "median": the classical R2 ``1 - E_n / T_n``, over the neurons that vary in what is
      evaluated.

    Parameters
    ----------
    recordings : list of Recording
        By which neurons are told apart, and whose traces give spreads.
    truth, prediction : list of ndarray of shape (n_entries, n_neurons)
        NaN in `truth` = not evaluated.
    training_scale : list of ndarray of shape (n_neurons,)
        Standard deviation in the training data; NaN = unknown.
    average : {"pooled", "mean", "median"}, default="pooled"
    center : list of ndarray of shape (n_neurons,), default=None
        In place of m_n.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `average` is something else, a prediction is not finite where it is evaluated, or no
        neuron can be scored.
    """
    check_average(average)
    numbers, n_numbers = number_neurons(recordings)
    truth = [plain_array(x) for x in truth]  # in their own type, which tells what is rounding
    mean, std = moments_by_row(truth, numbers, n_numbers)
    error, total = np.zeros((2, n_numbers))
    for index, (x, p, own) in enumerate(zip(truth, prediction, numbers)):
        scored = ~np.isnan(x)
        # A NaN would drop out of the sum and so flatter the model.
        if not np.isfinite(np.asarray(p)[scored]).all():
            raise ValueError(f"prediction of recording {index} is NaN or infinite where it counts.")
        around = mean[own] if center is None else center[index]
        x = x.astype(float)
        np.add.at(error, own, (np.where(scored, x - p, 0.0) ** 2).sum(0))
        np.add.at(total, own, (np.where(scored, x - around, 0.0) ** 2).sum(0))
    if average != "pooled":
        moves = std > 0
        if not moves.any():
            raise ValueError(NOTHING_SCORED)
        r2 = 1 - error[moves] / total[moves]
        return float(np.mean(r2) if average == "mean" else np.median(r2))
    unit, moves = units(recordings, numbers, n_numbers, training_scale)
    if center is None:  # of what is constant only rounding is left
        moves &= std > 0
    weights = (unit > 0) / unit_of(unit) ** 2
    variance = np.where(moves, total, 0.0) @ weights
    if not variance > 0:
        raise ValueError(NOTHING_SCORED)
    return float(1 - error @ weights / variance)


def units(recordings, numbers, n_numbers, training_scale):
    """What errors of each numbered neuron are measured in, 0 = left out; see `explained`.

    Parameters
    ----------
    recordings : list of Recording
    numbers : list of ndarray of int, shape (n_neurons,)
        As `number_neurons` gives them.
    n_numbers : int
    training_scale : list of ndarray of shape (n_neurons,)

    Returns
    -------
    unit : ndarray of shape (n_numbers,)
    moves : ndarray of bool, shape (n_numbers,)
        Whether the neuron varies in the recordings.
    """
    _, spread = moments_by_row([r.traces for r in recordings], numbers, n_numbers)
    training = np.full(n_numbers, np.nan)
    for own, scale in zip(numbers, training_scale):
        training[own] = scale
    unit = np.fmax(spread, training)
    alive = ~is_dead(unit)
    if alive.any():  # in its own spread alone a neuron would count as a ratio again
        unit = np.where(np.isnan(training), np.maximum(unit, np.median(unit[alive])), unit)
    return np.where(alive, unit, 0.0), spread > 0


def check_average(average):
    """Refuse what is no way to average."""
    if average not in AVERAGES:
        raise ValueError(f"average must be one of {', '.join(AVERAGES)}; got {average!r}.")


NOTHING_SCORED = "no neuron can be scored: all are constant, or unknown to the fitted estimator."
