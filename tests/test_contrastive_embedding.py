"""ContrastiveEmbedding: modes, sessions, missing data, new data, and the faults of its peers."""

import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, cross_validate
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from test_estimator_contract import contrastive

from skneurovae import ContrastiveEmbedding, Recording
from skneurovae.decoding import BehaviorDecoder, decoding_score
from skneurovae.model_selection import compare_models

QUICK = {
    "max_iter": 2,
    "steps_per_epoch": 10,
    "batch_size": 128,
    "hidden_dim": 16,
    "random_state": 0,
}


def ring(n=600, n_neurons=12, seed=0):
    """Neurons tuned to an angle that drifts."""
    rng = np.random.default_rng(seed)
    angle = rng.standard_normal(n).cumsum() * 0.2
    tuning = np.exp(np.cos(angle[:, None] - np.linspace(0, 6, n_neurons)))
    return tuning + 0.3 * rng.standard_normal((n, n_neurons)), angle % (2 * np.pi)


@pytest.fixture(scope="module")
def data():
    return ring()


def model(**parameters):
    return ContrastiveEmbedding(4, **{**QUICK, **parameters})


MODES = {
    "time": {"conditional": "time"},
    "continuous": {},
    "circular": {"circular": {0: 2 * np.pi}},
    "delta": {"conditional": "delta", "delta": 0.2},
    "discrete": {"discrete": (1,), "conditional": [
        {"conditional": "discrete", "channels": (1,), "components": (0, 4)}]},
    "mixed": {"discrete": (1,)},
    "mixed uniform": {"discrete": (1,), "prior": "uniform"},
    "hybrid": {"conditional": "hybrid"},
    "hybrid mixed": {"conditional": "hybrid", "discrete": [1], "time_offset": (1, 3)},
    "overlapping": {"delta": 0.2, "conditional": [
        {"conditional": "behavior", "components": (0, 2)},
        {"conditional": "delta", "components": (1, 3), "channels": (0,), "weight": 0.5},
        {"conditional": "time", "components": (0, 4), "time_offset": 4}]},
}  # fmt: skip


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("n_sessions", [1, 3])
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_every_mode_with_one_session_and_many(mode, n_sessions, similarity):
    recordings = []
    for number in range(n_sessions):
        traces, angle = ring(300, 8 + number, number)
        behavior = np.c_[angle, np.cos(angle) > 0]
        recordings.append(Recording(traces, behavior=behavior, session=str(number)))
    made = model(**mode, similarity=similarity, steps_per_epoch=3).fit(recordings)
    assert len(made.history_) == 2
    assert made.history_[0]["bits"].shape == (len(made.network_.parts),)
    assert np.isfinite(made.score(recordings))
    blind = made.transform([r.replace(behavior=None) for r in recordings])
    for recording, z, seen in zip(recordings, blind, made.transform(recordings)):
        assert z.shape == (recording.n_timesteps, 4)
        assert np.isfinite(z).all()
        np.testing.assert_array_equal(z, seen)


@pytest.mark.parametrize(
    ("parameters", "unit"),
    [
        ({}, [(0, 4)]),
        ({"conditional": "hybrid"}, [(0, 2), (2, 4)]),
        (MODES["overlapping"], [(0, 4)]),
        ({"similarity": "euclidean", "normalize": True}, [(0, 4)]),
        ({"normalize": False}, []),
        ({"similarity": "euclidean"}, []),
    ],
)
def test_what_has_length_1(parameters, unit, data):
    traces, angle = data
    z = model(**parameters, max_iter=1).fit_transform(traces, behavior=angle)
    for span in unit:
        np.testing.assert_allclose(np.linalg.norm(z[:, slice(*span)], axis=1), 1, rtol=1e-5)
    if not unit:
        assert np.std(np.linalg.norm(z, axis=1)) > 1e-3


# -- does it learn ---------------------------------------------------------------------------------


def test_embedding_of_behavior_tells_held_out_behavior():
    traces, angle = ring(3000)
    target = np.c_[np.cos(angle), np.sin(angle)]
    made = model(max_iter=6, steps_per_epoch=50, circular={0: 2 * np.pi})
    made.fit(traces[:2000], behavior=angle[:2000])
    z = made.transform(traces)
    decoder = LinearRegression().fit(z[:2000], target[:2000])
    assert decoder.score(z[2020:], target[2020:]) > 0.85
    assert made.score(traces[2020:], behavior=angle[2020:]) > 0.8
    assert made.history_[-1]["bits"][0] > made.history_[0]["bits"][0]


