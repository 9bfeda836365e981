"""Means and spreads are summed in float64, and rounding does not make a constant vary."""

import numpy as np
import pytest

from skneurovae.baselines import LaggedRidge, MissingFactorAnalysis, Pooled
from skneurovae.common.moments import (
    column_moments,
    is_dead,
    moments_by_row,
    neuron_units,
    own_moments,
    standardization,
    varies,
)
from skneurovae.recordings import Recording


@pytest.mark.parametrize("constant", [0.1, 1234.567, -1e12, 1e-12, 0.0, 1e300])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_constant_does_not_vary_however_it_is_rounded(constant, dtype):
    if dtype == "f4" and abs(constant) > 1e38:
        return
    column = np.full((999, 1), constant, dtype=dtype)
    column[::7] = np.nan
    assert not varies(column).any()
    assert column_moments(column)[1] == 0
    # What is left of a constant after it was scaled and moved back.
    moved = (column - column[1] * dtype_of(dtype, 3)) / dtype_of(dtype, 7)
    assert not varies(moved * dtype_of(dtype, 7)).any()


def dtype_of(dtype, value):
    return np.dtype(dtype).type(value)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1, 1e12])
def test_one_spike_in_many_bins_varies(scale):
    column = np.zeros((100_000, 1))
    column[77] = scale
    assert varies(column)
    assert column_moments(column)[1] > 0


def test_moments_of_rows_are_those_of_all_their_entries():
    rng = np.random.default_rng(0)
    tables = [rng.normal(size=(40, 3)), rng.normal(size=(60, 2)) + 5]
    tables[0][:10, 1] = np.nan
    rows = [np.array([2, 0, 0]), np.array([0, 3])]
    mean, std = moments_by_row(tables, rows, 5)
    own = {
        0: np.concatenate([tables[0][10:, 1], tables[0][:, 2], tables[1][:, 0]]),
        2: tables[0][:, 0],
        3: tables[1][:, 1],
    }
    for row, values in own.items():
        assert mean[row] == pytest.approx(values.mean(), rel=1e-12)
        assert std[row] == pytest.approx(values.std(), rel=1e-12)
    assert mean[1] == std[1] == mean[4] == std[4] == 0
    unit = standardization(tables, rows, 5)[1]
    assert unit[1] == unit[4] == np.median(std[[0, 2, 3]])  # neurons without data
    assert standardization([np.ones((9, 2))], [np.arange(2)], 2)[1].tolist() == [1, 1]


@pytest.mark.parametrize("noise", [6e-18, 7e-9, 1e-7])
def test_a_neuron_that_only_rounding_moves_is_dead(noise):
    """It has the unit of the others, or it would be louder than all of them once it woke up."""
    std = np.array([1.0, 2.0, noise, 3.0])
    assert is_dead(std).tolist() == [False, False, True, False]
    assert neuron_units(std).tolist() == [1, 2, 2, 3]
    # However small the unit of all of them, and a rare spike is no rounding.
    assert not is_dead(std[[0, 1, 3]] * 1e-12).any()
    assert not is_dead(np.array([1.0, 1.0, 1e-3])).any()


def test_own_moments_of_a_long_float32_trace_are_those_of_float64():
    """A sum in float32 would stop growing: 9992.6 and 7.4 in place of 10000 and 1."""
    trace = np.random.default_rng(0).normal(10000, 1, (100_000, 1)).astype(np.float32)
    mean, std = own_moments(Recording(trace))
    assert mean.dtype == std.dtype == np.float32
    assert mean[0] == pytest.approx(10000, abs=0.01)
    assert std[0] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    "model",
    [Pooled, MissingFactorAnalysis, LaggedRidge],
    ids=lambda m: m.__name__,
)
def test_an_unknown_neuron_is_predicted_by_its_own_mean_in_float64(model):
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    traces = rng.normal(10000, 1, (50_000, 3)).astype(np.float32)
    behavior = rng.normal(size=(50_000, 1))
    known = Recording(traces[:500, :2], behavior[:500], identities=np.array(["a", "b"]))
    new = Recording(traces, behavior, identities=np.array(["a", "b", "c"]))
    made = {
        Pooled: lambda: Pooled(PCA(1)),
        MissingFactorAnalysis: lambda: MissingFactorAnalysis(1, shrinkage=10.0),
        LaggedRidge: lambda: LaggedRidge(lags=0, alpha=1.0),
    }[model]()
    with pytest.warns(UserWarning, match="Unknown to the model"):
        predicted = made.fit([known]).predict([new])[0][:, 2]
    np.testing.assert_allclose(predicted, 10000, atol=0.02)
