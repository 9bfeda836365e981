"""Many sessions: joint against single training, and few-shot adaptation to a new session.

Sessions of one mouse on a linear track (calcium events), or simulated animals. Cells are taken to
be different in every session, so that nothing is shared but behavior and the core of the network.
Position is decoded on the last part of each session, which no model has seen::

    python benchmarks/studies/many_sessions.py [path/to/recordings]
"""

from __future__ import annotations

import copy
import time

import numpy as np
from common import embedding_model, kept, parse, scatters, shown, table
from embeddings import decode
from real import load
from sklearn.decomposition import PCA

from skneurovae import Recording
from skneurovae.datasets import make_linear_track
from skneurovae.metrics import consistency

REAL = "zivlab_multiple_maps"
N_SESSIONS, LENGTH, TEST, GAP = 3, 4000, 1500, 40
WIDTH = 8
# Of consistency: the map between sessions is fitted to 24 bins, so of few principal components.
NARROW, N_BINS = 3, 25
FEW = (500, 1500)  # time steps of the new session that adaptation sees


def data_name(folder):
    if folder is not None and (folder / f"{REAL}.h5").exists():
        return REAL
    return "simulated"


def sessions(folder):
    name = data_name(folder)
    if name == REAL:
        found = load(folder / f"{name}.h5", sessions="C16_M4_A", first=LENGTH, most=N_SESSIONS + 1,
                     behaviors=["position"])  # fmt: skip
        known = [np.isfinite(r.behavior[:, 0]) for r in found]
        return name, [
            Recording(r.traces[k], behavior=r.behavior[k], session=f"s{i}")
            for i, (r, k) in enumerate(zip(found, known))
        ]
    found, _ = make_linear_track(N_SESSIONS + 1, n_timesteps=LENGTH, random_state=0)
    return name, [r.replace(behavior=r.behavior[:, :1]) for r in found]


def part(recording, span):
    return recording.replace(traces=recording.traces[span], behavior=recording.behavior[span])


def scored(model, train, test):
    """Position R2 of a session, and its embedding."""
    inside, outside = model.transform([train, test])
    return decode([inside], [train.behavior], outside, test.behavior)[0], inside, outside


def prepared(folder):
    """Name, and training and test part of each session; behavior in units of its spread."""
    name, recordings = sessions(folder)
    spread = np.std(np.concatenate([r.behavior for r in recordings]))
    recordings = [r.replace(behavior=r.behavior / spread) for r in recordings]
    train = [part(r, slice(0, r.n_timesteps - TEST - GAP)) for r in recordings]
    test = [part(r, slice(r.n_timesteps - TEST, None)) for r in recordings]
    return name, train, test


def run(seed, n_steps, *, folder):
    """Joint and single training, and adaptation to the last session."""
    name, train, test = prepared(folder)

    def new(n_steps=n_steps):
        return embedding_model(WIDTH, seed, n_steps, conditional="time_delta", time_offset=5,
                               early_stopping=False)  # fmt: skip

    start = time.process_time()
    # As many steps as all the single trainings have in total: a batch is shared by the sessions.
    joint = new(N_SESSIONS * n_steps).fit(train[:N_SESSIONS])
    seconds = {"together": time.process_time() - start}
    start = time.process_time()
    apart = [new().fit([r]) for r in train[:N_SESSIONS]]
    seconds["each by itself"] = time.process_time() - start
    rows, panels = [], {}
    for case, models in {"each by itself": apart, "together": [joint] * N_SESSIONS}.items():
        found = [scored(*three) for three in zip(models, train, test)]
        narrow = [PCA(NARROW).fit(f[1]) for f in found]
        held_out = [pca.transform(f[2]) for pca, f in zip(narrow, found)]
        inside = [pca.transform(f[1]) for pca, f in zip(narrow, found)]
        labels = [[r.behavior[:, 0] for r in of[:N_SESSIONS]] for of in (test, train)]
        rows.append({
            "recordings": name,
            "training": case,
            "position R²": np.mean([f[0] for f in found]),
            "consistency, held out": consistency(
                held_out, labels=labels[0], n_bins=N_BINS, n_blocks=10
            )[1],
            "in sample, training data": consistency(
                inside, labels=labels[1], n_bins=N_BINS, cross_fitted=False
            )[1],
            "seconds": seconds[case],
        })  # fmt: skip
        for number, f in enumerate(found[:2]):
            panels[f"session {number}, {case}"] = shown(f[2], test[number].behavior[:, 0])
    return rows + few_shot(name, joint, new, train[-1], test[-1], n_steps), panels


def few_shot(name, joint, new, train, test, n_steps):
    """A session that the joint model has not seen: its input weights only, or all from scratch."""
    rows = []
    for n_timesteps in FEW:
        few = part(train, slice(0, n_timesteps))
        for case in ("adapted", "from scratch, as many steps", "from scratch, 4 times as many"):
            steps = max(50, n_steps // 4) * (4 if "4 times" in case else 1)
            start = time.process_time()
            if case == "adapted":
                model = copy.deepcopy(joint)
                model.adapt([few], max_iter=steps // model.steps_per_epoch)
            else:
                model = new(steps).fit([few])
            seconds = time.process_time() - start
            rows.append({
                "recordings": name,
                "time steps": str(n_timesteps),
                "model": case,
                "position R²": scored(model, few, test)[0],
                "seconds": seconds,
            })  # fmt: skip
    return rows


def main():
    arguments = parse(__doc__, seeds=2, steps=400)
    plan = [{"data": data_name(arguments.folder), "seed": s} for s in range(arguments.seeds)]

    def one(data, **settings):
        return run(folder=arguments.folder, **settings)

    rows, panels = kept(plan, one, arguments)
    table([row for row in rows if "training" in row], ["recordings", "training"])
    table([row for row in rows if "model" in row], ["recordings", "time steps", "model"])
    scatters(
        panels, arguments.figures / "study_many_sessions.png", label="position (spreads)",
        cmap="viridis",
    )  # fmt: skip


if __name__ == "__main__":
    main()
