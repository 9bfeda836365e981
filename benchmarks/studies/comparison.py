"""ContrastiveEmbedding in `compare_models`, beside NeuroBehaviorVAE, PCA and factor analysis.

Real recordings cut in blocks of time with gaps (or `make_worms`): decoding of behavior from latents
that did not see it, with null and linear baseline, and consistency of held-out latents between two
seeds::

    python benchmarks/studies/comparison.py path/to/recordings
"""

from __future__ import annotations

import numpy as np
from common import embedding_model, parse
from embeddings import DATA, read
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold

from skneurovae import NeuroBehaviorVAE
from skneurovae.baselines import MissingFactorAnalysis, Pooled
from skneurovae.datasets import make_worms
from skneurovae.decoding import decoding_score
from skneurovae.metrics import consistency_score
from skneurovae.model_selection import compare_models, segment

WIDTH, N_BLOCKS, GAP = 8, 4, 20


def models(n_steps):
    return {
        "PCA": Pooled(PCA(WIDTH)),
        "factor analysis": MissingFactorAnalysis(WIDTH, smoothing="auto"),
        "NeuroBehaviorVAE": NeuroBehaviorVAE(WIDTH),
        "contrastive, time": embedding_model(
            WIDTH, None, n_steps, conditional="time", time_offset=10
        ),
        "contrastive, behavior": embedding_model(
            WIDTH, None, n_steps, conditional="time_delta", time_offset=10
        ),
    }


def recordings_of(arguments):
    """Blocks of each recording."""
    if arguments.folder is None:
        (worm,), _ = make_worms(1, n_timesteps=1600, random_state=0)
        yield "make_worms", worm
        return
    for name in DATA:
        if (arguments.folder / f"{name}.h5").exists():
            yield name, read(name, arguments.folder, **DATA[name])


def consistent(model, blocks, n_seeds):
    """Consistency between seeds on held-out blocks, mean over folds."""
    values = []
    for train, test in KFold(N_BLOCKS).split(blocks):
        fitted = []
        for seed in range(n_seeds):
            one = clone(model)
            if "random_state" in one.get_params():
                one.set_params(random_state=seed)
            fitted.append(one.fit([blocks[i] for i in train]))
        values.append(consistency_score(fitted, [blocks[i] for i in test]))
    return values


def main():
    arguments = parse(__doc__, seeds=2, steps=300)
    for name, recording in recordings_of(arguments):
        known = np.isfinite(recording.behavior).all(1)
        recording = recording.replace(
            traces=recording.traces[known],
            behavior=recording.behavior[known] / recording.behavior[known].std(0),
        )
        length = recording.n_timesteps // N_BLOCKS - GAP
        blocks = segment([recording], length, GAP)[:N_BLOCKS]
        result = compare_models(
            models(arguments.steps), blocks, cv=KFold(N_BLOCKS),
            scoring={"decoding R²": decoding_score}, units=list(range(len(blocks))),
        )  # fmt: skip
        print(f"\n### {name}\n\n{result}\n")
        print("| model | consistency between seeds, held out |\n|---|---|")
        for model_name, model in models(arguments.steps).items():
            values = consistent(model, blocks, max(2, arguments.seeds))
            print(f"| {model_name} | {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} |")


if __name__ == "__main__":
    main()
