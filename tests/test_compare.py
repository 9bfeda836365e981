"""compare_models: the table holds what was measured, and every failure."""

import dataclasses
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold, KFold

from skneurovae.baselines import LaggedRidge, MissingFactorAnalysis, Pooled
from skneurovae.datasets import make_worms
from skneurovae.metrics import co_smoothing_score, reconstruction_score
from skneurovae.model_selection import Comparison, compare_models
from skneurovae.model_selection.comparison import holm

SCORING = {"co-smoothing": co_smoothing_score, "reconstruction": reconstruction_score}


@pytest.fixture(scope="module")
def worms():
    return make_worms(6, n_timesteps=240, n_identities=40, n_recorded=30, random_state=0)[0]


@pytest.fixture(scope="module")
def models():
    return {
        "PCA": Pooled(PCA(2)),
        "factor analysis": MissingFactorAnalysis(3, shrinkage=10.0),
        "behavior": LaggedRidge(lags=2, alpha=10.0),
    }


@pytest.fixture(scope="module")
def result(models, worms):
    return compare_models(models, worms, cv=KFold(3), scoring=SCORING)


class Broken(BaseEstimator):
    """Fails in fit where the training part holds too few recordings, or in predict."""

    def __init__(self, where="fit"):
        self.where = where

    def fit(self, X, y=None):
        if self.where == "fit" or (self.where == "one fold" and X[0].session == "worm00"):
            raise RuntimeError("no luck\nin two lines")
        self.model_ = MissingFactorAnalysis(2, shrinkage=10.0).fit(X)
        return self

    def predict(self, X):
        if self.where == "predict":
            raise ZeroDivisionError("still no luck")
        return self.model_.predict(X)


def same(records, others):
    keys = ("model", "fold", "seed", "scorer", "unit", "score", "null", "baseline", "n_effective")
    assert len(records) == len(others)
    for a, b in zip(records, others):
        for key in keys:
            np.testing.assert_equal(a.get(key), b.get(key))


def test_scores_are_those_of_cross_validate(result, models, worms):
    seeds = np.random.RandomState(0).randint(2**31 - 1, size=(3, 1))[:, 0]
    for name, model in models.items():
        for fold, (train, test) in enumerate(KFold(3).split(worms)):
            seeded = {k: int(seeds[fold]) for k in model.get_params() if k == "random_state"}
            fitted = clone(model).set_params(**seeded).fit([worms[i] for i in train])
            for i in test:
                (record,) = [
                    r
                    for r in result.records
                    if (r["model"], r["fold"], r["scorer"], r["unit"])
                    == (name, fold, "co-smoothing", worms[i].session)
                ]
                assert record["score"] == pytest.approx(co_smoothing_score(fitted, [worms[i]]))
                assert record["error"] is None
    row = next(r for r in result.summary() if r["model"] == "PCA")
    scores = [
        r["score"] for r in result.records if (r["model"], r["scorer"]) == ("PCA", "co-smoothing")
    ]
    assert row["score"] == pytest.approx(np.mean(scores))  # one per unit
    assert row["n_units"] == 6


def test_controls_stand_beside_every_score(result, models, worms):
    for row in result.records:
        assert np.isfinite([row["null"], row["baseline"], row["n_effective"]]).all()
        assert row["fit_seconds"] > 0
        assert row["score_seconds"] > 0
        assert row["peak_memory_mb"] >= 0 or not sys.platform.startswith("linux")
    seed = int(np.random.RandomState(0).randint(2**31 - 1, size=(3, 1))[0, 0])
    bar = MissingFactorAnalysis(smoothing="auto", random_state=seed).fit(worms[2:])
    expected = co_smoothing_score(bar, worms[:1])
    for row in result.records:
        if (row["fold"], row["unit"], row["scorer"]) == (0, "worm00", "co-smoothing"):
            assert row["baseline"] == pytest.approx(expected)
    assert result.models == list(models)


def test_without_controls_there_are_none(models, worms):
    result = compare_models(models, worms, cv=2, scoring=co_smoothing_score, controls=False)
    assert result.scorers == ["co_smoothing_score"]
    assert "null" not in result.records[0]
    assert np.isnan(result.summary()[0]["null"])


