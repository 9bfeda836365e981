"""Recovery of a known latent from simulated spike counts, against PCA, t-SNE, UMAP and our VAE.

The published synthetic experiment: a circular label moves a two-dimensional latent, a random
invertible map makes it the rates of 100 neurons. R² of the true latent after an affine map::

    python benchmarks/studies/synthetic.py
"""

from __future__ import annotations

import time

import numpy as np
from common import baselines, embedding_model, parse, scatters, table

from skneurovae import NeuroBehaviorVAE
from skneurovae.datasets import make_latent_counts
from skneurovae.metrics import latent_r2

N_TIMESTEPS = 3000


def main():
    arguments = parse(__doc__, seeds=5, steps=500)
    rows, panels = [], {}
    for seed in range(arguments.seeds):
        (recording,), truth = make_latent_counts(n_timesteps=N_TIMESTEPS, random_state=seed)
        split = int(0.8 * N_TIMESTEPS)
        x, label = recording.traces, recording.behavior
        train, test = x[:split], x[split:]

        def contrastive(train, test, seed=seed, label=label, **settings):
            model = embedding_model(
                2, seed, arguments.steps, network="offset1", conditional="delta", delta=0.1,
                similarity="euclidean", circular={0: 2 * np.pi}, **settings,
            )  # fmt: skip
            model.fit(train, behavior=label[: len(train)])
            return model.transform(train), model.transform(test)

        def vae(train, test, seed=seed, label=label):
            # Time steps are independent, so windows of one.
            model = NeuroBehaviorVAE(
                2, likelihood="poisson", window_length=1, max_iter=30, random_state=seed
            )
            angle = np.column_stack([np.cos(label), np.sin(label)])
            model.fit(train, behavior=angle[: len(train)])
            return model.transform(train), model.transform(test)

        models = {"ContrastiveEmbedding": contrastive, "NeuroBehaviorVAE": vae}
        for name, fit in (models | baselines(2, seed)).items():
            start = time.perf_counter()
            inside, outside = fit(train, test)
            z = truth.latents[0]
            rows.append({
                "model": name,
                "R², held out": latent_r2(z[split:], outside),
                "R² in sample, training data": latent_r2(z[:split], inside, cross_fitted=False),
                "seconds": time.perf_counter() - start,
            })  # fmt: skip
            if seed == 0:
                panels.setdefault("true latent", (z[split:], label[split:, 0]))
                panels[name] = (outside, label[split:, 0])
    table(rows, ["model"])
    scatters(panels, arguments.figures / "study_synthetic.png", label="label (rad)")


if __name__ == "__main__":
    main()
