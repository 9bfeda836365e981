"""Shared data: small, seeded, fast."""

import numpy as np
import pytest
import torch
from hypothesis import settings
from threadpoolctl import threadpool_limits

from skneurovae.datasets import make_worms

settings.register_profile("long")  # many more examples; see test_properties.py

# The matrices here are small: threads would wait for each other longer than they work.
torch.set_num_threads(1)
threadpool_limits(1)


@pytest.fixture(autouse=True)
def _seeded():
    """Weights that a test disturbs are the same in every run and order."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def worms():
    """Five animals with different neurons, behavior and gaps."""
    recordings, _ = make_worms(
        5, n_timesteps=(90, 150), n_identities=24, n_recorded=16, n_components=3,
        missing=0.05, random_state=0,
    )  # fmt: skip
    return recordings


@pytest.fixture(scope="session")
def array():
    """One recording as a plain array: ten neurons, three latents."""
    rng = np.random.RandomState(0)
    latents = rng.standard_normal((160, 3)).cumsum(0) * 0.3
    return latents @ rng.standard_normal((3, 10)) + 0.5 * rng.standard_normal((160, 10))
