"""Missing input and calibration of NeuroBehaviorVAE on unseen simulated animals.

Co-smoothing of the same hidden neurons with all input, with half of the remaining entries NaN, and
without behavior; and the share of hidden entries inside the 90 % predictive interval::

    python benchmarks/robustness.py --seeds 3
"""

from __future__ import annotations

import argparse

import numpy as np
from runs import use_threads

from skneurovae import NeuroBehaviorVAE
from skneurovae.datasets import make_worms
from skneurovae.metrics import hide_neurons, neuron_folds, r2_per_neuron

N_TRAIN, N_TEST = 10, 4


def evaluate(model, recordings, change=None):
    """Mean R2 and coverage of 90 % intervals over neurons hidden fold by fold."""
    r2, inside = [], []
    for recording in recordings:
        folds = neuron_folds(recording)
        for fold in range(folds.max() + 1):
            hidden = (folds == fold) & np.isin(recording.identities, model.identities_)
            shown = hide_neurons(recording, hidden)
            if change is not None:
                shown = change(shown)
            (mean,), (std,) = model.predict([shown], return_std=True)
            assert np.isfinite(mean).all()
            assert np.isfinite(std).all()
            r2.append(r2_per_neuron(recording.traces, mean)[hidden])
            error = np.abs(recording.traces - mean)[:, hidden]
            inside.append((error < 1.645 * std[:, hidden]).mean(0))
    return np.nanmean(np.concatenate(r2)), np.concatenate(inside).mean()


def half_missing(recording):
    gone = np.random.default_rng(0).random(recording.traces.shape) < 0.5
    return recording.replace(traces=np.where(gone, np.nan, recording.traces))


def without_behavior(recording):
    return recording.replace(behavior=None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--regimes", nargs="+", default=["linear", "curved"])
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    print("| regime | seed | R2 | half of entries NaN | without behavior | 90 % coverage |")
    print("|---|---|---|---|---|---|")
    for regime in arguments.regimes:
        for seed in range(arguments.seeds):
            animals, _ = make_worms(
                N_TRAIN + N_TEST, regime=regime, n_timesteps=500, random_state=seed
            )
            model = NeuroBehaviorVAE(8, random_state=seed).fit(animals[:N_TRAIN])
            full, coverage = evaluate(model, animals[N_TRAIN:])
            half, _ = evaluate(model, animals[N_TRAIN:], half_missing)
            without, _ = evaluate(model, animals[N_TRAIN:], without_behavior)
            print(
                f"| {regime} | {seed} | {full:.3f} | {half:.3f} ({half / full:.0%}) "
                f"| {without:.3f} ({without / full:.0%}) | {coverage:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
