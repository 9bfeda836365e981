"""Segments, and splitters of what lies inside recordings."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold, cross_validate

from skneurovae import Recording
from skneurovae.baselines import MissingFactorAnalysis, Pooled
from skneurovae.datasets import make_worms
from skneurovae.model_selection import (
    ContiguousSpeckles,
    ForwardChaining,
    HeldOutNeurons,
    held_out_score,
    segment,
)
from skneurovae.recordings import check_recordings


@pytest.fixture(scope="module")
def worms():
    return make_worms(4, n_timesteps=150, n_identities=40, n_recorded=30, random_state=0)[0]


def test_segments_are_pieces_of_what_they_say(worms):
    pieces = segment(worms, 40, gap=10)
    assert [(p.start, p.stop) for p in pieces if p.source == 1] == [(0, 40), (50, 90), (100, 140)]
    for piece in pieces:
        whole = worms[piece.source]
        span = slice(piece.start, piece.stop)
        np.testing.assert_array_equal(piece.traces, whole.traces[span])
        np.testing.assert_array_equal(piece.behavior, whole.behavior[span])
        np.testing.assert_array_equal(piece.identities, whole.identities)
        assert piece.session == whole.session
    assert check_recordings(pieces)[0][0].stop == 40  # the door keeps what they are


def test_a_tail_of_half_a_length_is_kept_and_a_shorter_one_is_not():
    assert [p.stop for p in segment(np.zeros((150, 3)), 100)] == [100, 150]
    assert [p.stop for p in segment(np.zeros((149, 3)), 100)] == [100]


def test_segments_of_segments_count_from_the_recording():
    first = segment(np.arange(200.0)[:, None], 100)
    again = segment(first[1:], 50)
    assert [(p.start, p.stop) for p in again] == [(100, 150), (150, 200)]
    assert again[1].traces[0, 0] == 150


def test_unlabelled_neurons_of_one_recording_stay_the_same_in_its_segments():
    rng = np.random.default_rng(0)
    pieces = segment([rng.normal(size=(80, 5)), rng.normal(size=(80, 7))], 40)
    model = MissingFactorAnalysis(1).fit(pieces)
    assert len(model.identities_) == 5 + 7


def test_speckles_hold_out_each_entry_once_in_contiguous_spans(worms):
    splitter = ContiguousSpeckles(3, span_length=10)
    views = splitter.views(worms)
    splits = list(splitter.split(views))
    assert len(splits) == splitter.get_n_splits() == 3
    count = np.zeros(worms[2].traces.shape)
    for train, test in splits:
        assert not set(train) & set(test)
        for a, b in zip(train, test):
            hidden = views[b].held_out
            assert np.isnan(views[a].traces[hidden]).all()
            np.testing.assert_array_equal(views[a].traces[~hidden], views[b].traces[~hidden])
            edges = np.flatnonzero(np.diff(np.r_[False, hidden[:, 0], False].astype(int)))
            inner = [n for s, n in zip(edges[::2], np.diff(edges)[::2]) if s > 0 and s + n < 150]
            assert all(n % 10 == 0 for n in inner)
        count += views[test[2]].held_out
    assert (count == 1).all()


def test_held_out_neurons_are_hidden_in_training_in_one_fold_each(worms):
    splitter = HeldOutNeurons(3)
    views = splitter.views(worms)
    total = 0
    for train, test in splitter.split(views):
        for a, b in zip(train, test):
            hidden = views[b].held_out[0]
            assert np.isnan(views[a].traces[:, hidden]).all()
            assert not np.isnan(views[a].traces[:, ~hidden]).any()
            total += hidden.sum()
    assert total == sum(w.n_neurons for w in worms)
    # Recordings hide different neurons, so that a model learns of each from the others.
    first = [views[b].identities[views[b].held_out[0]] for b in test]
    assert set(first[0]) != set(first[1])


def test_forward_chaining_trains_on_the_past_and_leaves_a_gap(worms):
    splitter = ForwardChaining(2, gap=7)
    views = splitter.views(worms)
    for fold, (train, test) in enumerate(splitter.split(views)):
        for a, b in zip(train, test):
            assert views[a].start == 0
            assert views[a].stop == 50 * (fold + 1)
            assert (views[b].start, views[b].stop) == (50 * (fold + 1) + 7, 50 * (fold + 2))


def test_splitters_serve_cross_validate_and_grid_search():
    worms, _ = make_worms(8, n_timesteps=300, n_identities=40, n_recorded=30, random_state=0)
    for splitter in (ContiguousSpeckles(3, span_length=10), HeldOutNeurons(3)):
        views = splitter.views(worms)
        model = MissingFactorAnalysis(4, shrinkage=10.0)
        scores = cross_validate(model, views, cv=splitter, scoring=held_out_score)["test_score"]
        assert scores.shape == (3,)
        assert (scores > 0.1).all()
    grid = {"n_components": [1, 4]}
    search = GridSearchCV(model, grid, cv=splitter, scoring=held_out_score, refit=False)
    assert search.fit(views).best_params_ == {"n_components": 4}


def test_the_held_out_score_does_not_depend_on_what_is_held_out_but_in_the_truth(worms):
    splitter = ContiguousSpeckles(3, span_length=10)
    views = splitter.views(worms)
    train, test = next(iter(splitter.split(views)))
    model = Pooled(PCA(2)).fit([views[i] for i in train])
    seen = []

    class Spy:
        identities_ = model.identities_

        def predict(self, X):
            seen.extend(X)
            return model.predict(X)

    held_out_score(Spy(), [views[i] for i in test])
    for view, index in zip(seen, test):
        assert np.isnan(view.traces[views[index].held_out]).all()
        assert getattr(view, "held_out", None) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: segment(w, 0), "length must be 1 or more"),
        (lambda w: segment(w, 10, gap=-1), "gap 0 or more"),
        (lambda w: segment(w, 1000), "recording 0 has 150 time steps, less than half"),
        (lambda w: ContiguousSpeckles(3, span_length=80).views(w), "recording 0 has 150 time st"),
        (lambda w: ForwardChaining(3, gap=50).views(w), "too few for 4 blocks"),
        (lambda w: list(ForwardChaining(3).split(w)), "must be the list that views"),
        (lambda w: list(HeldOutNeurons(2).split(HeldOutNeurons(3).views(w))), "with 2 folds"),
        (lambda w: held_out_score(None, w), "recording 0 of X has no held-out entries"),
        (lambda w: held_out_score(None, ForwardChaining(1).views(w)[1:]), "holds out|no held-out"),
    ],
)
def test_wrong_calls(worms, call, message):
    with pytest.raises(ValueError, match=message):
        call(worms)


def test_plain_kfold_over_segments(worms):
    pieces = segment(worms[:1], 30, gap=5)
    scores = cross_validate(MissingFactorAnalysis(2), pieces, cv=KFold(2))["test_score"]
    assert np.isfinite(scores).all()
    assert isinstance(pieces[0], Recording)
