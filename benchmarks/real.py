"""Real recordings: animals, or blocks of time where there is one animal, held out.

Every model predicts the same hidden entries of recordings that it was not fitted to: reconstruction
(nothing hidden), co-smoothing (neurons hidden, by identity), imputation (contiguous gaps hidden),
prediction from behavior (all neurons hidden). Give the folder of HDF5 files that `load_h5` reads::

    python benchmarks/real.py path/to/recordings --seeds 3
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from runs import resumed, use_threads
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold

from skneurovae import NeuroBehaviorVAE
from skneurovae.baselines import LaggedRidge, MissingFactorAnalysis, Pooled
from skneurovae.datasets import load_h5
from skneurovae.metrics import (
    behavior_prediction_score,
    co_smoothing_score,
    imputation_score,
    reconstruction_score,
)
from skneurovae.model_selection import segment

RANK = 12
SCORERS = {
    "reconstruct": reconstruction_score,
    "co-smooth": co_smoothing_score,
    "impute gaps": imputation_score,
    "from behavior": behavior_prediction_score,
}
# File: how to read it. Of `sessions` that begin with a word, at `most` so many, the `first` time
# steps are taken; with `length` there is one of them, which is cut in blocks with gaps between.
# `width` time steps are added up first. Spikes are not smoothed: R2 of counts in narrow bins is
# small for every model.
DATA = {
    "dag2023_celegans": {
        "identities": "class",
        "behaviors": ["velocity", "head_angle", "angular_velocity"],
    },
    "chewie_myow": {"length": 320, "gap": 8, "behaviors": ["vel_x", "vel_y", "pos_x", "pos_y"]},
    "kording_s1": {"length": 700, "gap": 40, "first": 3700},
    "kording_m1_stevenson": {"length": 700, "gap": 40, "first": 3700},
    "buddy_hippocampus": {"width": 8, "length": 150, "gap": 15},
    "hd_a2929": {"width": 8, "length": 500, "gap": 30},
    "nelpy_ca1": {"sessions": "linear_track", "width": 4, "length": 900, "gap": 80, "first": 4900},
    "zivlab_multiple_maps": {"sessions": "C16_M4_A", "first": 2500, "most": 4},
}  # fmt: skip
N_FOLDS = 5
LEAST_BINS = 15  # with activity, in every block or session: below, R2 of a neuron says nothing


def load(
    path,
    *,
    identities="label",
    behaviors=None,
    sessions="",
    most=None,
    width=1,
    length=None,
    gap=0,
    first=None,
):
    """Recordings of a file, each an animal, a session or a block of time."""
    recordings = load_h5(path, identities=identities, behaviors=behaviors)
    recordings = [binned(r, width) for r in recordings if r.session.startswith(sessions)][:most]
    whole = slice(0, first)
    if length is not None:
        (recording,) = recordings
        pieces = segment([part(recording, whole, np.ones(recording.n_neurons, bool))], length, gap)
        firing = [(p.traces > 0).sum(0) >= LEAST_BINS for p in pieces]
        return [part(p, slice(None), np.all(firing, axis=0)) for p in pieces]
    if first is None:  # neurons that no other animal can share tell nothing here
        labelled = [r for r in recordings if np.count_nonzero(r.identities != "") >= 10]
        return [part(r, whole, r.identities != "") for r in labelled]
    return [part(r, whole, (r.traces[whole] > 0).sum(0) >= LEAST_BINS) for r in recordings]


def binned(recording, width):
    """Counts added up, behavior averaged, over `width` time steps."""
    n_bins = recording.n_timesteps // width
    traces, behavior = (
        a[: n_bins * width].reshape(n_bins, width, -1)
        for a in (recording.traces, recording.behavior)
    )
    return recording.replace(traces=traces.sum(1), behavior=behavior.mean(1))


def part(recording, span, kept):
    """Some time steps and neurons of a recording."""
    return recording.replace(
        traces=recording.traces[span][:, kept],
        behavior=recording.behavior[span],
        identities=recording.identities[kept],
    )


def pooled(rank, name, random_state):
    return NeuroBehaviorVAE(
        rank, neuron_encoder="pooled", model_dim=64, n_layers=2, hidden_dim=64,
        max_iter=40 if name == "dag2023_celegans" else 15, learning_rate=1e-3, weight_decay=1e-4,
        batch_size=8, random_state=random_state,
    )  # fmt: skip


MODELS = {  # rank, name of the data, seed -> estimator
    "PCA": lambda rank, name, seed: Pooled(PCA(rank)),
    "missing-data factor analysis": lambda rank, name, seed: MissingFactorAnalysis(
        rank, smoothing="auto", random_state=seed
    ),
    "behavior-only lagged ridge": lambda rank, name, seed: LaggedRidge(),
    "NeuroBehaviorVAE": lambda rank, name, seed: NeuroBehaviorVAE(rank, random_state=seed),
    "pooled encoder": pooled,
}


def run(name, seed, model, folder):
    """Scores of a model on each held-out group."""
    recordings = load(folder / f"{name}.h5", **DATA[name])
    rank = min(RANK, recordings[0].n_neurons // 2)
    n_folds = min(len(recordings), N_FOLDS if "first" in DATA[name] else 7)
    rows = []
    for train, test in KFold(n_folds).split(recordings):
        estimator = MODELS[model](rank, name, seed)
        start = time.perf_counter()
        estimator.fit([recordings[i] for i in train])
        held_out = [recordings[i] for i in test]
        row = {key: float(score(estimator, held_out)) for key, score in SCORERS.items()
               if not (key != "from behavior" and isinstance(estimator, LaggedRidge))}  # fmt: skip
        row["seconds"] = time.perf_counter() - start
        rows.append(row)
    return {"folds": rows}


def table(results):
    """Markdown: mean over folds and seeds, with the standard deviation over folds."""
    lines = [
        "| recordings | model | " + " | ".join(SCORERS) + " | seconds |",
        "|---" * (len(SCORERS) + 3) + "|",
    ]
    for name in dict.fromkeys(r["run"]["name"] for r in results):
        scores = {}  # of each model, by measure: an array of seeds by folds
        for model in MODELS:
            runs = [r["folds"] for r in results
                    if (r["run"]["name"], r["run"]["model"]) == (name, model)]  # fmt: skip
            scores[model] = {k: np.array([[f[k] for f in r] for r in runs]) for k in runs[0][0]}
            cells = []
            for key in SCORERS:
                values = scores[model].get(key)
                spread = "" if values is None else f" ± {values.mean(0).std(ddof=1):.3f}"
                cells.append("" if values is None else f"{values.mean():.3f}{spread}")
            seconds = np.median(scores[model]["seconds"])
            lines.append(f"| {name} | {model} | " + " | ".join(cells) + f" | {seconds:.0f} |")
        ours, bar = ("NeuroBehaviorVAE", "missing-data factor analysis")
        gains = scores[ours]["co-smooth"] - scores[bar]["co-smooth"]
        lines.append(
            f"| {name} | ours less factor analysis, co-smooth | | {gains.mean():+.3f} "
            f"(worst fold {gains.mean(0).min():+.3f}) | | | |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with the HDF5 files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/real.jsonl"))
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    present = [n for n in arguments.data if (arguments.folder / f"{n}.h5").exists()]
    for name in sorted(set(arguments.data) - set(present)):
        print(f"Skipped: no {name}.h5 in {arguments.folder}", file=sys.stderr)
    if not present:
        return
    plan = [
        {"name": name, "seed": s, "model": model}
        for s in range(arguments.seeds) for name in present for model in MODELS
    ]  # fmt: skip
    print(table(resumed(plan, partial(run, folder=arguments.folder), arguments.out)))


if __name__ == "__main__":
    main()
