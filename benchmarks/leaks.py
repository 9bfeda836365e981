"""How long `find_leaks` takes for many trials, as their number grows.

Trials of 60 time steps and 30 neurons in two folds, on one core::

    python benchmarks/leaks.py
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from runs import use_threads
from sklearn.model_selection import KFold

from skneurovae import Recording
from skneurovae.model_selection import find_leaks


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[400, 2000])
    arguments = parser.parse_args()
    use_threads(1)
    print("| trials | leaks found | seconds |\n|---|---|---|")
    for n_trials in arguments.trials:
        rng = np.random.default_rng(0)
        trials = [Recording(rng.standard_normal((60, 30)), session="s") for _ in range(n_trials)]
        start = time.perf_counter()
        found = find_leaks(trials, KFold(2).split(trials))
        print(f"| {n_trials} | {len(found)} | {time.perf_counter() - start:.1f} |")


if __name__ == "__main__":
    main()