@pytest.mark.parametrize("n_jobs", [2, pytest.param("dask", id="dask")])
def test_numbers_do_not_depend_on_where_cells_run(n_jobs, result, models, worms):
    if n_jobs == "dask":
        distributed = pytest.importorskip("distributed")
        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster),
            joblib.parallel_config(backend="dask"),
        ):
            other = compare_models(models, worms, cv=KFold(3), scoring=SCORING)
    else:
        other = compare_models(models, worms, cv=KFold(3), scoring=SCORING, n_jobs=n_jobs)
    same(result.records, other.records)


def test_seeds_are_paired_and_repeatable(worms):
    model = MissingFactorAnalysis(3, shrinkage=10.0)
    call = {"cv": 2, "scoring": co_smoothing_score, "controls": False, "n_seeds": 2}
    twice = {"one": model, "two": model}
    first = compare_models(twice, worms, **call)
    by_cell = {}
    for r in first.records:
        by_cell.setdefault((r["fold"], r["seed"], r["unit"]), []).append(r["score"])
    assert all(a == b for a, b in by_cell.values())
    seeds = {r["score"] for r in first.records if r["unit"] == "worm00"}
    assert len(seeds) == 2  # two starts of EM
    same(first.records, compare_models(twice, worms, **call).records)
    other = compare_models(twice, worms, **call, random_state=1)
    assert first.records[0]["score"] != other.records[0]["score"]


@pytest.mark.parametrize("where", ["fit", "predict", "one fold"])
def test_a_failed_cell_is_told_and_never_averaged_over(where, models, worms):
    result = compare_models(
        {"broken": Broken(where), "PCA": models["PCA"]}, worms, cv=3, controls=False,
        scoring=co_smoothing_score,
    )  # fmt: skip
    broken, fine = result.summary()
    assert np.isnan(broken["score"])
    assert np.isfinite(fine["score"])
    # Folds 1 and 2 train on worm00 first.
    assert broken["n_failed"] == len(result.errors) == (4 if where == "one fold" else 6)
    step = "score" if where == "predict" else "fit"
    assert all(r["error"].startswith(f"{step}: ") for r in result.errors)
    assert "\n" not in result.errors[0]["error"]
    text = str(result)
    assert "nan" not in text  # cells of what was not asked for, or failed, are empty
    assert "cells failed" in text
    assert "no luck" in text
    (difference,) = result.differences()
    assert np.isnan([difference["difference"], difference["p_corrected"]]).all()


def test_cells_in_memory_are_not_run_again(models, worms, tmp_path):
    memory = joblib.Memory(tmp_path, verbose=0)
    call = {"cv": 2, "scoring": co_smoothing_score, "memory": memory}
    first = compare_models({"PCA": models["PCA"]}, worms, **call)
    again = compare_models(models, worms, **call)
    kept = [r for r in again.records if r["model"] == "PCA"]
    # Time is measured anew in each run, so equal times are those of the first.
    assert [r["fit_seconds"] for r in kept] == [r["fit_seconds"] for r in first.records]
    assert len({r["model"] for r in again.records}) == 3


# -- differences -----------------------------------------------------------------------------------


def made(scores, units=None):
    """Comparison of given scores, (n_models, n_units)."""
    records = [
        {
            "model": f"m{i}", "fold": 0, "seed": 0, "scorer": "s", "unit": u, "score": value,
            "fit_seconds": 1.0, "score_seconds": 1.0, "peak_memory_mb": 1.0, "error": None,
        }
        for i, row in enumerate(scores)
        for u, value in zip(range(len(row)) if units is None else units, row)
    ]  # fmt: skip
    return Comparison(records, [])


def test_differences_are_paired_over_units():
    rng = np.random.default_rng(0)
    common = rng.normal(0, 5, 12)  # units differ far more than models
    gain = 0.2 + rng.normal(0, 0.05, 12)
    (row,) = made([common, common + gain]).differences()
    assert row["model"] == "m1"
    assert row["reference"] == "m0"
    assert row["difference"] == pytest.approx(gain.mean())
    assert 0.1 < row["low"] < gain.mean() < row["high"] < 0.3
    assert row["p_value"] < 0.01
    exact = bootstrap((gain,), np.mean, method="percentile", rng=np.random.default_rng(0))
    assert row["low"] == pytest.approx(exact.confidence_interval.low, abs=0.005)


