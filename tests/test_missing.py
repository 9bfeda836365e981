"""Missing entries in every dress: masked arrays, nullable columns, None, empty strings."""

import numpy as np
import pandas as pd
import pytest
from test_estimator_contract import small

from skneurovae.baselines import GaussianSmoother, MissingFactorAnalysis
from skneurovae.common.missing import float_array, missing_entries, plain_array
from skneurovae.decoding import BehaviorDecoder, decoding_quality
from skneurovae.metrics import (
    bits_per_spike,
    circular_error,
    co_smoothing_score,
    crps_gaussian,
    decay_time,
    psth_r2,
    r2_per_neuron,
)
from skneurovae.recordings import Recording, check_recordings, load_h5, save_h5

pl = pytest.importorskip("polars")

rng = np.random.default_rng(0)
X = rng.standard_normal((30, 3))
GONE = rng.random(X.shape) < 0.2
HOLED = np.where(GONE, np.nan, X)
# 99 stands where nothing was observed: a mask that gets lost is seen at once.
MASKED = np.ma.array(np.where(GONE, 99.0, X), mask=GONE)
COLUMNS = ["AVA", "AVB", "RIM"]


def with_none(values):
    return [[None if np.isnan(v) else v for v in row] for row in values.tolist()]


DRESSES = {
    "masked": MASKED,
    "objects": np.array(with_none(HOLED), dtype=object),
    "lists": with_none(HOLED),
    "NA": np.array([[pd.NA if v is None else v for v in row] for row in with_none(HOLED)]),
    "nullable": pd.DataFrame(HOLED).astype("Float64").mask(GONE, pd.NA),
    "named": pd.DataFrame(HOLED, columns=COLUMNS).astype("Float64"),
    "polars": pl.DataFrame(with_none(HOLED), schema=COLUMNS, orient="row"),
    "list of masked rows": list(MASKED),
    "list of Series": [pd.Series(row, dtype="Float64") for row in HOLED],
}


@pytest.mark.parametrize("dress", DRESSES.values(), ids=DRESSES)
def test_traces_and_behavior_in_every_dress(dress, tmp_path):
    rows = isinstance(dress, list) and not isinstance(dress[0], list)  # each would be a recording
    for given in ([dress], [Recording(dress)], *([] if rows else [dress])):
        (recording,), _ = check_recordings(given)
        np.testing.assert_array_equal(recording.traces, HOLED)
        assert recording.traces.dtype == np.float64
    (recording,), _ = check_recordings(X, behavior=dress)
    np.testing.assert_array_equal(recording.behavior, HOLED)
    (recording,), _ = check_recordings([X], behavior=[dress])
    np.testing.assert_array_equal(recording.behavior, HOLED)
    with pytest.raises(ValueError, match="stimulus of recording 0 holds NaN"):
        check_recordings(X, stimulus=dress)
    save_h5(tmp_path / "file.h5", [Recording(dress, behavior=dress)])
    (loaded,) = load_h5(tmp_path / "file.h5")
    np.testing.assert_array_equal(loaded.traces, HOLED)
    np.testing.assert_array_equal(loaded.behavior, HOLED)


def test_a_stack_keeps_its_mask():
    stack = np.ma.stack([MASKED, MASKED])
    recordings, form = check_recordings(stack, behavior=stack)
    assert form.kind == "stack"
    for recording in recordings:
        np.testing.assert_array_equal(recording.traces, HOLED)
        np.testing.assert_array_equal(recording.behavior, HOLED)


@pytest.mark.parametrize("dress", [
    np.ma.array(MASKED, dtype=np.float32),
    pd.DataFrame(HOLED.astype(np.float32)).astype("Float32"),
    pl.DataFrame(with_none(HOLED), schema=dict.fromkeys(COLUMNS, pl.Float32), orient="row"),
], ids=["masked", "nullable", "polars"])  # fmt: skip
def test_float32_stays_float32(dress):
    (recording,), _ = check_recordings(dress)
    assert recording.traces.dtype == np.float32
    np.testing.assert_array_equal(recording.traces, HOLED.astype(np.float32))


def test_masked_integers_become_floats_with_nan():
    counts = np.ma.array(rng.poisson(2.0, X.shape), mask=GONE)
    (recording,), _ = check_recordings(counts)
    np.testing.assert_array_equal(recording.traces, counts.astype(float).filled(np.nan))


UNKNOWN = {
    "None": ["AVA", None, "RIM"],
    "NaN": ["AVA", np.nan, "RIM"],
    "NA": pd.Series(["AVA", pd.NA, "RIM"], dtype="string"),
    "polars": pl.Series(["AVA", None, "RIM"]),
    "masked": np.ma.array(COLUMNS, mask=[0, 1, 0]),
}


