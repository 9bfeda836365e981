"""The parts that leaks are found with, against values computed in other ways."""

import functools
import warnings

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import norm, rankdata
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.ensemble import VotingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skneurovae import Recording
from skneurovae.baselines import MissingFactorAnalysis, Pooled
from skneurovae.model_selection import find_leaks
from skneurovae.model_selection.leaks.alike import averaged, interpolated, likeness
from skneurovae.model_selection.leaks.equal import equal_recordings
from skneurovae.model_selection.leaks.fitted import fitted_models
from skneurovae.model_selection.leaks.prepared import (
    crowds,
    information,
    normal_scores,
    prepare,
    straight,
)
from skneurovae.model_selection.leaks.sides import Sides
from skneurovae.model_selection.leaks.stacks import by_lag, target_columns


def slow(rng, n_timesteps, n_columns, phi=0.95):
    white = rng.standard_normal((n_timesteps, n_columns))
    return lfilter([np.sqrt(1 - phi**2)], [1, -phi], white, axis=0)


# -- normal scores and whitening -------------------------------------------------------------------


def test_normal_scores_are_quantiles_of_ranks():
    rng = np.random.default_rng(0)
    tables = rng.poisson(1.5, (2, 50, 4)).astype(float)
    tables[rng.random(tables.shape) < 0.2] = np.nan
    scores, modal, distinct = normal_scores(tables)
    for k in range(2):
        for n in range(4):
            kept = ~np.isnan(tables[k, :, n])
            values = tables[k, kept, n]
            expected = norm.ppf((rankdata(values) - 0.5) / len(values))
            expected = (expected - expected.mean()) / expected.std()
            np.testing.assert_allclose(scores[k, kept, n], expected, atol=1e-5)
            assert (scores[k, ~kept, n] == 0).all()
            counts = np.unique(values, return_counts=True)[1]
            assert (modal[k, n], distinct[k, n]) == (counts.max(), len(counts))


def test_scores_forget_unit_offset_and_every_increasing_function():
    x = np.random.default_rng(0).standard_normal((1, 60, 1))
    same = [normal_scores(f(x))[0] for f in (np.exp, lambda v: 1e-9 * v - 5, lambda v: v**3)]
    for scores in same:
        np.testing.assert_array_equal(scores, normal_scores(x)[0])
    np.testing.assert_allclose(normal_scores(-x)[0], -same[0], atol=1e-6)


def test_what_is_new_in_slow_traces_correlates_as_white_noise_does():
    rng = np.random.default_rng(0)
    tables = [slow(rng, 200, 10) for _ in range(20)]
    columns = prepare(tables)
    raw = [np.corrcoef(a[:, 0], b[:, 0])[0, 1] for a, b in zip(tables[::2], tables[1::2])]
    new = np.concatenate([(a.white * b.white).mean(0) for a, b in zip(columns[::2], columns[1::2])])
    assert np.std(raw) > 0.2  # chance
    assert np.std(new) == pytest.approx(1 / np.sqrt(200), rel=0.25)
    assert np.abs(np.concatenate([c.memory for c in columns])).max() < 0.15


def test_straight_lines_tell_nothing_whatever_is_missing():
    rng = np.random.default_rng(0)
    line = np.arange(30.0)[:, None] * [1, -1e-9, 0] + [1e6, 0, 3]
    bent = np.c_[np.arange(30.0) ** 2, rng.standard_normal(30), line[:, 0]]
    bent[7, 2] += 1
    table = np.c_[line, bent]
    np.testing.assert_array_equal(straight(table[None])[0], [True] * 3 + [False] * 3)
    table[1::2] = np.nan
    table[0] = np.nan
    table[7] = bent[7, 2]  # one value for all columns, off every line
    np.testing.assert_array_equal(straight(table[None])[0], [False] * 6)
    assert not prepare([line])[0].tells.any()


def test_a_crowd_is_the_same_in_any_order_and_with_any_sign():
    rng = np.random.default_rng(0)
    white = rng.standard_normal((1, 40, 9)).astype(np.float32)
    signs = rng.choice([-1, 1], 9).astype(np.float32)
    np.testing.assert_allclose(
        crowds(white), crowds(signs * white[:, :, rng.permutation(9)]), atol=1e-5
    )


