"""Learning rate, settings and device of a fit."""

import math

import pytest
import torch

from skneurovae.training import TrainingSettings, resolve_device
from skneurovae.training.schedules import Plateau, learning_rate_at


def test_learning_rate_at_given_positions():
    options = TrainingSettings(
        110, learning_rate=2.0, warmup_epochs=10, min_lr_ratio=0.1, cosine_portion=0.8
    )
    expected = {
        0: 0.002, 2.5: 0.002 + 1.998 / 4, 5: 1.001, 10: 2.0,
        30: 0.2 + 1.8 * (1 + math.cos(math.pi / 4)) / 2, 50: 1.1, 90: 0.2, 100: 0.2, 110: 0.2,
    }  # fmt: skip
    for position, rate in expected.items():
        assert learning_rate_at(position, options) == pytest.approx(rate), position


@pytest.mark.parametrize("max_iter", [1, 5, 20])
def test_warmup_takes_at_most_a_fifth(max_iter):
    options = TrainingSettings(max_iter)
    assert options.warmup_end == max_iter / 5
    assert learning_rate_at(0, options) == pytest.approx(1e-6)
    assert learning_rate_at(max_iter / 5, options) == pytest.approx(1e-3)
    assert learning_rate_at(max_iter / 10, options) == pytest.approx(0.5005e-3)


def test_no_warmup():
    assert learning_rate_at(0, TrainingSettings(10, warmup_epochs=0)) == 1e-3


def test_plateau_follows_the_rule_of_pytorch():
    losses = [5, 4, 4, 4, 4, 3, 3.00005, 3, 3, 2, 2, 2, 2, 2, 2, 2, 2]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=2, threshold=1e-4, threshold_mode="abs"
    )
    plateau = Plateau(0.5, patience=2, tol=1e-4)
    for loss in losses:
        reference.step(loss)
        plateau.update(loss)
        assert plateau.scale == optimizer.param_groups[0]["lr"]
    assert plateau.scale == 1 / 16


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"max_iter": 0}, "max_iter must be at least 1, got 0"),
        ({"cosine_portion": 0.0}, "cosine_portion must be above 0 and at most 1, got 0.0"),
        ({"precision": "half"}, "precision must be 'float32' or 'bf16', got 'half'"),
    ],
)
def test_wrong_settings_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**{"max_iter": 5, **bad})


# -- device ------------------------------------------------------------------------------------


def test_device_that_is_there():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")
    assert resolve_device("auto").type in ("cuda", "mps", "cpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(2, True, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_auto_takes_the_fastest(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto") == torch.device(expected)
    for name, there in [("cuda", cuda > 0), ("cuda:1", cuda > 1), ("mps", mps), ("cuda:7", False)]:
        if there:
            assert resolve_device(name) == torch.device(name)
        else:
            with pytest.raises(ValueError, match=f"device='{name}' is not available; use one of"):
                resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "tpu", "meta", ""])
def test_device_that_is_not_known(name):
    with pytest.raises(ValueError, match=f"device='{name}' is not available; use one of"):
        resolve_device(name)
