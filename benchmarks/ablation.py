"""What each part of NeuroBehaviorVAE gains on unseen simulated animals.

The rank of the linear bar in docs/results.md differs by regime; here all have 12 components::

    python benchmarks/ablation.py --seeds 2
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from skneurovae import NeuroBehaviorVAE
from skneurovae.baselines import MissingFactorAnalysis
from skneurovae.datasets import make_worms
from skneurovae.metrics import co_smoothing_score

REGIMES = ("linear", "curved", "slow", "gated")
RANK = 12
VARIANTS = {
    "static linear, not smoothed": lambda s: MissingFactorAnalysis(RANK, random_state=s),
    "static linear, smoothed": lambda s: MissingFactorAnalysis(
        RANK, smoothing="auto", random_state=s
    ),
    "AR(1) linear, neurons only": lambda s: MissingFactorAnalysis(
        RANK, smoothing="ar1", random_state=s
    ),
    "AR(1) linear with behavior (the start)": lambda s: NeuroBehaviorVAE(
        RANK, max_iter=1, learning_rate=1e-12, random_state=s
    ),
    "network on a static belief": lambda s: NeuroBehaviorVAE(RANK, prior="normal", random_state=s),
    "network on an AR(1) belief (default)": lambda s: NeuroBehaviorVAE(RANK, random_state=s),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| variant | " + " | ".join(REGIMES) + " |\n" + "|---" * (len(REGIMES) + 1) + "|")
    for name, build in VARIANTS.items():
        cells = []
        for regime in REGIMES:
            scores = []
            for seed in range(arguments.seeds):
                animals, _ = make_worms(14, regime=regime, n_timesteps=500, random_state=seed)
                model = build(seed).fit(animals[:10])
                scores.append(co_smoothing_score(model, animals[10:]))
            cells.append(f"{np.mean(scores):.3f} ± {np.ptp(scores) / 2:.3f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
