"""How many components? Hidden neurons tell; reconstruction only counts parameters.

Simulated animals with six true latents. One grid search scores both ways, on animals left out::

    python docs/examples/components.py
"""

from __future__ import annotations

import torch
from sklearn.model_selection import GridSearchCV, KFold
from threadpoolctl import threadpool_limits

from skneurovae import NeuroBehaviorVAE
from skneurovae.datasets import make_worms
from skneurovae.metrics import co_smoothing_score, reconstruction_score

# A script owns its process. These matrices are small: threads would wait for each other.
torch.set_num_threads(1)
threadpool_limits(1)

GRID = [2, 4, 8, 16]


def main():
    animals, _ = make_worms(6, regime="linear", n_timesteps=300, n_components=6, random_state=0)
    search = GridSearchCV(
        NeuroBehaviorVAE(max_iter=20, random_state=0),
        {"n_components": GRID},
        cv=KFold(2),
        scoring={"co-smoothing": co_smoothing_score, "reconstruction": reconstruction_score},
        refit="co-smoothing",  # what NeuroBehaviorVAE.score is
    ).fit(animals)
    print(f"{'components':>10s}{'co-smoothing R2':>18s}{'reconstruction R2':>20s}")
    results = search.cv_results_
    for row, number in enumerate(GRID):
        hidden, seen = (
            results[f"mean_test_{name}"][row] for name in ("co-smoothing", "reconstruction")
        )
        print(f"{number:10d}{hidden:18.3f}{seen:20.3f}")
    largest = GRID[results["mean_test_reconstruction"].argmax()]
    print(f"Hidden neurons choose {search.best_params_['n_components']} of 6 true latents,")
    print(f"reconstruction would choose {largest}.")
    return search.best_params_["n_components"], largest


if __name__ == "__main__":
    main()