def test_information_of_a_correlation():
    assert information(0.0) == 0
    assert information(-np.sqrt(0.75)) == pytest.approx(1.0)  # of variance 1 a quarter is left
    assert 14 < information(1.0) < 16


# -- alignments ------------------------------------------------------------------------------------


def test_correlations_by_lag_are_those_of_shifted_columns():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 80, 3))
    a, b = ((x - x.mean(0)) / x.std(0) for x in (a, b))
    found = by_lag(a, b, 5)
    for lag in range(-5, 6):
        pairs = [(t, t + lag) for t in range(80) if 0 <= t + lag < 80]
        expected = sum(np.outer(a[t], b[s]) for t, s in pairs) / 80
        np.testing.assert_allclose(found[lag + 5], expected, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda x: x[9:], "shifted by 9 time steps"),
        (lambda x: -x[::-1], "reversed in time"),
        (lambda x: interpolated(x, 200), "with time stretched"),
        (lambda x: averaged(x, 60), "with time stretched"),
        (lambda x: np.exp(x[:, ::-1]), "with neurons in another order"),
    ],
)
def test_the_alignment_of_a_copy_is_told(change, how):
    rng = np.random.default_rng(0)
    first = slow(rng, 120, 12, 0.8)
    one, other, third = prepare([first, change(first).copy(), slow(rng, 120, 12, 0.8)])
    alike = likeness(one, other, range(12), range(12))
    assert alike.how.strip() == how
    assert alike.new > 0.9
    assert alike.bits > 100
    assert likeness(one, third, range(12), range(12)).bits < 0


def test_averages_over_parts_of_time_steps():
    x = np.random.default_rng(0).standard_normal((12, 2))
    np.testing.assert_allclose(averaged(x, 4), x.reshape(4, 3, 2).mean(1))
    fine = np.repeat(x, 5, axis=0).reshape(5, 12, 2).mean(1)
    np.testing.assert_allclose(averaged(x, 5), fine)
    np.testing.assert_allclose(interpolated(x, 23)[::2], x)


def test_sides_of_splits():
    rng = np.random.default_rng(0)
    splits = [(rng.permutation(9)[:4], rng.permutation(9)[:3]) for _ in range(3)]
    sides = Sides(splits, 9)
    expected = np.zeros((9, 9), dtype=bool)
    for train, test in splits:
        expected[np.ix_(train, test)] = expected[np.ix_(test, train)] = True
    np.testing.assert_array_equal(sides.apart_from(np.arange(9)), expected)
    assert all(sides.apart(a, b) == expected[a, b] for a in range(9) for b in range(9))


# -- equal numbers ---------------------------------------------------------------------------------


def equal(tables):
    names = [list(range(t.shape[1])) for t in tables]
    return equal_recordings(tables, names, prepare(tables))


def test_equal_stretches_count_as_far_as_they_surprise():
    rng = np.random.default_rng(0)
    counts = [rng.poisson(0.3, (80, 10)) * 1.0 for _ in range(10)]
    assert equal(counts) == {}
    spliced = counts[3].copy()
    spliced[20:60] = counts[7][10:50]
    assert list(equal([*counts, spliced])) == [(3, 10), (7, 10)]
    silent = [np.zeros((80, 10)) for _ in range(10)]
    for table, t in zip(silent, range(10)):
        table[t, 0] = 1.0
    assert equal(silent) == {}


def test_transients_that_decay_alike_are_not_equal_recordings():
    rng = np.random.default_rng(0)
    traces = [lfilter([1], [1, -0.8], rng.poisson(0.02, (300, 8)) * 1.0, axis=0) for _ in range(8)]
    assert equal(traces) == {}
    assert list(equal([*traces, traces[2].copy()])) == [(2, 8)]


# -- fitted models ---------------------------------------------------------------------------------

FITTED = Ridge().fit(np.eye(3), np.arange(3.0))


def uses_a_global(X):
    return FITTED.predict(X)


class Holder(BaseEstimator):
    def __init__(self, part=None):
        self.part = part

    def fit(self, X, y=None):
        return self


class OnItsClass(Holder):
    kept = FITTED


class Carries(Holder):
    """Keeps what it learned under a plain name, past clone."""

    def __sklearn_clone__(self):
        copied = Carries(self.part)
        copied.weights = getattr(self, "weights", None)
        return copied


class Plain:
    def __init__(self, model):
        self.model = model


