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


def test_partial_fit_has_free_bits_and_counts_all_entries(worms):
    model = NeuroBehaviorVAE(2, **QUICK).fit(worms[:2])
    before = model.network_.n_entries.item()
    sizes = [np.count_nonzero(~np.isnan(w.traces)) for w in worms]
    assert before == sizes[0] + sizes[1]
    model.partial_fit(worms[2:3])
    assert model.network_.n_entries.item() == before + sizes[2]
    assert model.network_.free_bits == model.free_bits
    model.set_params(warm_start=True).fit(worms[:1])
    assert model.network_.n_entries.item() == sizes[0]


def test_partial_fit_charges_the_floor_of_free_bits(worms):
    model = NeuroBehaviorVAE(2, **QUICK).set_params(free_bits=50.0).fit(worms[:2])
    model.partial_fit(worms[2:3])
    (parts,) = model.history_
    assert model.loss_curve_[0] > parts["shown"] + parts["hidden"] + parts["kl"]


def test_collapsed_components_are_told(worms):
    with pytest.warns(UserWarning, match="of 6 components have collapsed"):
        NeuroBehaviorVAE(6, **{**QUICK, "shrinkage": 1e6}).fit(worms[:2])


def test_kept_weights_have_the_loss_that_is_told(worms):
    model = NeuroBehaviorVAE(2, **QUICK).fit(worms)
    assert model.best_loss_ in model.validation_scores_
    model.set_params(early_stopping=False).fit(worms)
    assert model.best_loss_ == model.loss_curve_[-1]
