"""Sequential VAEs: speed, simulated trials, real spikes, disentanglement, sessions, stability.

Each part prints a table in markdown and keeps its runs in a file, from which it goes on when it was
cut off::

    python benchmarks/sequential.py speed
    python benchmarks/sequential.py lorenz --seeds 5
    python benchmarks/sequential.py real path/to/recordings --seeds 3
    python benchmarks/sequential.py disentangle --seeds 3
    python benchmarks/sequential.py sessions --seeds 3
    python benchmarks/sequential.py stability --draws 20
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import sequential_speed
import torch
from runs import resumed, spread, use_threads
from scipy.ndimage import gaussian_filter1d
from sequential_disentangle import disentangle, disentangle_table
from sequential_real import real
from sequential_sessions import sessions, sessions_table

from skneurovae import DSAE, LFADS
from skneurovae.baselines import MissingFactorAnalysis
from skneurovae.datasets import make_lorenz
from skneurovae.metrics import latent_r2, r2_per_neuron

DARK = {"gap": (20, 30), "ahead": (40, 50)}  # time steps of a trial of 50, hidden in all neurons
WIDTHS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 50.0)  # time steps, of smoothing
# AutoLFADS's documented ranges (Keshtkaran et al. 2022); weights of the divergences multiply sums
# against a mean over entries there.
RANGES = {
    "learning_rate": (1e-5, 5e-3), "dropout": (0.0, 0.6), "coordinated_dropout": (0.01, 0.7),
    "k_inputs": (1e-6, 1e-4), "k_initial": (1e-6, 1e-3), "recurrent_l2": (1e-4, 1.0),
}  # fmt: skip


def lorenz(seed, max_iter=None):
    """R2 of rates and latents on held-out trials: the last of every five of each condition."""
    trials, truth = make_lorenz(random_state=seed)
    test = np.arange(len(trials)) % 5 == 4
    train_set, test_set = _part(trials, ~test), _part(trials, test)
    rates = np.concatenate(_part(truth.rates, test))
    seen = np.concatenate(_part(truth.rates, ~test))
    latents = _part(truth.latents, test)
    more = {} if max_iter is None else {"max_iter": max_iter}
    models = {
        "factor analysis, AR(1)": MissingFactorAnalysis(8, smoothing="ar1", random_state=seed),
        "LFADS": LFADS(random_state=seed, device="cpu", **more),
        "DSAE full": DSAE(random_state=seed, device="cpu", **more),
    }
    # Its widths, one for each measure, get to see the true rates of the training trials, which no
    # other model does.
    past = _part(truth.latents, ~test)
    tried = {width: _all_errors(seen, past, _smoothed(train_set, width)) for width in WIDTHS}
    widths = {key: max(WIDTHS, key=lambda w: tried[w][key]) for key in tried[WIDTHS[0]]}
    result = {"Gaussian smoothing": {
        **{key: _all_errors(rates, latents, _smoothed(test_set, width))[key]
           for key, width in widths.items()},
        "seconds": 0.0,
    }}  # fmt: skip
    for name, model in models.items():
        start = time.process_time()
        model.fit(train_set)
        seconds = time.process_time() - start
        result[name] = {
            **_errors(rates, np.concatenate(model.predict(test_set))),
            "latents": latent_r2(latents, model.transform(test_set)), "seconds": seconds,
            **{key: _in_the_dark(model, test_set, rates, *span) for key, span in DARK.items()},
        }  # fmt: skip
        if name == "LFADS":
            result[name].update(epochs=model.n_iter_, rollbacks=model.n_rollbacks_)
    return {"scores": result, "widths": widths}


def _part(values, chosen):
    return [values[i] for i in np.flatnonzero(chosen)]


def _in_the_dark(model, trials, rates, start, stop):
    """Pooled R2 of rates at time steps of which no neuron was seen."""
    hidden = []
    for trial in trials:
        traces = trial.traces.copy()
        traces[start:stop] = np.nan
        hidden.append(trial.replace(traces=traces))
    predicted = np.concatenate([values[start:stop] for values in model.predict(hidden)])
    truth = rates.reshape(len(trials), -1, rates.shape[1])[:, start:stop]
    return _errors(truth.reshape(predicted.shape), predicted)["pooled"]


def _smoothed(recordings, width):
    return np.concatenate([gaussian_filter1d(r.traces, width, axis=0) for r in recordings])


def _errors(truth, prediction):
    """R2 of rates: mean over neurons, and of all neurons together around the mean of each."""
    pooled = 1 - ((truth - prediction) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum()
    return {"rates": float(r2_per_neuron(truth, prediction).mean()), "pooled": float(pooled)}


def _all_errors(rates, latents, smooth):
    """The same, and R2 of latents, which traces of any smoothing are mapped to."""
    steps = np.cumsum([len(z) for z in latents])[:-1]
    return {**_errors(rates, smooth), "latents": latent_r2(latents, np.split(smooth, steps))}


def lorenz_table(results):
    """Markdown: mean and standard deviation over seeds."""
    lines = [
        "| model | rates R², mean over neurons | rates R², pooled | latents R² | pooled, gap of 10 "
        "bins not seen | pooled, 10 bins ahead | lowest seed | CPU seconds to fit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in results[0]["scores"]:
        rows = [r["scores"][name] for r in results]
        keys = "rates", "pooled", "latents", *DARK
        cells = [spread([row[key] for row in rows if key in row]) for key in keys]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {min(row['rates'] for row in rows):.3f} "
            f"| {np.median([row['seconds'] for row in rows]):.0f} |"
        )
    return "\n".join(lines) + f"\n\n{len(results)} seeds"


def stability(draw, max_iter=20):
    """One random draw from `RANGES` at bins of 5 ms: is everything finite?"""
    rng = np.random.RandomState([5, draw])
    drawn = {}
    for name, (low, high) in RANGES.items():
        logarithmic = low > 0
        bounds = np.log([low, high]) if logarithmic else (low, high)
        value = rng.uniform(*bounds)
        drawn[name] = float(np.exp(value) if logarithmic else value)
    trials, _ = make_lorenz(8, 8, duration=500, bin_width=5, random_state=draw)
    n_entries = trials[0].traces.size
    parameters = {name: drawn[name] for name in RANGES if not name.startswith("k_")}
    parameters["beta_static"] = drawn["k_initial"] * n_entries
    parameters["beta_dynamic"] = drawn["k_inputs"] * n_entries
    model = LFADS(
        **parameters, dynamic_dim=4, n_components=40, batch_size=8, max_iter=max_iter,
        random_state=draw, device="cpu",
    )  # fmt: skip
    try:
        model.fit(trials)
    except FloatingPointError as error:
        return {"drawn": drawn, "failed": str(error), "rollbacks": 4, "finite": False}
    outputs = [model.loss_curve_, model.validation_scores_]
    outputs += model.predict(trials[:16])
    finite = all(np.isfinite(values).all() for values in outputs)
    return {
        "drawn": drawn, "failed": None, "rollbacks": model.n_rollbacks_, "finite": bool(finite),
        "first": model.loss_curve_[0], "last": model.loss_curve_[-1], "epochs": model.n_iter_,
    }  # fmt: skip


def stability_table(results):
    """Markdown: one line for each draw."""
    names = list(RANGES)
    lines = [
        "| draw | " + " | ".join(names) + " | first loss | last loss | rollbacks | all finite |",
        "|---" * (len(names) + 5) + "|",
    ]
    for r in results:
        losses = [f"{r[k]:.4f}" if k in r else "" for k in ("first", "last")]
        cells = [f"{r['drawn'][name]:.2g}" for name in names] + losses
        lines.append(
            f"| {r['run']['draw']} | " + " | ".join(cells)
            + f" | {r['rollbacks']} | {'yes' if r['finite'] else 'NO'} |"
        )  # fmt: skip
    n_failed = sum(not r["finite"] for r in results)
    n_used = sum(r["rollbacks"] > 0 for r in results)
    return "\n".join(lines) + (
        f"\n\n{len(results)} draws: {n_failed} failed or not finite; the finite guard went back "
        f"in {n_used}."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ["speed", "lorenz", "real", "disentangle", "sessions", "stability"]
    parser.add_argument("part", choices=parts)
    parser.add_argument("folder", type=Path, nargs="?", help="real: folder with the HDF5 files")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--max-iter", type=int, help="epochs; by default those of the estimators")
    parser.add_argument("--data", nargs="+", help="real: names of files, without ending")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    torch.manual_seed(0)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    more = {} if arguments.max_iter is None else {"max_iter": arguments.max_iter}
    out = arguments.out / f"sequential_{arguments.part}.jsonl"
    if arguments.part == "speed":
        sequential_speed.run(arguments.repetitions)
    elif arguments.part == "lorenz":
        print(lorenz_table(resumed([{"seed": s, **more} for s in seeds], lorenz, out)))
    elif arguments.part == "real":
        real(arguments.folder, arguments.data, len(seeds), arguments.folds, more, arguments.out)
    elif arguments.part == "disentangle":
        print(disentangle_table(resumed([{"seed": s, **more} for s in seeds], disentangle, out)))
    elif arguments.part == "sessions":
        print(sessions_table(resumed([{"seed": s, **more} for s in seeds], sessions, out)))
    else:
        plan = [{"draw": d, **more} for d in range(arguments.draws)]
        print(stability_table(resumed(plan, stability, out)))


if __name__ == "__main__":
    main()