def with_default(X, model=FITTED):
    return model.predict(X)


@pytest.mark.parametrize(
    "model",
    [
        FrozenEstimator(FITTED),
        FunctionTransformer(uses_a_global),
        FunctionTransformer(with_default),
        FunctionTransformer(functools.partial(with_default, model=None)),
        FunctionTransformer(FITTED.predict),
        Holder({"nested": [Plain(FITTED)]}),
        Holder((lambda model: lambda X: model.predict(X))(FITTED)),
        OnItsClass(),
        Carries(),
        make_pipeline(PCA(2), FrozenEstimator(PCA(2).fit(np.eye(3)))),
    ],
    ids=lambda m: type(m).__name__,
)
def test_a_fitted_model_is_found_wherever_it_hides(model):
    (leak,) = fitted_models([model])
    assert leak.certain
    assert leak.kind == "fitted model"
    assert "was fitted before" in leak.message


@pytest.mark.parametrize(
    "model",
    [
        FITTED,  # which clone makes forget
        PCA(2).fit(np.eye(3)),
        make_pipeline(FunctionTransformer(np.log1p), PCA(2), FITTED),
        FunctionTransformer(lambda X: np.asarray(X)),
        VotingRegressor([("ridge", FITTED), ("other", Ridge())]),
        Pooled(PCA(2).fit(np.eye(3))),
        MissingFactorAnalysis(2),
        Holder({"a": np.eye(3), "b": [1, "two", None]}),
        Holder(functools.partial(np.clip, a_min=0)),
        Holder(type),
    ],
    ids=lambda m: type(m).__name__,
)
def test_models_that_clone_makes_forget_are_no_leak(model):
    assert list(fitted_models([model, clone(model)])) == []


# -- any input -------------------------------------------------------------------------------------


def test_classes_and_numbers_of_a_target():
    recordings = [Recording(np.zeros((4, 1)))] * 2
    (number, labels), _ = target_columns(
        [np.array([0, 1, 1, 0]), np.array([1, 1, 0, 0])], recordings
    )
    np.testing.assert_array_equal(number[:, 0], [0, 1, 1, 0])
    np.testing.assert_array_equal(labels, np.eye(2)[[0, 1, 1, 0]])
    (number, labels), (_, other) = target_columns(["left", "right"], recordings)
    assert number is None
    np.testing.assert_array_equal(labels, [[1, 0]] * 4)
    np.testing.assert_array_equal(other, [[0, 1]] * 4)


def any_case(seed):
    rng = np.random.default_rng(seed)
    n, width = rng.integers(1, 12), rng.integers(1, 6)
    n_behaviors, scale = rng.integers(0, 3), 10.0 ** rng.integers(-12, 12)
    X, y = [], []
    for i in range(n):
        n_timesteps = int(rng.choice([1, 2, 3, 5, 10, 40, 130]))
        traces = scale * rng.standard_normal((n_timesteps, width))
        if rng.random() < 0.3:
            traces[:, rng.integers(width)] = rng.choice([0, 1e3, np.nan])
        if rng.random() < 0.3:
            traces[rng.random(traces.shape) < 0.5] = np.nan
        if np.isnan(traces).all():
            traces[0, 0] = 1.0
        behavior = rng.standard_normal((n_timesteps, n_behaviors)) if n_behaviors else None
        if n_behaviors and rng.random() < 0.3:
            behavior[rng.random(behavior.shape) < rng.choice([0.5, 1.0])] = np.nan
        X.append(Recording(traces, behavior=behavior, session=f"s{rng.integers(3)}{i * (i % 2)}"))
        y.append(
            rng.standard_normal(n_timesteps) if seed % 2 else rng.choice(["a", "b"], n_timesteps)
        )
    splits = [(rng.permutation(n)[: n // 2 + 1], rng.permutation(n)[:2]) for _ in range(2)]
    return X, splits, y if seed % 3 else None


@pytest.mark.parametrize("seed", range(40))
def test_any_input_is_looked_at_without_a_word(seed):
    X, splits, y = any_case(seed)
    kept = [r.traces.copy() for r in X]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        leaks = find_leaks(X, splits, y=y)
    assert all("\n" not in leak.message for leak in leaks)
    for recording, traces in zip(X, kept):
        np.testing.assert_array_equal(recording.traces, traces)
