"""Every estimator and baseline, small, with data to fit it to and all that it can be asked."""

import inspect
from dataclasses import dataclass
from functools import partial
from numbers import Integral

import numpy as np
from sequential_cases import dsae, fhvae, lfads
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils._param_validation import Interval, StrOptions

from skneurovae import ContrastiveEmbedding, NeuroBehaviorVAE, Recording
from skneurovae.baselines import (
    AlignNeurons,
    GaussianSmoother,
    LaggedRidge,
    MissingFactorAnalysis,
    PoissonGLM,
    Pooled,
    RowWise,
)
from skneurovae.decoding import BehaviorDecoder

NAMES = np.array(list("abcdefgh"))


def animals(neurons, seed, n_timesteps=40, counts=True):
    """Three recordings of some neurons that follow two slow signals, with behavior."""
    rng = np.random.RandomState(seed)
    weights = np.random.RandomState(0).standard_normal((2, len(NAMES)))[:, neurons]
    made = []
    for number in range(3):
        slow = np.sin(np.arange(n_timesteps)[:, None] / [4, 7] + rng.rand(2) * 6)
        traces = rng.poisson(np.exp(slow @ weights * 0.5)) if counts else slow @ weights
        noise = 0 if counts else 0.3 * rng.standard_normal(traces.shape)
        made.append(
            Recording(
                traces + noise, behavior=slow + 0.1 * rng.standard_normal(slow.shape),
                identities=NAMES[neurons], session=f"animal {number}",
            )
        )  # fmt: skip
    return made


@dataclass
class Case:
    """An estimator, what it is fitted to (`first`), and to something else (`other`)."""

    estimator: object
    counts: bool = False
    decodes: bool = False

    def make(self, **parameters):
        return clone(self.estimator).set_params(**parameters)

    def data(self, which):
        """Arguments of `fit`."""
        neurons, seed = {"first": (slice(0, 6), 1), "other": (slice(3, 8), 2)}[which]
        made = animals(neurons, seed, counts=self.counts)
        if not self.decodes:
            return (made,)
        if which == "other":  # with one target more
            return [r.traces for r in made], [np.hstack([r.behavior, r.behavior]) for r in made]
        return [r.traces for r in made], [r.behavior % 6 for r in made]


FAST = {"max_iter": 2, "random_state": 0, "device": "cpu"}
VAE = {"model_dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "window_length": 16, **FAST}
NETWORKS = {
    "precision": Case(NeuroBehaviorVAE(2, shrinkage=100.0, prior="normal", batch_size=4, **VAE)),
    "precision of counts": Case(
        NeuroBehaviorVAE(2, likelihood="poisson", causal=True, shrinkage=100.0, **VAE), counts=True
    ),
    "pooled": Case(NeuroBehaviorVAE(2, neuron_encoder="pooled", **VAE)),
    "contrastive": Case(
        ContrastiveEmbedding(3, steps_per_epoch=2, batch_size=32, network="offset5", **FAST)
    ),
    "lfads": Case(lfads(likelihood="gaussian", window_length=16)),
    "dsae": Case(dsae(window_length=64, variant="factorized"), counts=True),
    "fhvae": Case(fhvae(sequences="session", window_length=8), counts=True),
}
OTHERS = {
    "factor analysis": Case(
        MissingFactorAnalysis(2, shrinkage=10.0, smoothing=1.5, random_state=0)
    ),
    "pooled PCA": Case(Pooled(PCA(2))),
    "row-wise": Case(RowWise(PCA(2), fill="mean")),
    "aligned": Case(AlignNeurons()),
    "smoothed": Case(GaussianSmoother(2.0)),
    "ridge": Case(LaggedRidge(3)),
    "glm": Case(PoissonGLM(2, coupling=True, coupling_lags=2), counts=True),
    "decoder": Case(BehaviorDecoder(lags=1), decodes=True),
    "decoder of angles": Case(BehaviorDecoder("knn", kind="circular"), decodes=True),
}
CASES = {**NETWORKS, **OTHERS}


def questions(model, data):
    """All that a fitted model can be asked about what it was fitted to, as functions by name."""
    X, *targets = data
    first = X[0] if isinstance(X, list) else X
    calls = {
        "transform": (X,), "predict": (X,), "score": (X, *targets), "impute": (X,), "infer": (X,),
        "score_samples": (X,), "swap": (X,), "sequence_vectors": (X,), "jacobian": (X,),
        "generate": (first,), "get_feature_names_out": (), "sample": (12,),
        "predict_from_behavior": (getattr(first, "behavior", None),),
    }  # fmt: skip
    if isinstance(model, GaussianSmoother):  # whose features have the names of the input's
        del calls["get_feature_names_out"]
    if getattr(first, "behavior", None) is None:
        del calls["predict_from_behavior"]
    asked = {}
    for name, arguments in calls.items():
        if hasattr(model, name):
            method = getattr(model, name)
            wanted = inspect.signature(method).parameters
            more = {"random_state": 0} if "random_state" in wanted else {}
            if "return_std" in wanted and name != "predict_from_behavior":
                more["return_std"] = True
            asked[name] = partial(method, *arguments, **more)
    if hasattr(model, "inverse_transform"):
        like = (X,) if "like" in inspect.signature(model.inverse_transform).parameters else ()
        asked["inverse_transform"] = lambda: model.inverse_transform(model.transform(X), *like)
    return asked


def answers(model, data):
    """What a fitted model says to all `questions`, as lists of arrays by name."""
    return {name: flat(ask()) for name, ask in questions(model, data).items()}


def flat(value):
    """Arrays in a list, whatever holds them."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [array for entry in value for array in flat(entry)]
    if isinstance(value, Recording):
        return flat(value.traces)
    return [np.asarray(value)]


def assert_same(found, expected, rtol=0.0):
    """Answers are the same, to the bit or within a tolerance."""
    assert found.keys() == expected.keys()
    for name, arrays in expected.items():
        assert len(found[name]) == len(arrays), name
        for a, b in zip(found[name], arrays):
            if rtol and b.dtype.kind == "f":
                np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol, err_msg=name)
            else:
                np.testing.assert_array_equal(a, b, err_msg=name)


def assert_as_before(model, before):
    """The attributes are those of before, and no others."""
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is value for name, value in before.items())


def other_values(estimator):
    """A valid value for every parameter that is not the one it has."""
    changed = {
        "estimator": PCA(1), "fill": None, "kind": "categorical", "width": 5.0, "lags": [0, 2],
        "alpha": 3.0, "alphas": (1.0, 2.0), "n_rounds": 1, "tol": 0.1, "coupling": False,
        "coupling_lags": [1, 4], "max_iter": 7, "conditional": "time_delta", "discrete": [0],
        "circular": {1: 6.0}, "behavior_lags": (0,), "device": "auto", "time_offset": 4,
        "random_state": 9,
    }  # fmt: skip
    constraints = getattr(estimator, "_parameter_constraints", {})
    values = {}
    for name, value in estimator.get_params(deep=False).items():
        if name in changed:
            values[name] = changed[name]
            continue
        for kind in constraints[name]:
            if isinstance(kind, StrOptions) and kind.options - {value}:
                values[name] = min(kind.options - {value})
            elif isinstance(kind, Interval) and kind.type is Integral:
                values[name] = 1 if not isinstance(value, int) else value + 1
            elif isinstance(kind, Interval):
                values[name] = 0.3 if not value or isinstance(value, str) else value / 2
            elif kind in ("boolean", "verbose"):
                values[name] = not value
            elif kind is tuple:
                values[name] = (0.0, 0.05)
    return values
