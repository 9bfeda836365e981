"""Which frame of a movie is on? Neighbors on a held-out repeat, from one and from ten frames.

Simulated spikes; areas differ in how reliably they follow the movie. Ten frames are the window of
the network "offset10", or ten frames put side by side for the baselines::

    python benchmarks/studies/movie_frames.py
"""

from __future__ import annotations

import numpy as np
from common import embedding_model, kept, parse, save, side_by_side, table
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from skneurovae import Recording
from skneurovae.datasets import make_movie_responses

N_REPEATS, N_FRAMES, RATE_HZ = 10, 450, 30
N_NEIGHBORS = 9
NETWORKS = {1: "offset1", 10: "offset10"}


def frames_of(train, test):
    """Frames of the last repeat by cosine neighbors in the others."""
    frame = np.tile(np.arange(N_FRAMES), len(train))
    model = KNeighborsClassifier(N_NEIGHBORS, metric="cosine", weights="distance")
    # A silent bin has no direction: the cosine needs one.
    return model.fit(np.concatenate(train) + 1e-9, frame).predict(test + 1e-9)


def run(seed, n_steps):
    """Every area and window."""
    recordings, truth = make_movie_responses(
        N_REPEATS, n_frames=N_FRAMES, n_neurons=240, modalities=["spikes"], random_state=seed
    )
    (areas,) = truth.areas.values()
    features = [r.stimulus for r in recordings]
    rows = []
    for area in truth.reliability:
        repeats = [r.traces[:, areas == area] for r in recordings]
        for n_frames, network in NETWORKS.items():
            wide = [side_by_side(x) for x in repeats] if n_frames > 1 else repeats
            pca = PCA(16, random_state=seed).fit(np.concatenate(wide[:-1]))
            model = embedding_model(
                16, seed, n_steps, network=network, conditional="time_delta", time_offset=1,
                early_stopping=False,
            )  # fmt: skip
            model.fit([Recording(x, behavior=f) for x, f in zip(repeats[:-1], features)])
            embeddings = {
                "neighbors of traces": wide,
                "PCA": [pca.transform(x) for x in wide],
                "ContrastiveEmbedding": model.transform(repeats),
            }
            for name, z in embeddings.items():
                error = np.abs(frames_of(z[:-1], z[-1]) - np.arange(N_FRAMES))
                rows.append({
                    "area": area, "frames": str(n_frames), "model": name,
                    "exact": np.mean(error == 0),
                    "within 1 s": np.mean(error <= RATE_HZ),
                    "mean error (frames)": error.mean(),
                    "median error (frames)": np.median(error),
                })  # fmt: skip
    return rows, {}


def main():
    arguments = parse(__doc__, seeds=3, steps=400)
    rows, _ = kept([{"seed": seed} for seed in range(arguments.seeds)], run, arguments)
    table(rows, ["area", "frames", "model"])
    within = {}
    for row in rows:
        key = row["area"], int(row["frames"]), row["model"]
        within.setdefault(key, []).append(row["within 1 s"])
    figure_of(within, arguments)


def figure_of(within, arguments):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(k[2] for k in within))
    areas = list(dict.fromkeys(k[0] for k in within))
    figure, axes = plt.subplots(1, 2, figsize=(7, 3), sharey=True, layout="constrained")
    for axis, n_frames in zip(axes, NETWORKS):
        for number, name in enumerate(names):
            values = [within[area, n_frames, name] for area in areas]
            axis.bar(
                np.arange(len(areas)) + 0.27 * (number - 1), np.mean(values, 1), 0.25,
                yerr=np.std(values, 1), label=name,
            )  # fmt: skip
        axis.set(xticks=range(len(areas)), xticklabels=areas, title=f"{n_frames} frame(s)")
    axes[0].set_ylabel("frames decoded within 1 s")
    axes[1].legend(fontsize=7)
    save(figure, arguments.figures / "study_movie_frames.png")


if __name__ == "__main__":
    main()
