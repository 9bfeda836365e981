"""Hippocampus on a linear track: decoding, hypothesis against shuffles, animals, topology.

Position is decoded on held-out blocks of time; goodness of fit of true labels stands beside that of
shuffled labels and of shuffled neural data, which must be 0; embeddings of animals with different
cells are compared through position and direction; persistent homology tells their shape. Give the
folder that holds buddy_hippocampus.h5 for a real rat; without, animals are simulated::

    python benchmarks/studies/linear_track.py [path/to/recordings]
"""

from __future__ import annotations

import numpy as np
from common import baselines, embedding_model, parse, save, scatters, table
from embeddings import decode, goodness, holdout, read

from skneurovae.datasets import make_linear_track
from skneurovae.metrics import consistency

N_FOLDS, GAP, OFFSET = 5, 40, 10
WIDTH = 8  # components of what is decoded
N_LANDMARKS = 250  # of persistent homology


def fit(recording, kept, conditional, seed, n_steps, behavior, n_components=WIDTH, **settings):
    labels = None if conditional == "time" else behavior
    model = embedding_model(
        n_components, seed, n_steps, conditional=conditional, time_offset=OFFSET, **settings
    )
    pieces = [recording.traces[p] for p in kept]
    return model.fit(pieces, behavior=None if labels is None else [labels[p] for p in kept])


def decoding(name, recording, arguments):
    """Position of held-out blocks, and goodness of fit of the hypothesis and of shuffles."""
    rows, fits, panels = [], [], {}
    x, behavior = recording.traces, recording.behavior
    scaled = behavior / behavior.std(0)
    position, direction = behavior[:, 0], behavior[:, 1]
    for seed in range(arguments.seeds):
        kept, test = holdout(len(x), 1 + seed % (N_FOLDS - 1), N_FOLDS, GAP)
        longest = max(kept, key=lambda p: p.stop - p.start)
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(x))
        shuffled = recording.replace(traces=x[order])
        cases = {
            "time": ("time", recording, scaled),
            "behavior": ("time_delta", recording, scaled),
            "hybrid": ("hybrid", recording, scaled),
            "behavior, labels shuffled": ("time_delta", recording, scaled[order]),
            "behavior, traces shuffled": ("time_delta", shuffled, scaled),
            "time, traces shuffled": ("time", shuffled, scaled),
        }
        found = {}
        for case, (conditional, source, labels) in cases.items():
            # To the last step, without early stopping, so that shuffles may overfit.
            model = fit(source, kept, conditional, seed, arguments.steps, labels,
                        early_stopping=False)  # fmt: skip
            inside = [model.transform(source.traces[p]) for p in kept]
            outside = model.transform(source.traces[test])
            found[case] = (inside, outside)
            if conditional != "hybrid":
                pairs = (conditional, labels)
                at = inside[kept.index(longest)]
                fits.append({
                    "recording": name,
                    "model": case,
                    "held out (bits)": goodness(outside, pairs[0], labels[test]),
                    "training data (bits)": goodness(at, pairs[0], labels[longest]),
                })  # fmt: skip
        train = np.concatenate([x[p] for p in kept])
        few = slice(None, None, 3)  # neighbor graphs are slow
        for case, embed in baselines(3, seed).items():
            inside, outside = embed(train[few], x[test])
            found[case] = ([inside], outside)
        joined = np.concatenate([behavior[p] for p in kept])
        for case, (inside, outside) in found.items():
            of_train = [behavior[p] for p in kept] if len(inside) > 1 else [joined]
            if len(inside) == 1 and len(inside[0]) < len(joined):
                of_train = [joined[few]]
            r2, error = decode(inside, [b[:, :1] for b in of_train], outside, behavior[test, :1])
            way, _ = decode(inside, [b[:, 1:] for b in of_train], outside, behavior[test, 1:])
            rows.append({
                "recording": name, "model": case, "position R²": r2,
                "median error (cm)": 100 * error, "direction R²": way,
            })  # fmt: skip
            if seed == 0 and "traces" not in case:
                panels[case] = (outside, position[test] * np.where(direction[test] > 0, 1, -1))
    table(rows, ["recording", "model"])
    table(fits, ["recording", "model"])
    return panels


