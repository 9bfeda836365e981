"""Strength of shrinkage and of smoothing in the linear model, chosen by hidden neurons.

Likelihood can't choose them: the noise of real traces is correlated in time and loadings differ
between animals, so its maximum shrinks too little and smooths too much. Every choice here is made
by predicting hidden neurons in recordings (or, where recordings do not share neurons, blocks of
time) that the candidate was not fitted to.

What decides is the squared error of all hidden entries together, in units of each neuron's spread
in training; each neuron is hidden once, in thirds, as in scoring. A mean of R2 over neurons or
recordings would be ruled by a neuron that is silent in a block, or by a trial of two time steps:
their own variance, by which R2 divides, is next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.ndimage import gaussian_filter1d

from skneurovae.baselines.linear_gaussian import LinearGaussian, fit_em, infer, random_start
from skneurovae.common.moments import observed_mean, varies

# From weak to strong, as each starts the next: loadings that a strong one took to 0 stay there.
SHRINKAGES = (10.0, 100.0, 300.0, 1000.0, 3000.0)
WIDTHS = (0.75, 1.5, 3.0, 6.0, 12.0)  # standard deviation of a Gaussian, in time steps
TIME_CONSTANTS = (1.0, 3.0, 10.0, 30.0, 100.0)  # in time steps
EVIDENCE = (1.0, 0.5, 0.25, 0.1, 0.05)
N_COMPONENTS = (2, 4, 8, 12, 16, 24, 32)
MAX_TIMESTEPS = 10_000  # of all recordings together, on which the choices are made
MAX_FIT_TIMESTEPS = 60_000  # of all recordings together, on which the chosen model is fitted
N_FOLDS = 3


@dataclass(frozen=True)
class Choice:
    """Hyperparameters of the linear model and the score that they were chosen by.

    The score is a co-smoothing R2: one minus the squared error of hidden neurons over their
    variance around the mean of each in what is held out, both summed over all hidden entries.
    """

    shrinkage: float
    width: float = 0.0  # of the Gaussian that smooths the posterior mean; 0 = none
    time_constant: float = 0.0  # of the latents; 0 = static
    evidence: float = 1.0
    behavior_evidence: float = 1.0  # times `evidence`, of channels that are not neurons
    behavior_learning: float = 1.0  # the same while loadings are learned
    refit: str = "none"  # or "fixed", "learned": EM with the dynamics in the belief
    score: float = float("nan")


def fit_linear_gaussian(
    recordings, n_rows, n_neurons, n_components, *, shrinkage, smoothing, n_lags=1, causal=False,
    weights=None, choice=None, random_state,
):  # fmt: skip
    """Fit the linear-Gaussian model with its hyperparameters.

    Parameters
    ----------
    recordings : list of (channels, rows)
        Channels in rows below `n_neurons` are neurons; the others (behavior) are never hidden.
    n_rows, n_neurons, n_components : int
    shrinkage : float or "auto"
        Ridge on the loadings in time steps; "auto" chooses from `SHRINKAGES`.
    smoothing : float, "auto" or "ar1"
        Width of a Gaussian over the latents of a static model, "auto" to choose it from `WIDTHS`,
        or "ar1" for latent dynamics with time constants and weight of evidence chosen.
    n_lags : int
        In how many channels each behavior sample stands. "ar1" chooses whether every copy weighs as
        a sample of its own or as its share of one.
    causal : bool
        Choose by what the past alone tells of the latents; loadings are learned from all times.
    weights : ndarray of shape (n_neurons,), default=None
        Of the squared errors of each neuron in all choices; 1 by default, for channels in units of
        their spread in training.
    choice : Choice, default=None
        Hyperparameters, if they are known: nothing is chosen then.
    random_state : numpy.random.RandomState

    Returns
    -------
    model : LinearGaussian
    choice : Choice
    """
    start = random_start(recordings, n_rows, n_components, random_state)
    seed = random_state.randint(2**31 - 1)
    fixed = not isinstance(smoothing, str)
    if choice is not None:
        start = replace(start, evidence=_evidence(start, n_neurons, 1.0, choice.behavior_learning))
    elif fixed and shrinkage != "auto":
        choice = Choice(float(shrinkage), width=float(smoothing))
    else:
        sample = _subsample(recordings, MAX_TIMESTEPS, random_state)
        share = sum(len(c) for c, _ in sample) / sum(len(c) for c, _ in recordings)
        weights = np.ones(n_neurons) if weights is None else weights
        folds = _Folds(_split(sample, random_state), weights, causal, seed)
        start, choice, models = _choose_loadings(folds, start, shrinkage, share, n_lags)
        time_constants = TIME_CONSTANTS if smoothing == "ar1" else ()
        choice = _choose_belief(folds, models, choice, share, n_lags, time_constants)
        if fixed:
            choice = replace(choice, width=float(smoothing))
        elif smoothing == "auto":
            models = folds.with_dynamics(models, choice)
            trials = [replace(choice, width=width) for width in WIDTHS]
            choice = max([choice, *(folds.scored(t, models) for t in trials)], key=_by_score)
    data = _subsample(recordings, MAX_FIT_TIMESTEPS, random_state)
    share = sum(len(c) for c, _ in data) / sum(len(c) for c, _ in recordings)
    local = replace(choice, shrinkage=choice.shrinkage * share)  # a ridge is in time steps
    model = fit_em(data, start, shrinkage=local.shrinkage, n_iter=40)
    return _with_dynamics(model, local, n_neurons, data), choice


def choose_n_components(recordings, n_neurons, *, weights=None, random_state):
    """Number of components that predicts hidden neurons best, of `N_COMPONENTS`.

    Each number has its own ridge; latents are static.

    Parameters
    ----------
    recordings : list of (channels, rows)
        Neurons only, in units of their spread.
    n_neurons : int
    weights : ndarray of shape (n_neurons,), default=None
        See `fit_linear_gaussian`.
    random_state : numpy.random.RandomState

    Returns
    -------
    int
        At most one less than there are neurons, and at least 1.
    """
    weights = np.ones(n_neurons) if weights is None else weights
    sample = _subsample(recordings, MAX_TIMESTEPS, random_state)
    share = sum(len(c) for c, _ in sample) / sum(len(c) for c, _ in recordings)
    folds = _Folds(_split(sample, random_state), weights, False, random_state.randint(2**31 - 1))
    scores = {}
    for number in N_COMPONENTS:
        number = max(1, min(number, n_neurons - 1))
        if number not in scores:
            start = random_start(sample, n_neurons, number, random_state)
            best, _ = _choose_shrinkage(folds, start, "auto", share)
            scores[number] = best.score
    return max(scores, key=scores.get)


class _Folds:
    """Co-smoothing of held-out recordings by models of the others."""

    def __init__(self, pairs, weights, causal, seed):
        self.train = [train for train, _ in pairs]
        self.held_out = [held_out for _, held_out in pairs]
        self.weights, self.n_neurons, self.causal = weights, len(weights), causal
        self.hidden = [hidden_columns(*pair, self.n_neurons, seed) for pair in pairs]

    def scored(self, choice, models):
        """`choice` with the R2 of all hidden entries together under `models`, one per fold."""
        return self.compared(choice, models)[0]

    def compared(self, choice, models):
        """`choice` as `scored` gives it, and the squared error of each neuron."""
        error, total = np.zeros((2, self.n_neurons))
        for model, held_out, folds in zip(models, self.held_out, self.hidden):
            # All that is to be inferred under a model at once: the recursions over time are slow.
            shown = [pair for part in self._shown(held_out) for _ in folds for pair in part]
            hidden = [column for _ in self._shown(held_out) for fold in folds for column in fold]
            sums = hidden_sums(shown, hidden, model, choice.width, self.weights, self.causal)
            error, total = error + sums[0], total + sums[1]
        score = 1 - error.sum() / total.sum() if total.any() else -np.inf
        return replace(choice, score=float(score)), error

    def _shown(self, held_out):
        """Held-out recordings as they are and, where they have behavior, without it."""
        alone = [
            (np.where(rows < self.n_neurons, channels, np.nan), rows) for channels, rows in held_out
        ]
        has_behavior = any((rows >= self.n_neurons).any() for _, rows in held_out)
        return (held_out, alone) if has_behavior else (held_out,)

    def with_dynamics(self, models, choice, refit=False):
        """The static models of the folds with the dynamics of `choice`."""
        data = self.train if refit else [None] * len(models)
        return [_with_dynamics(m, choice, self.n_neurons, d) for m, d in zip(models, data)]


def _by_score(choice):
    return choice.score


def _choose_loadings(folds, start, shrinkage, share, n_lags):
    """Say of behavior in what the latents become, and the ridge: the start, choice and models.

    With weight 0 the latents are those of the neurons alone, and behavior is regressed on them.
    """
    found = []
    has_behavior = folds.n_neurons < len(start.offset)
    for weight in dict.fromkeys((1.0, 1.0 / n_lags, 0.0)) if has_behavior else (1.0,):
        begin = replace(start, evidence=_evidence(start, folds.n_neurons, 1.0, weight))
        best, models = _choose_shrinkage(folds, begin, shrinkage, share)
        found.append((begin, replace(best, behavior_learning=weight), models))
    return max(found, key=lambda candidate: candidate[1].score)


def _choose_shrinkage(folds, start, shrinkage, share):
    """The best ridge, and the static models that it gives in each fold."""
    grid = SHRINKAGES if shrinkage == "auto" else (float(shrinkage),)
    models, best, kept = [start] * len(folds.train), None, None
    for value in grid:
        n_iter = 25 if best is None else 8
        models = [
            fit_em(train, model, shrinkage=value * share, n_iter=n_iter)
            for model, train in zip(models, folds.train)
        ]
        choice = folds.scored(Choice(value), models)
        if best is None or choice.score > best.score:
            best, kept = choice, models
    return best, kept


def _choose_belief(folds, models, static, share, n_lags, time_constants):
    """The best time constant and weights of evidence, and what EM learns with them.

    Behavior always has a weight: where no neuron is seen, it is all there is.

    EM with the dynamics in the belief learns slow latents that hidden neurons may tell little of,
    but behavior much. So it is done unless hidden neurons are predicted clearly worse: by more than
    a standard error of the difference over neurons.
    """
    tried = []
    for weight, time_constant in product(
        dict.fromkeys((1.0, 1.0 / n_lags)), (0.0, *time_constants)
    ):
        reached = -np.inf
        for evidence in EVIDENCE if time_constant else (1.0,):
            trial = replace(
                static, time_constant=time_constant, evidence=evidence, behavior_evidence=weight
            )
            trial, error = folds.compared(trial, folds.with_dynamics(models, trial))
            if trial.score < reached:  # one peak in the weight of evidence: past it
                break
            reached = trial.score
            tried.append((trial, error))
    best = _slowest(tried)
    if best.time_constant == 0.0:
        return best
    trials = []
    for refit in ("learned", "fixed", "none"):
        trial = replace(best, refit=refit)
        local = replace(trial, shrinkage=best.shrinkage * share)
        refitted = folds.with_dynamics(models, local, refit=True)
        trials.append(folds.compared(trial, refitted))
    lowest = min((error for _, error in trials), key=np.sum)
    return next(trial for trial, error in trials if not _clearly_above(error, lowest))


def _slowest(tried):
    """Of those that predict about as well as the best, the best of the longest time constant.

    By the rule of one standard error: slow latents have fewer degrees of freedom.
    """
    lowest = min((error for _, error in tried), key=np.sum)
    if not lowest.any():  # nothing could be hidden, so nothing tells
        return tried[0][0]
    alike = [trial for trial, error in tried if not _clearly_above(error, lowest)]
    longest = max(trial.time_constant for trial in alike)
    return max((t for t in alike if t.time_constant == longest), key=_by_score)


def _clearly_above(error, lowest):
    """Whether the sum of errors of neurons is above another by more than its standard error.

    Source: Breiman, Friedman, Olshen & Stone 1984, section 3.4.3, here with paired differences.
    """
    rise = error - lowest
    spread = rise.std(ddof=1) if len(rise) > 1 else 0.0
    return rise.sum() > spread * np.sqrt(len(rise))


def _with_dynamics(model, choice, n_neurons, recordings=None):
    """Give a static model the dynamics of `choice`; refit it to `recordings` if so chosen."""
    phi = np.exp(-1 / choice.time_constant) if choice.time_constant else 0.0
    evidence = _evidence(model, n_neurons, choice.evidence, choice.behavior_evidence)
    model = replace(model, phi=np.full(model.n_components, phi), evidence=evidence)
    if recordings is None or choice.refit == "none":
        return model
    learn = choice.refit == "learned"
    return fit_em(recordings, model, shrinkage=choice.shrinkage, n_iter=8, learn_phi=learn)


def _evidence(model, n_neurons, evidence, behavior_evidence):
    """Weight of each channel's observations in the belief."""
    weights = np.full(len(model.offset), evidence)
    weights[n_neurons:] *= behavior_evidence
    return weights


