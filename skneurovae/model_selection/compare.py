"""Many models, folds, seeds and scorers in one call, with leaks refused."""

from __future__ import annotations

import pickle
import sys
import time
import warnings
from numbers import Integral

import joblib
import numpy as np
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state

from skneurovae import __version__
from skneurovae.baselines import MissingFactorAnalysis
from skneurovae.model_selection.cells import fit_and_score, run_cell
from skneurovae.model_selection.comparison import Comparison
from skneurovae.model_selection.leaks import LeakError, find_leaks
from skneurovae.model_selection.leaks.sessions import what_is_tested
from skneurovae.recordings import check_recordings


def compare_models(
    models, X, y=None, *, cv=5, scoring, groups=None, units=None, n_seeds=1, controls=True,
    baseline="auto", on_leak="raise", n_jobs=None, memory=None, random_state=0, verbose=0,
):  # fmt: skip
    """Cross-validate models on the same folds and compare them in pairs.

    Parameters
    ----------
    models : dict of str to estimator
        Unfitted; pipelines too.
    X : list of Recording, of arrays or of DataFrames, or a 3-D array
        What the splitter splits. One long recording is cut by `segment` first.
    y : list of arrays, default=None
        One per recording: what is decoded, where models or scorers need it.
    cv : int, splitter of scikit-learn or of this module, or iterable of (train, test), default=5
    scoring : callable, or dict of str to callable
        Each ``scorer(estimator, X, y=None) -> float``, higher is better.
    groups : sequence, default=None
        Group of each recording, for splitters that need it; no group may be in train and test.
    units : sequence, default=None
        Label of the independent unit of each recording, over which intervals are bootstrapped:
        an animal, or a session. By default `groups`, or else the session, or else the recording.
    n_seeds : int, default=1
        Fits of each model in each fold, with different seeds.
    controls : bool, default=True
        Also give each score its null (predictions shifted in time), that of a linear baseline
        fitted to the same data, and the number of effective samples; see
        `skneurovae.metrics.evaluate`.
    baseline : estimator, None or "auto", default="auto"
        The linear baseline. "auto" is `MissingFactorAnalysis(smoothing="auto")`.
    on_leak : {"raise", "warn"}, default="raise"
        What to do about a certain leak; what is only suspected is a warning in any case, and both
        are kept in the result.
    n_jobs : int, default=None
        As joblib takes it. Under ``joblib.parallel_config(backend="dask")`` or ``"ray"`` the same
        call runs on a cluster. Numbers do not depend on it, but by rounding where workers compute
        with another number of threads.
    memory : joblib.Memory, default=None
        Cells that it holds are not run again: an interrupted comparison goes on where it stopped.
        Failed cells are tried again. Clear it when the code of a model of your own changes.
    random_state : int, RandomState instance or None, default=0
    verbose : int, default=0
        1 shows how many cells are done and the time left.

    Returns
    -------
    Comparison
        Every score with its time, memory and error; tables, paired differences, a figure.

    Raises
    ------
    LeakError
        If a certain leak is found and `on_leak` is "raise"; the message lists all.
    ValueError, TypeError
        If an argument is wrong.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from skneurovae.baselines import MissingFactorAnalysis, Pooled
    >>> from skneurovae.datasets import make_worms
    >>> from skneurovae.metrics import co_smoothing_score
    >>> from skneurovae.model_selection import compare_models
    >>> worms, _ = make_worms(4, n_timesteps=200, n_identities=60, random_state=0)
    >>> models = {"PCA": Pooled(PCA(3)), "factor analysis": MissingFactorAnalysis(3)}
    >>> result = compare_models(models, worms, cv=2, scoring=co_smoothing_score)
    >>> [row["model"] for row in result.summary()]
    ['PCA', 'factor analysis']
    """
    models, scorers = _named(models, "models"), _named(scoring, "scoring", "score")
    if not isinstance(n_seeds, Integral) or n_seeds < 1:
        raise ValueError(f"n_seeds must be an integer of at least 1, got {n_seeds!r}.")
    if on_leak not in ("raise", "warn"):
        raise ValueError(f"on_leak must be 'raise' or 'warn', got {on_leak!r}.")
    if not isinstance(X, list) and getattr(X, "ndim", 0) == 3:
        X = list(X)
    for name, value in (("y", y), ("groups", groups), ("units", units)):
        if value is not None and len(value) != len(X):
            raise ValueError(f"{name} has {len(value)} entries; X has {len(X)}.")
    splits = _splits(cv, X, y, groups)
    leaks = find_leaks(X, splits, y=y, groups=groups, models=models.values())
    _tell(leaks, on_leak)
    recordings, _ = check_recordings(X)
    units = _units(recordings, groups if units is None else units)
    if isinstance(baseline, str):
        if baseline != "auto":
            raise ValueError(f"baseline must be an estimator, None or 'auto', got {baseline!r}.")
        baseline = MissingFactorAnalysis(smoothing="auto")
    if not controls:
        baseline = None
    every = models if baseline is None else {**models, None: baseline}
    cells = [
        {"model": name, "fold": fold, "seed": seed}
        for fold in range(len(splits))
        for seed in range(n_seeds)
        for name in every
    ]
    # A seed belongs to its fold and repetition, so that models are compared in pairs.
    seeds = check_random_state(random_state).randint(2**31 - 1, size=(len(splits), n_seeds))
    run = fit_and_score
    if memory is not None:
        _check_hashable(scorers)
        run = memory.cache(fit_and_score)
    jobs = (
        joblib.delayed(run_cell)(
            run, every[cell["model"]], X, y, units, *splits[cell["fold"]], scorers,
            int(seeds[cell["fold"], cell["seed"]]), controls, __version__,
        )
        for cell in cells
    )  # fmt: skip
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    records = []
    begin = time.perf_counter()
    for done, (cell, rows) in enumerate(zip(cells, parallel(jobs)), start=1):
        records += [{**cell, **row} for row in rows]
        if verbose:
            _progress(done, len(cells), time.perf_counter() - begin)
    if controls:
        _add_baseline(records)
    told = dict.fromkeys(r["error"] for r in records if r["model"] is None and r["error"])
    return Comparison(
        [r for r in records if r["model"] is not None], leaks, list(told),
        what_is_tested(X, recordings, splits),
    )  # fmt: skip


