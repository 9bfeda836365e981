"""Ctrl-C while a network trains ends the training and keeps the best weights so far."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from estimator_cases import NETWORKS, answers, assert_as_before, assert_same
from interrupting import interrupt_at, n_calls
from joblib import Memory
from sklearn.callback import ProgressBar
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from test_training import Toy, settings, two_batches

from skneurovae.common.interruption import interrupts_go_on
from skneurovae.metrics import reconstruction_score
from skneurovae.model_selection import compare_models
from skneurovae.training import loop, train

INTERRUPTED = "Training was interrupted after {} of {} epochs"
THREE = {name: NETWORKS[name] for name in ("precision", "contrastive", "fhvae")}


def nth(number, function=lambda *arguments, **named: None):
    """Function that raises KeyboardInterrupt at its n-th call."""
    count = [0]

    def call(*arguments, **named):
        count[0] += 1
        if count[0] == number:
            raise KeyboardInterrupt
        return function(*arguments, **named)

    return call


# -- the loop ----------------------------------------------------------------------------------


def run(n_epochs=6, scores=None, weights=None, network=None, **options):
    """Train a toy; validation losses are given, and `weights` gets those that they belong to."""
    network = network or Toy()
    seen = [] if weights is None else weights

    def validate():
        seen.append(network.weight.detach().clone())
        return scores[len(seen) - 1]

    options.setdefault("validate", None if scores is None else validate)
    history = train(network, two_batches, settings=settings(n_epochs), **options)
    return network, history


def test_the_best_weights_so_far_are_kept():
    weights = []
    with pytest.warns(ConvergenceWarning, match=INTERRUPTED.format(4, 6)) as told:
        network, history = run(
            scores=[5.0, 4.0, 2.0, 3.0, 2.5, 1.0, 0.5], weights=weights, on_epoch=nth(4)
        )
    assert "best weights so far are kept, those after epoch 2" in str(told[0].message)
    assert history.best_epoch == 2
    assert history.n_iter == len(history.parts) == 4
    assert history.validation_scores == [5.0, 4.0, 2.0, 3.0, 2.5]
    assert torch.equal(network.weight, weights[2])
    assert not network.training


def test_an_epoch_that_was_not_finished_does_not_count():
    network = Toy(lambda network, loss: loss if network.steps != 6 else nth(1)())
    weights = []
    with pytest.warns(ConvergenceWarning, match=INTERRUPTED.format(2, 6)):
        _, history = run(network=network, on_epoch=lambda log: weights.append(copy_of(network)))
    assert history.n_iter == history.best_epoch == 2
    assert torch.equal(network.weight, weights[1])


def copy_of(network):
    return network.weight.detach().clone()


def test_in_the_first_epoch_the_start_is_kept():
    network = Toy(lambda network, loss: nth(1)(), start=0.5)
    with pytest.warns(ConvergenceWarning, match=r"0 of 6 epochs.* kept, those of the start\."):
        _, history = run(network=network, scores=[1.0])
    assert network.weight.tolist() == [0.5, 0.5]
    assert (history.n_iter, history.best_epoch, history.best_loss) == (0, 0, 1.0)
    assert history.start_gain is None


def test_a_trusted_start_is_kept_unless_what_came_was_clearly_better():
    for slope, kept in (([0.1, 0.1, 0.1], 2), ([0.5, -0.4, 0.01], 0)):
        network = Toy()
        shares = torch.tensor(slope)
        with pytest.warns(ConvergenceWarning, match=f"{kept}|start"):
            history = train(
                network, two_batches, settings=settings(6), trust_start=True, on_epoch=nth(2),
                validate=lambda n=network, s=shares: 1.0 - n.weight[0].detach() * s,
            )  # fmt: skip
        assert history.best_epoch == kept
        assert history.n_iter == 2


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_in_validation_the_epoch_does_not_count(number):
    validate = nth(number, lambda: 1.0 / number)
    if number == 1:  # before training
        with pytest.raises(KeyboardInterrupt):
            run(validate=validate)
        return
    with pytest.warns(ConvergenceWarning, match=INTERRUPTED.format(number - 2, 6)):
        _, history = run(validate=validate)
    assert len(history.validation_scores) == 1 + history.n_iter == number - 1


def test_while_batches_are_counted_the_interrupt_goes_on():
    with pytest.raises(KeyboardInterrupt):
        train(Toy(), nth(1, two_batches), settings=settings(6))
    with pytest.warns(ConvergenceWarning, match=INTERRUPTED.format(1, 6)):
        train(Toy(), nth(3, two_batches), settings=settings(6))


def test_a_second_interrupt_goes_on(monkeypatch):
    monkeypatch.setattr(loop._Run, "restore", nth(1))
    with pytest.raises(KeyboardInterrupt):
        run(on_epoch=nth(2))


@pytest.mark.parametrize("validated", [True, False])
def test_at_every_call_the_history_is_whole(validated):
    """Between any two calls: the weights and the loss are those of the epoch that is told."""

    def fit():
        network, at = Toy(), {0: torch.zeros(2)}

        def validate():
            return (network.weight - torch.tensor([1.0, 2.0])).norm().item()

        snapshot = loop._Run.snapshot

        def spy(self):
            at[len(at) - 1 if len(at) == 1 and self.learning_rate == 0 else len(at)] = (
                network.weight.detach().clone()
            )
            return snapshot(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop._Run, "snapshot", spy)
            history = train(
                network, two_batches, settings=settings(3),
                validate=validate if validated else None,
            )  # fmt: skip
        return network, history, at

    total = n_calls(fit)
    ended = 0
    for number in range(1, total):
        with interrupt_at(number), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                network, history, at = fit()
            except KeyboardInterrupt:
                continue
        ended += 1
        assert len(history.parts) == history.n_iter <= 3
        assert len(history.validation_scores) == (history.n_iter + 1) * validated
        assert torch.equal(network.weight, at[history.best_epoch])
        if validated:
            assert history.best_loss == min(history.validation_scores)
        else:
            assert history.best_epoch == history.n_iter
    assert ended > total / 2


def test_where_models_are_compared_every_interrupt_goes_on():
    with interrupts_go_on(), pytest.raises(KeyboardInterrupt):
        run(on_epoch=nth(2))
    with pytest.warns(ConvergenceWarning):
        run(on_epoch=nth(2))


# -- estimators --------------------------------------------------------------------------------


def interrupted_fit(model, data, patch, number, method="fit", n_epochs=2):
    """Fit of which the n-th step of training is interrupted."""
    step = loop._Run.step
    patch.setattr(loop._Run, "step", nth(number, step))
    with pytest.warns(ConvergenceWarning, match=rf"interrupted after \d+ of {n_epochs} epochs"):
        getattr(model, method)(*data)
    patch.setattr(loop._Run, "step", step)
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_an_interrupted_fit_is_a_fit_that_goes_on_with_warm_start(name, monkeypatch):
    case = NETWORKS[name]
    data = case.data("first")
    model = interrupted_fit(case.make(), data, monkeypatch, 1)
    assert model.n_iter_ == 0
    assert (len(model.loss_curve_), len(model.validation_scores_)) == (0, 1)
    assert model.best_loss_ == model.validation_scores_[0]
    whole = answers(model, data)
    assert all(np.isfinite(a).all() for n in whole.keys() - {"get_feature_names_out"}
               for a in whole[n])  # fmt: skip
    assert_same(answers(pickle.loads(pickle.dumps(model)), data), whole)
    model.set_params(warm_start=True).fit(*data)
    assert model.n_iter_ == 2


def test_the_linear_start_is_kept(monkeypatch):
    case = NETWORKS["precision"]
    data = case.data("first")
    model = interrupted_fit(case.make(max_iter=9), data, monkeypatch, 1, n_epochs=9)
    assert model.start_kept_
    assert np.isnan(model.start_gain_).all()
    linear = case.make(learning_rate=1e-12).fit(*data)  # which does not move from there
    assert_same(answers(model, data), answers(linear, data), rtol=1e-6)


def test_without_validation_and_without_an_epoch_there_is_no_loss(monkeypatch):
    case = NETWORKS["dsae"]
    model = case.make(early_stopping=False)
    model = interrupted_fit(model, case.data("first"), monkeypatch, 1)
    assert np.isnan(model.best_loss_)
    assert model.loss_curve_ == model.history_ == model.validation_scores_ == []


@pytest.mark.parametrize("name", NETWORKS)
def test_an_interrupted_partial_fit_knows_the_new_neurons(name, monkeypatch):
    case = NETWORKS[name]
    data, other = case.data("first"), case.data("other")
    model = case.make().fit(*data)
    known = len(model.identities_)
    interrupted_fit(model, other, monkeypatch, 1, "partial_fit", n_epochs=1)
    assert len(model.identities_) > known
    assert all(np.isfinite(z).all() for z in model.transform(*other))
    model.partial_fit(*other)
    assert model.n_iter_ == 1


def test_an_interrupted_adaptation_is_kept_and_goes_on(monkeypatch):
    case = NETWORKS["contrastive"]
    data, other = case.data("first"), case.data("other")
    model = case.make().fit(*data)
    before = model.transform(*data)
    interrupted_fit(model, other, monkeypatch, 6, "adapt", n_epochs=5)  # two steps per epoch
    assert model.n_iter_ == 2
    assert not hasattr(model, "_adapting")
    for a, b in zip(model.transform(*data), before):
        np.testing.assert_array_equal(a, b)  # as adapt promises


STAGES = {
    "start": "_network_arguments",
    "split": "_split",
    "settings": "_training_settings",
    "second": "restore",
    "after training": "_note",
}
CALLS = [
    (name, stage, method)
    for name in THREE
    for stage in STAGES
    for method in ("fit", "partial_fit", *["adapt"] * (name == "contrastive"))
    if stage != "split" or method == "fit"  # which alone holds data out
]


@pytest.mark.parametrize(("name", "stage", "method"), CALLS)
def test_before_training_and_at_a_second_interrupt_all_is_as_it_was(
    name, stage, method, monkeypatch
):
    case = THREE[name]
    data, other = case.data("first"), case.data("other")
    model = case.make().fit(*data)
    before, expected = dict(vars(model)), model.transform(*data)
    weights = copy.deepcopy(model.network_.state_dict())
    attribute = STAGES[stage]
    owner = loop._Run if stage == "second" else type(model)
    with monkeypatch.context() as patch:
        patch.setattr(owner, attribute, nth(1))
        patch.setattr(loop._Run, "step", nth(1))
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.raises(KeyboardInterrupt):
            getattr(model, method)(*other)
    assert_as_before(model, before)
    assert all(torch.equal(v, weights[n]) for n, v in model.network_.state_dict().items())
    for a, b in zip(model.transform(*data), expected):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", THREE)
def test_at_any_call_a_refit_is_whole_or_has_not_been(name):
    case = THREE[name]
    data, other = case.data("first"), case.data("other")
    model = case.make().fit(*data)
    expected = model.transform(*data)[0]
    total = n_calls(case.make().fit, *other)
    for number in np.linspace(1, total - 1, 8).astype(int):
        again = pickle.loads(pickle.dumps(model))
        before = dict(vars(again))
        with interrupt_at(number), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                again.fit(*other)
            except KeyboardInterrupt:
                assert_as_before(again, before)
                np.testing.assert_array_equal(again.transform(*data)[0], expected)
                continue
        assert any(issubclass(w.category, ConvergenceWarning) for w in told)
        assert set(again.identities_) == set("defgh")
        assert len(again.validation_scores_) == again.n_iter_ + 1
        assert again.transform(*other)[0].shape[0] == 40


def test_a_warning_that_is_an_error_leaves_all_as_it_was(monkeypatch):
    case = NETWORKS["dsae"]
    model = case.make()
    before = dict(vars(model))
    monkeypatch.setattr(loop._Run, "step", nth(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.raises(ConvergenceWarning, match="interrupted after 0 of 2 epochs"):
            model.fit(*case.data("first"))
    assert_as_before(model, before)


def test_a_comparison_stops_and_scores_no_model_that_is_half_trained(monkeypatch, tmp_path):
    (made,) = NETWORKS["dsae"].data("first")
    settings = {"cv": KFold(3), "scoring": reconstruction_score, "controls": False}
    settings |= {"baseline": None, "on_leak": "warn", "memory": Memory(tmp_path, verbose=0)}
    model = {"dsae": NETWORKS["dsae"].make()}
    step = loop._Run.step
    monkeypatch.setattr(loop._Run, "step", nth(2, step))
    with pytest.raises(KeyboardInterrupt):
        compare_models(model, made, **settings)
    monkeypatch.setattr(loop._Run, "step", step)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        found = compare_models(model, made, **settings)
    whole = compare_models(model, made, **{**settings, "memory": None})
    assert [r["score"] for r in found.records] == [r["score"] for r in whole.records]
    assert np.isfinite([r["score"] for r in found.records]).all()


def test_progress_bars_end_too(monkeypatch):
    case = NETWORKS["dsae"]
    model = case.make(max_iter=4).set_callbacks(ProgressBar())
    interrupted_fit(model, case.data("first"), monkeypatch, 2, n_epochs=4)
    assert not hasattr(model, "_callback_fit_ctx")
