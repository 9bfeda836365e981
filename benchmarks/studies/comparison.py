"""ContrastiveEmbedding in `compare_models`, beside NeuroBehaviorVAE, PCA and factor analysis.

Real recordings cut in blocks of time with gaps (or `make_worms`). Decoding of behavior from latents
of held-out blocks that did not see it, with null and linear baseline. Consistency: every model is
fitted to each block alone, with a seed of its own, and the latents that two of these have for a
third block are compared, so that PCA and factor analysis, which no seed changes, are not 1::

    python benchmarks/studies/comparison.py path/to/recordings
"""

from __future__ import annotations

from functools import partial

import numpy as np
from common import embedding_model, kept, parse, table
from embeddings import DATA, read
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold

from skneurovae import ContrastiveEmbedding, NeuroBehaviorVAE
from skneurovae.baselines import MissingFactorAnalysis, Pooled
from skneurovae.datasets import make_worms
from skneurovae.decoding import decoding_score
from skneurovae.metrics import consistency_score
from skneurovae.model_selection import compare_models, segment

WIDTH, N_BLOCKS, GAP = 8, 3, 20
LENGTH = 3600  # most time steps of a recording
N_EPOCHS = 10  # of NeuroBehaviorVAE


def models(n_steps):
    return {
        "PCA": Pooled(PCA(WIDTH)),
        "factor analysis": MissingFactorAnalysis(WIDTH, smoothing="auto"),
        "NeuroBehaviorVAE": NeuroBehaviorVAE(WIDTH, max_iter=N_EPOCHS),
        "contrastive, time": embedding_model(
            WIDTH, None, n_steps, conditional="time", time_offset=10
        ),
        "contrastive, behavior": embedding_model(
            WIDTH, None, n_steps, conditional="time_delta", time_offset=10
        ),
    }


def blocks_of(name, folder):
    """Blocks of a recording, behavior in units of its spread."""
    if folder is None:
        recording = make_worms(1, n_timesteps=1600, random_state=0)[0][0]
    else:
        recording = read(name, folder, **DATA[name])
    known = np.flatnonzero(np.isfinite(recording.behavior).all(1))[:LENGTH]
    behavior = recording.behavior[known]
    recording = recording.replace(
        traces=recording.traces[known], behavior=behavior / behavior.std(0)
    )
    return segment([recording], recording.n_timesteps // N_BLOCKS - GAP, GAP)[:N_BLOCKS]


def consistent(model, blocks, seed):
    """Consistency of models of two blocks on the third, for each choice of it."""
    fitted = []
    for number, block in enumerate(blocks):
        one = clone(model)
        if "random_state" in one.get_params():
            one.set_params(random_state=seed + number)
        fitted.append(one.fit([block]))
    return [
        consistency_score(fitted[:i] + fitted[i + 1 :], [block]) for i, block in enumerate(blocks)
    ]


def run(name, what, n_seeds, n_steps, *, folder):
    blocks = blocks_of(name, folder)
    rows = []
    if what == "consistency":
        for model_name, model in models(n_steps).items():
            for seed in range(n_seeds):
                start = {"recording": name, "model": model_name}
                values = consistent(model, blocks, N_BLOCKS * seed)
                rows += [{**start, "consistency, held out": value} for value in values]
                if not isinstance(model, ContrastiveEmbedding | NeuroBehaviorVAE):
                    break  # no seed changes it
        return rows, {}
    result = compare_models(
        models(n_steps), blocks, cv=KFold(N_BLOCKS), n_seeds=n_seeds,
        scoring={"decoding R²": decoding_score}, units=list(range(len(blocks))),
    )  # fmt: skip
    print(f"\n### {name}\n\n{result}\n", flush=True)
    for record in result.records:
        if record["error"]:
            raise RuntimeError(record["error"])
        rows.append({
            "recording": name,
            "model": record["model"],
            "decoding R²": record["score"],
            "of latents shifted in time": record["null"],
            "linear baseline": record["baseline"],
        })  # fmt: skip
    return rows, {}


def main():
    arguments = parse(__doc__, seeds=1, steps=150)
    folder = arguments.folder
    names = [n for n in DATA if folder and (folder / f"{n}.h5").exists()] or ["make_worms"]
    plan = [
        {"name": name, "what": what, "n_seeds": arguments.seeds}
        for name in names
        for what in ("decoding", "consistency")
    ]
    rows, _ = kept(plan, partial(run, folder=folder), arguments)
    for measure in ("decoding R²", "consistency, held out"):
        table([row for row in rows if measure in row], ["recording", "model"])


if __name__ == "__main__":
    main()