def posterior_mean(recordings, model, width=0.0, causal=False):
    """Posterior means of the latents, smoothed by a Gaussian of `width` time steps."""
    means = [mean for mean, _, _ in infer(recordings, model, causal)]
    return [gaussian_filter1d(m, width, axis=0, mode="nearest") if width else m for m in means]


def hidden_columns(train, held_out, n_neurons, seed):
    """Which columns of each held-out recording to hide, so that each neuron is hidden once.

    Returns
    -------
    folds : list of lists of ndarray of bool, shape (n_channels,)
        A third of the neurons that `train` observes, for each fold one list over the recordings.
    """
    known = np.zeros(n_neurons, dtype=bool)
    for channels, rows in train:
        seen = rows[(rows < n_neurons) & ~np.isnan(channels).all(0)]
        known[seen] = True
    folds = [[] for _ in range(N_FOLDS)]
    for _, rows in held_out:
        present = np.unique(rows[rows < n_neurons])
        order = np.random.RandomState(seed).permutation(present[known[present]])
        for number, fold in enumerate(folds):
            fold.append(np.isin(rows, order[number::N_FOLDS]))
    return folds


def hidden_sums(recordings, hidden, model: LinearGaussian, width, weights, causal=False):
    """Weighted squared error and variance of the hidden entries of each neuron, all recordings.

    The variance is around the mean of the neuron in each recording.
    """
    masked = [
        (np.where(columns, np.nan, channels), rows)
        for (channels, rows), columns in zip(recordings, hidden)
    ]
    error, total = np.zeros((2, len(weights)))
    means = posterior_mean(masked, model, width, causal)
    for (channels, rows), columns, mean in zip(recordings, hidden, means):
        truth, own = channels[:, columns], rows[columns]
        missed = truth - mean @ model.loadings[own].T - model.offset[own]
        np.add.at(error, own, np.nansum(missed**2, axis=0) * weights[own])
        moved = np.where(varies(truth), truth - observed_mean(truth), 0.0)
        np.add.at(total, own, np.nansum(moved**2, axis=0) * weights[own])
    return error, total


