"""The default model on an ordinary recording of spikes: no worse than linear models.

A rat's hippocampus on a track, in bins of 0.2 s, neurons only. The first part is for training, the
rest, after a gap, for testing. Hidden neurons are predicted, and position is decoded from the
latents by a ridge that was fitted to the training part. Some units are silent in whole blocks,
which once led the choices of the default astray. Give the HDF5 file that `load_h5` reads::

    python benchmarks/hippocampus.py path/to/buddy_hippocampus.h5
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from runs import resumed, spread, use_threads
from sklearn.decomposition import PCA, FactorAnalysis

from skneurovae import NeuroBehaviorVAE
from skneurovae.baselines import MissingFactorAnalysis, Pooled
from skneurovae.datasets import load_h5
from skneurovae.decoding import BehaviorDecoder
from skneurovae.metrics import co_smoothing_bits, co_smoothing_score

RANK, WIDTH, N_TRAINING, GAP, LEAST_BINS = 6, 8, 600, 10, 15
MODELS = {
    "PCA": lambda seed: Pooled(PCA(RANK)),
    "factor analysis": lambda seed: Pooled(FactorAnalysis(RANK, random_state=seed)),
    "missing-data factor analysis": lambda seed: MissingFactorAnalysis(
        RANK, smoothing="auto", random_state=seed
    ),
    "NeuroBehaviorVAE, gaussian": lambda seed: NeuroBehaviorVAE(RANK, random_state=seed),
    "NeuroBehaviorVAE, poisson": lambda seed: NeuroBehaviorVAE(
        RANK, likelihood="poisson", random_state=seed
    ),
}
COLUMNS = "co-smoothing R2", "median of neurons", "bits per spike", "decoding R2", "seconds"


def load(path):
    """Counts and position, for training and for testing."""
    (recording,) = load_h5(path)
    n_bins = recording.n_timesteps // WIDTH
    counts, behavior = (
        a[: n_bins * WIDTH].reshape(n_bins, WIDTH, -1).astype(float)
        for a in (recording.traces, recording.behavior)
    )
    counts, position = counts.sum(1), behavior.mean(1)[:, 0]
    counts = counts[:, (counts[:N_TRAINING] > 0).sum(0) >= LEAST_BINS]
    first, rest = slice(0, N_TRAINING), slice(N_TRAINING + GAP, None)
    return (counts[first], position[first]), (counts[rest], position[rest])


def run(model, seed, path):
    (train, track), (test, later) = load(path)
    start = time.perf_counter()
    fitted = MODELS[model](seed).fit(train)
    seconds = time.perf_counter() - start
    decoder = BehaviorDecoder().fit(fitted.transform(train), track)
    positive = (fitted.predict(test) >= 0).all()  # a linear model has no likelihood of counts
    return {
        "co-smoothing R2": co_smoothing_score(fitted, test),
        "median of neurons": co_smoothing_score(fitted, test, average="median"),
        "bits per spike": co_smoothing_bits(fitted, test) if positive else None,
        "decoding R2": decoder.score(fitted.transform(test), later),
        "seconds": seconds,
    }


def table(results):
    lines = ["| model | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for model in MODELS:
        own = [r for r in results if r["run"]["model"] == model]
        cells = [spread([r[c] for r in own if r[c] is not None]) for c in COLUMNS[:-1]]
        seconds = np.median([r["seconds"] for r in own])
        lines.append(f"| {model} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="HDF5 file with one recording of spike counts")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/hippocampus.jsonl"))
    arguments = parser.parse_args()
    if not arguments.path.exists():
        print(f"Skipped: there is no {arguments.path}", file=sys.stderr)
        return
    use_threads(1)
    warnings.filterwarnings("ignore", message=".*components have collapsed")
    warnings.filterwarnings("ignore", message="traces are counts")  # gaussian on purpose
    plan = [{"model": m, "seed": s} for m in MODELS for s in range(arguments.seeds)]
    print(table(resumed(plan, partial(run, path=arguments.path), arguments.out)))


if __name__ == "__main__":
    main()
