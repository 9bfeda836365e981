"""What `NeuroBehaviorVAE()` does on a plain array of 2,000 time steps of 100 neurons.

Seconds to fit, in turn with PCA of as many components, and co-smoothing of 500 later time steps of
the same simulated animal, beside PCA and missing-data factor analysis::

    python benchmarks/defaults.py --seeds 3
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from runs import use_threads
from sklearn.decomposition import PCA

from skneurovae import NeuroBehaviorVAE
from skneurovae.baselines import MissingFactorAnalysis, Pooled
from skneurovae.datasets import make_worms
from skneurovae.metrics import co_smoothing_score

REGIMES = ("linear", "curved", "slow", "gated")
N_TRAIN, GAP, N_TEST, N_NEURONS = 2000, 100, 500, 100


def run(regime, seed):
    """Score and seconds of each model."""
    (animal,), _ = make_worms(
        1, regime=regime, n_timesteps=N_TRAIN + GAP + N_TEST, n_identities=N_NEURONS,
        n_recorded=N_NEURONS, random_state=seed,
    )  # fmt: skip
    train, test = animal.traces[:N_TRAIN], animal.traces[N_TRAIN + GAP :]
    ours = NeuroBehaviorVAE(random_state=seed)
    models = {
        "NeuroBehaviorVAE()": ours,
        "PCA": Pooled(PCA(ours.n_components)),
        "factor analysis": MissingFactorAnalysis(ours.n_components, random_state=seed),
    }
    found = {}
    for name, model in models.items():
        start = time.perf_counter()
        model.fit(train)
        seconds = time.perf_counter() - start
        found[name] = co_smoothing_score(model, test), seconds
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    print("| regime | model | co-smoothing R² | seconds to fit |\n|---|---|---|---|")
    for regime in REGIMES:
        runs = [run(regime, seed) for seed in range(arguments.seeds)]
        for name in runs[0]:
            score, seconds = np.array([r[name] for r in runs]).T
            print(
                f"| {regime} | {name} | {score.mean():.3f} ± {score.std(ddof=1):.3f} "
                f"| {np.median(seconds):.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