@pytest.mark.parametrize("labels", UNKNOWN.values(), ids=UNKNOWN)
def test_a_missing_identity_is_unknown(labels):
    for given in (X, [X, X], np.stack([X, X])):
        recordings, _ = check_recordings(given, identities=labels)
        assert all(r.identities.tolist() == ["AVA", "", "RIM"] for r in recordings)


@pytest.mark.parametrize("labels", [
    [1, None, 2**63 - 1], [1, np.nan, 2**63 - 1], pd.array([1, None, 2**63 - 1], dtype="Int64"),
    np.ma.array([1, 5, 2**63 - 1], mask=[0, 1, 0]), pl.Series([1, None, 2**63 - 1]),
], ids=["None", "NaN", "nullable", "masked", "polars"])  # fmt: skip
def test_a_missing_number_of_a_neuron_is_0(labels):
    (recording,), _ = check_recordings(X, identities=labels)
    assert recording.identities.tolist() == [1, 0, 2**63 - 1]


VALUES = {
    "None": (["a", None, "b"], ["a", None, "b"]),
    "empty": (["a", "", "b"], ["a", None, "b"]),
    "empty of an array": (np.array(["a", "", "b"]), ["a", None, "b"]),
    "NaN among text": (["a", np.nan, "b"], ["a", None, "b"]),
    "NA": (pd.Series(["a", pd.NA, "b"], dtype="string"), ["a", None, "b"]),
    "category": (pd.Series(["a", None, "b"]).astype("category"), ["a", None, "b"]),
    "boolean": (pd.array([True, None, False], dtype="boolean"), [True, None, False]),
    "Int64": (pd.array([1, None, 2**60 + 1], dtype="Int64"), [1, None, 2**60 + 1]),
    "masked text": (np.ma.array(["a", "x", "b"], mask=[0, 1, 0]), ["a", None, "b"]),
    "masked integers": (np.ma.array([1, 9, 2], mask=[0, 1, 0]), [1, None, 2]),
    "NaT": ([1, pd.NaT, 2], [1, None, 2]),
    "masked constant": ([1, np.ma.masked, 2], [1, None, 2]),
    "polars": (pl.Series(["a", None, ""]), ["a", None, None]),
    "integers of polars": (pl.Series([1, None, 2**60 + 1]), [1, None, 2**60 + 1]),
    "nothing missing": (["a", "b", "a"], ["a", "b", "a"]),
    "a mixture": (["a", 1, None], ["a", 1, None]),
}


@pytest.mark.parametrize(("given", "expected"), VALUES.values(), ids=VALUES)
def test_labels_have_none_where_they_are_missing(given, expected):
    found = plain_array(given)
    assert found.tolist() == expected
    np.testing.assert_array_equal(missing_entries(found), [v is None for v in expected])


def test_what_is_plain_already_is_not_copied():
    for values in (X, X.astype(np.float32), np.arange(4), np.array(["a", "b"]), X > 0):
        assert plain_array(values) is values
    assert float_array(X) is X


def test_the_decoder_takes_no_empty_string_for_a_class():
    latents = np.repeat(np.eye(2), 40, axis=0) + 0.01 * rng.standard_normal((80, 2))
    names = np.repeat(["left", "right"], 40).astype(object)
    holes = rng.random(80) < 0.3
    expected = BehaviorDecoder(kind="categorical").fit(latents, np.where(holes, None, names))
    for gone in ("", np.nan, pd.NA):
        y = np.where(holes, gone, names)
        made = BehaviorDecoder(kind="categorical").fit(latents, y)
        np.testing.assert_array_equal(made.predict(latents), expected.predict(latents))
        assert set(made.predict(latents)) == {"left", "right"}
        assert made.score(latents, y) == expected.score(latents, np.where(holes, None, names))
    as_series = pl.Series(np.where(holes, None, names).tolist())
    np.testing.assert_array_equal(
        BehaviorDecoder(kind="categorical").fit(latents, as_series).predict(latents),
        expected.predict(latents),
    )


def test_the_decoder_keeps_the_mask_of_its_target():
    latents = rng.standard_normal((200, 2))
    truth = latents @ [1.0, -2.0]
    gone = rng.random(200) < 0.3
    masked = np.ma.array(np.where(gone, 1e6, truth), mask=gone)
    for y in (masked, pd.Series(np.where(gone, np.nan, truth), dtype="Float64")):
        decoder = BehaviorDecoder().fit(latents, y)
        np.testing.assert_allclose(decoder.predict(latents), truth, atol=1e-3)
        assert decoder.score(latents, y) > 0.999
        assert decoding_quality(y, truth)[0] == pytest.approx(1.0)