@pytest.mark.parametrize("shuffled", ["behavior", "neurons"])
def test_what_is_shuffled_has_no_held_out_goodness_of_fit(shuffled):
    traces, angle = ring(3000)
    rng = np.random.default_rng(1)
    if shuffled == "behavior":
        angle = angle[rng.permutation(3000)]
    else:
        traces = traces[rng.permutation(3000)]
    made = model(max_iter=6, steps_per_epoch=50, circular={0: 2 * np.pi})
    made.fit(traces[:2000], behavior=angle[:2000])
    assert abs(made.score(traces[2020:], behavior=angle[2020:])) < 0.15


def test_time_of_shuffled_traces_has_no_goodness_of_fit():
    traces = ring(2000)[0][np.random.default_rng(0).permutation(2000)]
    made = model(network="offset1", max_iter=4, steps_per_epoch=50).fit(traces[:1400])
    assert abs(made.score(traces[1400:])) < 0.15


def test_a_collapsed_embedding_of_many_sessions_scores_0():
    recordings = [Recording(ring(300, 6, i)[0], behavior=ring(300, 6, i)[1], session=str(i))
                  for i in range(3)]  # fmt: skip
    for conditional in ("time", "time_delta", "hybrid"):
        made = model(conditional=conditional, max_iter=1).fit(recordings)
        with torch.no_grad():
            for parameter in made.network_.parameters():
                parameter.zero_()
            made.network_.core[-1].bias.fill_(1.0)
        assert made.score(recordings) == pytest.approx(0, abs=1e-5)


def test_score_does_not_depend_on_the_batch_size(data):
    traces, angle = data
    made = model().fit(traces, behavior=angle)
    score = made.score(traces, behavior=angle)
    assert made.set_params(batch_size=32).score(traces, behavior=angle) == score
    torch.manual_seed(9)
    assert made.score(traces, behavior=angle) == score
    assert made.score(traces, behavior=angle[::-1].copy()) != score


# -- labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [(False, True), (-2, 7), (0.0, 5.0), ("left", "right")])
def test_labels_of_any_kind_are_used(values, data):
    traces, angle = data
    right = np.cos(angle) > 0
    labels = np.where(right, values[1], values[0])
    made = model(discrete="all").fit(traces, behavior=labels)
    reference = model(discrete="all").fit(traces, behavior=right.astype(float))
    np.testing.assert_array_equal(made.transform(traces), reference.transform(traces))
    time = model().fit(traces)
    assert (made.transform(traces) != time.transform(traces)).any()
    assert made.score(traces, behavior=labels) > 0.1


def test_names_of_labels_mean_the_same_in_all_recordings():
    made, recordings = [], []
    for number in range(2):
        traces, angle = ring(300, 6, number)
        name = np.where(np.cos(angle) > 0, "z", "a").astype(object)
        name[:20] = [None, "", np.nan, "a"] * 5
        code = np.array([{"z": 1.0, "a": 0.0}.get(v, np.nan) for v in name])
        made.append(Recording(traces, behavior=name, session=str(number)))
        recordings.append(Recording(traces, behavior=code, session=str(number)))
    results = [model(discrete=[0], max_iter=1).fit(X).transform(X)[1] for X in (made, recordings)]
    np.testing.assert_array_equal(*results)


# -- missing data ----------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["offset1", "offset10", "attention"])
def test_nan_is_mask_and_comes_out_finite(network, data):
    traces, angle = data
    observed = np.random.default_rng(0).random(traces.shape) > 0.2
    observed[50:80] = False
    observed[:, 3] = False
    gappy = np.where(observed, traces, np.nan)
    behavior = np.where(np.arange(600) % 7 == 0, np.nan, angle)
    by_nan = model(network=network).fit(gappy, behavior=behavior)
    by_mask = model(network=network).fit(traces, behavior=behavior, mask=observed)
    z = by_nan.transform(gappy)
    assert np.isfinite(z).all()
    np.testing.assert_array_equal(z, by_mask.transform(traces, mask=observed))
    assert np.isfinite(by_nan.score(gappy, behavior=behavior))


def test_values_behind_a_mask_do_nothing(data):
    traces, _ = data
    observed = np.random.default_rng(0).random(traces.shape) > 0.2
    wild = np.where(observed, traces, 1e6)
    results = [model(max_iter=1).fit(t, mask=observed).transform(t, mask=observed)
               for t in (traces, wild)]  # fmt: skip
    np.testing.assert_array_equal(*results)