def animals(arguments):
    """Consistency between four simulated animals through their place on the loop."""
    rows, loops = [], None
    for seed in range(arguments.seeds):
        recordings, truth = make_linear_track(4, n_timesteps=7000, random_state=seed)
        # Out and back is a loop: the label is how far along it.
        loops = [np.where(d > 0, p, 3.2 - p) for p, d in zip(truth.position, truth.direction)]
        for case, conditional in (("time", "time"), ("behavior", "time_delta")):
            parts = ([], [])
            for recording in recordings:
                cut = slice(0, 4500), slice(4500 + GAP, 7000)
                model = fit(
                    recording, cut[:1], conditional, seed, arguments.steps, recording.behavior
                )
                for part, where in zip(parts, cut):
                    part.append(model.transform(recording.traces[where]))
            held_out, train = ([loop[where] for loop in loops] for where in (cut[1], cut[0]))
            rows.append({
                "model": case,
                "held out": consistency(parts[1], labels=held_out, n_bins=12, n_blocks=8)[1],
                "training data, in sample": consistency(
                    parts[0], labels=train, n_bins=100, cross_fitted=False
                )[1],
            })  # fmt: skip
    table(rows, ["model"])


def topology(recording, arguments):
    """Bars of persistent homology of the behavior embedding, against shuffled labels."""
    try:
        from ripser import ripser
    except ImportError:
        print("Topology is left out: pip install 'skneurovae[benchmark]'.")
        return
    rows, diagrams = [], {}
    everything = [slice(0, recording.n_timesteps)]
    scaled = recording.behavior / recording.behavior.std(0)
    for seed in range(arguments.seeds):
        rng = np.random.default_rng(seed)
        for case, order in {
            "behavior": slice(None),
            "labels shuffled": rng.permutation(recording.n_timesteps),
        }.items():
            model = fit(recording, everything, "time_delta", seed, arguments.steps, scaled[order],
                        n_components=3)  # fmt: skip
            z = model.transform(recording.traces)
            z = dense_part(z)
            found = ripser(z, maxdim=1, n_perm=min(N_LANDMARKS, len(z)))["dgms"]
            bars = [np.sort(np.diff(d[np.isfinite(d[:, 1])])[:, 0])[::-1] for d in found]
            bars = [np.append(b, [0.0, 0.0]) for b in bars]
            rows.append({
                "labels": case,
                "longest H1 bar": bars[1][0],
                "second": bars[1][1],
                "first / second": bars[1][0] / max(bars[1][1], 1e-9),
                # One component for good, and one for each bar of H0 that stands out as H1's do.
                "Betti 0": 1 + int((bars[0] > bars[1][0] / 2).sum()),
                "Betti 1": int((bars[1] > bars[1][0] / 2).sum()),
            })  # fmt: skip
            diagrams.setdefault(case, found[1])
    table(rows, ["labels"])
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(3.5, 3.2), layout="constrained")
    for case, diagram in diagrams.items():
        axis.scatter(*diagram.T, s=10, label=case)
    top = max(d.max(initial=0) for d in diagrams.values())
    axis.plot([0, top], [0, top], color="gray", lw=0.8)
    axis.set(xlabel="birth of a loop (distance)", ylabel="its death (distance)")
    axis.legend(fontsize=8)
    save(figure, arguments.figures / "study_linear_track_topology.png")


def dense_part(z, n_neighbors=15, kept=0.8):
    """The points in dense places: stray ones fill the holes of a shape."""
    from scipy.spatial import cKDTree

    distance = cKDTree(z).query(z, k=n_neighbors)[0][:, -1]
    return z[distance <= np.quantile(distance, kept)]


def main():
    arguments = parse(__doc__, seeds=3, steps=400)
    if arguments.folder is None:
        (recording,), _ = make_linear_track(1, n_timesteps=6000, random_state=0)
        name = "simulated"
    else:
        name = "buddy_hippocampus"
        recording = read(name, arguments.folder, first=6577)
    panels = decoding(name, recording, arguments)
    scatters(
        panels, arguments.figures / "study_linear_track.png", cmap="twilight",
        label="position (m), negative on the way back",
    )  # fmt: skip
    animals(arguments)
    topology(recording, arguments)


if __name__ == "__main__":
    main()