def test_metrics_keep_the_mask_of_masked_arrays():
    prediction = X + 0.3 * rng.standard_normal(X.shape)
    np.testing.assert_array_equal(
        r2_per_neuron(MASKED, prediction), r2_per_neuron(HOLED, prediction)
    )
    counts = rng.poisson(2.0, X.shape)
    rates = np.full(X.shape, 2.0)
    masked, holed = np.ma.array(counts, mask=GONE), np.where(GONE, np.nan, counts)
    assert bits_per_spike(masked, rates) == bits_per_spike(holed, rates)
    assert circular_error(MASKED, prediction) == circular_error(HOLED, prediction)
    np.testing.assert_array_equal(
        crps_gaussian(MASKED, prediction, 1 + 0 * X), crps_gaussian(HOLED, prediction, 1 + 0 * X)
    )
    assert decay_time(MASKED) == decay_time(HOLED)
    trials, conditions = X.reshape(6, 5, 3), list("ababab")
    gone = GONE.reshape(trials.shape)
    expected = psth_r2(trials + 0.1, np.where(gone, np.nan, trials), conditions)
    assert psth_r2(trials + 0.1, np.ma.array(trials, mask=gone), conditions) == expected
    with pytest.raises(ValueError, match="condition of trial 1 is missing"):
        psth_r2(trials, trials, ["a", None, "b", "a", "b", "a"])


def test_models_keep_masks_and_take_tables_of_polars():
    behavior = np.ma.array(X[:, :2], mask=GONE[:, :2])
    holed = behavior.filled(np.nan)
    model = small(max_iter=1).fit(X, behavior=behavior)
    expected = small(max_iter=1).fit(X, behavior=holed)
    np.testing.assert_array_equal(
        model.predict_from_behavior(behavior), expected.predict_from_behavior(holed)
    )
    with pytest.raises(ValueError, match="Z of recording 0 must be finite"):
        model.inverse_transform(behavior)
    table = pl.DataFrame(with_none(HOLED), schema=COLUMNS, orient="row")
    factors = MissingFactorAnalysis(1, random_state=0).fit(table)
    named = [Recording(HOLED, identities=COLUMNS)]
    assert factors.identities_.tolist() == COLUMNS
    expected = co_smoothing_score(factors, named)
    assert co_smoothing_score(factors, table) == pytest.approx(expected, abs=1e-9)
    smooth = GaussianSmoother(1.0).fit_transform(table)
    assert isinstance(smooth, pl.DataFrame)
    assert smooth.columns == COLUMNS
    np.testing.assert_array_equal(smooth, GaussianSmoother(1.0).fit_transform(HOLED))


class Series:
    """Stand-in for a time series of pynapple: an array with its epochs."""

    columns = COLUMNS

    def __init__(self, values, epochs):
        self.values, self.time_support = values, epochs
        self.t = np.arange(len(values))
        self.shape, self.ndim = values.shape, values.ndim

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype=dtype)

    def __len__(self):
        return len(self.values)

    def restrict(self, epoch):
        start, stop = epoch
        return Series(self.values[start:stop], [epoch])


def test_epochs_are_recordings_of_their_own():
    gapped = Series(X, [(0, 12), (12, 30)])
    for given in (gapped, [X, gapped]):
        with pytest.raises(ValueError, match="one continuous recording, but 2 epochs") as caught:
            check_recordings(given)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"behavior of recording 0 must be one .* 2 epochs"):
        check_recordings(X, behavior=gapped)
    # What the message says to do.
    recordings, _ = check_recordings([gapped.restrict(e) for e in gapped.time_support])
    np.testing.assert_array_equal(np.concatenate([r.traces for r in recordings]), X)
    (whole,), form = check_recordings(Series(X, [(0, 30)]))
    assert form.kind == "array"
    np.testing.assert_array_equal(whole.traces, X)
    model = MissingFactorAnalysis(1, random_state=0).fit(Series(X, [(0, 30)]))
    assert model.identities_.tolist() == COLUMNS
    assert model.transform(Series(X, [(0, 30)])).shape == (30, 1)


@pytest.mark.parametrize(
    "labels", [pd.Series([4, None, 9]), np.array([4.0, np.nan, 9.0]), [4.0, None, 9.0]], ids=str
)
def test_whole_numbers_that_a_missing_one_made_floats_are_identities(labels):
    (recording,), _ = check_recordings([np.ones((5, 3))], identities=[labels])
    assert recording.identities.tolist() == [4, 0, 9]
    assert recording.identities.dtype == np.int64
