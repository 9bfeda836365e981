"""What belongs beside every score: a null, a baseline and the number of effective samples."""

from __future__ import annotations

from dataclasses import dataclass

import joblib
import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skneurovae.common.missing import float_array, plain_array
from skneurovae.common.moments import observed_mean, varies
from skneurovae.metrics.nulls import TimeShifted
from skneurovae.recordings import check_recordings


@dataclass(frozen=True)
class Evaluation:
    """A score and what it has to be compared with.

    Parameters
    ----------
    score : float
    null : float
        Mean score of the same predictions or latents, shifted in time; see `evaluate`.
    baseline : float
        Score of the baseline; NaN if there is none.
    n_effective : float
        Number of effective samples of the recordings.
    """

    score: float
    null: float
    baseline: float
    n_effective: float


class _Remembering:
    """Fitted estimator that answers the same question once, for a score and its nulls."""

    def __init__(self, estimator):
        self.estimator = estimator
        self.answers = {}

    def __getattr__(self, name):
        if name in ("estimator", "answers"):
            raise AttributeError(name)
        return getattr(self.estimator, name)

    def __sklearn_is_fitted__(self):
        check_is_fitted(self.estimator)
        return True

    def _ask(self, name, X, options):
        key = name, joblib.hash((X, options))
        if key not in self.answers:
            self.answers[key] = getattr(self.estimator, name)(X, **options)
        return self.answers[key]

    def predict(self, X, **options):
        return self._ask("predict", X, options)

    def transform(self, X, **options):
        return self._ask("transform", X, options)


