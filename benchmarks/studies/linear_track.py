"""Hippocampus on a linear track: decoding, hypothesis against shuffles, animals, topology.

Position is decoded on held-out blocks of time, from embeddings by time, behavior, both, and by
shuffled labels (goodness of fit of shuffles is in shuffled.py); embeddings of animals with
different cells are compared through position and direction; persistent homology tells their shape.
Give the folder that holds buddy_hippocampus.h5 and nelpy_ca1.h5 for two real rats; without, they
are simulated::

    python benchmarks/studies/linear_track.py [path/to/recordings]
"""

from __future__ import annotations

import numpy as np
from common import averaged, baselines, embedding_model, kept, parse, save, scatters, shown, table
from embeddings import DATA, decode, holdout, read

from skneurovae import Recording
from skneurovae.datasets import make_linear_track
from skneurovae.metrics import consistency

N_FOLDS, GAP, OFFSET = 5, 40, 10
WIDTH = 8  # components of what is decoded
N_LANDMARKS = 200  # of persistent homology
N_ANIMALS, LENGTH, SHARE = 4, 6000, 0.6  # of the length to train on, for consistency
# Components and bins of consistency: the map between animals is fitted to 24 bins.
NARROW, N_BINS, N_BLOCKS = 3, 25, 10
# One in so many time steps is shown to UMAP and t-SNE: neighbor graphs are slow.
EVERY = 5


def animals(folder, seed, simulated):
    """Recordings by name; behavior is position (0 to 1 along the track) and direction (-1 or 1)."""
    if simulated:
        found, truth = make_linear_track(N_ANIMALS, n_timesteps=2 * LENGTH, random_state=seed)
        return {
            f"simulated {i}": r.replace(
                behavior=np.column_stack([p / np.ptp(p), np.where(d > 0, 1.0, -1.0)])
            )
            for i, (r, p, d) in enumerate(zip(found, truth.position, truth.direction))
        }
    rat = read("buddy_hippocampus", folder, first=6577)
    position, direction = rat.behavior.T
    found = {"buddy_hippocampus": (rat, position, direction)}
    if (folder / "nelpy_ca1.h5").exists():
        rat = read("nelpy_ca1", folder, **DATA["nelpy_ca1"], first=LENGTH)
        position = rat.behavior[:, 0]
        # The recording has no direction: it is that of the way over half a second.
        ahead = np.roll(position, -5) - np.roll(position, 5)
        found["nelpy_ca1"] = (rat, position, np.where(ahead > 0, 1.0, -1.0))
    return {
        name: rat.replace(behavior=np.column_stack([(p - p.min()) / np.ptp(p), d]))
        for name, (rat, p, d) in found.items()
    }


def fit(recording, pieces, conditional, seed, n_steps, behavior, n_components=WIDTH, **settings):
    """A model of some pieces (slices) of a recording."""
    model = embedding_model(
        n_components, seed, n_steps, conditional=conditional, time_offset=OFFSET, **settings
    )
    labels = [None if conditional == "time" else behavior[p] for p in pieces]
    return model.fit([Recording(recording.traces[p], behavior=b) for p, b in zip(pieces, labels)])


def decoding(name, seed, n_steps, folder, simulated):
    """Position and direction of a held-out block of time."""
    recording = animals(folder, seed, simulated)[name]
    x, behavior = recording.traces, recording.behavior
    scaled = behavior / behavior.std(0)
    pieces, test = holdout(len(x), 1 + seed % (N_FOLDS - 1), N_FOLDS, GAP)
    order = np.random.default_rng(seed).permutation(len(x))
    cases = {
        "time": ("time", scaled),
        "behavior": ("time_delta", scaled),
        "hybrid": ("hybrid", scaled),
        "behavior, labels shuffled": ("time_delta", scaled[order]),
    }
    found = {}
    for case, (conditional, labels) in cases.items():
        model = fit(recording, pieces, conditional, seed, n_steps, labels)
        inside = [model.transform(x[p]) for p in pieces]
        found[case] = (inside, [behavior[p] for p in pieces], model.transform(x[test]))
    return decoded(name, found, behavior[test])


def neighbors(name, seed, n_steps, folder, simulated):
    """The same from baselines, which are given averages over the window that the network sees."""
    recording = animals(folder, seed, simulated)[name]
    x, behavior = recording.traces, recording.behavior
    pieces, test = holdout(len(x), 1 + seed % (N_FOLDS - 1), N_FOLDS, GAP)
    held_out = averaged(x[test])
    found = {}
    for case, embed in baselines(WIDTH, seed).items():
        every = 1 if case == "PCA" else EVERY
        train = np.concatenate([averaged(x[p])[::every] for p in pieces])
        of_train = np.concatenate([behavior[p][::every] for p in pieces])
        inside, outside = embed(train, held_out)
        found[case] = ([inside], [of_train], outside)
    return decoded(name, found, behavior[test])


def decoded(name, found, behavior):
    """Rows and panels of embeddings: (of training pieces, their behavior, held out) by name."""
    rows, panels = [], {}
    for case, (inside, b, outside) in found.items():
        r2, error = decode(inside, [a[:, :1] for a in b], outside, behavior[:, :1])
        way, _ = decode(inside, [a[:, 1:] for a in b], outside, behavior[:, 1:])
        rows.append({
            "recording": name, "model": case, "position R²": r2,
            "median error (% of the track)": 100 * error, "direction R²": way,
        })  # fmt: skip
        panels[case] = shown(outside, behavior[:, 0] * behavior[:, 1])
    return rows, panels


