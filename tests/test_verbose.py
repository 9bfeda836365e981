"""What a fit tells of its course: a line per epoch and one at the end, and attributes."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from estimator_cases import NETWORKS

from skneurovae import NeuroBehaviorVAE
from skneurovae.estimators import neuro_behavior_vae
from skneurovae.training import EpochLog, History, train

LINE = re.compile(
    r"\[(\w+)\] epoch (\d+)/3: loss .*, validation .*, learning rate .*, "
    r"[\d.]+ s done(, at most [\d.]+ s left)?"
)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_verbose_fit_tells_time_and_in_the_end_what_was_kept(name, capsys):
    case = NETWORKS[name]
    model = case.make(max_iter=3, verbose=1).fit(*case.data("first"))
    *epochs, last = capsys.readouterr().out.splitlines()
    if isinstance(model, NeuroBehaviorVAE):
        assert epochs.pop(0) == (
            f"[NeuroBehaviorVAE] likelihood={model.likelihood_!r}, normalize='identity', "
            f"n_components=2, behavior_kind={model.behavior_kind_}"
        )
    found = [LINE.fullmatch(line) for line in epochs]
    assert [match[1] for match in found] == [type(model).__name__] * 3
    assert [match[2] for match in found] == ["1", "2", "3"]
    assert [match[3] is None for match in found] == [False, False, True]
    start = "linear start" if name.startswith("precision") else "start"
    kept = rf"kept (the {start}: after the best epoch, \d,|.+: its validation loss is) "
    assert re.match(rf"\[{type(model).__name__}\] 3 epochs in [\d.]+ s; {kept}", last)
    assert ("kept the" in last) == (model.best_loss_ == model.validation_scores_[0])
    assert model.fit_time_ > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_without_validation_the_last_weights_are_kept(name, capsys):
    case = NETWORKS[name]
    model = case.make(early_stopping=False, verbose=1).fit(*case.data("first"))
    assert re.search(r"2 epochs in [\d.]+ s; kept its last weights\n$", capsys.readouterr().out)
    model.partial_fit(*case.data("first"))
    assert re.search(r"1 epoch in [\d.]+ s; kept its last weights\n$", capsys.readouterr().out)


def test_a_quiet_fit_prints_nothing(capsys):
    case = NETWORKS["precision"]
    case.make().fit(*case.data("first"))
    assert capsys.readouterr().out == ""


def test_attributes_say_whether_the_linear_start_was_kept_and_by_how_much():
    case = NETWORKS["precision"]
    data, kept = case.data("first"), []
    for rate in (1e-12, 2e-3):  # the first moves nothing
        model = case.make(learning_rate=rate).fit(*data)
        (gain, error), scores = model.start_gain_, model.validation_scores_
        assert gain == pytest.approx(scores[0] - min(scores[1:]), abs=1e-9)
        assert model.start_kept_ == (gain <= error)
        assert model.start_kept_ == (model.best_loss_ == scores[0])
        kept.append(model.start_kept_)
    assert kept == [True, False]
    for again in (model.partial_fit, model.set_params(early_stopping=False).fit):
        again(*data)
        assert not model.start_kept_
        assert np.isnan(model.start_gain_).all()


def test_a_read_out_that_nothing_improved_further_is_kept_with_its_own_loss(monkeypatch, capsys):
    """Training has two stages; where the second adds nothing, the first is no linear start."""
    calls = []

    def spy(network, batches, *, settings, **others):
        if calls:
            settings = replace(settings, learning_rate=1e-12)
        calls.append(train(network, batches, settings=settings, **others))
        return calls[-1]

    monkeypatch.setattr(neuro_behavior_vae, "train", spy)
    case = NETWORKS["precision"]
    model = case.make(verbose=1, learning_rate=2e-3, max_iter=4).fit(*case.data("first"))
    first, _ = calls
    assert not model.start_kept_
    assert model.best_loss_ == pytest.approx(min(first.validation_scores))
    assert model.best_loss_ < model.validation_scores_[0] == first.validation_scores[0]
    assert model.start_gain_[0] == pytest.approx(model.validation_scores_[0] - model.best_loss_)
    assert model.network_.read_out.abs().max() > 1e-4
    told = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r"kept (what was trained before them|epoch \d): its validation loss is ", told)


def test_the_standard_error_is_that_of_the_difference_of_the_units():
    model = NETWORKS["precision"].make(max_iter=1)
    shares = []
    validation = type(model)._validation

    def spy(*arguments):
        validate = validation(*arguments)

        def told():
            shares.append(validate())
            return shares[-1]

        return told

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "_validation", spy)
        model.fit(*NETWORKS["precision"].data("first"))
    # The start, then an epoch of the read-out alone; the same as validated again, then an epoch.
    assert len(shares) == 4
    fall = (shares[0] - min(shares[2:], key=torch.sum)).numpy()
    assert model.start_gain_ == pytest.approx((fall.sum(), fall.std(ddof=1) * len(fall) ** 0.5))


def test_summaries_name_what_was_kept():
    history = History([1.0] * 4, [5.0, 4.0, 3.0, 3.5, 3.2], [{}] * 4)
    history.best_epoch = history.tried_epoch = 2
    history.start_gain = 2.0, 0.5
    assert history.summary(75.0) == (
        "4 epochs in 1:15 min; kept epoch 2: its validation loss is 2 below that of the start "
        "(standard error 0.5)"
    )
    history.best_epoch = 0
    assert history.summary(1.0, "linear start") == (
        "4 epochs in 1.0 s; kept what was trained before them: its validation loss is 2 below that "
        "of the linear start (standard error 0.5)"
    )
    history.start_kept, history.start_gain = True, (-0.25, 0.0)
    assert history.summary(2.0, "linear start") == (
        "4 epochs in 2.0 s; kept the linear start: after the best epoch, 2, the validation loss "
        "was 0.25 above"
    )
    assert History().summary(3601.0) == "0 epochs in 1:00:01 h; kept the start"


def test_time_left_is_at_the_pace_so_far():
    log = EpochLog(5, 20, 1.0, None, 0.1, {}, seconds=10.0)
    assert log.seconds_left == 30.0