def autocorrelation_time(traces):
    """Integrated autocorrelation time, in time steps, median over neurons.

    ``1 + 2 sum_k rho(k)`` over lags k from 1, with rho the autocorrelation from the pairs of time
    steps that are both observed. The sum ends before the first pair of lags (2 m, 2 m + 1) whose
    sum is not positive: beyond it there is noise.

    Parameters
    ----------
    traces : array-like of shape (n_timesteps, n_neurons) or (n_timesteps,)
        NaN = not observed.

    Returns
    -------
    float
        1 for white noise, ``(1 + phi) / (1 - phi)`` for an autoregression of first order. Never
        below 1.

    Raises
    ------
    ValueError
        If traces are not 2-D or hold infinity, or no neuron varies.

    References
    ----------
    Initial positive sequence: Geyer, "Practical Markov chain Monte Carlo", Statistical Science 7,
    1992, section 3.3.
    """
    traces = float_array(traces)
    traces = traces[:, None] if traces.ndim == 1 else traces
    if traces.ndim != 2 or np.isinf(traces).any():
        raise ValueError(
            f"traces must be finite or NaN, of shape (n_timesteps, n_neurons); got {traces.shape}."
        )
    n_timesteps = len(traces)
    traces = traces[:, varies(traces)]
    if traces.size == 0:
        raise ValueError("no neuron varies, so there is no autocorrelation time.")
    observed = ~np.isnan(traces)
    deviation = np.where(observed, traces - observed_mean(traces), 0.0)
    n_pairs = np.round(_lagged_products(observed.astype(float)))
    mean_product = _lagged_products(deviation) / np.maximum(n_pairs, 1)
    # Without gaps this is the sum of products over n_timesteps, whose noise fades with the lag.
    covariance = mean_product * (1 - np.arange(n_timesteps) / n_timesteps)[:, None]
    rho = covariance / covariance[0]
    pairs = rho[: n_timesteps // 2 * 2].reshape(n_timesteps // 2, 2, -1).sum(1)
    positive = np.cumprod(pairs > 0, axis=0)
    return float(np.median(np.maximum(2 * (pairs * positive).sum(0) - 1, 1.0)))


def decay_time(values):
    """Lag at which the autocorrelation of all columns together has fallen below 1 / e.

    How far apart two pieces must be to share little; `autocorrelation_time` is the one that counts
    samples.

    Parameters
    ----------
    values : array-like of shape (n_timesteps, n_columns) or (n_timesteps,)
        NaN = not observed; a lag counts the pairs of time steps that are both observed.

    Returns
    -------
    int
        In time steps, at least 1, which is also the answer where nothing varies. The number of time
        steps where the autocorrelation never falls that low.
    """
    values = float_array(values)
    values = values[:, None] if values.ndim == 1 else values
    values = values[:, varies(values)]
    if values.size == 0:
        return 1
    observed = ~np.isnan(values)
    deviation = np.where(observed, values - observed_mean(values), 0.0)
    n_pairs = np.round(_lagged_products(observed.astype(float)).sum(1))
    covariance = _lagged_products(deviation).sum(1) / np.maximum(n_pairs, 1)
    low = (covariance < covariance[0] / np.e) & (n_pairs > 0)
    return int(low.argmax()) if low.any() else len(values)


def effective_samples(X):
    """Number of effective samples: sum over recordings of time steps per autocorrelation time.

    Neighbors of a slow trace tell the same thing twice; this is how many independent time steps
    would tell as much about a mean.

    Parameters
    ----------
    X : recordings

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If no neuron of a recording varies.
    """
    recordings, _ = check_recordings(X)
    return float(sum(r.n_timesteps / autocorrelation_time(r.traces) for r in recordings))


def evaluate(scorer, estimator, X, y=None, *, baseline=None, n_shifts=20, random_state=0):
    """Score of a fitted estimator, with a null, a baseline and the number of effective samples.

    The null is the mean score of the same estimator with its predictions and latents shifted in
    time, circularly, by random amounts from twice the longest autocorrelation time of the traces,
    behavior and `y` to half of the shortest recording, in both directions. Predictions of traces
    are also brought to the scale of each neuron, see `TimeShifted`: otherwise a null would tell how
    bold a model is, by an R2 below 0.

    Parameters
    ----------
    scorer : callable
        ``scorer(estimator, X, y)`` that returns a float and asks `predict` or `transform`.
    estimator : fitted estimator
    X : recordings
    y : array-like, default=None
        Handed to the scorer.
    baseline : fitted estimator, default=None
        Fitted to the same training data as `estimator`.
    n_shifts : int, default=20
    random_state : int, RandomState instance or None, default=0

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If `n_shifts` is below 1, or a recording is shorter than four autocorrelation times.

    Notes
    -----
    Nulls of traces lie around 0, as those of correlations, accuracies and consistencies lie around
    chance. Where latents are decoded, the null falls below 0 by what a fit to unrelated latents
    costs, about one part in `n_effective` for each coefficient.

    Examples
    --------
    >>> from skneurovae.baselines import MissingFactorAnalysis
    >>> from skneurovae.datasets import make_worms
    >>> from skneurovae.metrics import co_smoothing_score, evaluate
    >>> worms, _ = make_worms(4, n_timesteps=400, n_identities=20, n_recorded=18, random_state=0)
    >>> model = MissingFactorAnalysis(3).fit(worms[:3])
    >>> result = evaluate(co_smoothing_score, model, worms[3:])
    >>> result.score > result.null
    True
    """
    if n_shifts < 1:
        raise ValueError(f"n_shifts must be 1 or more; got {n_shifts}.")
    recordings, _ = check_recordings(X)
    lengths = np.array([recording.n_timesteps for recording in recordings])
    times = np.array([autocorrelation_time(recording.traces) for recording in recordings])
    # Behavior may be far slower than noisy traces, and is then what a shift must lose.
    targets = [r.behavior for r in recordings] if y is None else y
    slowest = max([*times, *(_slowness(target) for target in targets)])
    least, most = int(np.ceil(2 * slowest)), int(lengths.min() // 2)
    if least > most:
        raise ValueError(
            f"recording {lengths.argmin()} has {lengths.min()} time steps; a null needs four "
            f"autocorrelation times of traces and behavior, {2 * least}."
        )
    estimator = _Remembering(estimator)
    rng = check_random_state(random_state)
    truth = [recording.traces for recording in recordings]
    shifts = rng.randint(least, most + 1, size=n_shifts) * rng.choice([-1, 1], size=n_shifts)
    return Evaluation(
        score=float(scorer(estimator, X, y)),
        null=float(np.mean([scorer(TimeShifted(estimator, s, truth), X, y) for s in shifts])),
        baseline=float("nan") if baseline is None else float(scorer(baseline, X, y)),
        n_effective=float((lengths / times).sum()),
    )


def _slowness(target):
    """Decay time of what is decoded, 0 where it is absent or made of classes."""
    if target is None or plain_array(target).dtype.kind not in "fiub":
        return 0
    target = float_array(target)
    return decay_time(target.reshape(len(target), -1))


def _lagged_products(columns):
    """``sum_t x[t] x[t + k]`` of each column for all lags k from 0."""
    n = len(columns)
    spectrum = np.fft.rfft(columns, 2 * n, axis=0)
    return np.fft.irfft(np.abs(spectrum) ** 2, 2 * n, axis=0)[:n]