def test_missing_entries_add_what_was_learned_for_them(data):
    traces, _ = data
    made = model(neuron_dropout=0.3).fit(traces)
    assert made.network_.table.missing.abs().sum() > 0
    hidden = traces.copy()
    hidden[:, 2] = np.nan
    mean = traces.copy()
    mean[:, 2] = made.network_.table.offset[2].item()
    assert np.abs(made.transform(hidden) - made.transform(mean)).max() > 1e-3


# -- new data --------------------------------------------------------------------------------------


def test_partial_fit_uses_the_new_data_and_fit_forgets_the_old(data):
    traces, angle = data
    other, other_angle = ring(600, 12, 5)
    base = pickle.dumps(model().fit(traces, behavior=angle))
    updated = [pickle.loads(base).partial_fit(t, behavior=b).transform(traces)
               for t, b in ((traces, angle), (other, other_angle), (other, angle))]  # fmt: skip
    before = pickle.loads(base).transform(traces)
    assert (updated[0] != before).any()
    assert (updated[0] != updated[1]).any()
    assert (updated[1] != updated[2]).any()
    refitted = pickle.loads(base).partial_fit(other, behavior=other_angle)
    wider, wider_angle = ring(300, 20, 3)
    refitted.fit(wider, behavior=wider_angle)
    assert refitted.n_features_in_ == 20
    fresh = model().fit(wider, behavior=wider_angle)
    np.testing.assert_array_equal(refitted.transform(wider), fresh.transform(wider))


def test_partial_fit_after_loading_goes_on_from_there(data):
    traces, _ = data
    made = model(learning_rate=1e-9).fit(traces)
    loaded = pickle.loads(pickle.dumps(made))
    before = made.transform(traces)
    np.testing.assert_allclose(loaded.partial_fit(traces).transform(traces), before, atol=1e-4)


def test_partial_fit_takes_new_sessions_and_identities(data):
    traces, angle = data
    known = [Recording(traces[:, :8], behavior=angle, identities=list("abcdefgh"))]
    new = [Recording(traces[:, 4:], behavior=angle, identities=list("efghijkl")),
           Recording(traces[:, :5], behavior=angle, session="other")]  # fmt: skip
    made = model().fit(known).partial_fit(new)
    assert set("abcdefghijkl") <= set(made.identities_)
    assert len(made.identities_) == 17
    assert all(np.isfinite(z).all() for z in made.transform([*known, *new]))


def test_identities_share_input_weights_and_others_have_their_own(data):
    traces, angle = data
    pair = [Recording(traces[:, :8], identities=list("abcdefgh"), behavior=angle),
            Recording(traces[:, 4:], identities=list("efghijkl"), behavior=angle)]  # fmt: skip
    made = model().fit(pair)
    assert made.network_.table.weight.shape[0] == 12
    order = [3, 1, 0, 2, 7, 6, 5, 4]
    moved = pair[0].replace(traces=traces[:, order], identities=np.array(list("abcdefgh"))[order])
    for a, b in zip(made.transform(pair[:1]), made.transform([moved])):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_adapting_leaves_everything_else_as_it_was():
    old, angle = ring(600, 10, 0)
    new, new_angle = ring(600, 14, 1)
    sessions = [Recording(old, behavior=angle, session="old")]
    others = [Recording(new, behavior=new_angle, session="new")]
    made = model(circular={0: 2 * np.pi}, max_iter=6, weight_decay=0.1).fit(sessions)
    before = made.transform(sessions)[0]
    made.adapt(others, max_iter=8)
    np.testing.assert_array_equal(made.transform(sessions)[0], before)
    assert made.score(others) > 0.5
    untrained = clone(made).fit(sessions).adapt(others, max_iter=1)
    assert made.loss_curve_[-1] < untrained.loss_curve_[0]
    assert len(made.identities_) == 24
    made.partial_fit(others)  # all of it trains again
    assert (made.transform(sessions)[0] != before).any()


def test_adapting_without_a_new_neuron_is_refused(data):
    made = model(max_iter=1).fit(data[0])
    before = made.transform(data[0])
    with pytest.raises(ValueError, match="no neuron that is new"):
        made.adapt(data[0])
    np.testing.assert_array_equal(made.transform(data[0]), before)