def between(seed, n_steps, folder, simulated):
    """Consistency of animals through their place on the loop that is out and back."""
    rats = list(animals(folder, seed, simulated).values())
    kind = "simulated" if simulated else "real rats"
    cuts = []
    for rat in rats:
        split = int(SHARE * rat.n_timesteps)
        cuts.append((slice(0, split), slice(split + GAP, rat.n_timesteps)))
    loops = [np.where(b[:, 1] > 0, b[:, 0], 2 - b[:, 0]) for b in (r.behavior for r in rats)]
    rows = []
    for case, conditional in {"time": "time", "behavior": "time_delta", "PCA": None}.items():
        parts = ([], [])
        for rat, (train, test) in zip(rats, cuts):
            if conditional is None:
                inside, outside = baselines(NARROW, seed)["PCA"](
                    averaged(rat.traces[train]), averaged(rat.traces[test])
                )
            else:
                behavior = rat.behavior / rat.behavior.std(0)
                model = fit(rat, [train], conditional, seed, n_steps, behavior, NARROW)
                inside, outside = model.transform([rat.traces[train], rat.traces[test]])
            parts[0].append(inside)
            parts[1].append(outside)
        of_train, of_test = ([loop[c[i]] for loop, c in zip(loops, cuts)] for i in (0, 1))
        rows.append({
            "animals": f"{len(rats)} {kind}",
            "model": case,
            "held out": consistency(parts[1], labels=of_test, n_bins=N_BINS, n_blocks=N_BLOCKS)[1],
            "training data, in sample": consistency(
                parts[0], labels=of_train, n_bins=N_BINS, cross_fitted=False
            )[1],
        })  # fmt: skip
    return rows, {}


def topology(name, seed, n_steps, folder, simulated):
    """Bars of persistent homology of the behavior embedding, against shuffled labels."""
    from ripser import ripser

    recording = animals(folder, seed, simulated)[name]
    everything = [slice(0, recording.n_timesteps)]
    scaled = recording.behavior / recording.behavior.std(0)
    order = np.random.default_rng(seed).permutation(recording.n_timesteps)
    rows, diagrams = [], {}
    for case, labels in {"behavior": scaled, "behavior, labels shuffled": scaled[order]}.items():
        model = fit(recording, everything, "time_delta", seed, n_steps, labels, n_components=3)
        z = dense_part(model.transform(recording.traces))
        bars, loops = bars_of(ripser(z, maxdim=1, n_perm=min(N_LANDMARKS, len(z)))["dgms"])
        rows.append({
            "recording": name,
            "labels": case,
            "longest H1 bar": bars[1][0],
            "second": bars[1][1],
            "first / second": bars[1][0] / max(bars[1][1], 1e-9),
            # One component for good, and one for each bar of H0 that stands out as H1's do.
            "Betti 0": 1 + (bars[0] > bars[1][0] / 2).sum(),
            "Betti 1": (bars[1] > bars[1][0] / 2).sum(),
        })  # fmt: skip
        diagrams[f"loops: {name}, {case}"] = {"z": loops.round(4).tolist()}
    return rows, diagrams


def bars_of(diagrams):
    """Lengths of the finite bars, from the longest, by dimension; and the diagram of loops."""
    bars = [np.sort(np.diff(d[np.isfinite(d[:, 1])])[:, 0])[::-1] for d in diagrams]
    return [np.append(b, [0.0, 0.0]) for b in bars], diagrams[1]


def dense_part(z, n_neighbors=15, kept=0.8):
    """The points in dense places: stray ones fill the holes of a shape."""
    from scipy.spatial import cKDTree

    distance = cKDTree(z).query(z, k=n_neighbors)[0][:, -1]
    return z[distance <= np.quantile(distance, kept)]


def diagram_figure(panels, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(3.8, 3.4), layout="constrained")
    points = {title: np.array(panel["z"]).reshape(-1, 2) for title, panel in panels.items()}
    for title, diagram in points.items():
        axis.scatter(*diagram.T, s=10, label=title.removeprefix("loops: "))
    top = max(d.max(initial=0) for d in points.values())
    axis.plot([0, top], [0, top], color="gray", lw=0.8)
    axis.set(xlabel="birth of a loop (distance)", ylabel="its death (distance)")
    axis.legend(fontsize=7)
    save(figure, path)


PARTS = {"decoding": decoding, "neighbors": neighbors, "between": between, "topology": topology}


def main():
    arguments = parse(__doc__, seeds=2, steps=200)
    folder = arguments.folder
    simulated = folder is None or not (folder / "buddy_hippocampus.h5").exists()
    first, *others = animals(folder, 0, simulated)
    names = [first] if simulated else [first, *others]
    seeds = range(arguments.seeds)

    def run(what, simulated, **settings):
        return PARTS[what](folder=folder, simulated=simulated, **settings)

    def rows_of(what, simulated=simulated, **settings):
        plan = [{"what": what, "simulated": simulated, "seed": s, **settings} for s in seeds]
        return kept(plan, run, arguments)

    found = [rows_of(what, name=name) for name in names for what in ("decoding", "neighbors")]
    table([row for rows, _ in found for row in rows], ["recording", "model"])
    scatters(
        found[0][1] | found[1][1], arguments.figures / "study_linear_track.png", cmap="twilight",
        label="position (of the track), negative on the way back",
    )  # fmt: skip
    # Simulated rats in any case: of real ones there is one pair.
    rows = [] if simulated else rows_of("between")[0]
    table(rows + rows_of("between", simulated=True)[0], ["animals", "model"])
    try:
        import ripser  # noqa: F401
    except ImportError:
        print("Topology is left out: pip install 'skneurovae[benchmark]'.")
        return
    rows, panels = rows_of("topology", name=first)
    table(rows, ["recording", "labels"])
    diagram_figure(panels, arguments.figures / "study_linear_track_topology.png")


if __name__ == "__main__":
    main()