def test_all_sign_flips_of_few_units_are_tried():
    (row,) = made([[0.0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4]]).differences()
    assert row["p_value"] == pytest.approx(2 / 2**4)


def test_folds_and_seeds_of_a_unit_are_one_unit():
    scores = np.array([[0.0, 0, 0, 0, 0, 0], [1, 1, 1, 2, 2, 2.0]])
    result = made(scores, units=[0, 0, 0, 1, 1, 1])
    (row,) = result.differences()
    assert row["n_units"] == 2
    assert row["difference"] == pytest.approx(1.5)
    assert result.summary()[1]["spread"] == pytest.approx(np.std([1, 2], ddof=1))


def test_a_single_unit_has_no_interval():
    (row,) = made([[0.1], [0.4]]).differences()
    assert row["difference"] == pytest.approx(0.3)
    assert np.isnan([row["low"], row["high"], row["p_value"], row["p_corrected"]]).all()


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    corrected = holm([0.02, np.nan, 0.01])
    assert corrected[::2] == pytest.approx([0.02, 0.02])
    assert np.isnan(corrected[1])


def test_reference_limits_the_pairs(result):
    assert len(result.differences()) == 2 * 3
    rows = result.differences("factor analysis")
    assert [(r["reference"], r["model"]) for r in rows[:2]] == [
        ("factor analysis", "PCA"), ("factor analysis", "behavior"),
    ]  # fmt: skip


def test_units_are_animals_by_default_and_can_be_given(models, worms):
    call = {"scoring": co_smoothing_score, "controls": False}
    animals = list("aabbcc")
    grouped = compare_models(
        {"PCA": models["PCA"]}, worms, cv=GroupKFold(3), groups=animals, **call
    )
    assert grouped.summary()[0]["n_units"] == 3
    unnamed = [dataclasses.replace(w, session=None) for w in worms]
    plain = compare_models({"PCA": models["PCA"]}, unnamed, cv=3, **call)
    assert plain.summary()[0]["n_units"] == 6
    given = compare_models({"PCA": models["PCA"]}, worms, cv=3, units=[0, 0, 0, 1, 1, 1], **call)
    assert given.summary()[0]["n_units"] == 2


# -- the table and the figure ----------------------------------------------------------------------


def test_frame_and_text(result):
    frame = result.to_frame()
    assert len(frame) == len(result.records) == 3 * 6 * 2
    assert frame.groupby("model")["score"].mean()["PCA"] == pytest.approx(
        np.mean([r["score"] for r in result.records if r["model"] == "PCA"])
    )
    assert str(result).count("\n| ") == 6
    assert repr(result) == "Comparison(3 models, 2 scorers, 36 records, 0 failed)"


def test_the_figure_shows_every_unit_in_gray(result):
    import matplotlib

    matplotlib.use("Agg")
    figure = result.plot(labels={"co-smoothing": "co-smoothing R² (unseen animals)"})
    axes = figure.axes
    assert len(axes) == 2
    assert axes[0].get_xlabel() == "co-smoothing R² (unseen animals)"
    assert [t.get_text() for t in axes[0].get_yticklabels()] == result.models
    drawn = np.concatenate([
        line.get_xdata() for line in axes[0].lines if line.get_marker() == "o"
    ])  # fmt: skip
    scores = [
        s for m in result.models for s in result.unit_scores(m, "co-smoothing").values()
    ]  # fmt: skip
    np.testing.assert_allclose(np.sort(drawn), np.sort(scores))
    paired = [line for line in axes[0].lines if len(line.get_xdata()) == 3]
    assert len(paired) == 6  # one line for each unit
    for line in axes[0].lines:
        red, green, blue = matplotlib.colors.to_rgb(line.get_color())
        assert red == green == blue