@pytest.mark.parametrize("kind", ["pickle", "joblib", "skops"])
def test_persistence(kind, data, tmp_path):
    traces, angle = data
    made = model(circular={0: 2 * np.pi}, conditional="hybrid", max_iter=1)
    made.fit(traces, behavior=angle)
    if kind == "skops":
        from skops.io import dumps, get_untrusted_types, loads

        text = dumps(made)
        trusted = get_untrusted_types(data=text)
        assert all(name.startswith("skneurovae.") for name in trusted)
        loaded = loads(text, trusted=trusted)
    elif kind == "joblib":
        joblib.dump(made, tmp_path / "model")
        loaded = joblib.load(tmp_path / "model")
    else:
        loaded = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(loaded.transform(traces), made.transform(traces))
    assert loaded.score(traces, behavior=angle) == made.score(traces, behavior=angle)
    loaded.partial_fit(traces, behavior=angle)


# -- the contract ----------------------------------------------------------------------------------


def test_same_seed_same_bits_for_every_mode_and_no_trace_left(data):
    traces, angle = data
    for parameters in ({}, {"conditional": "hybrid"}, {"noise": 0.1, "time_jitter": 2},
                       {"network": "attention", "dropout": 0.1}):  # fmt: skip
        torch.manual_seed(3)
        np.random.seed(3)
        expected = torch.rand(1), np.random.rand()
        torch.manual_seed(3)
        np.random.seed(3)
        first = model(**parameters, max_iter=1).fit(traces, behavior=angle)
        assert (torch.rand(1), np.random.rand()) == expected
        again = model(**parameters, max_iter=1).fit(traces, behavior=angle)
        np.testing.assert_array_equal(first.transform(traces), again.transform(traces))
        other = model(**parameters, max_iter=1, random_state=1).fit(traces, behavior=angle)
        assert (first.transform(traces) != other.transform(traces)).any()


def test_pipelines_with_y_and_without(data):
    traces, angle = data
    pipeline = make_pipeline(model(max_iter=1), KNeighborsRegressor(3))
    assert pipeline.fit(traces, angle).score(traces, angle) > 0
    # As every step of a pipeline, the embedding is trained on y; in time, it is not.
    for parameters, behavior in (({}, angle), ({"conditional": "time"}, None)):
        made = make_pipeline(model(max_iter=1, **parameters)).fit(traces, angle)
        expected = model(max_iter=1, **parameters).fit(traces, behavior=behavior)
        np.testing.assert_array_equal(made.transform(traces), expected.transform(traces))
    scores = cross_validate(model(max_iter=1), [traces[:200], traces[200:400], traces[400:]],
                            cv=KFold(3))["test_score"]  # fmt: skip
    assert np.isfinite(scores).all()


TARGETS = {
    "numbers": (lambda a: a, {}),
    "two channels": (lambda a: np.c_[np.cos(a), np.sin(a)], {}),
    "integers": (lambda a: a.astype(int), {"discrete": [0]}),
    "booleans": (lambda a: a > 3, {"discrete": [0]}),
    "strings": (lambda a: np.where(a > 3, "left", "right"), {"discrete": [0]}),
    "a list": (lambda a: (a > 3).tolist(), {"discrete": [0]}),
    "labels in part": (lambda a: np.ma.array(a.astype(int), mask=a < 1), {"discrete": [0]}),
    "two labels": (lambda a: np.c_[a, 2 * a].astype(int), {"discrete": [0, 1]}),
}  # fmt: skip


@pytest.mark.parametrize(("target", "parameters"), TARGETS.values(), ids=TARGETS)
def test_y_is_the_behavior_that_pairs_are_made_of(target, parameters, data):
    """Labels of integers, booleans and strings, numbers of floats, as the peers take them."""
    traces, angle = data
    y = target(angle)
    made = model(max_iter=1).fit(traces, y)
    expected = model(max_iter=1, **parameters).fit(traces, behavior=y)
    assert made._pairings == expected._pairings
    assert made.n_behaviors_in_ == expected.n_behaviors_in_
    np.testing.assert_array_equal(made.transform(traces), expected.transform(traces))
    assert made.score(traces, y) == expected.score(traces, behavior=y)
    before = dict(vars(made))
    made.score(traces, y)
    assert vars(made) == before
    made, expected = made.partial_fit(traces, y), expected.partial_fit(traces, behavior=y)
    np.testing.assert_array_equal(made.transform(traces), expected.transform(traces))
    several = [traces[:300], traces[300:]], [y[:300], y[300:]]
    np.testing.assert_array_equal(
        np.concatenate(model(max_iter=1).fit_transform(*several)),
        np.concatenate(model(max_iter=1, **parameters).fit(several[0], behavior=several[1])
                       .transform(several[0])),
    )  # fmt: skip
    with pytest.raises(ValueError, match="new to the model"):
        made.adapt(traces, y)
    assert not model(max_iter=1).fit(traces).n_behaviors_in_


