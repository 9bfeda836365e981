"""Derivatives of a contrastive embedding: which neurons matter, and the penalty on them."""

import numpy as np
import pytest
from test_contrastive_embedding import model, ring

from skneurovae import Recording
from skneurovae.inspection import attribution


def test_attribution_finds_the_neurons_that_matter():
    traces, angle = ring(1000, 8)
    rng = np.random.default_rng(0)
    traces = np.c_[traces, rng.standard_normal((1000, 8))]  # the last eight know nothing
    made = model(steps_per_epoch=60, circular={0: 2 * np.pi}, jacobian_penalty=0.05)
    made.set_params(n_components=2).fit(traces, behavior=angle)
    for settings in ({}, {"inverse": True, "absolute": False}):
        found = attribution(made, traces, max_samples=200, **settings)
        assert found.shape == (2, 16)
        assert found[:, :8].mean() > 1.5 * found[:, 8:].mean()


def test_the_penalty_makes_the_jacobian_smaller():
    traces, angle = ring()
    free, held = (
        model(jacobian_penalty=p, max_iter=8).fit(traces, behavior=angle) for p in (1e-9, 10.0)
    )
    assert held.history_[-1]["jacobian"] < 0.5 * free.history_[-1]["jacobian"]


def test_jacobian_of_neurons_unknown_to_the_model_is_0():
    traces, _ = ring(200, 6)
    made = model(max_iter=1).fit([Recording(traces, identities=list("abcdef"))])
    other = Recording(traces, identities=list("abcxef"))
    with pytest.warns(UserWarning, match="Unknown to the model"):
        (found,) = made.jacobian([other], max_samples=50)
    assert found.shape == (50, 4, 6)
    assert (found[:, :, 3] == 0).all()
    assert (found[:, :, [0, 1, 2, 4, 5]] != 0).all()
