"""A fitted estimator stays whole: failed calls, changed parameters, nothing to validate by."""

import pickle

import numpy as np
import pytest

from skneurovae import NeuroBehaviorVAE

QUICK = {
    "model_dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "window_length": 32,
    "max_iter": 2, "shrinkage": 100.0, "prior": "normal", "random_state": 0,
}  # fmt: skip


def test_failed_partial_fit_leaves_the_model_as_it_was(worms):
    model = NeuroBehaviorVAE(2, **QUICK).fit(worms[:2])
    before, names = model.transform(worms[:1])[0], list(model.identities_)
    model.set_params(n_components=3)
    with pytest.raises(ValueError, match="n_components is 3, but the last fit had 2"):
        model.partial_fit(worms[2:])
    model.set_params(n_components=2)
    assert list(model.identities_) == names
    np.testing.assert_array_equal(model.transform(worms[:1])[0], before)


def test_parameters_changed_after_fit_do_not_reach_the_fitted_network(worms):
    model = NeuroBehaviorVAE(2, **QUICK).fit(worms[:2])
    model.set_params(model_dim=16, window_length=4, behavior_lags=(0,))
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.transform(worms[:1])[0], model.transform(worms[:1])[0])


def test_counts_are_asked_for_at_transform_too():
    counts = np.random.default_rng(0).poisson(2.0, (80, 6)).astype(float)
    model = NeuroBehaviorVAE(1, likelihood="poisson", **QUICK).fit(counts)
    with pytest.raises(ValueError, match=r"needs counts, but traces of recording 0 hold -"):
        model.transform(counts - 3)


def test_with_nothing_hidden_the_network_still_trains(worms):
    nothing = {"hide_neurons": (0.0, 0.0), "hide_spans": (0.0, 0.0), "hide_all_neurons": 0.0}
    model = NeuroBehaviorVAE(2, **nothing, **QUICK).fit(worms)
    assert model.validation_scores_ == []
    assert model.network_.read_out.abs().sum() > 0
