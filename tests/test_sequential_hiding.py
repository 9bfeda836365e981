"""What training hides and withholds, and what validation must not reach."""

import numpy as np
import pytest
import torch
from sequential_cases import MODELS, held_out_of, lfads, sessions, spied, spikes
from sklearn.model_selection import GridSearchCV

from skneurovae import LFADS, Recording
from skneurovae.datasets import make_lorenz

TRIALS = spikes(6)


@pytest.mark.parametrize(
    ("name", "initialization"), [*((name, "random") for name in MODELS), ("lfads", "pcr")]
)
def test_withheld_samples_reach_nothing_in_training(name, initialization, monkeypatch):
    settings = {"sample_validation": 0.3, "initialization": initialization}
    model, seen = spied(MODELS[name](**settings), TRIALS, monkeypatch)
    mask = [model._kept_samples(i, len(t), np.arange(7)) for i, t in enumerate(TRIALS)]
    assert abs(np.concatenate(mask).mean() - 0.7) < 0.05
    for batch in seen:
        for i, (recording, start) in enumerate(zip(batch.recording, batch.start)):
            n = int(batch.valid[i].sum())
            kept = batch.observed[i, :n].numpy()
            assert (kept >= batch.shown[i, :n].numpy()).all()
            np.testing.assert_array_equal(kept, mask[recording][start : start + n])
        torch.testing.assert_close(batch.gain, torch.full_like(batch.gain, 1 / 0.7))
    # Other counts there: other validation losses, but the very same training.
    other = [np.where(mask[i], t, t + 40) for i, t in enumerate(TRIALS)]
    again = MODELS[name](**settings).fit(other)
    np.testing.assert_array_equal(again.loss_curve_, model.loss_curve_)
    assert not np.allclose(again.validation_scores_, model.validation_scores_)
    # Lifted at inference.
    assert not np.allclose(model.predict(TRIALS)[0], model.predict(other)[0])


def test_masks_of_validation_are_those_of_other_parameters(monkeypatch):
    kept = []
    for seed in (0, 1):
        model = lfads(sample_validation=0.3, random_state=seed, dynamic_dim=1 + seed)
        _, seen = spied(model, TRIALS, monkeypatch)
        batch = next(b for b in seen if (b.recording == 0).any())
        kept.append(batch.observed[batch.recording == 0][0, : len(TRIALS[0])].numpy())
    np.testing.assert_array_equal(*kept)


def test_forward_bins_are_hidden_in_training_and_predicted_later(monkeypatch):
    model, seen = spied(
        lfads(
            forward_bins=5, hide_neurons=(0.0, 0.0), hide_bins=(0.0, 0.0), early_stopping=False
        ), TRIALS, monkeypatch,
    )  # fmt: skip
    for batch in seen:
        lengths = batch.valid.sum(1)
        for i, n in enumerate(lengths.tolist()):
            assert not batch.shown[i, n - 5 :].any()
            assert batch.shown[i, : n - 5].all()
            assert batch.observed[i, :n].all()  # the targets
    longer = [np.r_[t, np.full((4, 7), np.nan)] for t in TRIALS]
    rates = model.predict(longer)
    assert rates[0].shape == longer[0].shape
    assert np.isfinite(rates[0]).all()


@pytest.mark.parametrize("name", MODELS)
def test_time_steps_are_hidden_in_training(name, monkeypatch):
    nothing = {"hide_neurons": (0.0, 0.0), "early_stopping": False, "coordinated_dropout": 0.0}
    _, seen = spied(MODELS[name](hide_bins=(0.5, 0.5), **nothing), TRIALS, monkeypatch)
    blank = [(b.valid & ~b.shown.any(2)).sum() / b.valid.sum() for b in seen]
    assert 0.05 < np.mean(blank) < 0.8
    for batch in seen:
        assert torch.equal(batch.observed.any(2), batch.valid)  # the targets
    _, seen = spied(MODELS[name](hide_bins=(0.0, 0.0), **nothing), TRIALS, monkeypatch)
    assert all(torch.equal(b.shown, b.observed) for b in seen)


