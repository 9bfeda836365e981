"""Co-smoothing of unseen simulated animals: NeuroBehaviorVAE against linear models and "pooled".

Ten animals to train, four never seen; in each regime and seed every model is fitted to the same
recordings and predicts the same hidden neurons. The linear bar is missing-data factor analysis with
rank, shrinkage and Gaussian smoothing chosen on the training animals. Prints the table of
docs/results.md::

    python benchmarks/quality.py --seeds 5
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from runs import resumed, use_threads

from skneurovae import NeuroBehaviorVAE
from skneurovae.baselines import MissingFactorAnalysis
from skneurovae.datasets import make_worms
from skneurovae.metrics import co_smoothing_score

REGIMES = ("linear", "curved", "slow", "gated")
RANKS = (4, 8, 16, 24)  # of the linear bar, which takes the best on the training animals
N_TRAIN, N_TEST = 10, 4
MOST_EPOCHS = 300  # of the pooled encoder, where it is trained to its end


def best_linear(train, seed):
    """Static factor analysis with everything chosen by held-out training animals."""
    models = [
        MissingFactorAnalysis(rank, smoothing="auto", random_state=seed).fit(train)
        for rank in RANKS
    ]
    return max(models, key=lambda model: model.choice_.score)


def ours(train, seed, rank):
    return NeuroBehaviorVAE(rank, random_state=seed).fit(train)


def start(train, seed, rank):
    """Where ours starts from: the linear belief with dynamics and behavior."""
    return NeuroBehaviorVAE(rank, max_iter=1, learning_rate=1e-12, random_state=seed).fit(train)


def pooled(train, seed, rank, seconds):
    """CeNeuroVAE's architecture in our loop, as wide and deep as ours.

    It trains for as many seconds as ours did or, where `seconds` is None, to its own early stop
    within `MOST_EPOCHS`. Learning rate, weight decay and batch size are the published ones.
    """
    model = NeuroBehaviorVAE(
        rank, neuron_encoder="pooled", model_dim=64, n_layers=2, hidden_dim=64, max_iter=1,
        n_iter_no_change=1000, learning_rate=1e-3, weight_decay=1e-4, batch_size=8,
        random_state=seed,
    )  # fmt: skip
    if seconds is None:
        return model.set_params(max_iter=MOST_EPOCHS, n_iter_no_change=20).fit(train)
    start = time.perf_counter()
    model.fit(train)
    n_epochs = max(1, round(seconds / (time.perf_counter() - start)))
    return model.set_params(max_iter=n_epochs).fit(train)


def run(regime, seed, n_timesteps, to_end):
    """Scores of each unseen animal under each model, and seconds and epochs to fit."""
    recordings, _ = make_worms(
        N_TRAIN + N_TEST, regime=regime, n_timesteps=n_timesteps, random_state=seed
    )
    train, test = recordings[:N_TRAIN], recordings[N_TRAIN:]
    scores, seconds, epochs = {}, {}, {}

    def measure(name, fit, *arguments):
        begin = time.perf_counter()
        model = fit(train, seed, *arguments)
        seconds[name] = time.perf_counter() - begin
        epochs[name] = getattr(model, "n_iter_", 0)
        scores[name] = [co_smoothing_score(model, [animal]) for animal in test]
        return model

    # All take the rank that suits the linear bar.
    rank = measure("best factor analysis", best_linear).n_components
    measure("its linear start", start, rank)
    measure("NeuroBehaviorVAE", ours, rank)
    measure("pooled encoder", pooled, rank, None if to_end else seconds["NeuroBehaviorVAE"])
    return {"scores": scores, "seconds": seconds, "epochs": epochs, "rank": rank}


def table(results):
    """Markdown table over seeds: mean and standard deviation, gain, worst animal."""
    names = list(results[0]["scores"])
    lines = [
        "| regime | " + " | ".join(names) + " | gain over best FA | worst animal against it |",
        "|---" * (len(names) + 3) + "|",
    ]
    for regime in dict.fromkeys(r["run"]["regime"] for r in results):
        runs = [r for r in results if r["run"]["regime"] == regime]
        means = {n: np.array([np.mean(r["scores"][n]) for r in runs]) for n in names}
        cells = [f"{means[n].mean():.3f} ± {means[n].std(ddof=len(runs) > 1):.3f}" for n in names]
        bar, model = names[0], "NeuroBehaviorVAE"
        gain = means[model].mean() / means[bar].mean() - 1
        worst = min(np.min(np.subtract(r["scores"][model], r["scores"][bar])) for r in runs)
        lines.append(f"| {regime} | " + " | ".join(cells) + f" | {gain:+.0%} | {worst:+.3f} |")
    seconds = {n: np.median([r["seconds"][n] for r in results]) for n in names}
    epochs = {n: np.median([r["epochs"][n] for r in results]) for n in names}
    cost = (f"{n} {s:.0f} ({epochs[n]:.0f})" for n, s in seconds.items())
    lines.append("\nMedian seconds to fit (epochs): " + ", ".join(cost))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--regimes", nargs="+", default=REGIMES, choices=REGIMES)
    parser.add_argument("--timesteps", type=int, default=500, help="length of each recording")
    parser.add_argument(
        "--pooled-to-end", action="store_true", help="train the pooled encoder to its early stop"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/quality.jsonl"))
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    fixed = {"n_timesteps": arguments.timesteps, "to_end": arguments.pooled_to_end}
    plan = [
        {"regime": regime, "seed": seed, **fixed}
        for seed in range(arguments.seeds)
        for regime in arguments.regimes
    ]
    print(table(resumed(plan, run, arguments.out)))


if __name__ == "__main__":
    main()
