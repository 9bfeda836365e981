"""Cells of a comparison: scorers that cannot reach each other, warnings of the own thread."""

import threading
import warnings

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA

from skneurovae.baselines import LaggedRidge, MissingFactorAnalysis, Pooled
from skneurovae.datasets import make_worms
from skneurovae.metrics import co_smoothing_score, reconstruction_score
from skneurovae.model_selection import compare_models
from skneurovae.model_selection.leaks.fitted import learned_state
from skneurovae.model_selection.own_warnings import own_warnings

KEYS = ("model", "fold", "seed", "scorer", "unit", "score", "null", "error", "warnings")


@pytest.fixture(scope="module")
def worms():
    return make_worms(6, n_timesteps=120, n_identities=24, n_recorded=18, random_state=0)[0]


# -- scorers ---------------------------------------------------------------------------------------


def refitting_score(estimator, X, y=None):
    """Fits the model to the test recordings, which the next scorer would profit from."""
    return co_smoothing_score(estimator.fit(X), X)


def spoiling_score(estimator, X, y=None):
    estimator.loadings_ *= 0.0
    return 0.5


def scores(result, scorer):
    return [r["score"] for r in result.records if r["scorer"] == scorer]


@pytest.mark.parametrize("scorer", [refitting_score, spoiling_score])
@pytest.mark.parametrize("controls", [True, False])
def test_a_scorer_that_changes_the_model_is_told_and_reaches_no_other(scorer, controls, worms):
    models = {"factor analysis": MissingFactorAnalysis(3, shrinkage=10.0)}
    call = {"cv": 2, "controls": controls, "baseline": None}
    alone = compare_models(models, worms, scoring={"honest": co_smoothing_score}, **call)
    both = compare_models(
        models, worms, scoring={"changes": scorer, "honest": co_smoothing_score}, **call
    )
    assert scores(both, "honest") == scores(alone, "honest")
    assert np.isnan(scores(both, "changes")).all()
    told = {r["error"] for r in both.records if r["scorer"] == "changes"}
    assert len(told) == 1
    assert told.pop().startswith("score: LeakError: the scorer changed the fitted model")


def test_the_order_of_scorers_changes_no_number(worms):
    models = {
        "factor analysis": MissingFactorAnalysis(3, shrinkage=10.0),
        "ridge": LaggedRidge(lags=2, alpha=10.0),
    }
    scoring = {
        "refits": refitting_score,
        "co-smoothing": co_smoothing_score,
        "reconstruction": reconstruction_score,
    }
    call = {"cv": 2, "controls": False}
    first = compare_models(models, worms, scoring=scoring, **call)
    last = compare_models(models, worms, scoring=dict(reversed(scoring.items())), **call)
    for name in scoring:
        np.testing.assert_array_equal(scores(first, name), scores(last, name))


class Uncopied(BaseEstimator):
    """A model with a part that cannot be copied, as a handle of a device is."""

    def fit(self, X, y=None):
        self.handle_ = threading.Lock()
        self.model_ = MissingFactorAnalysis(2, shrinkage=10.0, random_state=0).fit(X)
        return self

    def predict(self, X):
        return self.model_.predict(X)


def test_a_model_that_cannot_be_copied_has_no_score_once_it_was_changed(worms):
    def spoils(estimator, X, y=None):
        estimator.model_.loadings_ *= 0.0
        return 0.5

    scoring = {"before": co_smoothing_score, "changes": spoils, "after": co_smoothing_score}
    result = compare_models(
        {"uncopied": Uncopied()}, worms, cv=2, scoring=scoring, controls=False, n_jobs=1
    )
    assert np.isfinite(scores(result, "before")).all()
    assert np.isnan(scores(result, "changes") + scores(result, "after")).all()


def test_scoring_leaves_what_was_learned_as_it_is(worms):
    for model in (MissingFactorAnalysis(2), Pooled(PCA(2)), LaggedRidge(2)):
        fitted = model.fit(worms[:3])
        state = learned_state(fitted)
        assert state
        co_smoothing_score(fitted, worms[3:])
        assert learned_state(fitted) == state


# -- warnings --------------------------------------------------------------------------------------


class Warns(MissingFactorAnalysis):
    """Warns of the first animal that it was fitted to, in words that repeat."""

    def fit(self, X, y=None):
        for _ in range(3):
            warnings.warn(f"fitted to {X[0].session} first", stacklevel=1)
        return super().fit(X)

    def predict(self, X):
        warnings.warn("asked", DeprecationWarning, stacklevel=1)
        return super().predict(X)