@pytest.mark.slow
def test_hidden_time_steps_prepare_for_missing_ones():
    trials, truth = make_lorenz(8, 10, random_state=0)
    blank = [t.replace(traces=t.traces.copy()) for t in trials[::5]]
    for trial in blank:
        trial.traces[30:40] = np.nan
    errors = []
    for bounds in ((0.0, 0.0), (0.0, 0.1)):
        model = LFADS(hide_bins=bounds, max_iter=30, random_state=0, device="cpu")
        model.fit([t for i, t in enumerate(trials) if i % 5])
        pairs = zip(model.predict(blank), truth.rates[::5])
        errors.append(np.mean([(p - t)[30:40] ** 2 for p, t in pairs]))
    assert errors[1] < 0.95 * errors[0]


def test_held_out_neurons_are_hidden_in_training(monkeypatch):
    _, seen = spied(lfads(hide_neurons=(0.3, 0.6), max_iter=4), TRIALS, monkeypatch)
    hidden = torch.cat([1 - b.shown.any(1).double().mean(1) for b in seen])
    assert 0.2 < hidden.mean() < 0.7


# What validates, and the start


@pytest.mark.parametrize("initialization", ["random", "pcr", "conditions"])
def test_trials_that_validate_do_not_reach_the_start(initialization, monkeypatch):
    def unmoved():
        return lfads(initialization=initialization, max_iter=1, learning_rate=1e-12)

    def fit(trials):
        return unmoved().fit(trials, [0, 1] * 3).network_.state_dict()

    with monkeypatch.context() as patch:
        places, _ = held_out_of(lfads(max_iter=1), TRIALS, patch)
    assert len(places) == 1
    before = fit(TRIALS)
    for i in range(6):
        other = [t + (3.0 * (np.arange(7) + i) // 2 if i == k else 0) for k, t in enumerate(TRIALS)]
        after = fit(other)
        for name in ("offset", "scale", "read_in", "read_out", "bias"):
            same = torch.allclose(after[name], before[name], atol=1e-6)
            drawn = name.startswith("read") and initialization == "random"
            assert same == (i in places or drawn)


def test_units_of_neurons_that_only_validation_has_are_theirs():
    """They cannot be trained, but their rates have to start somewhere."""
    common = [Recording(t, identities=np.arange(1, 8)) for t in TRIALS]
    model = lfads(max_iter=1, learning_rate=1e-12)
    for i in range(6):  # one of these is held out
        trials = list(common)
        trials[i] = Recording(
            np.c_[TRIALS[i], TRIALS[i][:, :1] + 4], identities=np.arange(1, 9)
        )  # fmt: skip
        network = model.fit(trials).network_
        np.testing.assert_allclose(network.offset[7], TRIALS[i][:, 0].mean() + 4, rtol=1e-5)
        np.testing.assert_allclose(network.bias[7].exp().detach(), network.offset[7], rtol=1e-5)


@pytest.mark.parametrize("initialization", ["pcr", "conditions"])
def test_labels_matter_to_a_start_from_conditions_alone(initialization):
    trials = sessions()
    starts = [
        lfads(initialization=initialization, max_iter=1, learning_rate=1e-12)
        .partial_fit(trials, labels).network_.read_in
        for labels in ([0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 1, 0, 0, 0, 1, 1])
    ]  # fmt: skip
    assert torch.allclose(*starts, atol=1e-6) == (initialization == "pcr")


def test_a_search_by_withheld_samples():
    """All trials train and all validate: `best_loss_` compares fits on the same entries."""
    everything = [(np.arange(6), np.arange(6))]
    rates, model = [1e-12, 1e-2, 1.0], lfads(sample_validation=0.2, max_iter=3)
    search = GridSearchCV(
        model, {"learning_rate": rates}, cv=everything,
        scoring=lambda model, X, y=None: -model.best_loss_, refit=True,
    ).fit(TRIALS)  # fmt: skip
    losses = [model.set_params(learning_rate=rate).fit(TRIALS).best_loss_ for rate in rates]
    assert min(losses) < losses[0] < losses[2]
    assert search.best_params_ == {"learning_rate": rates[np.argmin(losses)]}
    assert search.best_score_ == -search.best_estimator_.best_loss_
