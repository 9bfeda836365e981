"""NumPy's integers, floats and booleans as parameters do what Python's do."""

import numpy as np
import pytest
from estimator_cases import CASES, NETWORKS, answers, assert_same
from sequential_cases import lfads, spikes
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold

from skneurovae import NeuroBehaviorVAE
from skneurovae.common.parameters import plain

# Parameters that are None or of another type by default, as numbers.
MORE = {
    "precision": {"stride": 8, "behavior_lags": (0, 2), "window_length": 16},
    "pooled": {"stride": 5},
    "contrastive": {
        "network": "attention", "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "dropout": 0.125,
        "time_offset": 3, "learn_temperature": True, "min_temperature": 0.25, "time_jitter": 1,
        "objective": "focal", "gamma": 1.5, "noise": 0.125, "jacobian_penalty": 0.125,
        "standardize": True, "normalize": True, "circular": {0: 6.0},
    },
    "lfads": {"stride": 8, "static_length": 4, "causal": True, "forward_bins": 2},
    "dsae": {"stride": 32, "dropout": 0.125},
    "fhvae": {"stride": 4, "n_sequences_at_once": 2},
    "factor analysis": {"smoothing": 1.5},
    "ridge": {"alpha": 2.0, "lags": 3},
    "glm": {"alpha": 2.0, "lags": [0, 2]},
    "decoder": {"alphas": (0.5, 2.0), "lags": 2},
    "decoder of angles": {"lags": [0, 3]},
}  # fmt: skip


def numpys(value, integer, real):
    """A parameter in NumPy's types."""
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, float):
        return real(value)
    if isinstance(value, (list, tuple)):
        return type(value)(numpys(entry, integer, real) for entry in value)
    if isinstance(value, dict):
        return {numpys(k, integer, real): numpys(v, integer, real) for k, v in value.items()}
    return value


@pytest.mark.parametrize("types", [(np.int64, np.float64), (np.uint8, np.float32)])
@pytest.mark.parametrize("name", CASES)
def test_every_parameter_may_be_of_numpys_types(name, types):
    case = CASES[name]
    data = case.data("first")
    given = case.make(**MORE.get(name, {})).get_params(deep=False)
    given = {n: v for n, v in given.items() if n not in ("random_state", "estimator")}
    given = {n: numpys(value, *types) for n, value in given.items()}
    model = case.make(**given).fit(*data)
    assert all(getattr(model, n) is value for n, value in given.items())
    assert all(
        getattr(clone(model), n) is value for n, value in given.items() if np.isscalar(value)
    )
    expected = case.make(**plain(given)).fit(*data)
    assert_same(answers(model, data), answers(expected, data))
    if name in NETWORKS:
        assert_same(
            answers(model.partial_fit(*data), data), answers(expected.partial_fit(*data), data)
        )


def test_a_grid_of_numpy_integers_is_searched():
    model = lfads(max_iter=1)
    search = GridSearchCV(model, {"n_components": np.arange(2, 4)}, cv=KFold(2)).fit(spikes())
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_lags_and_bounds_may_be_arrays():
    rng = np.random.default_rng(0)
    X, behavior = rng.standard_normal((60, 4)), rng.standard_normal((60, 1))
    fast = {"model_dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "window_length": 16}
    fast |= {"max_iter": 1, "shrinkage": 10.0, "random_state": 0}
    models = [
        NeuroBehaviorVAE(np.int32(2), behavior_lags=lags, **fast).fit(X, behavior=behavior)
        for lags in (np.arange(3), [0, 1, 2])
    ]
    np.testing.assert_array_equal(*(model.transform(X) for model in models))


def test_plain_values_have_no_types_of_numpy():
    value = {np.int64(1): (np.bool_(True), [np.float32(0.5), np.array([1, 2])]), "a": None}
    assert repr(plain(value)) == "{1: (True, [0.5, [1, 2]]), 'a': None}"
    odd = object()
    assert plain(odd) is odd
