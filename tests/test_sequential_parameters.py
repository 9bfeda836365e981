"""Published sizes, and parameters that others leave without meaning."""

import numpy as np
import pytest
from sequential_cases import spikes
from sklearn.model_selection import GridSearchCV, KFold

from skneurovae import DSAE, FHVAE, LFADS

TRIALS = spikes(6)


def test_paper_sizes():
    assert LFADS.paper().generator_dim == 200
    assert (LFADS.paper().beta_static, LFADS.paper().beta_dynamic) == (0.001, 0.07)
    assert DSAE.paper(static_dim=4).get_params()["static_dim"] == 4
    assert FHVAE.paper().alpha == 10.0
    assert FHVAE.paper().stride == 8


@pytest.mark.parametrize(
    ("cls", "parameters", "idle"),
    [(LFADS, {"dynamic_dim": 0}, "controller_dim"), (DSAE, {"prior": "ar1"}, "prior_dim")],
)
def test_published_sizes_without_meaning_are_left_out(cls, parameters, idle):
    small = {
        "n_components": 3, "static_dim": 2, "encoder_dim": 4, "generator_dim": 6, "max_iter": 1,
        "n_samples": 2, "sample_validation": 0.2,
    }  # fmt: skip
    model = cls.paper(**small, **parameters).fit(TRIALS)
    assert getattr(model, idle) == getattr(cls(), idle) != getattr(cls.paper(), idle)
    assert model.learning_rate == cls.paper().learning_rate
    with pytest.raises(ValueError, match=f"{idle} has no meaning with .*: leave it at"):
        cls.paper(**small, **parameters, **{idle: 5}).fit(TRIALS)


def test_a_search_with_and_without_inferred_inputs():
    small = {"encoder_dim": 4, "generator_dim": 6, "max_iter": 1, "n_samples": 2}
    search = GridSearchCV(LFADS(3, **small), {"dynamic_dim": [0, 1]}, cv=KFold(2)).fit(TRIALS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_bounds_may_be_a_list():
    """As JSON gives them."""
    pair = {"hide_neurons": (0.1, 0.3), "hide_bins": (0.0, 0.2)}
    small = {"encoder_dim": 4, "generator_dim": 6, "max_iter": 1, "random_state": 0}
    rates = [
        DSAE(3, **small, **bounds).fit(TRIALS).predict(TRIALS)[0]
        for bounds in (pair, {name: list(value) for name, value in pair.items()})
    ]
    np.testing.assert_array_equal(*rates)
