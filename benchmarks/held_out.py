"""`NeuroBehaviorVAE()` on later time, unseen worms and unseen flies, against its peers.

Spikes: the first 65 % of a recording, at most 8,000 bins, train; after a gap of 10 bins the next
3,000 at most are scored. Models see neurons alone, but where behavior predicts: there a second one
is fitted with it. Worms: each animal is held out once. Flies: every third fly is held out. All
models predict the same hidden neurons, a third at a time; behavior is decoded by a ridge on latents
of neurons alone. Give the folder of HDF5 files that `load_h5` reads; with `--quick` three short
recordings and two kinds of simulated animals are done, with one seed, which is to be run before a
default changes::

    python benchmarks/held_out.py path/to/recordings --seeds 3
    python benchmarks/held_out.py path/to/recordings --quick
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from perceptrons import LAGS, BeliefNetwork, rates_from_behavior
from runs import resumed, spread, use_threads
from sequential_real import Positive
from sklearn.decomposition import PCA, FactorAnalysis

from skneurovae import LFADS, NeuroBehaviorVAE, Recording
from skneurovae.baselines import LaggedRidge, MissingFactorAnalysis, Pooled
from skneurovae.datasets import load_h5, make_worms
from skneurovae.decoding import BehaviorDecoder
from skneurovae.metrics import bits_per_spike, co_smoothing_bits, co_smoothing_score

RANK, GAP, MOST_SCORED = 12, 10, 3000
# File: part of the name of the recording, bins added up, most bins to train, least active bins.
SPIKES = {
    "buddy_hippocampus": {"width": 8, "most": 600, "least": 15},
    "nelpy_ca1": {"name": "linear_track", "width": 4, "running": True},
    "hd_a2929": {"width": 8},
    "chewie_myow": {},
    "kording_s1": {},
    "kording_m1_stevenson": {},
}
ANIMALS = ["dag2023_celegans", "fly_compass"]
REGIMES = ["linear", "curved", "slow", "gated"]
QUICK = ["buddy_hippocampus", "hd_a2929", "chewie_myow", "linear", "curved"]
WINDOWS = {"window_length": 64, "batch_size": 8}  # of LFADS: recordings are long and few
LINEAR = {
    "PCA": lambda rank, seed: Pooled(PCA(rank)),
    "factor analysis": lambda rank, seed: Pooled(FactorAnalysis(rank, random_state=seed)),
    "missing-data factor analysis": lambda rank, seed: MissingFactorAnalysis(
        rank, smoothing="auto", random_state=seed
    ),
    "missing-data factor analysis, AR(1)": lambda rank, seed: MissingFactorAnalysis(
        rank, smoothing="ar1", random_state=seed
    ),
}
OURS, BEHAVIOR = "NeuroBehaviorVAE", "from behavior: "


def positive(make, rank, seed):
    return Positive(make(rank, seed))


SPIKE_MODELS = {
    **{name: partial(positive, make) for name, make in LINEAR.items()},
    "LFADS": lambda rank, seed: LFADS(RANK, random_state=seed, **WINDOWS),
    "perceptron on our belief": lambda rank, seed: BeliefNetwork(seed),
    OURS: lambda rank, seed: NeuroBehaviorVAE(random_state=seed),
}
FROM_BEHAVIOR = ["lagged ridge", "perceptron on lagged behavior", OURS]


def spikes(path, *, name="", width=1, most=8000, least=30, running=False):
    """Counts and behavior of a recording: the part to train, and the part to score."""
    with h5py.File(path) as file:
        (group,) = [g for key, g in file["recordings"].items() if name in key]
        counts, behavior = group["X"][:].T.astype(float), group["B"][:].T.astype(float)
        if running:
            moving = group["T"][:] == 1
            counts, behavior = counts[moving], behavior[moving]
    n_bins = len(counts) // width
    counts = counts[: n_bins * width].reshape(n_bins, width, -1).sum(1)
    behavior = behavior[: n_bins * width].reshape(n_bins, width, -1).mean(1)
    n_train = min(int(0.65 * n_bins), most)
    counts = counts[:, (counts[:n_train] > 0).sum(0) >= least]
    first, later = slice(0, n_train), slice(n_train + GAP, n_train + GAP + MOST_SCORED)
    return [Recording(counts[part], behavior=behavior[part]) for part in (first, later)]


def alone(recording):
    """Without behavior."""
    return recording.replace(behavior=None)


def decoded(model, train, test):
    """R2 of each channel of behavior, decoded from latents of the neurons alone."""
    latents = [model.transform([alone(r) for r in part]) for part in (train, test)]
    truth = [[r.behavior for r in part] for part in (train, test)]
    scores = []
    for channel in range(truth[0][0].shape[1]):
        target, later = ([b[:, [channel]] for b in part] for part in truth)
        decoder = BehaviorDecoder(lags=2).fit(latents[0], target)
        scores.append(decoder.score(latents[1], later))
    return [float(s) for s in scores]


def run_spikes(data, model, seed, folder):
    train, test = spikes(folder / f"{data}.h5", **SPIKES[data])
    rank = min(RANK, train.n_neurons // 2)  # of linear models: a third of the neurons is hidden
    begin = time.perf_counter()
    if model.startswith(BEHAVIOR):
        name = model.removeprefix(BEHAVIOR)
        if name == "lagged ridge":
            least = 0.1 * train.traces.mean(0)
            (rates,) = LaggedRidge(lags=LAGS).fit([train]).predict([test])
            rates = np.maximum(rates, least)
        elif name == OURS:
            fitted = NeuroBehaviorVAE(random_state=seed).fit([train])
            rates = fitted.predict_from_behavior(test.behavior)
        else:
            rates = rates_from_behavior(train, test, seed)
        row = {"bits": float(bits_per_spike(test.traces, rates)),
               "seconds": time.perf_counter() - begin}  # fmt: skip
        if name == OURS:  # what it gives without behavior, and with it
            row["bits of hidden neurons"] = float(co_smoothing_bits(fitted, [alone(test)]))
            row["with behavior"] = float(co_smoothing_bits(fitted, [test]))
            row["decoding"] = decoded(fitted, [train], [test])
        return row
    fitted = SPIKE_MODELS[model](rank, seed).fit([alone(train)])
    seconds = time.perf_counter() - begin
    return {
        "bits": float(co_smoothing_bits(fitted, [alone(test)])),
        "R2": float(co_smoothing_score(fitted, [alone(test)])),
        "median R2": float(co_smoothing_score(fitted, [alone(test)], average="median")),
        "decoding": decoded(fitted, [train], [test]),
        "seconds": seconds,
    }


def run_animals(data, model, seed, folder):
    """Scores of each held-out animal."""
    how = {"identities": "class"} if data == "dag2023_celegans" else {}
    recordings = load_h5(folder / f"{data}.h5", stimuli=[], **how)
    recordings = [r for r in recordings if (r.identities != "").sum() >= 10]
    if data == "dag2023_celegans":
        known = [r.identities != "" for r in recordings]
        recordings = [
            r.replace(traces=r.traces[:, k], identities=r.identities[k])
            for r, k in zip(recordings, known)
        ]
        groups = [[i] for i in range(len(recordings))]
    else:
        fly = [r.session.rsplit("-", 2)[0] for r in recordings]
        names = list(dict.fromkeys(fly))
        groups = [[i for i, f in enumerate(fly) if f in names[2::3]]]
    rows = []
    for held_out in groups:
        train = [r for i, r in enumerate(recordings) if i not in held_out]
        test = [recordings[i] for i in held_out]
        begin = time.perf_counter()
        make = LINEAR.get(model, lambda rank, seed: NeuroBehaviorVAE(random_state=seed))
        fitted = make(RANK, seed).fit([alone(r) for r in train])
        seconds = time.perf_counter() - begin
        scores = [float(co_smoothing_score(fitted, [alone(r)])) for r in test]
        row = {"R2": float(np.mean(scores)), "animals": scores, "seconds": seconds}
        if data == "fly_compass":
            row["decoding"] = decoded(fitted, train, test)
        rows.append(row)
    return {"folds": rows}


def run_simulated(data, model, seed, folder):
    recordings, _ = make_worms(14, regime=data, n_timesteps=500, random_state=seed)
    begin = time.perf_counter()
    make = LINEAR.get(model, lambda rank, seed: NeuroBehaviorVAE(random_state=seed))
    fitted = make(RANK, seed).fit(recordings[:10])
    seconds = time.perf_counter() - begin
    scores = [float(co_smoothing_score(fitted, [animal])) for animal in recordings[10:]]
    return {"R2": float(np.mean(scores)), "animals": scores, "seconds": seconds}


def run(data, model, seed, folder):
    function = run_spikes if data in SPIKES else run_animals if data in ANIMALS else run_simulated
    return function(data, model, seed, folder)


def table(results):
    lines = []
    for data in dict.fromkeys(r["run"]["data"] for r in results):
        own = [r for r in results if r["run"]["data"] == data]
        lines += [f"\n### {data}\n"]
        hidden = [r for r in own if not r["run"]["model"].startswith(BEHAVIOR)]
        lines += _rows(hidden)
        driven = [r for r in own if r["run"]["model"].startswith(BEHAVIOR)]
        if driven:
            lines += ["", *_rows(driven)]
    return "\n".join(lines)


def _rows(results):
    """A table of one recording: a row per model, means and standard deviations over seeds."""
    flat = [{**r, **_mean_of_folds(r)} for r in results]
    columns = list(dict.fromkeys(
        c for r in flat for c in r if c not in ("run", "folds", "animals", "seconds")
    ))  # fmt: skip
    lines = ["| model | " + " | ".join(columns) + " | seconds |", "|---" * (len(columns) + 2) + "|"]
    for model in dict.fromkeys(r["run"]["model"] for r in flat):
        runs = [r for r in flat if r["run"]["model"] == model]
        cells = []
        for column in columns:
            values = np.array([r[column] for r in runs if column in r], dtype=float)
            if values.ndim > 1:  # channels of behavior
                cells.append(", ".join(f"{v:.2f}" for v in values.mean(0)))
            else:
                cells.append(spread(values))
        seconds = np.median([r["seconds"] for r in runs])
        lines.append(f"| {model} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    return lines


def _mean_of_folds(result):
    if "folds" not in result:
        return {}
    folds = result["folds"]
    return {k: np.mean([f[k] for f in folds], 0) for k in folds[0] if k != "animals"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with the HDF5 files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a few, short ones, one seed")
    parser.add_argument("--data", nargs="+", default=[*SPIKES, *ANIMALS, *REGIMES])
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    use_threads(1)
    warnings.filterwarnings("ignore")
    data = QUICK if arguments.quick else arguments.data
    files = [d for d in data if d not in REGIMES]
    missing = [d for d in files if not (arguments.folder / f"{d}.h5").exists()]
    for name in missing:
        print(f"Skipped: no {name}.h5 in {arguments.folder}", file=sys.stderr)
    plan = []
    for seed in range(1 if arguments.quick else arguments.seeds):
        for name in data:
            if name in missing:
                continue
            models = [*SPIKE_MODELS, *(BEHAVIOR + m for m in FROM_BEHAVIOR)]
            if name not in SPIKES:
                models = [*LINEAR, OURS]
            elif arguments.quick:
                models = [m for m in models if m not in ("PCA", "factor analysis")]
            plan += [{"data": name, "model": model, "seed": seed} for model in models]
    out = arguments.out or Path("results/held_out.jsonl")
    if arguments.quick and arguments.out is None:
        out = Path("results/held_out_quick.jsonl")
        out.unlink(missing_ok=True)  # a quick form is of the code as it is now
    print(table(resumed(plan, partial(run, folder=arguments.folder), out)))


if __name__ == "__main__":
    main()
