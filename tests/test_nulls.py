"""Where nothing is related to anything, no model gains; a shifted model does not either."""

import numpy as np
import pytest
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.model_selection import GridSearchCV, KFold

from skneurovae import NeuroBehaviorVAE
from skneurovae.baselines import LaggedRidge, MissingFactorAnalysis, Pooled
from skneurovae.datasets import make_worms
from skneurovae.decoding import decoding_score
from skneurovae.metrics import (
    TimeShifted,
    behavior_prediction_score,
    co_smoothing_score,
    evaluate,
    forecast_score,
    imputation_score,
    shift_neurons,
)
from skneurovae.model_selection import compare_models

pytestmark = pytest.mark.filterwarnings("ignore:Unknown to the model")


@pytest.fixture(scope="module")
def worms():
    return make_worms(6, n_timesteps=400, n_identities=40, n_recorded=30, random_state=0)[0]


def test_shifted_neurons_keep_their_own_statistics(worms):
    shifted = shift_neurons(worms[:2])
    for before, after in zip(worms, shifted):
        np.testing.assert_array_equal(np.sort(before.traces, 0), np.sort(after.traces, 0))
        assert np.abs(np.diff(before.traces, axis=0)).sum() == pytest.approx(
            np.abs(np.diff(np.r_[after.traces, after.traces[:1]], axis=0)).sum(), rel=0.01
        )
        correlation = np.corrcoef(before.traces.T)[np.triu_indices(30, 1)]
        left = np.corrcoef(after.traces.T)[np.triu_indices(30, 1)]
        assert np.abs(left).mean() < 0.5 * np.abs(correlation).mean()
    again = shift_neurons(worms[:2])
    np.testing.assert_array_equal(again[0].traces, shifted[0].traces)


def test_no_model_gains_on_shifted_neurons(worms):
    """They fall below 0 by what they take for signal: PCA most, as it has no prior."""
    models = {
        "factor analysis": MissingFactorAnalysis(4, smoothing="auto"),
        "behavior": LaggedRidge(lags=3),
        "NeuroBehaviorVAE": NeuroBehaviorVAE(4, max_iter=3, model_dim=16, hidden_dim=16),
        "PCA": Pooled(PCA(4)),
    }
    result = compare_models(
        models, shift_neurons(worms), cv=KFold(3), controls=False,
        scoring={"co-smoothing": co_smoothing_score, "imputation": imputation_score},
    )  # fmt: skip
    scores = {(r["model"], r["scorer"]): r["score"] for r in result.summary()}
    assert all(score < 0.02 for score in scores.values())
    for model in ("factor analysis", "behavior", "NeuroBehaviorVAE"):
        assert scores[model, "co-smoothing"] > -0.15
        assert scores["PCA", "co-smoothing"] < scores[model, "co-smoothing"]


def test_every_model_is_at_zero_on_the_time_shift_null(worms):
    models = {
        "PCA": Pooled(PCA(4)),
        "factor analysis": Pooled(FactorAnalysis(4)),
        "missing-data factor analysis": MissingFactorAnalysis(4, smoothing="auto"),
        "behavior": LaggedRidge(lags=3),
        "NeuroBehaviorVAE": NeuroBehaviorVAE(4, max_iter=3, model_dim=16, hidden_dim=16),
    }
    scoring = {
        "co-smoothing": co_smoothing_score,
        "imputation": imputation_score,
        "from behavior": behavior_prediction_score,
        "forecast": forecast_score,
    }
    rows = compare_models(models, worms, cv=3, scoring=scoring).summary()
    assert len(rows) == len(models) * len(scoring)
    for row in rows:
        assert abs(row["null"]) < 0.02, row


def test_without_scale_a_null_tells_how_bold_a_model_is(worms):
    model = Pooled(PCA(4)).fit(worms[:4])
    assert co_smoothing_score(TimeShifted(model, 150), worms[4:]) < -0.1
    result = evaluate(co_smoothing_score, model, worms[4:], n_shifts=60)
    assert abs(result.null) < 0.02


@pytest.mark.parametrize("search", [False, True])
def test_decoding_gains_nothing_from_shifted_latents(search):
    """Below 0 by what fits to unrelated latents cost, less where there is more to fit to."""
    model = MissingFactorAnalysis(8)
    if search:
        model = GridSearchCV(model, {"n_components": [8]}, cv=2)
    nulls = []
    for n_timesteps in (400, 1600):
        worms = make_worms(4, n_timesteps=n_timesteps, n_identities=80, noise=0.3, random_state=1)[
            0
        ]
        result = evaluate(decoding_score, model.fit(worms[:2]), worms[2:])
        assert result.null < 0.02 < 0.3 < result.score
        nulls.append(result.null)
    assert nulls[0] < nulls[1]
    assert nulls[1] > -0.15
