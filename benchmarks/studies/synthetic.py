"""Recovery of a known latent from simulated spike counts, against PCA, t-SNE, UMAP, VAE and LFADS.

The published synthetic experiment: a circular label moves a two-dimensional latent, a random
invertible map makes it the rates of 100 neurons. R² of the true latent after an affine map. As
published time steps are independent, which leaves nothing to a model of dynamics; in a second kind
label and latent wander slowly::

    python benchmarks/studies/synthetic.py
"""

from __future__ import annotations

import time

import numpy as np
from common import baselines, embedding_model, kept, parse, scatters, shown, table

from skneurovae import LFADS, NeuroBehaviorVAE
from skneurovae.datasets import make_latent_counts
from skneurovae.metrics import latent_r2

N_TIMESTEPS, SHARE = 1600, 0.8
# Time constant in time steps.
KINDS = {"independent": None, "wandering": 20.0}
LENGTH = 50  # of the windows of LFADS, and of NeuroBehaviorVAE where latents wander


def models(kind, seed, n_steps):
    """Functions (train, test, label of train) -> embeddings of both."""

    def contrastive(train, test, label, conditional="delta"):
        settings = {"time_offset": 5}
        if conditional == "delta":
            settings = {"delta": 0.1, "circular": {0: 2 * np.pi}}
        else:
            label = None
        model = embedding_model(
            2, seed, n_steps, network="offset1", conditional=conditional, similarity="euclidean",
            **settings,
        )  # fmt: skip
        model.fit(train, behavior=label)
        return model.transform(train), model.transform(test)

    def by_time(train, test, label):
        return contrastive(train, test, label, conditional="time")

    def vae(train, test, label):
        # Where time steps are independent, windows of one, and as many of them in a batch.
        length = 1 if kind == "independent" else LENGTH
        model = NeuroBehaviorVAE(
            2, likelihood="poisson", window_length=length, batch_size=max(1, 256 // length),
            max_iter=20, random_state=seed,
        )  # fmt: skip
        angle = np.column_stack([np.cos(label), np.sin(label)])
        model.fit(train, behavior=angle)
        return model.transform(train), model.transform(test)

    def lfads(train, test, label):
        model = LFADS(
            2, window_length=LENGTH, batch_size=8, max_iter=20, hide_neurons=(0.0, 0.0),
            random_state=seed,
        )  # fmt: skip
        model.fit(train)
        return model.transform(train), model.transform(test)

    found = {"contrastive, behavior": contrastive}
    if kind != "independent":
        found["contrastive, time"] = by_time
    found |= {"NeuroBehaviorVAE": vae, "LFADS": lfads}
    others = baselines(2, seed)
    return found | {
        name: lambda train, test, label, f=f: f(train, test) for name, f in others.items()
    }


def run(kind, seed, n_steps):
    (recording,), truth = make_latent_counts(
        n_timesteps=N_TIMESTEPS, time_constant=KINDS[kind], random_state=seed
    )
    split = int(SHARE * N_TIMESTEPS)
    x, label, z = recording.traces, recording.behavior, truth.latents[0]
    rows, panels = [], {f"true latent, {kind}": shown(z[split:], label[split:])}
    for name, fit in models(kind, seed, n_steps).items():
        start = time.process_time()
        inside, outside = fit(x[:split], x[split:], label[:split])
        rows.append({
            "time steps": kind,
            "model": name,
            "R², held out": latent_r2(z[split:], outside),
            "in sample, training data": latent_r2(z[:split], inside, cross_fitted=False),
            "seconds": time.process_time() - start,
        })  # fmt: skip
        panels[f"{name}, {kind}"] = shown(outside, label[split:])
    return rows, panels


def main():
    arguments = parse(__doc__, seeds=2, steps=400)
    plan = [{"kind": kind, "seed": s} for s in range(arguments.seeds) for kind in KINDS]
    rows, panels = kept(plan, run, arguments)
    rows.sort(key=lambda row: list(KINDS).index(row["time steps"]))
    table(rows, ["time steps", "model"])
    panels = {
        name.removesuffix(", wandering"): panel
        for name, panel in panels.items()
        if name.endswith("wandering")
    }
    scatters(panels, arguments.figures / "study_synthetic.png", label="label (rad)")


if __name__ == "__main__":
    main()
