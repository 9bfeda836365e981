import h5py
import numpy as np
import pytest

from skneurovae.datasets import load_h5, save_h5
from skneurovae.recordings import Recording

rng = np.random.default_rng(0)
FIELDS = ("traces", "behavior", "stimulus", "identities")


def write(path, attributes=None, **datasets):
    """Write datasets by their path, "/" as "__"."""
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes or {})
        for name, value in datasets.items():
            file[name.replace("__", "/")] = value
    return path


def neurons_first(n_neurons=4, n_timesteps=10, n_behaviors=3):
    return (
        rng.standard_normal((n_neurons, n_timesteps)).astype(np.float32),
        rng.standard_normal((n_behaviors, n_timesteps)).astype(np.float32),
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "recordings.h5"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip_is_exact(path, dtype):
    traces = rng.standard_normal((10, 3)).astype(dtype)
    traces[2, 1] = np.nan
    behavior = rng.standard_normal((10, 2))
    behavior[:, 1] = np.nan
    recordings = [
        Recording(
            traces, behavior, traces[:, :1] * 0 + 1, np.array(["AVA", "", "RIM_é"]), "w1", 1.7
        ),
        Recording(np.full((5, 2), np.nan), stimulus=np.ones((5, 1))),
        Recording(traces[:, :2], stimulus=np.ones((10, 1)), identities=np.array(["", ""])),
    ]
    # More than ten, because groups are read in the order of their names.
    recordings += [Recording(traces, stimulus=np.ones((10, 1)), session=f"{i}") for i in range(9)]
    recordings[0].stimulus[2:] = 2
    save_h5(path, recordings)
    loaded = load_h5(path)
    assert len(loaded) == 12
    for before, after in zip(recordings, loaded):
        for name in FIELDS:
            expected, found = getattr(before, name), getattr(after, name)
            assert (expected is None) == (found is None)
            if expected is not None:
                np.testing.assert_array_equal(found, expected)
                assert found.dtype.kind == expected.dtype.kind
        assert after.traces.dtype == before.traces.dtype
        assert (after.session, after.rate_hz) == (before.session, before.rate_hz)


def test_integers_stay_integers(path):
    save_h5(path, [Recording(np.zeros((5, 3)), identities=np.array([4, 0, 1]))])
    identities = load_h5(path)[0].identities
    assert identities.dtype == np.int64
    assert identities.tolist() == [4, 0, 1]


def test_names_select_behavior(path):
    traces, behavior = np.zeros((10, 3)), rng.standard_normal((10, 3))
    recordings = [Recording(traces, behavior), Recording(traces)]
    save_h5(path, recordings, behavior_names=["velocity", "head", "pumping"])
    loaded = load_h5(path, behaviors=["pumping", "velocity"])
    np.testing.assert_array_equal(loaded[0].behavior, behavior[:, [2, 0]])
    assert loaded[1].behavior is None


def test_a_failed_save_leaves_the_file_alone(path):
    save_h5(path, [np.ones((5, 2))])
    with pytest.raises(ValueError, match="traces of recording 0 hold infinity"):
        save_h5(path, [np.full((5, 2), np.inf)])
    with pytest.raises(ValueError, match="behavior_names has 2 names; behavior has 0 channels"):
        save_h5(path, np.ones((5, 2)), behavior_names=["a", "b"])
    with pytest.raises(ValueError, match="behavior_names has 2 names; behavior has 1 channels"):
        save_h5(path, [Recording(np.ones((5, 2)), np.ones(5))], behavior_names=["a", "b"])
    np.testing.assert_array_equal(load_h5(path)[0].traces, 1)


def test_ceneurovae_layout(path):
    (xa, ba), (xb, bb) = neurons_first(), neurons_first(2, 7)
    mask = np.ones_like(xa)
    mask[1, 3] = 0
    divisor = np.array([0.5, 2, 4], dtype=np.float32)
    write(
        path, data__worm2__X=xb, data__worm2__B=bb, data__worm2__I=np.array([2, 1]),
        data__worm1__X=xa, data__worm1__B=ba, data__worm1__M=mask,
        data__worm1__I=np.array([0, 2, 0, 2]), label_name=["unknown", "AVA", "RIM"],
        B_norm_divisor=divisor,
    )  # fmt: skip
    first, second = load_h5(path)
    assert (first.session, second.session, first.rate_hz) == ("worm1", "worm2", None)
    np.testing.assert_array_equal(first.traces, np.where(mask, xa, np.nan).T)
    np.testing.assert_array_equal(second.traces, xb.T)
    np.testing.assert_allclose(first.behavior, ba.T / divisor)
    np.testing.assert_allclose(second.behavior, bb.T / divisor)
    assert first.identities.tolist() == ["", "RIM", "", "RIM"]
    assert second.identities.tolist() == ["RIM", "AVA"]
    assert first.traces.dtype == np.float32


def two_levels(path):
    x, b = neurons_first()
    b[1] = np.nan
    write(
        path, {"sampling_rate_hz": 1.7}, recordings__a__X=x, recordings__a__B=b,
        recordings__a__I=np.array([1, 2, 0, 3]), recordings__a__I_class=np.array([1, 1, 0, 2]),
        recordings__a__T=np.arange(10), recordings__b__X=x.astype(np.int32),
        recordings__b__I=np.zeros(4, int), recordings__b__I_class=np.zeros(4, int),
        label_name=["unknown", "AVAL", "AVAR", "RIM"],
        class_name=np.array(["unknown", "AVA", "RIM"], dtype="S8"),
        behavior_name=["velocity", "pumping", "head"],
    )  # fmt: skip
    return x, b


def test_layout_with_labels_and_classes(path):
    x, b = two_levels(path)
    first, second = load_h5(path)
    np.testing.assert_array_equal(first.traces, x.T)
    np.testing.assert_array_equal(first.behavior, b.T)
    assert first.identities.tolist() == ["AVAL", "AVAR", "", "RIM"]
    assert (first.session, first.rate_hz) == ("a", 1.7)
    assert second.behavior is None
    assert second.identities.tolist() == ["", "", "", ""]
    by_class = load_h5(str(path), identities="class", behaviors=["head", "velocity"])[0]
    assert by_class.identities.tolist() == ["AVA", "AVA", "", "RIM"]
    np.testing.assert_array_equal(by_class.behavior, b[[2, 0]].T)


def test_traces_alone_are_enough(path):
    x, _ = neurons_first()
    write(path, data__worm__X=x)
    (recording,) = load_h5(path)
    assert recording.behavior is None
    assert recording.identities is None


def test_groups_come_in_natural_order(path):
    x, _ = neurons_first()
    names = ["10", "9", "1", "worm 2b", "worm 10a", "worm 2a", "007", "8", "1" + "0" * 5000, "a"]
    write(path, **{f"data__{name}__X": x for name in names})
    assert [recording.session for recording in load_h5(path)] == [
        "1", "007", "8", "9", "10", "1" + "0" * 5000, "a", "worm 2a", "worm 2b", "worm 10a",
    ]  # fmt: skip


def test_stimulus_of_layout_2(path):
    (x, b), (s, _) = neurons_first(), neurons_first(2)
    write(
        path, recordings__a__X=x, recordings__a__S=s, recordings__b__X=x, recordings__b__S=s * 2,
        recordings__b__B=b, stimulus_name=["contrast", "side"],
    )  # fmt: skip
    first, second = load_h5(path)
    np.testing.assert_array_equal(first.stimulus, s.T)
    np.testing.assert_array_equal(second.stimulus, 2 * s.T)
    assert first.stimulus.dtype == np.float32
    assert first.stimulus.flags.c_contiguous
    np.testing.assert_array_equal(load_h5(path, stimuli=["side"])[1].stimulus, 2 * s[1:].T)
    np.testing.assert_array_equal(
        load_h5(path, stimuli=("side", "contrast"))[0].stimulus, s[::-1].T
    )
    assert [r.stimulus for r in load_h5(path, stimuli=[])] == [None, None]


def test_stimulus_of_some_recordings_is_refused_unless_it_is_left_out(path):
    x, _ = neurons_first()
    write(path, recordings__a__X=x, recordings__a__S=x, recordings__b__X=x)
    with pytest.raises(ValueError, match="stimulus of recording 1 is absent, but recording 0 has"):
        load_h5(path)
    assert len(load_h5(path, stimuli=[])) == 2
    write(path, recordings__a__X=x, recordings__a__S=x * np.nan)
    with pytest.raises(ValueError, match="stimulus of recording 0 holds NaN"):
        load_h5(path)
    assert len(load_h5(path, stimuli=[])) == 1


def test_no_channels_are_none(path):
    x, _ = neurons_first()
    write(
        path, recordings__a__X=x, recordings__a__B=x[:0], recordings__a__S=x[:0],
        behavior_name=np.array([], "S1"),
    )  # fmt: skip
    (recording,) = load_h5(path)
    assert recording.behavior is None
    assert recording.stimulus is None


@pytest.mark.parametrize("kind", [bool, np.int8, np.float16, ">f8", "<i4", ">u2"])
def test_traces_and_masks_of_any_kind_of_number(path, kind):
    x = (neurons_first()[0] > 0).astype(kind)
    mask = np.ones(x.shape, kind)
    mask[0, 3] = 0
    write(path, data__a__X=x, data__a__M=mask)
    traces = load_h5(path)[0].traces
    assert traces.dtype == np.float64
    np.testing.assert_array_equal(traces, np.where(mask != 0, x, np.nan).T.astype(float))


X, B = neurons_first()
NAMES = ["unknown", "AVA"]
WRONG = {
    "empty": ({}, {}, "no recordings; needed are groups recordings/<id> or data/<id>"),
    "other file": ({"weights": X}, {}, "no recordings"),
    "data is a dataset": ({"data": X}, {}, "no recordings"),
    "not a group": ({"data__a": X}, {}, "/data/a is not a group"),
    "no X": ({"data__a__B": B}, {}, "/data/a has no traces X"),
    "X 1-D": ({"data__a__X": X[0]}, {}, r"/data/a/X has shape \(10,\); \(any, any\) is needed"),
    "X a group": ({"data__a__X__Y": X}, {}, r"/data/a/X is not a dataset; .*\(any, any\)"),
    "X text": ({"data__a__X": [["a"]]}, {}, "/data/a/X must hold numbers, got object"),
    "X empty": ({"data__a__X": X[:, :0]}, {}, r"traces of recording 0 .* got \(0, 4\)"),
    "X infinite": ({"data__a__X": X * np.inf}, {}, "traces of recording 0 hold infinity"),
    "B length": (
        {"data__a__X": X, "data__a__B": B[:, :9]},
        {},
        r"/data/a/B has shape \(3, 9\); \(any, 10\) is needed",
    ),
    "B turned": ({"data__a__X": X, "data__a__B": B.T}, {}, r"/data/a/B has shape \(10, 3\)"),
    "M shape": (
        {"data__a__X": X, "data__a__M": X.T},
        {},
        r"/data/a/M has shape \(10, 4\); \(4, 10\) is needed",
    ),
    "I length": (
        {"data__a__X": X, "data__a__I": [1, 1], "label_name": NAMES},
        {},
        r"/data/a/I has shape \(2,\); \(4\) is needed",
    ),
    "I too large": (
        {"data__a__X": X, "data__a__I": [0, 1, 2, 0], "label_name": NAMES},
        {},
        "/data/a/I must hold integers from 0 to 1, one per name; got 0 to 2",
    ),
    "I negative": (
        {"data__a__X": X, "data__a__I": [0, 1, -1, 0], "label_name": NAMES},
        {},
        "/data/a/I must hold integers .* got -1 to 1",
    ),
    "no names": ({"data__a__X": X, "data__a__I": [0, 1, 1, 0]}, {}, "/data/a/I needs names"),
    "names no text": (
        {"data__a__X": X, "data__a__I": [0, 1, 1, 0], "label_name": [0, 1]},
        {},
        "/label_name must hold strings, got int64",
    ),
    "divisor length": (
        {"data__a__X": X, "data__a__B": B, "B_norm_divisor": [1.0, 2.0]},
        {},
        "/B_norm_divisor must hold 3 nonzero numbers",
    ),
    "divisor zero": (
        {"data__a__X": X, "data__a__B": B, "B_norm_divisor": [1.0, 2.0, 0.0]},
        {},
        "/B_norm_divisor must hold 3 nonzero numbers",
    ),
    "divisor NaN": (
        {"data__a__X": X, "data__a__B": B, "B_norm_divisor": [1.0, 2.0, np.nan]},
        {},
        "/B_norm_divisor must hold 3 nonzero numbers, all finite; got .*nan",
    ),
    "divisor infinite": (
        {"data__a__X": X, "data__a__B": B, "B_norm_divisor": [1.0, np.inf, 1.0]},
        {},
        "/B_norm_divisor must hold 3 nonzero numbers, all finite; got .*inf",
    ),
    "divisor text": (
        {"data__a__X": X, "data__a__B": B, "B_norm_divisor": ["1", "2", "3"]},
        {},
        "/B_norm_divisor must hold numbers, got object",
    ),
    "mask text": (
        {"data__a__X": X, "data__a__M": np.full(X.shape, b"0")},
        {},
        r"/data/a/M must hold numbers, got \|S1",
    ),
    "mask NaN": (
        {"data__a__X": X, "data__a__M": X * np.nan},
        {},
        "/data/a/M holds NaN; 0 or 1",
    ),
    "I of floats": (
        {"data__a__X": X, "data__a__I": [0.0, 1, 1, 0], "label_name": NAMES},
        {},
        "/data/a/I must hold integers, got float64",
    ),
    "I empty": (
        {"data__a__X": X[:0], "data__a__I": np.zeros(0, int), "label_name": NAMES},
        {},
        r"traces of recording 0 .* got \(10, 0\)",
    ),
    "S length": (
        {"recordings__a__X": X, "recordings__a__S": B[:, :9]},
        {},
        r"/recordings/a/S has shape \(3, 9\); \(any, 10\) is needed",
    ),
    "names 2-D": (
        {"data__a__X": X, "data__a__I": [0, 1, 1, 0], "label_name": [NAMES]},
        {},
        r"/label_name has shape \(1, 2\); \(any\) is needed",
    ),
    "names not UTF-8": (
        {"data__a__X": X, "data__a__I": [0, 1, 1, 0], "label_name": [b"a", b"\xff"]},
        {},
        "/label_name cannot be read .*utf-8",
    ),
    "names fewer than channels": (
        {"data__a__X": X, "data__a__B": B, "behavior_name": ["u", "v"]},
        {"behaviors": ["v"]},
        "behavior of /data/a has 3 channels, but behavior_name 2 names",
    ),
    "stimulus unnamed": (
        {"recordings__a__X": X, "recordings__a__S": B},
        {"stimuli": ["side"]},
        "stimuli cannot be selected: the file has no stimulus_name",
    ),
    "stimulus unknown": (
        {"recordings__a__X": X, "recordings__a__S": B, "stimulus_name": ["u", "v", "w"]},
        {"stimuli": ["speed"]},
        r"stimuli must be a list of some of u, v, w; got \['speed'\]",
    ),
    "behavior named twice": (
        {"data__a__X": X, "data__a__B": B, "behavior_name": ["u", "v", "v"]},
        {"behaviors": ["v"]},
        r"behaviors must be a list of some of u, v, v; got \['v'\]",
    ),
    "behaviors a number": (
        {"data__a__X": X, "data__a__B": B, "behavior_name": ["u", "v", "w"]},
        {"behaviors": 1},
        "behaviors must be a list of some of u, v, w; got 1",
    ),
    "widths of B": (
        {"data__a__X": X, "data__a__B": B, "data__b__X": X, "data__b__B": B[:2]},
        {},
        "behavior of recording 1 has 2 channels, that of recording 0 has 3",
    ),
    "identities": ({"data__a__X": X}, {"identities": "cell"}, "identities must be 'label' or 'cl"),
    "no classes": ({"data__a__X": X}, {"identities": "class"}, "needs /data/a/I_class, which is"),
    "behavior unnamed": (
        {"data__a__X": X, "data__a__B": B},
        {"behaviors": ["velocity"]},
        "the file has no behavior_name",
    ),
    "behavior unknown": (
        {"data__a__X": X, "data__a__B": B, "behavior_name": ["u", "v", "w"]},
        {"behaviors": ["v", "speed"]},
        r"behaviors must be a list of some of u, v, w; got \['v', 'speed'\]",
    ),
    "behavior a string": (
        {"data__a__X": X, "data__a__B": B, "behavior_name": ["u", "v", "w"]},
        {"behaviors": "u"},
        "behaviors must be a list of some of u, v, w; got 'u'",
    ),
    "behaviors empty": (
        {"data__a__X": X, "data__a__B": B, "behavior_name": ["u", "v", "w"]},
        {"behaviors": []},
        r"behaviors must be a list .* got \[\]",
    ),
}


@pytest.mark.parametrize(("datasets", "keywords", "message"), WRONG.values(), ids=WRONG)
def test_wrong_files_get_one_clear_line(path, datasets, keywords, message):
    write(path, **datasets)
    with pytest.raises(ValueError, match=message) as caught:
        load_h5(path, **keywords)
    assert "\n" not in str(caught.value)
    assert keywords.get("identities") == "cell" or str(path) in str(caught.value)


def test_files_that_cannot_be_opened(path):
    with pytest.raises(FileNotFoundError, match=r"recordings\.h5: no such file"):
        load_h5(path)
    path.write_text("neuron,trace")
    with pytest.raises(ValueError, match=r"recordings\.h5: not a readable HDF5 file"):
        load_h5(path)


def test_own_layout_is_versioned_and_checked(path):
    save_h5(path, [np.ones((5, 2))])
    with pytest.raises(ValueError, match="'class' needs I_class, which this layout does not have"):
        load_h5(path, identities="class")
    with h5py.File(path, "r+") as file:
        del file["recordings/000000/traces"]
    with pytest.raises(ValueError, match="/recordings/000000 has no traces"):
        load_h5(path)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 2
    with pytest.raises(ValueError, match="version 2 of the format; this release reads 1"):
        load_h5(path)