def test_progress_is_one_bar_with_the_time_left(models, worms, capsys):
    compare_models(
        {"PCA": models["PCA"]}, worms, cv=2, scoring=co_smoothing_score, controls=False, verbose=1
    )
    shown = capsys.readouterr().err
    assert "1/2 cells" in shown
    assert "2/2 cells, 0 s left" in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"models": [1]}, TypeError, "models must be a dict"),
        ({"models": {}}, TypeError, "models must be a dict"),
        ({"scoring": "r2"}, TypeError, "scoring must be a dict .* or one callable; got str"),
        ({"n_seeds": 0}, ValueError, "n_seeds must be an integer of at least 1, got 0"),
        ({"on_leak": "ignore"}, ValueError, "on_leak must be 'raise' or 'warn'"),
        ({"baseline": "PCA"}, ValueError, "baseline must be an estimator, None or 'auto'"),
        ({"y": [1]}, ValueError, "y has 1 entries; X has 6"),
        ({"units": [1]}, ValueError, "units has 1 entries; X has 6"),
        ({"cv": [([0, 1], [])]}, ValueError, "fold 0 of cv has 2 train and 0 test"),
    ],
)
def test_wrong_calls(changes, kind, message, models, worms):
    call = {"models": models, "cv": 2, "scoring": co_smoothing_score, **changes}
    with pytest.raises(kind, match=message):
        compare_models(call.pop("models"), worms, **call)


def test_an_unknown_reference_is_refused(result):
    with pytest.raises(ValueError, match="reference must be one of"):
        result.differences("UMAP")


class Stubborn(MissingFactorAnalysis):
    """Fails until a file exists, and warns."""

    def __init__(self, n_components=2, *, path=None, random_state=None):
        super().__init__(n_components, random_state=random_state)
        self.path = path

    def fit(self, X, y=None):
        if not Path(self.path).exists():
            raise MemoryError("not yet")
        warnings.warn("hardly converged", stacklevel=1)
        return super().fit(X)


def test_failures_are_tried_again_and_warnings_are_told(worms, tmp_path):
    memory = joblib.Memory(tmp_path / "cache", verbose=0)
    model = {"stubborn": Stubborn(path=tmp_path / "ready")}
    call = {"cv": 2, "scoring": co_smoothing_score, "memory": memory, "controls": False}
    assert len(compare_models(model, worms, **call).errors) == 6
    (tmp_path / "ready").touch()
    result = compare_models(model, worms, **call)
    assert result.errors == []
    assert result.records[0]["warnings"] == ["hardly converged"]
    assert "stubborn warned: hardly converged" in str(result)


def test_a_null_that_fails_leaves_the_score(models, worms):
    slow = [w.replace(behavior=np.arange(240.0)) for w in worms]
    result = compare_models({"PCA": models["PCA"]}, slow, cv=2, scoring=co_smoothing_score)
    assert result.errors == []
    for row in result.records:
        assert np.isfinite(row["score"])
        assert np.isnan(row["null"])
        assert "four autocorrelation times" in row["null_error"]


def test_a_baseline_that_fails_is_told(models, worms):
    result = compare_models(
        {"PCA": models["PCA"]}, worms, cv=2, scoring=co_smoothing_score, baseline=Broken()
    )
    assert np.isnan(result.records[0]["baseline"])
    assert "no luck" in result.baseline_errors[0]
    assert "linear baseline: fit: RuntimeError" in str(result)


def nan_score(estimator, X, y=None):
    return float("nan")


def test_a_score_that_is_not_finite_is_an_error(models, worms):
    result = compare_models({"PCA": models["PCA"]}, worms, cv=2, scoring=nan_score)
    assert len(result.errors) == 6
    assert "the score is nan" in result.errors[0]["error"]


def test_memory_needs_scorers_that_pickle(models, worms, tmp_path):
    with pytest.raises(ValueError, match=r"scoring\['mine'\] cannot be pickled"):
        compare_models(
            models, worms, cv=2, scoring={"mine": lambda e, X, y=None: 0.0},
            memory=joblib.Memory(tmp_path, verbose=0),
        )  # fmt: skip
