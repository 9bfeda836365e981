"""What each part of NeuroBehaviorVAE gains, and what further parts would gain, on unseen animals.

The rank of the linear bar in docs/results.md differs by regime; here all have 12 components. With a
folder of HDF5 files as in benchmarks/real.py some real recordings follow::

    python benchmarks/ablation.py path/to/recordings --seeds 3
"""

from __future__ import annotations

import argparse
import json
import warnings
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import real
from runs import resumed, use_threads
from sklearn.model_selection import KFold
from variants import AttentionVAE, GainedAttentionVAE, GainedVAE, NeuronGainedVAE

from skneurovae import NeuroBehaviorVAE
from skneurovae.baselines import MissingFactorAnalysis
from skneurovae.datasets import make_worms
from skneurovae.estimators import linear_start
from skneurovae.metrics import co_smoothing_score

REGIMES = ("linear", "curved", "slow", "gated")
RECORDINGS = ("dag2023_celegans", "chewie_myow", "nelpy_ca1")
RANK = 12
N_TRAIN, N_TEST = 10, 4
N_FOLDS = 3  # of real recordings
DEFAULT = "network on an AR(1) belief (default)"
UNTRAINED = {"max_iter": 1, "learning_rate": 1e-12}
VARIANTS = {
    "static linear, not smoothed": MissingFactorAnalysis,
    "static linear, smoothed": partial(MissingFactorAnalysis, smoothing="auto"),
    "AR(1) linear, neurons only": partial(MissingFactorAnalysis, smoothing="ar1"),
    "AR(1) linear with behavior (the start)": partial(NeuroBehaviorVAE, **UNTRAINED),
    "the start, gains of latents": partial(GainedVAE, **UNTRAINED),
    "the start, gains of neurons": partial(NeuronGainedVAE, **UNTRAINED),
    "network on a static belief": partial(NeuroBehaviorVAE, prior="normal"),
    DEFAULT: NeuroBehaviorVAE,
    "default, attention over neurons": AttentionVAE,
    "default, gains of latents": GainedVAE,
    "default, attention and gains of latents": GainedAttentionVAE,
}


def run(data, variant, seed, folder=None, n_timesteps=None, fold=None):
    """Score of each held-out recording, and whether training left the linear start."""
    if n_timesteps is not None:
        recordings, _ = make_worms(
            N_TRAIN + N_TEST, regime=data, n_timesteps=n_timesteps, random_state=seed
        )
        train, test = recordings[:N_TRAIN], recordings[N_TRAIN:]
    else:
        recordings = real.load(folder / f"{data}.h5", **real.DATA[data])
        chosen = list(KFold(N_FOLDS).split(recordings))[fold]
        train, test = ([recordings[i] for i in part] for part in chosen)
    rank = min(RANK, recordings[0].n_neurons // 2)
    model = VARIANTS[variant](rank, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # idle components, neurons of one animal only
        model.fit(train)
        scores = [float(co_smoothing_score(model, [held_out])) for held_out in test]
    validation = getattr(model, "validation_scores_", None)
    return {"scores": scores, "left_start": bool(validation) and model.best_loss_ < validation[0]}


def table(results):
    """Markdown: mean and standard deviation over seeds or folds; difference to the default.

    A cell with fewer seeds or folds than its column tells how many it has.
    """
    columns = [
        data for data in REGIMES + RECORDINGS if any(r["run"]["data"] == data for r in results)
    ]
    means, left = {}, {}
    for result in results:
        own = result["run"]
        key, part = (own["variant"], own["data"]), (own["seed"], own.get("fold"))
        means.setdefault(key, {})[part] = np.mean(result["scores"])
        left[key] = left.get(key, 0) + result["left_start"]
    most = {d: max(len(found) for (_, data), found in means.items() if data == d) for d in columns}
    lines = ["| variant | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for variant in VARIANTS:
        cells = []
        for data in columns:
            found, bar = means.get((variant, data), {}), means.get((DEFAULT, data), {})
            gains = [found[part] - bar[part] for part in found if part in bar]
            cell = _spread(list(found.values()), most[data], ".3f")
            if gains and variant != DEFAULT:
                cell += f" ({_spread(gains, most[data], '+.4f')})"
            cells.append(cell)
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    lines.append("\nRuns in which training left the linear start:\n")
    for variant in VARIANTS:
        counts = [f"{d} {left[variant, d]}/{len(means[variant, d])}" for d in columns
                  if left.get((variant, d))]  # fmt: skip
        if counts:
            lines.append(f"- {variant}: " + ", ".join(counts))
    return "\n".join(lines)


def _spread(values, most, form):
    if not values:
        return ""
    text = f"{np.mean(values):{form}}"
    if len(values) > 1:
        text += f" ± {np.std(values, ddof=1):.{form[-2]}f}"
    return text if len(values) == most else f"{text}, n={len(values)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="folder with the HDF5 files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", nargs="+", choices=REGIMES + RECORDINGS, help="only these")
    parser.add_argument("--timesteps", type=int, default=500, help="of each simulated recording")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/ablation.jsonl"))
    parser.add_argument("--table", action="store_true", help="print what --out holds, run nothing")
    parser.add_argument("--check", action="store_true", help="check the variants and stop")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    if arguments.check:
        from check_variants import check

        return check()
    if arguments.table:
        lines = arguments.out.read_text().splitlines()
        return print(table([json.loads(line) for line in lines]))
    # The linear start of all variants of one belief is the same.
    memory = joblib.Memory(arguments.out.with_suffix(""), verbose=0)
    linear_start.fit_linear_gaussian = memory.cache(linear_start.fit_linear_gaussian)
    chosen = arguments.data or REGIMES + RECORDINGS
    simulated = [
        {"data": data, "variant": variant, "seed": seed, "n_timesteps": arguments.timesteps}
        for seed in range(arguments.seeds)
        for data in chosen if data in REGIMES
        for variant in VARIANTS
    ]  # fmt: skip
    recorded = [
        {"data": data, "variant": variant, "seed": 0, "fold": fold}
        for data in chosen if data in RECORDINGS and arguments.folder
        for fold in range(N_FOLDS)
        for variant in VARIANTS
    ]  # fmt: skip
    plan = sorted(simulated + recorded, key=lambda entry: list(VARIANTS).index(entry["variant"]))
    results = resumed(plan, partial(run, folder=arguments.folder), arguments.out)
    print(table(results))


if __name__ == "__main__":
    main()
