"""LFADS, DSAE and FHVAE against plain loops over bins, written from the equations."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from sequential_speed import MODELS, check


@pytest.mark.parametrize("name", [name for name in MODELS if "original" not in name])
def test_same_weights_and_random_numbers_give_the_same_loss_and_gradient(name):
    """The original's GRU resets before the recurrent product: another function, not compared."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours, plain = check(name)
    # The variance of the prior of initial conditions is fixed, and no parameter of the plain model.
    assert ours == plain
