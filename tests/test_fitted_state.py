"""A fitted estimator stays whole: failed calls, changed parameters, nothing to validate by."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from skneurovae import NeuroBehaviorVAE, Recording
from skneurovae.recordings.batches import Batch
from skneurovae.recordings.masking import HidingSchedule

QUICK = {
    "model_dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "window_length": 32,
    "max_iter": 2, "shrinkage": 100.0, "prior": "normal", "random_state": 0,
}  # fmt: skip


def test_failed_partial_fit_leaves_the_model_as_it_was(worms):
    model = NeuroBehaviorVAE(2, **QUICK).fit(worms[:2])
    before, names = model.transform(worms[:1])[0], list(model.identities_)
    assert model.n_components_ == 2
    for name, value, had in [
        ("n_components", 3, 2), ("likelihood", "huber", "'gaussian'"),
        ("normalize", "recording", "'identity'"), ("behavior_kind", "linear", r"\('bounded', .*"),
    ]:  # fmt: skip
        given = model.get_params()[name]
        model.set_params(**{name: value})
        message = f"{name}s? is .*{value}.*, but the last fit had {had}"
        with pytest.raises(ValueError, match=message):
            model.partial_fit(worms[2:])
        model.set_params(**{name: given})
    assert list(model.identities_) == names
    assert model.n_components_ == 2
    np.testing.assert_array_equal(model.transform(worms[:1])[0], before)
    model.set_params(n_components="auto").partial_fit(worms[2:])  # that of the first fit
    assert model.n_components_ == 2


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
    assert len(model.validation_scores_) == 3  # hidden neurons all the same
    model.set_params(early_stopping=False).fit(worms)
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
    charged = model.loss_curve_[0] - parts["hidden"] - parts["penalty"] - 0.1 * parts["shown"]
    assert charged > 2 * 0.1 * parts["kl"]  # the bound has a tenth of the weight


def test_collapsed_components_are_told(worms):
    with pytest.warns(UserWarning, match="of 6 components have collapsed"):
        NeuroBehaviorVAE(6, **{**QUICK, "shrinkage": 1e6}).fit(worms[:2])


def test_kept_weights_have_the_loss_that_is_told(worms):
    model = NeuroBehaviorVAE(2, **QUICK).fit(worms)
    # Kept is the start, or the best of these epochs and of what was trained before them.
    scores = model.validation_scores_
    if model.start_kept_:
        assert model.best_loss_ == scores[0]
    else:
        assert model.best_loss_ <= min(scores)
        assert model.start_gain_[0] == pytest.approx(scores[0] - model.best_loss_)
    model.set_params(early_stopping=False).fit(worms)
    assert model.best_loss_ == model.loss_curve_[-1]


def test_a_failed_fit_leaves_the_model_as_it_was(worms):
    X = np.random.default_rng(0).standard_normal((60, 6))
    model = NeuroBehaviorVAE(2, **QUICK).fit(X)
    before = model.transform(X)
    with pytest.raises(ValueError, match="n_heads=7"):
        model.set_params(n_heads=7).fit(np.ones((60, 9)) * np.arange(60)[:, None])
    model.set_params(n_heads=2)
    np.testing.assert_array_equal(model.transform(X), before)
    fresh = NeuroBehaviorVAE(2, **{**QUICK, "n_heads": 7})
    with pytest.raises(ValueError, match="n_heads=7"):
        fresh.fit(X)
    with pytest.raises(NotFittedError):
        fresh.transform(X)


def test_updates_hide_other_neurons_each_time(worms, monkeypatch):
    drawn = []
    hide = HidingSchedule.hide

    def spy(schedule, batch, generator=None):
        hidden = hide(schedule, batch, generator)
        drawn.append(hidden.shown.clone())
        return hidden

    model = NeuroBehaviorVAE(2, **QUICK).fit(worms[:1])
    monkeypatch.setattr(HidingSchedule, "hide", spy)
    for _ in range(2):
        model.partial_fit(worms[:1])
    assert len(drawn) == 2  # each epoch hides once, for all of its passes
    assert not torch.equal(drawn[0], drawn[1])


def test_shrinkage_may_change_between_fits(worms):
    model = NeuroBehaviorVAE(2, **QUICK, warm_start=True).fit(worms[:1])
    model.set_params(shrinkage=7.0).fit(worms[:1])
    assert model.network_.shrinkage.item() == 7.0


def test_latents_keep_their_number_when_the_parameter_changes(worms):
    model = NeuroBehaviorVAE(2, **QUICK).fit(worms[:1])
    latents = model.set_params(n_components=5).transform(worms[:1])
    assert model.inverse_transform(latents)[0].shape[1] == len(model.identities_)
    assert len(model.get_feature_names_out()) == 2


def test_many_recordings_refuse_pandas_in_one_line(worms):
    model = NeuroBehaviorVAE(2, **QUICK).fit(worms[:2]).set_output(transform="pandas")
    with pytest.raises(ValueError, match=r"set_output\(transform='pandas'\) serves one recording"):
        model.transform(worms[:2])


def test_behavior_of_many_recordings_is_refused(worms):
    model = NeuroBehaviorVAE(2, **QUICK).fit(worms[:2])
    with pytest.raises(ValueError, match="behavior must be one array"):
        model.predict_from_behavior([worms[0].behavior, worms[1].behavior])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_keep_the_precision_of_the_input(worms, dtype):
    recording = worms[0].replace(traces=worms[0].traces.astype(dtype))
    model = NeuroBehaviorVAE(2, **QUICK).fit([recording])
    for result in (model.predict, model.impute):
        assert {a[0].dtype for a in result([recording], return_std=True)} == {np.dtype(dtype)}


def test_twins_are_hidden_together(worms):
    batch = SimpleBatch(n_windows=64, neurons=[0, 1, 0, 2, 1, 3])
    shown = HidingSchedule(spans=(0.0, 0.0), everything=0.0).hide(batch).shown[:, 0]
    assert (shown[:, 0] == shown[:, 2]).all()
    assert (shown[:, 1] == shown[:, 4]).all()
    assert not (shown[:, 0] == shown[:, 1]).all()


def SimpleBatch(n_windows, neurons):
    """Complete windows of a few neurons."""
    shape = (n_windows, 8, len(neurons))
    seen = torch.ones(shape, dtype=torch.bool)
    return Batch(
        traces=torch.zeros(shape), observed=seen, behavior=torch.zeros(n_windows, 8, 0),
        behavior_observed=torch.zeros(n_windows, 8, 0, dtype=torch.bool),
        stimulus=torch.zeros(n_windows, 8, 0), valid=seen[..., 0],
        neurons=torch.tensor(neurons).expand(n_windows, -1),
        recording=torch.zeros(n_windows, dtype=torch.int64),
        start=torch.zeros(n_windows, dtype=torch.int64),
    )  # fmt: skip


def test_integer_identities_and_columns_do_not_mix():
    rng = np.random.default_rng(0)
    traces = [rng.standard_normal((60, 3)) + shift for shift in (0, 100)]
    animals = [Recording(traces[0], identities=[1, 2, 3]), Recording(traces[1])]
    behavior = [rng.standard_normal((60, 1)) for _ in animals]
    animals = [a.replace(behavior=b) for a, b in zip(animals, behavior)]
    model = NeuroBehaviorVAE(1, **QUICK).fit(animals)
    assert model.identities_.tolist() == [1, 2, 3, "column 0", "column 1", "column 2"]
    assert abs(model.predict_from_behavior(behavior[0], identities=[1]).mean()) < 5
