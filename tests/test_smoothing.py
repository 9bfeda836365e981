"""GaussianSmoother, against a direct sum and in front of other estimators."""

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter1d
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skneurovae.baselines import GaussianSmoother, MissingFactorAnalysis, Pooled
from skneurovae.metrics import hide_spans, imputation_score
from skneurovae.recordings import Recording

# Neighbors in time are what it averages.
ORDERED = {
    "check_methods_sample_order_invariance": "rows are ordered",
    "check_methods_subset_invariance": "rows have neighbors",
}


@parametrize_with_checks(
    [GaussianSmoother()], expected_failed_checks=lambda _: ORDERED, xfail_strict=True
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def direct(trace, width):
    """Normalized convolution of one trace as a double sum."""
    out = np.full(len(trace), np.nan)
    reach = int(4 * width + 0.5)
    for t in np.flatnonzero(~np.isnan(trace)):
        near = [s for s in range(len(trace)) if abs(s - t) <= reach and not np.isnan(trace[s])]
        weights = np.exp(-0.5 * ((np.array(near) - t) / width) ** 2)
        out[t] = weights @ trace[near] / weights.sum()
    return out


@pytest.mark.parametrize("width", [0.6, 2.0, 50.0])
def test_it_is_the_weighted_mean_of_what_is_observed(width):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3)) + 5
    X[rng.random(X.shape) < 0.3] = np.nan
    expected = np.column_stack([direct(x, width) for x in X.T])
    np.testing.assert_allclose(GaussianSmoother(width).fit_transform(X), expected, atol=1e-8)


def test_inside_a_complete_recording_it_is_the_filter_of_scipy():
    X = np.random.default_rng(0).standard_normal((200, 2))
    smoothed = GaussianSmoother(3.0).fit_transform(X)
    np.testing.assert_allclose(smoothed[15:-15], gaussian_filter1d(X, 3.0, axis=0)[15:-15])
    np.testing.assert_array_equal(GaussianSmoother(0).fit_transform(X), X)
    np.testing.assert_allclose(GaussianSmoother(5).fit_transform(np.full((9, 2), 3.0)), 3.0)


def test_hidden_entries_never_enter_and_others_do():
    X = np.random.default_rng(0).standard_normal((60, 2))
    X[20:30, 0] = np.nan
    base = GaussianSmoother(2.0).fit_transform(X)
    assert np.isnan(base[20:30, 0]).all()
    changed = X.copy()
    changed[5, 0] += 1
    difference = np.abs(GaussianSmoother(2.0).fit_transform(changed) - base)
    assert (difference[1:10, 0] > 0).all()
    assert np.nanmax(difference[:, 1]) == 0


def test_forms_are_kept_down_to_the_entries(worms):
    smoother = GaussianSmoother(1.5).fit(worms)
    smoothed = smoother.transform(worms)
    for before, after in zip(worms, smoothed):
        assert isinstance(after, Recording)
        for name in ("behavior", "identities", "session", "rate_hz", "stimulus"):
            assert getattr(after, name) is getattr(before, name)
        assert after.traces.shape == before.traces.shape
        assert not np.array_equal(after.traces, before.traces, equal_nan=True)
    # Recordings do not run into each other.
    alone = smoother.transform(worms[1:2])[0].traces
    np.testing.assert_array_equal(alone, smoothed[1].traces)
    X = np.random.default_rng(0).standard_normal((2, 12, 3)).astype(np.float32)
    assert GaussianSmoother().fit_transform(X).dtype == np.float32
    assert GaussianSmoother().fit_transform(X).shape == X.shape
    assert isinstance(GaussianSmoother().fit_transform(list(X))[0], np.ndarray)
    frame = pd.DataFrame(X[0], columns=list("abc"))
    assert list(GaussianSmoother().fit_transform([frame])[0].columns) == list("abc")


def test_first_step_of_a_pipeline(worms):
    for model in (Pooled(PCA(2)), MissingFactorAnalysis(2, shrinkage=30.0, random_state=0)):
        pipeline = make_pipeline(GaussianSmoother(2.0), model).fit(worms)
        expected = model.transform(GaussianSmoother(2.0).fit_transform(worms))
        np.testing.assert_array_equal(pipeline.transform(worms)[0], expected[0])


def test_scorers_hide_before_they_smooth():
    """White noise cannot be imputed; smoothed before it is hidden, it seems to be."""
    X = np.random.default_rng(0).standard_normal((400, 6))
    pipeline = make_pipeline(GaussianSmoother(3.0), Pooled(PCA(1))).fit(X)
    honest = imputation_score(pipeline, X, span_length=2)
    assert honest < 0.05
    smoothed = GaussianSmoother(3.0).fit_transform([Recording(X)])[0]
    shown, hidden = hide_spans(smoothed, span_length=2)
    neighbors = np.where(np.isnan(shown.traces), np.roll(smoothed.traces, 2, axis=0), 0)
    truth = smoothed.traces[hidden]
    assert 1 - ((truth - neighbors[hidden]) ** 2).mean() / truth.var() > 0.3


@pytest.mark.parametrize("width", [-1, np.nan, np.inf, "2", True])
def test_wrong_width(width):
    with pytest.raises(ValueError, match="width must be a finite number of 0 or more"):
        GaussianSmoother(width).fit(np.ones((5, 2)))
