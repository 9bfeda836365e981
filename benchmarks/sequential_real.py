"""Sequential models on spike recordings: co-smoothing in bits per spike, and decoded behavior."""

from __future__ import annotations

import sys

import joblib
import numpy as np
from real import DATA, load
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import FactorAnalysis
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline

from skneurovae import DSAE, FHVAE, LFADS, NeuroBehaviorVAE
from skneurovae.baselines import GaussianSmoother, MissingFactorAnalysis, PoissonGLM, Pooled
from skneurovae.decoding import decoding_score
from skneurovae.metrics import co_smoothing_bits
from skneurovae.model_selection import compare_models
from skneurovae.recordings import check_recordings

SPIKES = ["chewie_myow", "kording_s1", "kording_m1_stevenson", "nelpy_ca1", "buddy_hippocampus"]
SCORING = {"co-smoothing, bits/spike": co_smoothing_bits, "decoding R²": decoding_score}
LEAST_RATE = 0.1  # of a neuron's mean in training: linear models predict negative rates
WINDOW = 64  # time steps at once of LFADS and DSAE on blocks of continuous recordings


class Positive(TransformerMixin, BaseEstimator):
    """A linear model whose predictions are lifted to a tenth of each neuron's training mean."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y=None):
        self.estimator_ = clone(self.estimator).fit(X)
        recordings, _ = check_recordings(X)
        self.least_ = LEAST_RATE * np.nanmean(np.concatenate([r.traces for r in recordings]), 0)
        return self

    def transform(self, X):
        return self.estimator_.transform(X)

    def predict(self, X):
        return [np.maximum(rates, self.least_) for rates in self.estimator_.predict(X)]


def models(n_neurons, max_iter=None):
    """Models of one recording; `max_iter` is for the sequential ones."""
    rank = min(12, n_neurons // 2)
    deep = {"device": "cpu"} if max_iter is None else {"device": "cpu", "max_iter": max_iter}
    # Blocks are long and few: short windows and small batches give enough steps of training.
    windows = {"window_length": WINDOW, "batch_size": 8, **deep}
    return {
        "smoothing + factor analysis": Positive(
            make_pipeline(GaussianSmoother(2.0), Pooled(FactorAnalysis(rank)))
        ),
        "missing-data factor analysis, AR(1)": Positive(
            MissingFactorAnalysis(rank, smoothing="ar1")
        ),
        "Poisson GLM, coupling": PoissonGLM(coupling=True, coupling_lags=2, alpha=300.0),
        "NeuroBehaviorVAE, Poisson": NeuroBehaviorVAE(rank, likelihood="poisson", device="cpu"),
        "LFADS": LFADS(rank, **windows),
        "DSAE full": DSAE(rank, **windows),
        "DSAE factorized": DSAE(rank, variant="factorized", **windows),
        "FHVAE": FHVAE(rank, **deep),
    }


def real(folder, names, n_seeds, n_folds, more, out):
    """Print a table for each recording in `folder`."""
    for name in names or SPIKES:
        if folder is None or not (folder / f"{name}.h5").exists():
            print(f"Skipped: no {name}.h5 in {folder}", file=sys.stderr)
            continue
        blocks = load(folder / f"{name}.h5", **DATA[name])
        # Behavior is decoded, never given: every model sees the neurons alone.
        behavior = [block.behavior for block in blocks]
        blocks = [block.replace(behavior=None) for block in blocks]
        result = compare_models(
            models(blocks[0].n_neurons, **more), blocks, behavior,
            cv=KFold(min(len(blocks), n_folds)), scoring=SCORING,
            units=[f"block {i}" for i in range(len(blocks))], n_seeds=n_seeds, controls=False,
            memory=joblib.Memory(out / "sequential_real", verbose=0), verbose=1,
        )  # fmt: skip
        shape = blocks[0].traces.shape
        print(f"\n### {name}: {len(blocks)} blocks of {shape[0]} x {shape[1]}, {n_seeds} seeds\n")
        print(result, flush=True)
        for row in result.differences("LFADS"):
            if np.isnan(row["difference"]):
                continue  # it has no latents
            print(
                f"- {row['scorer']}, {row['model']} less LFADS: {row['difference']:+.3f} "
                f"[{row['low']:+.3f}, {row['high']:+.3f}]"
            )