def _add_baseline(records):
    """Give each record the score that the baseline has in its place."""
    keys = "fold", "seed", "scorer", "unit"
    scores = {tuple(r[k] for k in keys): r["score"] for r in records if r["model"] is None}
    for record in records:
        record["baseline"] = scores.get(tuple(record[k] for k in keys), np.nan)


def _check_hashable(scorers):
    for name, scorer in scorers.items():
        try:
            pickle.dumps(scorer)
        except Exception as error:
            raise ValueError(
                f"scoring[{name!r}] cannot be pickled, which memory needs: define it as a function "
                "of a module."
            ) from error


def _named(value, argument, default=None):
    if default is not None and callable(value):
        return {getattr(value, "__name__", default): value}
    if not isinstance(value, dict) or not value:
        kinds = "a dict with a name for each" + (", or one callable" if default else "")
        raise TypeError(f"{argument} must be {kinds}; got {type(value).__name__}.")
    return dict(value)


def _splits(cv, X, y, groups):
    if not isinstance(X, list):
        return []
    splitter = check_cv(cv)
    splits = list(splitter.split(X, y, groups))
    for fold, (train, test) in enumerate(splits):
        if len(train) == 0 or len(test) == 0:
            raise ValueError(f"fold {fold} of cv has {len(train)} train and {len(test)} test.")
    return splits


def _tell(leaks, on_leak):
    certain = [leak for leak in leaks if leak.certain]
    if certain and (
        on_leak == "raise" or certain[0].kind == "rows"
    ):  # rows can't be compared at all
        shown = "; ".join(f"[{leak.kind}] {leak.message}" for leak in certain[:5])
        more = f"; and {len(certain) - 5} more" if len(certain) > 5 else ""
        raise LeakError(f"these scores would be inflated: {shown}{more}")
    for leak in leaks:
        warnings.warn(f"[{leak.kind}] {leak.message}", stacklevel=3)


def _units(recordings, given):
    if given is not None:
        return list(given)
    return [
        r.session if r.session is not None else f"recording {i}" for i, r in enumerate(recordings)
    ]


def _progress(done, total, seconds):
    left = seconds / done * (total - done)
    end = "\n" if done == total else ""
    bar = "#" * round(30 * done / total)
    print(
        f"\r[compare_models] {bar:30s} {done}/{total} cells, {left:.0f} s left ",
        end=end, file=sys.stderr, flush=True,
    )  # fmt: skip
