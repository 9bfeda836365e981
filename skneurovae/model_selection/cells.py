"""One cell of a comparison: fit a model to the training part of a fold and score it."""

from __future__ import annotations

import copy
import threading
import time
from pathlib import Path

import numpy as np
from sklearn.base import clone

from skneurovae.common.interruption import interrupts_go_on
from skneurovae.metrics import evaluate
from skneurovae.model_selection.leaks import LeakError
from skneurovae.model_selection.leaks.fitted import learned_state
from skneurovae.model_selection.own_warnings import own_warnings


def run_cell(run, *arguments):
    """Rows of a cell by `fit_and_score`, or by that function under a `joblib.Memory`.

    Failures end up in the rows, but never in the memory: the next run tries them again.
    """
    try:
        return run(*arguments)
    except _Incomplete as incomplete:
        return incomplete.rows


class _Incomplete(Exception):
    """Carries the rows of a cell in which something failed past a `joblib.Memory`."""

    def __init__(self, rows):
        super().__init__(rows)
        self.rows = rows


def fit_and_score(model, X, y, units, train, test, scorers, seed, controls, version):
    """Fit a clone of `model` and score every independent unit of the test part.

    Parameters
    ----------
    model : estimator
    X : list of recordings
    y : list of arrays or None
    units : list
        Label of the unit of each recording.
    train, test : ndarray of int
    scorers : dict of str to callable
    seed : int
        For every `random_state` of the model.
    controls : bool
        Also null and number of effective samples.
    version : str
        Of this package: a memory must not give results of another.

    Returns
    -------
    rows : list of dict
        One per scorer and unit.

    Raises
    ------
    _Incomplete
        If anything failed; its rows say what in "error", and their scores are NaN.
    """
    row = {"fit_seconds": np.nan, "peak_memory_mb": np.nan}
    tested = list(dict.fromkeys(units[i] for i in test))
    with own_warnings() as told:
        try:
            with PeakMemory() as memory:
                begin = time.perf_counter()
                fitted = _fit(model, X, y, train, seed)
                row["fit_seconds"] = time.perf_counter() - begin
            row["peak_memory_mb"] = memory.megabytes
        except Exception as error:
            failed = {**_failed(error, "fit"), **row, "score_seconds": np.nan}
            failed["warnings"] = list(dict.fromkeys(told))
            raise _Incomplete(
                [{"scorer": name, "unit": unit, **failed} for name in scorers for unit in tested]
            ) from error
        rows = []
        state = learned_state(fitted)
        for name, scorer in scorers.items():
            judged = _OwnCopy(fitted, state)
            for unit in tested:
                part = [int(i) for i in test if units[i] == unit]
                begin = time.perf_counter()
                scored = judged.score(scorer, _take(X, part), _take(y, part), seed, controls)
                scored["score_seconds"] = time.perf_counter() - begin
                rows.append({"scorer": name, "unit": unit, **row, **scored})
    for row in rows:
        row["warnings"] = list(dict.fromkeys(told))
    if any(row["error"] or row.get("null_error") for row in rows):
        raise _Incomplete(rows)
    return rows


def _fit(model, X, y, train, seed):
    model = clone(model)
    states = [name for name in model.get_params() if name.split("__")[-1] == "random_state"]
    model.set_params(**dict.fromkeys(states, seed))
    with interrupts_go_on():
        return model.fit(_take(X, train), _take(y, train))


class _OwnCopy:
    """A fitted model as one scorer has it: what the scorer does to it is told, and undone.

    So the order of the scorers changes no number. A model that cannot be copied is shared, and has
    no scores any more once a scorer has changed it.
    """

    def __init__(self, fitted, state):
        self.fitted = fitted
        self.fitted_state = state
        self._take_copy()

    def _take_copy(self):
        try:
            self.model = copy.deepcopy(self.fitted)
            self.state = learned_state(self.model)  # hashes of equal copies need not be equal
        except Exception:  # whatever the parts of a model of others raise
            self.model, self.state = self.fitted, self.fitted_state

    def score(self, scorer, X, y, seed, controls):
        scored = _score(scorer, self.model, X, y, seed, controls)
        if learned_state(self.model) == self.state:
            return scored
        self._take_copy()
        told = LeakError("the scorer changed the fitted model, which it may have shown the test")
        return scored if scored["error"] else _failed(told, "score")


def _score(scorer, fitted, X, y, seed, controls):
    """Score and, if it can be had, null of a unit."""
    try:
        if not controls:
            return _finite({"score": float(scorer(fitted, X, y)), "error": None})
        try:
            found = evaluate(scorer, fitted, X, y, random_state=seed)
        except Exception as error:  # of the score or of the null
            found = {"score": float(scorer(fitted, X, y)), "null": np.nan, "n_effective": np.nan}
            return _finite({**found, "null_error": _failed(error, "null")["error"], "error": None})
        return _finite(
            {"score": found.score, "null": found.null, "n_effective": found.n_effective,
             "error": None}
        )  # fmt: skip
    except Exception as error:
        return _failed(error, "score")


def _finite(scored):
    if not np.isfinite(scored["score"]):
        raise ValueError(f"the score is {scored['score']}")
    return scored


def _failed(error, where):
    message = f"{where}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return {"score": np.nan, "error": message}


def _take(values, indices):
    return None if values is None else [values[i] for i in indices]


class PeakMemory:
    """Largest growth of this process's memory while the block runs, in megabytes.

    The resident set is looked at a hundred times a second, on Linux; elsewhere the result is NaN.
    """

    def __enter__(self):
        self.megabytes = np.nan
        self._file = Path("/proc/self/statm")
        if self._file.exists():
            self._start = self._peak = self._resident()
            self._done = threading.Event()
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        return self

    def __exit__(self, *exception):
        if self._file.exists():
            self._done.set()
            self._watcher.join()
            self._peak = max(self._peak, self._resident())
            self.megabytes = (self._peak - self._start) / 2**20

    def _resident(self):
        pages = int(self._file.read_text().split()[1])
        return pages * _PAGE

    def _watch(self):
        while not self._done.wait(0.01):
            self._peak = max(self._peak, self._resident())


def _page_size():
    try:
        import resource
    except ImportError:  # Windows
        return 4096
    return resource.getpagesize()


_PAGE = _page_size()
