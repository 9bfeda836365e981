"""ContrastiveEmbedding against the `cebra` package: same data, seeds and number of steps.

Both are trained in turn and measured by the same functions, with the same pairs: goodness of fit on
held-out time, consistency between seeds (held out, and on the training data as usually published),
decoding by nearest neighbors, recovery of a known latent, and time. "ours, alike" does what `cebra`
does; "ours, default" also keeps the weights that suit held-out blocks best. Needs
``pip install 'skneurovae[benchmark]'``::

    python benchmarks/contrastive.py speed
    python benchmarks/contrastive.py synthetic
    python benchmarks/contrastive.py real path/to/recordings
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from embeddings import (
    ARMS,
    DATA,
    HAS_CEBRA,
    WITHOUT_CEBRA,
    Training,
    arms,
    decode,
    goodness,
    holdout,
    read,
)
from runs import resumed, use_threads

from skneurovae.datasets import make_latent_counts
from skneurovae.metrics import consistency, latent_r2

MODES = ("time", "time_delta")
N_FOLDS = 5
MEASURES = {
    "goodness": "goodness of fit (bits)",
    "train_goodness": "on training data",
    "consistency": "consistency, held out",
    "train_consistency": "on training data",
    "decoding": "kNN decoding R²",
    "error": "median error",
}


# -- real recordings -------------------------------------------------------------------------------


def run_real(name, fold, mode, arm, n_seeds, training, folder):
    """Measures of an arm on one held-out block of a recording; seeds in lists."""
    recording = read(name, folder, **DATA[name])
    settings = Training(**training)
    known = np.isfinite(recording.behavior).all(1)
    traces, behavior = np.nan_to_num(recording.traces[known]), recording.behavior[known]
    scaled = (behavior - behavior.mean(0)) / behavior.std(0)
    train, test = holdout(len(traces), fold, N_FOLDS, gap=2 * settings.time_offset)
    longest = max(train, key=lambda p: p.stop - p.start)
    found = {key: [] for key in [*MEASURES, "seconds"]}
    embedded = [], []
    for seed in range(n_seeds):
        model = ARMS[arm](mode, seed, settings)
        start = time.perf_counter()
        model.fit([traces[p] for p in train], [scaled[p] for p in train])
        found["seconds"].append(time.perf_counter() - start)
        inside = [model.transform(traces[p]) for p in train]
        outside = model.transform(traces[test])
        measure = partial(goodness, conditional=mode, time_offset=settings.time_offset)
        found["goodness"].append(measure(outside, labels=scaled[test]))
        at = inside[train.index(longest)]
        found["train_goodness"].append(measure(at, labels=scaled[longest]))
        quality, error = decode(inside, [behavior[p] for p in train], outside, behavior[test])
        found["decoding"].append(quality)
        found["error"].append(error)
        embedded[0].append(np.concatenate(inside))
        embedded[1].append(outside)
    found["consistency"].append(consistency(embedded[1])[1])
    found["train_consistency"].append(consistency(embedded[0], cross_fitted=False)[1])
    return {"result": found}


def cell(values):
    values = np.asarray(values, dtype=float)
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


def real_table(results):
    """Markdown: mean and standard deviation over folds and seeds, and paired differences."""
    lines = [
        "| recordings | pairs by | model | " + " | ".join(MEASURES.values()) + " | seconds |",
        "|---" * (len(MEASURES) + 4) + "|",
    ]
    keys = dict.fromkeys((r["run"]["name"], r["run"]["mode"]) for r in results)
    for name, mode in keys:
        values = {}
        for arm in ARMS:
            wanted = {"name": name, "mode": mode, "arm": arm}
            runs = [r["result"] for r in results if wanted.items() <= r["run"].items()]
            values[arm] = {k: np.concatenate([r[k] for r in runs]) for k in [*MEASURES, "seconds"]}
        start = f"| {name} | {'time' if mode == 'time' else 'behavior'} |"
        for arm, found in values.items():
            row = " | ".join(cell(found[k]) for k in MEASURES)
            lines.append(f"{start} {arm} | {row} | {np.median(found['seconds']):.0f} |")
        for arm in list(ARMS)[1:]:
            row = " | ".join(cell(values[arm][k] - values["cebra"][k]) for k in MEASURES)
            lines.append(f"{start} *{arm} less cebra* | {row} | |")
    return "\n".join(lines)


def real(arguments):
    if arguments.folder is None:
        print("Skipped: no folder of recordings was given.", file=sys.stderr)
        return
    present = [n for n in arguments.data if (arguments.folder / f"{n}.h5").exists()]
    for name in sorted(set(arguments.data) - set(present)):
        print(f"Skipped: no {name}.h5 in {arguments.folder}", file=sys.stderr)
    if not present:
        return
    training = {"n_steps": arguments.steps, "batch_size": arguments.batch}
    plan = [
        {"name": n, "fold": f, "mode": m, "arm": arm, "n_seeds": arguments.seeds,
         "training": training}
        for f in arguments.folds
        for n in present
        for m in MODES
        for arm in ARMS
    ]  # fmt: skip
    run = partial(run_real, folder=arguments.folder)
    print(real_table(resumed(plan, run, arguments.out / "contrastive_real.jsonl")))


# -- a known latent --------------------------------------------------------------------------------

# As the published experiment, with time constants for pairs in time: i.i.d. time steps have none.
SYNTHETIC = {
    "delta": {"time_constant": None, "network": "offset1", "delta": 0.1},
    "time": {"time_constant": 50, "network": "offset10", "time_offset": 5},
    "discrete": {"time_constant": None, "network": "offset1"},
}
N_LABELS = 16  # of "discrete"


def run_synthetic(mode, seed, arm, training, n_timesteps):
    """Measures of an arm on data of one seed; the last fifth is held out."""
    chosen = dict(SYNTHETIC[mode])
    (recording,), truth = make_latent_counts(
        n_timesteps=n_timesteps, time_constant=chosen.pop("time_constant"), random_state=seed
    )
    settings = Training(**training, **chosen, n_components=3)
    label = recording.behavior[:, 0]
    behavior = label[:, None]
    if mode == "discrete":
        behavior = np.floor(label / (2 * np.pi) * N_LABELS)[:, None]
    angle = np.column_stack([np.cos(label), np.sin(label)])
    split = int(0.8 * n_timesteps)
    model = ARMS[arm](mode, seed, settings)
    start = time.perf_counter()
    model.fit([recording.traces[:split]], [behavior[:split]])
    seconds = time.perf_counter() - start
    inside, outside = map(model.transform, (recording.traces[:split], recording.traces[split:]))
    latents = truth.latents[0]
    measured = {
        "latent R², held out": latent_r2(latents[split:], outside),
        "on training data": latent_r2(latents[:split], inside, cross_fitted=False),
        "goodness of fit (bits)": goodness(
            outside, mode, behavior[split:], time_offset=settings.time_offset,
            delta=settings.delta,
        ),
        "kNN decoding R² of cos c, sin c": decode(
            [inside], [angle[:split]], outside, angle[split:]
        )[0],
        "seconds": seconds,
    }  # fmt: skip
    return {"result": measured}


def synthetic(arguments):
    training = {"n_steps": arguments.steps, "batch_size": arguments.batch}
    plan = [
        {"mode": m, "seed": s, "arm": arm, "training": training, "n_timesteps": 5000}
        for s in range(arguments.seeds)
        for m in SYNTHETIC
        for arm in ARMS
    ]
    results = resumed(plan, run_synthetic, arguments.out / "contrastive_synthetic.jsonl")
    names = list(results[0]["result"])
    print("| pairs by | model | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 2) + "|")
    for mode in SYNTHETIC:
        values = {}
        for arm in ARMS:
            runs = [r for r in results if {"mode": mode, "arm": arm}.items() <= r["run"].items()]
            values[arm] = {k: np.array([r["result"][k] for r in runs]) for k in names}
            row = " | ".join(map(cell, values[arm].values()))
            print(f"| {mode} | {arm} | {row} |")
        for arm in list(ARMS)[1:]:
            row = " | ".join(cell(values[arm][k] - values["cebra"][k]) for k in names)
            print(f"| {mode} | *{arm} less cebra* | {row} |")


# -- speed -----------------------------------------------------------------------------------------

SPEED = {
    "time": ("time", 0),
    "continuous, 1-D": ("time_delta", 1),
    "continuous, 2-D": ("time_delta", 2),
    "discrete": ("discrete", 1),
}


def speed(arguments):
    """Whole fits, setup included, in turn; ratios of each turn.

    Processor time, which is that of the clock with one thread on a quiet machine.
    """
    rng = np.random.default_rng(0)
    traces = rng.standard_normal((10000, 120)).astype(np.float32)
    walk = rng.standard_normal((10000, 2)).cumsum(0) / 30
    settings = Training(n_steps=100, batch_size=512)
    pair = {k: ARMS[k] for k in ("cebra", "ours, alike")}
    print(
        f"torch {torch.__version__}, {arguments.threads} CPU threads, X = (10000, 120), "
        "processor time\n"
    )
    print("| what | cebra | ours | ratio of each turn, median (range) |\n|---|---:|---:|---:|")
    models = {}
    for make in pair.values():  # what is done once in a process is not counted
        make("time", 0, Training(n_steps=5)).fit([traces], [walk[:, :0]])
    for name, (mode, width) in SPEED.items():
        labels = np.digitize(walk[:, :1], [-1, 0, 1]) if mode == "discrete" else walk[:, :width]
        rates = {arm: [] for arm in pair}
        for _ in range(arguments.repetitions):
            for arm, make in pair.items():
                models[arm] = make(mode, 0, settings)
                start = time.process_time()
                models[arm].fit([traces], [labels])
                rates[arm].append(settings.n_steps / (time.process_time() - start))
        report(f"training steps per second, {name}", rates, higher=True)
    transforms = {arm: partial(model.transform, traces) for arm, model in models.items()}
    transforms["bare"] = bare(models["ours, alike"].model.network_, traces)
    seconds = {arm: [] for arm in transforms}
    for _ in range(5 * arguments.repetitions):
        for arm, transform in transforms.items():
            start = time.process_time()
            transform()
            seconds[arm].append(1000 * (time.process_time() - start))
    report("transform of 10000 steps (ms)", seconds, higher=False)
    seconds["ours, alike"] = seconds["bare"]
    report("the same, ours = bare network on the whole array", seconds, higher=False)


def bare(network, traces):
    """Function that runs layers over prepared traces: no check, no copy, no edges, no windows."""
    prepared, rows = torch.from_numpy(traces)[:, None], torch.arange(traces.shape[1])

    @torch.inference_mode()
    def transform():
        features = network.table(prepared, None, rows)
        for layer in network.core:
            features = layer(features)
        return network.finish(features)

    return transform


def report(what, values, higher):
    ratios = [b / a if higher else a / b for a, b in zip(values["cebra"], values["ours, alike"])]
    medians = [statistics.median(values[arm]) for arm in ("cebra", "ours, alike")]
    print(
        f"| {what} | {medians[0]:.1f} | {medians[1]:.1f} | {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}) |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["speed", "synthetic", "real"])
    parser.add_argument("folder", type=Path, nargs="?", help="folder with the HDF5 files")
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--seeds", type=int, help="5 for synthetic, 2 for real")
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 3], help="of 0 to 4")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    if arguments.seeds is None:
        arguments.seeds = 5 if arguments.part == "synthetic" else 2
    use_threads(arguments.threads)
    if not HAS_CEBRA:
        sys.exit(WITHOUT_CEBRA)
    arms()
    {"speed": speed, "synthetic": synthetic, "real": real}[arguments.part](arguments)


if __name__ == "__main__":
    main()