def _split(recordings, random_state):
    """(train, held out) pairs: by recording where recordings share their neurons, else by time."""
    if len(recordings) >= N_FOLDS and share_neurons([rows for _, rows in recordings]):
        fold = random_state.permutation(len(recordings)) % N_FOLDS
        return [
            (
                [r for r, f in zip(recordings, fold) if f != k],
                [r for r, f in zip(recordings, fold) if f == k],
            )
            for k in range(N_FOLDS)
        ]
    pairs = []
    for k in range(N_FOLDS):
        train, held_out = [], []
        for channels, r in recordings:
            a, b = len(channels) * k // N_FOLDS, len(channels) * (k + 1) // N_FOLDS
            train += [(piece, r) for piece in (channels[:a], channels[b:]) if len(piece)]
            held_out += [(channels[a:b], r)] if b > a else []
        pairs += [(train, held_out)] if train and held_out else []
    return pairs


def share_neurons(rows):
    """Whether most neurons of a recording are known from other recordings as well."""
    unique = [np.unique(r) for r in rows]
    others = [np.concatenate(unique[:i] + unique[i + 1 :]) for i in range(len(unique))]
    return np.mean([np.isin(r, o).mean() for r, o in zip(unique, others)]) > 0.5


def _subsample(recordings, n_timesteps, random_state):
    """At most about `n_timesteps` in all: one contiguous block of each recording."""
    total = sum(len(c) for c, _ in recordings)
    if total <= n_timesteps:
        return recordings
    kept = []
    for channels, rows in recordings:
        length = max(1, len(channels) * n_timesteps // total)
        start = random_state.randint(len(channels) - length + 1)
        kept.append((channels[start : start + length], rows))
    return kept
