"""Simulate a small cohort of worms and compare models on animals that they never saw.

Ten minutes of reading in one file: recordings with different neurons, cross-validation by animal,
a table, a figure. Run it with::

    python docs/examples/quickstart.py
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import torch
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.model_selection import KFold, cross_validate
from threadpoolctl import threadpool_limits

from skneurovae import NeuroBehaviorVAE
from skneurovae.baselines import LaggedRidge, MissingFactorAnalysis, Pooled
from skneurovae.datasets import make_worms
from skneurovae.metrics import behavior_prediction_score, co_smoothing_score

# A script owns its process. These matrices are small: threads would wait for each other, and where
# the machine has other work to do, for most of the time.
torch.set_num_threads(1)
threadpool_limits(1)
# Every animal shows some neurons that the others lack: here nothing to be told each time.
warnings.filterwarnings("ignore", message="Unknown to the model")

# Six animals; each shows its own subset of the species' neurons, and neurons have names. Latents
# move on circles, as positions of place cells do: linear models see a part of that manifold.
recordings, truth = make_worms(6, regime="curved", n_timesteps=400, random_state=0)

models = {
    "PCA": Pooled(PCA(8)),
    "factor analysis": Pooled(FactorAnalysis(8)),
    "behavior only, lagged ridge": LaggedRidge(),
    "missing-data factor analysis": MissingFactorAnalysis(8, smoothing="auto", random_state=0),
    "NeuroBehaviorVAE": NeuroBehaviorVAE(8, max_iter=40, random_state=0),
}
scoring = {"co-smoothing": co_smoothing_score, "from behavior": behavior_prediction_score}


def compare():
    """Cross-validate every model on held-out animals: one fold's test animals, never trained on."""
    results = {}
    folds = list(KFold(3).split(recordings))
    for name, model in models.items():
        start, parts = time.perf_counter(), []
        for fold in folds:
            parts.append(
                cross_validate(model, recordings, cv=[fold], scoring=scoring, return_estimator=True)
            )
            seconds = time.perf_counter() - start
            print(f"{name}: {len(parts)} of {len(folds)} folds, {seconds:.0f} s", flush=True)
        results[name] = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        results[name]["seconds"] = seconds
    return results


def print_table(results):
    print(f"{'held-out animals, R2':32s}{'co-smoothing':>16s}{'from behavior':>16s}{'seconds':>9s}")
    for name, scores in results.items():
        cells = "".join(
            f"{scores[f'test_{metric}'].mean():9.3f} ±{scores[f'test_{metric}'].std(ddof=1):5.3f}"
            for metric in scoring
        )
        print(f"{name:32s}{cells}{scores['seconds']:9.0f}")


def save_figure(results, path):
    """Hidden neurons of an unseen animal, and every fold's score."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        print("No figure: pip install 'skneurovae[plot]' for matplotlib.")
        return
    animal, signal = recordings[-1], truth.signals[-1]
    model = results["NeuroBehaviorVAE"]["estimator"][-1]  # the last fold held this animal out
    known = np.flatnonzero(np.isin(animal.identities, model.identities_))
    hidden = known[:3]
    traces = animal.traces.copy()
    traces[:, hidden] = np.nan
    predicted, std = model.predict([animal.replace(traces=traces)], return_std=True)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), width_ratios=[2, 1], layout="constrained")
    time_steps = np.arange(200)
    for row, n in enumerate(hidden):
        shift = -5 * row
        mean, spread = predicted[0][:200, n] + shift, 1.64 * std[0][:200, n]
        axes[0].fill_between(time_steps, mean - spread, mean + spread, color="0.88", lw=0)
        axes[0].plot(time_steps, animal.traces[:200, n] + shift, ".", color="0.55", ms=3)
        axes[0].plot(time_steps, signal[:200, n] + shift, color="0.0", lw=1, ls=":")
        axes[0].plot(time_steps, mean, color="C0", lw=1.5)
        axes[0].text(203, shift, animal.identities[n], va="center")
    axes[0].set(xlabel="time (steps)", ylabel="activity (signal SD)", yticks=[], xlim=(0, 225))
    axes[0].set_title("hidden neurons, unseen animal:\ntrace, signal (dotted), prediction, 90 %")
    for i, scores in enumerate(results.values()):
        values = scores["test_co-smoothing"]
        axes[1].plot(values, np.full(len(values), -i), "o", color="0.6", mfc="none")
        axes[1].plot(values.mean(), -i, "|", color="k", ms=18)
    axes[1].set(xlabel="co-smoothing R² (held-out animals)", yticks=-np.arange(len(results)))
    axes[1].set_yticklabels(results)
    axes[1].axvline(0, color="0.8", lw=1, zorder=0)
    figure.savefig(path, dpi=150)
    print(f"Figure: {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", default="quickstart.png")
    arguments = parser.parse_args()
    results = compare()
    print_table(results)
    save_figure(results, arguments.figure)
