"""The loop leaves a fitted start only for what is better beyond chance; schedules can stand."""

import numpy as np
import pytest
import torch
from test_training import Toy, settings, two_batches

from skneurovae.training import train


def trained(slopes, trust_start=True):
    """Network and history of a short training."""
    network = Toy()
    validate = shares(network, slopes)
    options = settings(5)
    return network, train(
        network, two_batches, settings=options, validate=validate, trust_start=trust_start
    )


def shares(network, noise):
    """Losses of four units that all fall as the weight grows, by unequal amounts."""
    return lambda: torch.tensor([1.0, 1, 1, 1]) - network.weight[0].detach() * torch.tensor(noise)


@pytest.mark.parametrize(
    ("slopes", "kept"),
    [([0.1, 0.1, 0.1, 0.1], True), ([0.5, -0.4, 0.5, -0.5], False)],
    ids=["all units gain", "units disagree"],
)
def test_the_start_is_kept_unless_the_gain_is_beyond_its_standard_error(slopes, kept):
    network, history = trained(slopes)
    assert min(history.validation_scores) < history.validation_scores[0]
    assert history.best_epoch == (5 if kept else 0)
    assert (network.weight[0].item() > 0) is kept


def test_the_standard_error_is_that_of_the_sum_of_the_units():
    slopes = np.array([0.3, 0.1, -0.1, 0.2])
    error = slopes.std(ddof=1) * 2
    assert slopes.sum() > error  # beyond one standard error, within two
    network, _ = trained(slopes.tolist())
    assert network.weight[0] > 0
    wider = slopes * [1, 1, 4, 1]
    assert 0 < wider.sum() < wider.std(ddof=1) * 2
    network, _ = trained(wider.tolist())
    assert network.weight[0] == 0


def test_without_annealing_schedules_stand_at_their_end():
    network = Toy()
    train(network, two_batches, settings=settings(3, annealing=False))
    assert {epoch for epoch, _, _ in network.annealed} == {3}


def test_without_annealing_the_learning_rate_is_constant():
    rates = []
    train(
        Toy(), two_batches, on_epoch=lambda log: rates.append(log.learning_rate),
        settings=settings(20, annealing=False, learning_rate=0.3, plateau_patience=0, tol=1e9),
    )  # fmt: skip
    assert rates == [0.3] * 20


def test_a_start_that_is_not_trusted_gives_way_to_any_lower_loss():
    _, history = trained([0.5, -0.4, 0.5, -0.5], trust_start=False)
    assert history.best_epoch == 5
