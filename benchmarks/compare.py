"""Cross-validated comparison of models, on simulated animals and on real recordings.

One call of `compare_models` per data set: held-out animals or sessions, or blocks of time where
there is one animal; null and linear baseline beside every score; paired differences with intervals.
Prints the tables of docs/results.md and saves its figures::

    python benchmarks/compare.py path/to/recordings --figures docs/figures
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import joblib
from real import DATA, N_FOLDS, load
from runs import use_threads
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.model_selection import KFold

from skneurovae import NeuroBehaviorVAE
from skneurovae.baselines import LaggedRidge, MissingFactorAnalysis, Pooled
from skneurovae.datasets import make_worms
from skneurovae.metrics import co_smoothing_score, imputation_score
from skneurovae.model_selection import compare_models

SCORING = {"co-smoothing": co_smoothing_score, "imputation": imputation_score}
LABELS = {
    "co-smoothing": "co-smoothing R² of hidden neurons",
    "imputation": "imputation R² of hidden spans",
}
SIMULATED = "make_worms (curved)"


def recordings_of(name, folder):
    """Recordings, and the unit of each over which intervals are bootstrapped."""
    if name == SIMULATED:
        recordings, _ = make_worms(8, regime="curved", n_timesteps=500, random_state=0)
    else:
        recordings = load(folder / f"{name}.h5", **DATA[name])
    # Blocks of one animal are not independent animals: their intervals are about this recording.
    return recordings, [f"{r.session} {i}" for i, r in enumerate(recordings)]


def models(recordings):
    rank = min(12, min(r.n_neurons for r in recordings) // 2)
    return {
        "PCA": Pooled(PCA(rank)),
        "factor analysis": Pooled(FactorAnalysis(rank, max_iter=200)),
        "missing-data factor analysis": MissingFactorAnalysis(rank, smoothing="auto"),
        "lagged ridge (behavior only)": LaggedRidge(),
        "NeuroBehaviorVAE": NeuroBehaviorVAE(rank),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="folder with the HDF5 files")
    parser.add_argument("--data", nargs="+", default=[SIMULATED, *DATA])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--figures", type=Path, default=Path("results"))
    parser.add_argument("--cache", type=Path, default=Path("results/cache"))
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    arguments.figures.mkdir(exist_ok=True, parents=True)
    for name in arguments.data:
        if name != SIMULATED and not (
            arguments.folder and (arguments.folder / f"{name}.h5").exists()
        ):
            print(f"Skipped: no {name}.h5 in {arguments.folder}", file=sys.stderr)
            continue
        recordings, units = recordings_of(name, arguments.folder)
        result = compare_models(
            models(recordings), recordings, cv=KFold(min(len(recordings), N_FOLDS)),
            scoring=SCORING, units=units, n_seeds=arguments.seeds, n_jobs=arguments.jobs,
            memory=joblib.Memory(arguments.cache, verbose=0), verbose=1,
        )  # fmt: skip
        print(f"\n### {name}\n\n{result}\n")
        for row in result.differences("NeuroBehaviorVAE"):
            print(
                f"- {row['scorer']}, {row['model']} less {row['reference']}: "
                f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], "
                f"corrected p = {row['p_corrected']:.3f}, {row['n_units']} units"
            )
        figure = result.plot(labels=LABELS)
        figure.suptitle(name)
        figure.savefig(arguments.figures / f"compare_{name.split()[0]}.png", dpi=150)


if __name__ == "__main__":
    main()
