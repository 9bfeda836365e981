"""Co-smoothing of unseen simulated animals: NeuroBehaviorVAE against linear models and "pooled".

Ten animals to train, four never seen; in each regime and seed every model is fitted to the same
recordings and predicts the same hidden neurons. The linear bar is missing-data factor analysis with
rank, shrinkage and Gaussian smoothing chosen on the training animals. Prints the table of
docs/results.md::

    python benchmarks/quality.py --seeds 5
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from skneurovae import NeuroBehaviorVAE
from skneurovae.baselines import MissingFactorAnalysis
from skneurovae.datasets import make_worms
from skneurovae.metrics import co_smoothing_score

REGIMES = ("linear", "curved", "slow", "gated")
RANKS = (4, 8, 16, 24)  # of the linear bar, which takes the best on the training animals
N_TRAIN, N_TEST = 10, 4


def best_linear(train, seed):
    """Static factor analysis with everything chosen by held-out training animals."""
    models = [
        MissingFactorAnalysis(rank, smoothing="auto", random_state=seed).fit(train)
        for rank in RANKS
    ]
    return max(models, key=lambda model: model.choice_.score)


def ours(train, seed, rank):
    return NeuroBehaviorVAE(rank, random_state=seed).fit(train)


def pooled(train, seed, rank, seconds):
    """CeNeuroVAE's architecture in our loop, as wide and deep as ours, for as many seconds.

    Learning rate, weight decay and batch size are the published ones.
    """
    model = NeuroBehaviorVAE(
        rank, neuron_encoder="pooled", model_dim=64, n_layers=2, hidden_dim=64, max_iter=1,
        n_iter_no_change=1000, learning_rate=1e-3, weight_decay=1e-4, batch_size=8,
        random_state=seed,
    )  # fmt: skip
    start = time.perf_counter()
    model.fit(train)
    n_epochs = max(1, round(seconds / (time.perf_counter() - start)))
    return model.set_params(max_iter=n_epochs).fit(train)


def run(regime, seed, n_timesteps):
    """Scores of each unseen animal under each model, and seconds to fit."""
    recordings, _ = make_worms(
        N_TRAIN + N_TEST, regime=regime, n_timesteps=n_timesteps, random_state=seed
    )
    train, test = recordings[:N_TRAIN], recordings[N_TRAIN:]
    scores, seconds = {}, {}

    def measure(name, fit, *arguments):
        start = time.perf_counter()
        model = fit(train, seed, *arguments)
        seconds[name] = time.perf_counter() - start
        scores[name] = [co_smoothing_score(model, [animal]) for animal in test]
        return model

    # All take the rank that suits the linear bar.
    rank = measure("best factor analysis", best_linear).n_components
    measure("NeuroBehaviorVAE", ours, rank)
    measure("pooled encoder", pooled, rank, seconds["NeuroBehaviorVAE"])
    return {"regime": regime, "seed": seed, "scores": scores, "seconds": seconds, "rank": rank}


def table(results):
    """Markdown table over seeds: mean and standard deviation, gain, worst animal."""
    names = list(results[0]["scores"])
    lines = [
        "| regime | " + " | ".join(names) + " | gain over best FA | worst animal against it |",
        "|---" * (len(names) + 3) + "|",
    ]
    for regime in dict.fromkeys(r["regime"] for r in results):
        runs = [r for r in results if r["regime"] == regime]
        means = {n: np.array([np.mean(r["scores"][n]) for r in runs]) for n in names}
        cells = [f"{means[n].mean():.3f} ± {means[n].std(ddof=len(runs) > 1):.3f}" for n in names]
        bar, model = names[0], "NeuroBehaviorVAE"
        gain = means[model].mean() / means[bar].mean() - 1
        worst = min(np.min(np.subtract(r["scores"][model], r["scores"][bar])) for r in runs)
        lines.append(f"| {regime} | " + " | ".join(cells) + f" | {gain:+.0%} | {worst:+.3f} |")
    seconds = {n: np.median([r["seconds"][n] for r in results]) for n in names}
    lines.append(
        "\nMedian seconds to fit: " + ", ".join(f"{n} {s:.0f}" for n, s in seconds.items())
    )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--regimes", nargs="+", default=REGIMES, choices=REGIMES)
    parser.add_argument("--timesteps", type=int, default=500, help="length of each recording")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/quality.jsonl"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.parent.mkdir(exist_ok=True, parents=True)
    done = []
    if arguments.out.exists():  # a run that was cut off goes on where it stopped
        done = [json.loads(line) for line in arguments.out.read_text().splitlines()]
    with arguments.out.open("a") as file:
        for seed in range(arguments.seeds):
            for regime in arguments.regimes:
                if any(r["regime"] == regime and r["seed"] == seed for r in done):
                    continue
                done.append(run(regime, seed, arguments.timesteps))
                file.write(json.dumps(done[-1]) + "\n")
                file.flush()
    print(table(done))


if __name__ == "__main__":
    main()
