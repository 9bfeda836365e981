"""Twelve planted leaks, each with what it would have gained, are refused or flagged."""

import dataclasses

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit

from skneurovae import Recording
from skneurovae.baselines import LaggedRidge, MissingFactorAnalysis, Pooled
from skneurovae.datasets import make_worms
from skneurovae.metrics import co_smoothing_score
from skneurovae.model_selection import (
    ContiguousSpeckles,
    ForwardChaining,
    HeldOutNeurons,
    LeakError,
    compare_models,
    find_leaks,
    segment,
)

FA = {"factor analysis": MissingFactorAnalysis(3, shrinkage=10.0)}


@pytest.fixture(scope="module")
def worms():
    """Animals without the names of their session, so that only their data can tell."""
    made, _ = make_worms(4, n_timesteps=160, n_identities=40, n_recorded=30, random_state=0)
    return [dataclasses.replace(w, session=None) for w in made]


def halves(n):
    return [(np.arange(n // 2), np.arange(n // 2, n))]


def kinds(X, splits=None, certain=None, **options):
    splits = halves(len(X)) if splits is None else list(splits)
    leaks = find_leaks(X, splits, **options)
    return [leak.kind for leak in leaks if certain is None or leak.certain is certain]


def copied(recording, **changes):
    return recording.replace(traces=recording.traces.copy(), **changes)


# -- what is planted: (list of recordings, splits, options), and the kind that must be found -------


def one_object_twice(w):
    """One session on both sides: a model of enough components reproduces what it was fitted to."""
    return [w[0], w[1], w[0], w[2]], halves(4), {}


def a_copy_under_another_name(w):
    """The same gain; nothing but the numbers tells."""
    return [w[0], w[1], copied(w[0], session="another"), w[2]], halves(4), {}


def overlapping_pieces(w):
    """Windows that cross folds: half of the test samples were trained on."""
    pieces = [w[0].replace(traces=w[0].traces[a : a + 80].copy(), behavior=None) for a in (0, 40)]
    return pieces, [([0], [1])], {}


def some_neurons_of_the_same_recording(w):
    """A recording with a third of its neurons left out is still that recording."""
    part = w[0].replace(traces=w[0].traces[:, 10:].copy(), identities=w[0].identities[10:])
    return [w[0], part], [([0], [1])], {}


def random_rows_of_one_array(w):
    """Neighbors in time on both sides: slow traces are interpolated."""
    return w[0].traces, ShuffleSplit(1, random_state=0).split(w[0].traces), {}


def pieces_without_a_gap(w):
    """The first frames of a test piece continue the last ones of a training piece."""
    return segment(w[:1], 40), KFold(4).split(range(4)), {}


def a_group_on_both_sides(w):
    """Sessions of one animal share its own read-out."""
    return w, KFold(2).split(w), {"groups": ["a", "b", "a", "b"]}


def behavior_as_the_target(w):
    """The decoded behavior is an input of the encoder."""
    return w, None, {"y": [r.behavior[:, :1] for r in w]}


def a_trace_among_the_behaviors(w):
    """A hidden neuron is read from the behavior channel that repeats it."""
    spied = [r.replace(behavior=np.c_[r.behavior, r.traces[:, 3]]) for r in w]
    return spied, None, {}


def a_neuron_recorded_twice(w):
    """One region of interest segmented twice: its twin gives the hidden neuron away."""
    twice = [
        r.replace(
            traces=np.c_[r.traces, r.traces[:, :1]], identities=np.append(r.identities, f"copy {i}")
        )
        for i, r in enumerate(w)
    ]
    return twice, None, {}


def a_fitted_model(w):
    """A model that has seen the test animals and is not fitted again."""
    fitted = FrozenEstimator(MissingFactorAnalysis(3).fit(w))
    return w, None, {"models": [fitted]}


def scaled_over_train_and_test(w):
    """Mean and standard deviation of the test pieces are known in training."""
    traces = w[0].traces
    scaled = w[0].replace(traces=(traces - traces.mean(0)) / traces.std(0))
    return segment([scaled], 40), None, {}


PLANTED = {
    one_object_twice: "shared recording",
    a_copy_under_another_name: "overlap",
    overlapping_pieces: "overlap",
    some_neurons_of_the_same_recording: "overlap",
    random_rows_of_one_array: "rows",
    pieces_without_a_gap: "neighbors in time",
    a_group_on_both_sides: "group",
    behavior_as_the_target: "behavior as target",
    a_trace_among_the_behaviors: "behavior copies a trace",
    a_neuron_recorded_twice: "twin neurons",
    a_fitted_model: "fitted model",
    scaled_over_train_and_test: "scaling",
}
FLAGGED = {"neighbors in time", "scaling"}  # suspected, not certain


@pytest.mark.parametrize("plant", PLANTED, ids=lambda f: f.__name__)
def test_planted_leak_is_found(plant, worms):
    X, splits, options = plant(worms)
    found = kinds(X, splits, certain=PLANTED[plant] not in FLAGGED, **options)
    assert PLANTED[plant] in found


@pytest.mark.parametrize("plant", PLANTED, ids=lambda f: f.__name__)
def test_compare_models_refuses_or_flags_it(plant, worms):
    X, splits, options = plant(worms)
    models = dict(FA)
    if "models" in options:
        models["fitted"] = options.pop("models")[0]
    splits = halves(len(X)) if splits is None else list(splits)
    call = {"cv": splits, "scoring": co_smoothing_score, "controls": False, **options}
    if PLANTED[plant] in FLAGGED:
        with pytest.warns(UserWarning, match=PLANTED[plant]):
            result = compare_models(models, X, **call)
        assert PLANTED[plant] in [leak.kind for leak in result.leaks]
        assert PLANTED[plant] in str(result)
    else:
        with pytest.raises(LeakError, match=PLANTED[plant]):
            compare_models(models, X, **call)


def gain(X, splits, clean, model):
    """Score of the planted data less that of the same without the leak."""
    scores = []
    for data in (X, clean):
        train, test = next(iter(splits))
        fitted = model.fit([data[i] for i in train])
        scores.append(co_smoothing_score(fitted, [data[i] for i in test]))
    return scores[0] - scores[1]


def test_what_planted_leaks_would_have_gained(worms):
    """The leaks are worth refusing: with small training sets they raise co-smoothing R2."""
    flexible = MissingFactorAnalysis(12, shrinkage=0.1, random_state=0)
    X, splits, _ = one_object_twice(worms)
    assert gain(X, [([0, 1], [2])], [worms[3], worms[1], worms[0]], flexible) > 0.05
    X, splits, _ = a_neuron_recorded_twice(worms)
    assert gain(X, splits or halves(4), worms, flexible) > 0.005
    X, splits, _ = a_trace_among_the_behaviors(worms)
    ridge = LaggedRidge(lags=0, alpha=1.0)
    assert gain(X, halves(4), worms, ridge) > 0.005


# -- what is clean stays unharmed ------------------------------------------------------------------


def test_clean_data_has_no_leak(worms):
    assert kinds(worms) == []
    assert kinds(worms, KFold(4).split(worms), groups=list("abcd")) == []
    groups = list("aabb")
    assert kinds(worms, GroupKFold(2).split(worms, groups=groups), groups=groups) == []
    assert kinds(segment(worms, 30, gap=25), KFold(4).split(range(12))) == []


def test_other_targets_and_twins_of_one_identity_are_no_leak(worms):
    rng = np.random.default_rng(0)
    assert kinds(worms, y=[rng.normal(size=(160, 2)) for _ in worms]) == []
    twins = [
        r.replace(
            traces=np.c_[r.traces, r.traces[:, 0]],
            identities=np.append(r.identities, r.identities[0]),
        )
        for r in worms
    ]
    assert kinds(twins) == []  # hidden together


@pytest.mark.parametrize(
    "splitter",
    [ContiguousSpeckles(2, span_length=10), HeldOutNeurons(2), ForwardChaining(2, gap=30)],
    ids=lambda s: type(s).__name__,
)
def test_views_of_the_splitters_are_no_leak(splitter, worms):
    views = splitter.views(worms)
    assert kinds(views, splitter.split(views), certain=True) == []


def test_a_view_that_kept_what_it_holds_out_is_a_leak(worms):
    splitter = ContiguousSpeckles(2, span_length=10)
    views = splitter.views(worms)
    spoiled = [
        v if v.held_out is not None else v.replace(traces=w.traces.copy())
        for v, w in zip(views, [w for w in worms for _ in range(4)])
    ]
    assert "overlap" in kinds(spoiled, splitter.split(spoiled), certain=True)


def test_silent_bins_are_no_overlap():
    rng = np.random.default_rng(0)
    counts = [rng.poisson(0.02, (400, 5)).astype(float) for _ in range(4)]
    assert kinds([Recording(c, session=str(i)) for i, c in enumerate(counts)]) == []


def test_certain_leaks_can_be_kept_on_purpose(worms):
    X, splits, _ = a_copy_under_another_name(worms)
    with pytest.warns(UserWarning, match="overlap"):
        result = compare_models(
            {"PCA": Pooled(PCA(2))}, X, cv=splits, scoring=co_smoothing_score, controls=False,
            on_leak="warn",
        )  # fmt: skip
    assert "overlap" in [leak.kind for leak in result.leaks]


# -- designs that are legitimate -------------------------------------------------------------------


def test_recordings_that_share_no_neuron_or_no_label(worms):
    other = dataclasses.replace(worms[0], identities=np.array([f"x{i}" for i in range(30)]))
    moved = copied(other)
    moved = moved.replace(traces=moved.traces[::-1].copy())
    assert kinds([moved, *worms[1:]]) == []
    blank = [dataclasses.replace(w, identities=np.array([""] * w.n_neurons), session=str(i))
             for i, w in enumerate(worms)]  # fmt: skip
    assert kinds(blank) == []


def test_a_copy_with_other_names_is_found(worms):
    renamed = copied(worms[0], identities=np.array([f"x{i}" for i in range(30)]))
    assert "overlap" in kinds([worms[0], renamed], [([0], [1])])


def test_classes_may_be_decoded(worms):
    labels = [np.array(["run", "turn"])[np.arange(160) // 7 % 2] for _ in worms]
    assert kinds(worms, y=labels) == []


def test_trials_cut_from_one_block_of_memory_are_no_leak():
    trials = np.random.default_rng(0).standard_normal((60, 10, 7))  # time, trial, neuron
    assert kinds([trials[:, i] for i in range(10)]) == []


def test_sparse_neurons_that_coincide_are_no_twins():
    rng = np.random.default_rng(0)
    counts = [rng.poisson(0.02, (100, 80)).astype(float) for _ in range(6)]
    assert kinds([Recording(c, session="one") for c in counts]) == []


def test_scaled_targets_and_stimuli_are_found(worms):
    assert kinds(worms, y=[2 * r.behavior[:, :1] + 1 for r in worms]) == ["behavior as target"] * 4
    shown = [dataclasses.replace(r, behavior=None, stimulus=r.behavior) for r in worms]
    target = [r.behavior[:, :1].astype(np.float32) for r in worms]
    assert kinds(shown, y=target) == ["behavior as target"] * 4


@pytest.mark.parametrize("gap", [0, 7])
def test_scaling_over_pieces_is_flagged_where_a_tail_was_dropped(gap):
    worm, _ = make_worms(1, n_timesteps=1000, n_identities=30, n_recorded=20, random_state=1)
    traces = worm[0].traces
    scaled = worm[0].replace(traces=(traces - traces.mean(0)) / traces.std(0))
    pieces = segment([scaled], 150, gap)
    splits = list(KFold(3).split(pieces))
    assert "scaling" in kinds(pieces, splits)
    shifted = segment([worm[0].replace(traces=3 * traces + 1)], 150, gap)
    assert "scaling" not in kinds(shifted, splits)
    each = [p.replace(traces=(p.traces - p.traces.mean(0)) / p.traces.std(0)) for p in shifted]
    assert "scaling" not in kinds(each, splits)


def test_short_copies_and_single_neurons_are_found():
    rng = np.random.default_rng(0)
    short = rng.standard_normal((6, 5))
    assert "overlap" in kinds([short, short.copy()], [([0], [1])])
    single = rng.standard_normal((50, 1))
    assert "overlap" in kinds([single, single.copy()], [([0], [1])])


def test_pieces_of_other_recordings_keep_their_neurons_apart(worms):
    bare = [r.traces[:, :20] + 0.0 for r in worms[:3]]
    pieces = [piece for traces in bare for piece in segment(traces, 70, 10)]
    assert len({p.session for p in pieces}) == 3
    assert len(MissingFactorAnalysis(1).fit(pieces).identities_) == 60


def test_splits_may_come_from_a_splitter_as_they_are(worms):
    twice = [*worms, copied(worms[0])]
    found = find_leaks(twice, KFold(2).split(twice))
    assert [leak.kind for leak in found] == ["overlap"]
