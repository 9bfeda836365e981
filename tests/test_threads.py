"""Fits and predictions in several threads give the bits that they give alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from isolation_cases import BASELINES, COUNTS, NETWORKS, answers, arrays, questions, same_bits
from sklearn.base import clone
from sklearn.model_selection import KFold

from skneurovae.metrics import co_smoothing_score
from skneurovae.model_selection import compare_models

N_THREADS = 4


class Caller(threading.Thread):
    """Somebody who draws from the global generators all the time."""

    def __enter__(self):
        self.over, self.drawn = threading.Event(), []
        torch.manual_seed(1)
        np.random.seed(1)
        self.start()
        return self

    def run(self):
        while not self.over.wait(1e-3):
            self.drawn.append((torch.rand(3).tolist(), np.random.rand()))

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def check(self):
        torch.manual_seed(1)
        np.random.seed(1)
        assert len(self.drawn) > 3
        assert self.drawn == [(torch.rand(3).tolist(), np.random.rand()) for _ in self.drawn]


def fitted(model):
    model = clone(model).fit(COUNTS)
    if not hasattr(model, "network_"):
        return answers(model)
    weights = [value.numpy() for value in model.network_.state_dict().values()]
    return [*weights, model.loss_curve_, model.validation_scores_, model.transform(COUNTS)]


@pytest.mark.filterwarnings("ignore")  # of small data; they are told of elsewhere
@pytest.mark.parametrize("name", [*NETWORKS, *BASELINES])
def test_fits_in_four_threads_are_those_of_one(name):
    model = {**NETWORKS, **BASELINES}[name]()
    alone = fitted(model)
    with Caller() as caller:
        fit = joblib.delayed(fitted)
        together = joblib.Parallel(N_THREADS, "threading")(fit(model) for _ in range(N_THREADS))
    for found in together:
        same_bits(found, alone)
    caller.check()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*NETWORKS, *BASELINES])
def test_one_fitted_model_serves_four_threads(name):
    model = {**NETWORKS, **BASELINES}[name]().fit(COUNTS)
    narrow = [r.replace(traces=r.traces.astype("f4")) for r in COUNTS[1:3]]
    calls = [
        call for X in (COUNTS[:1], COUNTS[3:], narrow) for call in questions(model, X).values()
    ]
    alone = [arrays(call()) for call in calls]
    with ThreadPoolExecutor(N_THREADS) as pool:
        together = list(pool.map(lambda call: arrays(call()), calls))
    for found, expected in zip(together, alone, strict=True):
        same_bits(found, expected)


@pytest.mark.filterwarnings("ignore")
def test_a_comparison_in_threads_is_that_of_one():
    models = {name: NETWORKS[name]() for name in ("pooled", "lfads")}

    def scores():
        result = compare_models(
            models, COUNTS, cv=KFold(2), scoring=co_smoothing_score, controls=False
        )
        assert not result.errors
        return [(r["model"], r["fold"], r["unit"], r["score"]) for r in result.records]

    alone = scores()
    with joblib.parallel_config("threading", n_jobs=N_THREADS):
        together = scores()
    assert together == alone
    assert np.isfinite([score for *_, score in alone]).all()
