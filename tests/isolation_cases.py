"""Small fits of every kind of model, and all that they can be asked."""

from functools import partial

import numpy as np
from sequential_cases import MODELS
from sklearn.decomposition import PCA, FactorAnalysis

from skneurovae import ContrastiveEmbedding, NeuroBehaviorVAE, Recording
from skneurovae.baselines import LaggedRidge, MissingFactorAnalysis, PoissonGLM, Pooled

SIZES = {
    "max_iter": 1, "random_state": 0, "model_dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8,
    "window_length": 8, "dropout": 0.1, "shrinkage": 3.0,
}  # fmt: skip
STEPS = {"max_iter": 1, "steps_per_epoch": 2, "batch_size": 64, "hidden_dim": 8, "random_state": 0}


def vae(**parameters):
    return NeuroBehaviorVAE(2, **{**SIZES, **parameters})


def contrastive(**parameters):
    return ContrastiveEmbedding(2, **{"network": "offset5", **STEPS, **parameters})


def sequential(name, **parameters):
    return MODELS[name](max_iter=1, **parameters)


NETWORKS = {
    "precision": partial(vae, prior="normal"),
    "precision, counts": partial(vae, likelihood="negative_binomial", noise="heteroscedastic"),
    "pooled": partial(vae, neuron_encoder="pooled", shrinkage="auto"),
    "contrastive, behavior": contrastive,
    "contrastive, time": partial(
        contrastive, conditional="time", time_offset=2, noise=0.1, time_jitter=1,
        neuron_dropout=0.2, amplitude_jitter=0.1,
    ),
    "contrastive, attention": partial(
        contrastive, network="attention", n_heads=2, dropout=0.1, jacobian_penalty=0.01,
        learn_temperature=True, standardize=True,
    ),
    "lfads": partial(sequential, "lfads", sample_validation=0.2),
    "lfads, half precision": partial(sequential, "lfads", precision="bf16"),
    "dsae": partial(sequential, "dsae full", likelihood="gaussian", initialization="pcr"),
    "dsae, factorized": partial(sequential, "dsae factorized"),
    "fhvae": partial(sequential, "fhvae hierarchical"),
}  # fmt: skip
BASELINES = {
    "factor analysis": partial(MissingFactorAnalysis, 2, smoothing="auto", random_state=0),
    "pooled PCA": lambda: Pooled(PCA(2)),
    "pooled factor analysis": lambda: Pooled(FactorAnalysis(2)),
    "ridge": partial(LaggedRidge, lags=1),
    "Poisson": partial(PoissonGLM, lags=1, coupling=True, coupling_lags=1),
}


def make_counts():
    """Four recordings of counts that follow behavior, with a gap."""
    rng = np.random.RandomState(0)
    weights = 0.3 * rng.standard_normal((2, 6))
    recordings = []
    for n_timesteps in (16, 14, 12, 15):
        behavior = rng.standard_normal((n_timesteps, 2)).cumsum(0)
        counts = rng.poisson(np.exp(np.clip(behavior @ weights, -2, 2))).astype(float)
        counts[3:6, 1] = np.nan
        recordings.append(Recording(counts, behavior=behavior))
    return recordings


COUNTS = make_counts()


def questions(model, X):
    """What the fitted model can be asked about recordings: functions by name."""
    calls = {
        name: partial(getattr(model, name), X)
        for name in (
            "transform", "predict", "impute", "score", "score_samples", "jacobian", "infer",
            "sequence_vectors",
        )
        if hasattr(model, name)
    }  # fmt: skip
    if hasattr(model, "sample"):
        calls["sample"] = partial(model.sample, 6, random_state=1)
    if hasattr(model, "inverse_transform"):
        calls["inverse_transform"] = lambda: model.inverse_transform(model.transform(X))
    if hasattr(model, "predict_from_behavior"):
        calls["predict_from_behavior"] = partial(
            model.predict_from_behavior, X[0].behavior, n_samples=2, random_state=1
        )
    if hasattr(model, "swap"):
        calls["swap"] = partial(model.swap, [r.traces[:10] for r in X])
    if hasattr(model, "generate"):
        calls["generate"] = partial(model.generate, X[0], random_state=0)
    return calls


def answers(model, X=COUNTS):
    """All that the model, once fitted, can be asked."""
    return {name: ask() for name, ask in questions(model, X).items()}


def arrays(found):
    """Arrays of nested dicts and lists."""
    if isinstance(found, (dict, list, tuple)):
        values = found.values() if isinstance(found, dict) else found
        return [array for value in values for array in arrays(value)]
    return [np.asarray(found)]


def same_bits(found, expected):
    found, expected = arrays(found), arrays(expected)
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