def test_threads_give_the_same_records_as_a_serial_run(worms):
    models = {
        "warns": Warns(2, shrinkage=10.0),
        "factor analysis": MissingFactorAnalysis(3, shrinkage=10.0),
        "ridge": LaggedRidge(lags=2, alpha=10.0),
    }
    call = {"cv": 3, "scoring": co_smoothing_score, "baseline": None}
    serial = compare_models(models, worms, **call)
    filters, shown = list(warnings.filters), warnings.showwarning
    with joblib.parallel_config(backend="threading", n_jobs=4):
        threads = compare_models(models, worms, **call)
    assert warnings.filters == filters
    assert warnings.showwarning is shown
    assert len(serial.records) == len(threads.records) == 3 * 6
    for one, other in zip(serial.records, threads.records):
        for key in KEYS:
            np.testing.assert_equal(one[key], other[key])
    told = {r["fold"]: r["warnings"] for r in threads.records if r["model"] == "warns"}
    assert told[0][0] == "fitted to worm02 first"
    assert told[1][0] == "fitted to worm00 first"
    assert "asked" in told[0]


def test_only_warnings_of_the_own_thread_are_recorded():
    inside, outside = threading.Event(), threading.Event()
    found = {}

    def record(name):
        with own_warnings() as told:
            for _ in range(2):
                warnings.warn(f"of {name}", DeprecationWarning, stacklevel=1)
            inside.set()
            outside.wait(10)
        found[name] = told

    threads = [threading.Thread(target=record, args=(name,)) for name in ("a", "b")]
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        for thread in threads:
            thread.start()
        inside.wait(10)
        warnings.warn("of nobody", UserWarning, stacklevel=1)
        outside.set()
        for thread in threads:
            thread.join()
    assert found == {"a": ["of a"] * 2, "b": ["of b"] * 2}
    assert [str(w.message) for w in shown] == ["of nobody"]


def test_what_other_threads_ignore_stays_ignored():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("ignore")
        with own_warnings() as told:
            other = threading.Thread(target=warnings.warn, args=("of another thread",))
            other.start()
            other.join()
            warnings.warn("own", stacklevel=1)
    assert told == ["own"]
    assert shown == []


def test_recorders_may_stand_inside_each_other_and_blocks_of_catch_warnings_inside_them():
    filters, shown = list(warnings.filters), warnings.showwarning
    with own_warnings() as outer:
        warnings.warn("outer", stacklevel=1)
        with own_warnings() as inner:
            warnings.warn("inner", stacklevel=1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("caught", stacklevel=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match="raised"):
                warnings.warn("raised", stacklevel=1)
        warnings.warn("outer again", stacklevel=1)
    assert outer == ["outer", "outer again"]
    assert inner == ["inner"]
    assert [str(w.message) for w in caught] == ["caught"]
    assert warnings.filters == filters
    assert warnings.showwarning is shown


class Uncloned(MissingFactorAnalysis):
    """Changes its parameter, which `clone` refuses."""

    def __init__(self, n_components=2):
        super().__init__(n_components + 1)


def test_a_model_that_cannot_be_cloned_fails_in_its_cells(worms):
    result = compare_models(
        {"uncloned": Uncloned(2)}, worms, cv=2, scoring=co_smoothing_score, controls=False
    )
    assert len(result.errors) == 6
    assert result.errors[0]["error"].startswith("fit: RuntimeError: Cannot clone object")


def test_a_failed_fit_keeps_its_warnings(worms):
    class Fails(Warns):
        def fit(self, X, y=None):
            warnings.warn("about to fail", stacklevel=1)
            raise RuntimeError("no luck")

    result = compare_models(
        {"fails": Fails(2)}, worms, cv=2, scoring=co_smoothing_score, controls=False
    )
    assert all(r["warnings"] == ["about to fail"] for r in result.records)
    assert len(result.errors) == 6


# -- what is tested --------------------------------------------------------------------------------


def test_a_table_tells_whether_sessions_are_known(worms):
    model = {"factor analysis": MissingFactorAnalysis(2, shrinkage=10.0)}
    call = {"scoring": co_smoothing_score, "controls": False}
    new = compare_models(model, worms, cv=2, **call)
    assert "tested: sessions that training does not hold" in str(new)
    halves = [w.replace(traces=w.traces[a : a + 50]) for a in (0, 70) for w in worms]
    halves = [h.replace(behavior=None) for h in halves]
    known = compare_models(model, halves, cv=[(np.arange(6), np.arange(6, 12))], **call)
    assert known.tested == "new recordings of sessions that training holds too"
    with pytest.warns(UserWarning, match=r"\[session\] fold 0 tests 2 new recordings of sessions"):
        mixed = compare_models(model, halves, cv=[(np.arange(4), [6, 7, 11])], **call)
    assert mixed.tested.startswith("2 new recordings of sessions that training holds too, and 1 of")
