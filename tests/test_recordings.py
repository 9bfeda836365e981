import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from skneurovae.recordings import NeuronVocabulary, Recording, check_recordings

rng = np.random.default_rng(0)
X = rng.standard_normal((20, 3))
NAMES = ["AVA", "", "RIB"]


class Means(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Smallest estimator behind the door: centers every neuron on its mean in fit."""

    _n_features_out = 3

    def fit(self, X, y=None, *, behavior=None, stimulus=None, identities=None):
        recordings, _ = check_recordings(
            X, behavior=behavior, stimulus=stimulus, identities=identities, estimator=self
        )
        self._vocabulary = NeuronVocabulary()
        rows = np.concatenate(self._vocabulary.extend(recordings))
        means = np.concatenate([np.nanmean(r.traces, 0) for r in recordings])
        self.means_ = np.zeros(len(self._vocabulary))
        self.means_[rows] = means
        self._n_features_out = recordings[0].n_neurons
        return self

    def transform(self, X):
        recordings, form = check_recordings(X, estimator=self, reset=False)
        rows = self._vocabulary.rows(recordings)
        means = [self.means_[w].astype(r.traces.dtype) for r, w in zip(recordings, rows)]
        return form.wrap([r.traces - m for r, m in zip(recordings, means)])

    def score(self, X, y=None):
        recordings, _ = check_recordings(X, estimator=self, reset=False)
        return -float(np.mean([np.nanmean(r.traces**2) for r in recordings]))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


@pytest.mark.parametrize(
    ("given", "kind", "shape"),
    [
        (X, "array", (20, 3)),
        (X.tolist(), "array", (20, 3)),
        (pd.DataFrame(X), "array", (20, 3)),
        (np.stack([X, X]), "stack", (2, 20, 3)),
        ([X, X], "list", None),
        ([X.tolist(), X], "list", None),
        ([pd.DataFrame(X), X], "list", None),
        ([Recording(X), Recording(X, session="b")], "list", None),
    ],
)
def test_output_has_the_form_of_the_input(given, kind, shape):
    recordings, form = check_recordings(given)
    assert form.kind == kind
    for recording in recordings:
        np.testing.assert_array_equal(recording.traces, X)
    wrapped = form.wrap([r.traces for r in recordings])
    if shape is None:
        assert isinstance(wrapped, list)
        assert len(wrapped) == 2
    else:
        assert wrapped.shape == shape


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_keep_their_type_and_memory(dtype):
    traces = X.astype(dtype)
    for given in (traces, [traces], traces[None], [Recording(traces)]):
        (recording,), _ = check_recordings(given)
        assert recording.traces.dtype == dtype
        assert np.shares_memory(recording.traces, traces)
    (recording,), _ = check_recordings([np.arange(6).reshape(2, 3)])
    assert recording.traces.dtype == np.float64


def test_mask_becomes_nan_in_a_copy():
    traces, mask = X.astype(np.float32), np.ones_like(X, dtype=bool)
    mask[4, 1] = False
    for given, masks in [
        (traces, mask),
        ([traces], [mask.astype(int)]),
        (traces[None], mask[None]),
        ([Recording(traces)], [mask]),
    ]:
        (recording,), _ = check_recordings(given, mask=masks)
        assert recording.traces.dtype == np.float32
        np.testing.assert_array_equal(np.isnan(recording.traces), ~mask)
    assert not np.isnan(traces).any()


def test_keywords_are_dealt_to_their_recordings():
    behavior = [rng.standard_normal(20), None]
    recordings, _ = check_recordings(
        [X, Recording(X, identities=np.array([3, 0, 1]))],
        behavior=behavior,
        stimulus=[X[:, :2], X[:, :2]],
        identities=[[5, 0, 1], None],
    )
    np.testing.assert_array_equal(recordings[0].behavior, behavior[0][:, None])
    assert recordings[1].behavior is None
    assert recordings[1].stimulus.shape == (20, 2)
    assert [r.identities.tolist() for r in recordings] == [[5, 0, 1], [3, 0, 1]]


def test_one_vector_of_identities_serves_all():
    for given in ([X, X], np.stack([X, X])):
        for names in (NAMES, np.array(NAMES)):
            recordings, _ = check_recordings(given, identities=names)
            assert [r.identities.tolist() for r in recordings] == [NAMES, NAMES]
    other = [["AVA", "RIB", ""], NAMES]
    recordings, _ = check_recordings(np.stack([X, X]), identities=np.array(other))
    assert [r.identities.tolist() for r in recordings] == other


def test_names_of_columns_are_identities():
    frame = pd.DataFrame(X, columns=["AVA", "RIB", "RIM"])
    for given in (frame, [frame], [Recording(frame)]):
        (recording,), _ = check_recordings(given)
        assert recording.identities.tolist() == ["AVA", "RIB", "RIM"]
    (recording,), _ = check_recordings(frame, identities=NAMES)
    assert recording.identities.tolist() == NAMES
    # A default index names nothing.
    assert check_recordings([pd.DataFrame(X)])[0][0].identities is None


def test_unknown_identities_mix_with_either_kind():
    pair = [Recording(X, identities=[0, 0, 0]), Recording(X, identities=NAMES)]
    recordings, _ = check_recordings(pair)
    assert recordings[0].identities.dtype == np.int64


def test_fit_remembers_widths_and_transform_compares_them():
    estimator = Means()
    check_recordings([X, X[:, :2]], behavior=[X, None], estimator=estimator)
    assert (estimator.n_behaviors_in_, estimator.n_stimuli_in_) == (3, 0)
    assert not hasattr(estimator, "n_features_in_")
    check_recordings([np.full((5, 2), np.nan)], estimator=estimator, reset=False)
    check_recordings([X], behavior=[X], estimator=estimator, reset=False)
    check_recordings(np.stack([X, X]), stimulus=[X, X], estimator=estimator)
    assert (estimator.n_behaviors_in_, estimator.n_stimuli_in_) == (0, 3)
    assert estimator.n_features_in_ == 3
    check_recordings([X], identities=NAMES, estimator=estimator)
    assert not hasattr(estimator, "n_features_in_")


def test_names_of_one_frame_hold_for_arrays_later():
    frame = pd.DataFrame(X, columns=["AVA", "RIB", "RIM"])
    estimator = Means().fit(frame)
    assert estimator.feature_names_in_.tolist() == ["AVA", "RIB", "RIM"]
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        np.testing.assert_array_equal(estimator.transform(X), estimator.transform(frame))
    with pytest.warns(UserWarning, match="fitted without feature names"):
        Means().fit(X).transform(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.transform(frame[["RIB", "AVA", "RIM"]])
    # Known by name from many frames, one frame may hold some of them in any order.
    estimator = Means().fit([frame, frame])
    expected = X[:, [2, 0]] - X[:, [2, 0]].mean(0)
    np.testing.assert_allclose(estimator.transform(frame[["RIM", "AVA"]]), expected)


def fitted(**keywords):
    estimator = Means()
    check_recordings(X, estimator=estimator, **keywords)
    return {"estimator": estimator, "reset": False}


LONG = np.zeros((21, 3))
BAD = X.copy()
BAD[3, 1] = np.inf
WRONG = {
    "tuple": (
        lambda: check_recordings((X, X)),
        r"X must be .* got tuple: put recordings in a list",
    ),
    "one recording": (lambda: check_recordings(Recording(X)), r"put it in a list, \[recording\]"),
    "none": (lambda: check_recordings(None), "X must be a 2-D or 3-D array.*got NoneType"),
    "path": (lambda: check_recordings("worms.h5"), "X must be .*got str"),
    "empty list": (lambda: check_recordings([]), "X holds no recordings"),
    "empty stack": (lambda: check_recordings(np.zeros((0, 4, 3))), "X holds no recordings"),
    "4-D": (lambda: check_recordings(np.zeros((1, 2, 3, 4))), "array with dim 4"),
    "pair in a list": (lambda: check_recordings([X, (X, X)]), "recording 1 of X is a tuple"),
    "1-D item": (lambda: check_recordings([X, X[0]]), r"traces of recording 1 .* got \(3,\)"),
    "no item": (lambda: check_recordings([X, None]), r"traces of recording 1 .* got \(\)"),
    "text": (
        lambda: check_recordings([X, [["a"]]]),
        "traces of recording 1 must be .*numbers.*'a'",
    ),
    "complex": (lambda: check_recordings([X + 1j]), "recording 0 must be .*Complex data"),
    "no time": (
        lambda: check_recordings([X, X[:0]]),
        r"recording 1 .*at least 1 each; got \(0, 3\)",
    ),
    "no neurons": (lambda: check_recordings(np.zeros((2, 4, 0))), r"recording 0 .*got \(4, 0\)"),
    "infinite array": (lambda: check_recordings(BAD), "X contains infinity"),
    "infinite item": (lambda: check_recordings([X, BAD]), "traces of recording 1 hold infinity"),
    "infinite and NaN": (
        lambda: check_recordings([np.array([[np.inf, np.nan], [-np.inf, 1.0]])]),
        "traces of recording 0 hold infinity",
    ),
    "all NaN": (lambda: check_recordings([X, X * np.nan]), "recording 1 are all NaN"),
    "all NaN array": (lambda: check_recordings(X * np.nan), "recording 0 are all NaN"),
    "all masked": (
        lambda: check_recordings([X, X], mask=[None, np.zeros((20, 3))]),
        "traces of recording 1 are all NaN or masked",
    ),
    "mask shape": (
        lambda: check_recordings([X, X], mask=[None, LONG > 0]),
        r"mask of recording 1 must have the shape \(20, 3\) .* got \(21, 3\)",
    ),
    "mask values": (lambda: check_recordings(X, mask=X), "mask of recording 0 must be True"),
    "mask as array": (
        lambda: check_recordings([X, X], mask=np.ones((2, 20, 3))),
        "mask must be a list with one entry per recording, .* got ndarray",
    ),
    "too few entries": (
        lambda: check_recordings([X, X], behavior=[X]),
        "behavior has 1 entries; X has 2 recordings",
    ),
    "behavior length": (
        lambda: check_recordings([X, X], behavior=[X, LONG]),
        r"behavior of recording 1 must have shape \(20,\) or \(20, n_channels\).*got \(21, 3\)",
    ),
    "behavior turned": (
        lambda: check_recordings([Recording(X, behavior=X.T)]),
        r"behavior of recording 0 .* one row per time step .* got \(3, 20\)",
    ),
    "behavior 3-D": (lambda: check_recordings(X, behavior=X[None]), r"behavior .*got \(1, 20, 3\)"),
    "behavior without channels": (
        lambda: check_recordings(X, behavior=X[:, :0]),
        r"behavior of recording 0 .* got \(20, 0\)",
    ),
    "behavior infinite": (
        lambda: check_recordings([X], behavior=[BAD]),
        "behavior of recording 0 holds infinity",
    ),
    "behavior text": (
        lambda: check_recordings(X, behavior=["left"] * 20),
        "behavior of recording 0 must be an array of numbers.*left",
    ),
    "behavior widths": (
        lambda: check_recordings([X, X, X], behavior=[None, X, X[:, :2]]),
        "behavior of recording 2 has 2 channels, that of recording 1 has 3",
    ),
    "behavior other": (
        lambda: check_recordings([X, X], behavior=[None, X[:, 0]], **fitted(behavior=X)),
        "behavior of recording 1 has 1 channels, but Means was fitted with 3",
    ),
    "stimulus NaN": (
        lambda: check_recordings(X, stimulus=X * np.nan),
        "stimulus of recording 0 holds NaN; it must be known",
    ),
    "stimulus in part": (
        lambda: check_recordings([X, X], stimulus=[X, None]),
        "stimulus of recording 1 is absent, but recording 0 has one",
    ),
    "stimulus left out": (
        lambda: check_recordings(X, **fitted(stimulus=X)),
        "stimulus of recording 0 has 0 channels, but Means was fitted with 3",
    ),
    "given twice": (
        lambda: check_recordings([X, Recording(X, behavior=X)], behavior=[X, X]),
        "behavior is given twice: recording 1 has it",
    ),
    "identities length": (
        lambda: check_recordings([X, X], identities=[None, [1, 2]]),
        r"identities of recording 1 must have shape \(3,\), one per neuron; got \(2,\)",
    ),
    "identities for all": (
        lambda: check_recordings([X, X[:, :2]], identities=NAMES),
        "identities is one array of 3 labels for all recordings, which have 2 or 3 neurons",
    ),
    "identities mixed": (
        lambda: check_recordings(X, identities=["AVA", 0, "RIB"]),
        r"identities of recording 0 must be all strings .* got 'AVA' among them",
    ),
    "identities bytes": (
        lambda: check_recordings(X, identities=np.array(NAMES, dtype=bytes)),
        "identities of recording 0 .* got b'AVA' among them",
    ),
    "identities float with NaN": (
        lambda: check_recordings(X, identities=pd.Series([1.5, None, 3.0])),
        "identities of recording 0 .* got 1.5 among them",
    ),
    "identities too large": (
        lambda: check_recordings(X, identities=[1, 2**63, 3]),
        "identities of recording 0 must be below 2\\*\\*63; got 9223372036854775808",
    ),
    "identities unsigned": (
        lambda: check_recordings(X, identities=np.array([1, 2, 2**64 - 1], dtype=np.uint64)),
        "identities of recording 0 must be below 2\\*\\*63; got 18446744073709551615",
    ),
    "identities enormous": (
        lambda: check_recordings(X, identities=[1, 2, 10**40]),
        "identities of recording 0 must be below 2\\*\\*63; got 10000",
    ),
    "mask of one value": (
        lambda: check_recordings(X, mask=True),
        r"mask of recording 0 .* got \(\)",
    ),
    "mask in part": (
        lambda: check_recordings(X, mask=np.ma.array(np.ones((20, 3), bool), mask=X > 0)),
        "mask of recording 0 must be True .observed. or False",
    ),
    "ragged": (
        lambda: check_recordings([X, [[1.0, 2.0], [3.0]]]),
        r"traces of recording 1 must be an array: its parts have shapes \(1,\) and \(2,\)",
    ),
    "identities float": (
        lambda: check_recordings(X, identities=[1.0, 2.0, 3.0]),
        "identities of recording 0 .* got 1.0 among them",
    ),
    "identities bool": (
        lambda: check_recordings(X, identities=[True, False, True]),
        "identities of recording 0 .* got True among them",
    ),
    "identities negative": (
        lambda: check_recordings(X, identities=[1, -2, 3]),
        "identities of recording 0 must not be negative; got -2",
    ),
    "identities of two kinds": (
        lambda: check_recordings([X, X], identities=[NAMES, [1, 2, 3]]),
        "identities of recording 1 are integers, those of recording 0 strings",
    ),
    "names mixed": (
        lambda: check_recordings([X, pd.DataFrame(X, columns=["AVA", 1, 2])]),
        "names of the columns of recording 1 must be all strings or none",
    ),
    "session": (
        lambda: check_recordings([X, Recording(X, session=3)]),
        "session of recording 1 must be a str, got 3",
    ),
    "rate": (
        lambda: check_recordings([X, Recording(X, rate_hz=0)]),
        "rate_hz of recording 1 must be a positive number, got 0",
    ),
    "features": (
        lambda: check_recordings(X[:, :2], **fitted()),
        "X has 2 features, but Means is expecting 3 features",
    ),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_wrong_input_gets_one_clear_line(call, message):
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_everything_may_be_missing_at_transform():
    recordings, _ = check_recordings(X * np.nan, **fitted())
    assert np.isnan(recordings[0].traces).all()


def test_behavior_is_dropped_where_fit_had_none():
    wide, narrow = Recording(X, behavior=X), Recording(X, behavior=X[:, 0])
    recordings, _ = check_recordings([wide, narrow, Recording(X)], **fitted())
    assert [r.behavior for r in recordings] == [None] * 3
    recordings, _ = check_recordings([wide], **fitted(behavior=X))
    np.testing.assert_array_equal(recordings[0].behavior, X)
    assert wide.behavior is X  # what was given is as it was


def test_scikit_learn_is_content_with_the_door():
    results = check_estimator(Means(), on_skip=None)
    assert sum(result["status"] == "passed" for result in results) > 30


def test_lists_of_recordings_go_through_scikit_learn():
    recordings = [Recording(X + i, identities=NAMES, session=f"{i}") for i in range(6)]
    assert np.isfinite(cross_val_score(Means(), recordings, cv=KFold(3))).all()
    train, test = train_test_split(recordings, random_state=0)
    assert isinstance(train, list)
    assert isinstance(test[0], Recording)
    pipeline = make_pipeline(Means())
    search = GridSearchCV(pipeline, {"means": [Means(), clone(Means())]}, cv=2).fit(recordings)
    assert len(search.transform(recordings)) == 6
    one = make_pipeline(StandardScaler(), Means(), PCA(2)).fit_transform(X)
    assert one.shape == (20, 2)


def test_a_recording_is_a_plain_value():
    recording = Recording(X, behavior=X[:, 0], identities=np.array(NAMES), rate_hz=1.7)
    assert (recording.n_timesteps, recording.n_neurons) == (20, 3)
    shorter = recording.replace(traces=X[:5], behavior=None)
    assert (shorter.n_timesteps, shorter.behavior, shorter.rate_hz) == (5, None, 1.7)
    assert recording.n_timesteps == 20
    assert repr(shorter) == "Recording(traces: (5, 3), identities: (3,), rate_hz=1.7)"
    assert recording in {recording}  # compared and hashed as an object, not by its arrays
    assert recording != recording.replace()
    with pytest.raises(AttributeError):
        recording.session = "a"
    with pytest.raises(TypeError):
        recording.replace(mask=X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(recording)).traces, X)


def test_data_need_no_torch():
    code = (
        "import sys, skneurovae.datasets, skneurovae.recordings; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