def test_where_pairs_are_near_integers_of_y_are_numbers(data):
    traces, angle = data
    degrees = np.rad2deg(angle).astype(int)
    for parameters in (
        {"circular": {0: 360.0}}, {"conditional": "time_delta"},
        {"conditional": [{"conditional": "delta", "delta": 9.0, "components": (0, 4)}]},
    ):  # fmt: skip
        made = model(max_iter=1, **parameters).fit(traces, degrees)
        expected = model(max_iter=1, **parameters).fit(traces, behavior=degrees.astype(float))
        np.testing.assert_array_equal(made.transform(traces), expected.transform(traces))


def test_discrete_says_which_numbers_of_y_are_labels(data):
    traces, angle = data
    side = (angle > 3).astype(float)
    made = model(max_iter=1, discrete=[0]).fit(traces, side)
    assert made._pairings == model(max_iter=1).fit(traces, side.astype(int))._pairings
    refit = made.set_params(discrete=None).fit(traces, angle)  # nothing is left of the labels
    assert refit._pairings[0]["discrete"] == ()


def test_a_pipeline_decodes_the_y_that_its_embedding_was_trained_on(data):
    traces, angle = data
    cuts = [slice(0, 200), slice(200, 400), slice(400, 600)]
    X, y = [traces[c] for c in cuts], [np.cos(angle[c]) for c in cuts]
    pipeline = make_pipeline(model(max_iter=3), BehaviorDecoder())
    scores = cross_validate(pipeline, X, y, cv=KFold(3))["test_score"]
    assert (scores > 0.3).all()
    noise = list(np.random.default_rng(1).standard_normal((3, 200)))  # learned, and of no use
    assert (cross_validate(pipeline, X, noise, cv=KFold(3))["test_score"] < 0.05).all()
    result = compare_models({"embedding": pipeline}, X, y, cv=KFold(3), scoring=decoding_score,
                            controls=False)  # fmt: skip
    assert [r["error"] for r in result.records] == [None] * 3


def test_labels_next_to_missing_ones_are_the_same_in_all_recordings(data):
    """Labels of one recording came as numbers, those of another, with None, as their ranks."""
    traces, angle = data
    label = 10 + angle.astype(int)
    holes = np.arange(300) % 7 == 0
    one = label[300:].astype(object)
    one[holes] = None
    mixed = [label[:300], one]
    plain = [label[:300].astype(float), np.where(holes, np.nan, label[300:])]
    X = [traces[:300], traces[300:]]
    made, expected = (model(max_iter=1, discrete=[0]).fit(X, behavior=b) for b in (mixed, plain))
    np.testing.assert_array_equal(made.transform(X)[1], expected.transform(X)[1])


def test_form_and_dtype_of_the_output(data):
    traces, _ = data
    made = contrastive().fit(np.stack([traces[:300], traces[300:]]))
    assert made.transform(np.stack([traces[:300], traces[300:]])).shape == (2, 300, 2)
    assert made.transform(traces.astype(np.float32)).dtype == np.float32
    assert list(made.get_feature_names_out()) == ["contrastiveembedding0", "contrastiveembedding1"]
    assert made.set_output(transform="pandas").transform(traces).shape == (600, 2)


@pytest.mark.parametrize("length", [1, 2, 5, 30])
def test_a_recording_shorter_than_the_window_has_a_row_per_step(length, data):
    made = contrastive(network="offset36").fit(data[0])
    assert made.transform(data[0][:length]).shape == (length, 2)


def test_long_recordings_are_embedded_in_bounded_pieces(data, monkeypatch):
    from skneurovae.estimators import contrastive_training

    made = model().fit(data[0])
    whole = made.transform(data[0])
    monkeypatch.setattr(contrastive_training, "STRETCH", 64)
    np.testing.assert_allclose(made.transform(data[0]), whole, atol=1e-12)


def test_pieces_of_a_long_recording_make_the_whole(monkeypatch):
    from skneurovae.estimators import contrastive_training

    traces = np.random.default_rng(0).standard_normal((3000, 40)).astype(np.float32)
    made = model().fit(traces)
    whole = made.transform(traces)
    monkeypatch.setattr(contrastive_training, "STRETCH", 1024)
    np.testing.assert_allclose(made.transform(traces), whole, atol=1e-6)


def test_early_stopping_keeps_the_best_weights(data):
    traces, angle = data
    made = model(max_iter=8, learning_rate=0.3).fit(traces, behavior=angle)
    assert made.best_loss_ == min(made.validation_scores_)
    assert not model(early_stopping=False).fit(traces).validation_scores_


# -- attributions ----------------------------------------------------------------------------------
