"""Many sessions: joint against single training, and few-shot adaptation to a new session.

Sessions of one mouse on a linear track (calcium events), or simulated animals. Cells are taken to
be different in every session, so that nothing is shared but behavior and the core of the network.
Position is decoded on the last part of each session, which no model has seen::

    python benchmarks/studies/many_sessions.py [path/to/recordings]
"""

from __future__ import annotations

import time

import numpy as np
from common import embedding_model, parse, scatters, table
from embeddings import decode
from real import load

from skneurovae import Recording
from skneurovae.datasets import make_linear_track
from skneurovae.metrics import consistency

N_SESSIONS, LENGTH, TEST, GAP = 4, 4000, 1500, 40
FEW = (500, 1500)  # time steps of the new session that adaptation sees


def sessions(folder):
    name = "zivlab_multiple_maps"
    if folder is not None and (folder / f"{name}.h5").exists():
        found = load(folder / f"{name}.h5", sessions="C16_M4_A", first=LENGTH, most=N_SESSIONS + 1,
                     behaviors=["position"])  # fmt: skip
        known = [np.isfinite(r.behavior[:, 0]) for r in found]
        return name, [
            Recording(r.traces[k], behavior=r.behavior[k], session=f"s{i}")
            for i, (r, k) in enumerate(zip(found, known))
        ]
    found, _ = make_linear_track(N_SESSIONS + 1, n_timesteps=LENGTH, random_state=0)
    return "simulated", [r.replace(behavior=r.behavior[:, :1]) for r in found]


def part(recording, span):
    return recording.replace(traces=recording.traces[span], behavior=recording.behavior[span])


def scored(model, train, test):
    """Position R2 of a session, and its embedding."""
    inside, outside = model.transform([train, test])
    return decode([inside], [train.behavior], outside, test.behavior)[0], inside, outside


def main():
    arguments = parse(__doc__, seeds=2, steps=400)
    name, recordings = sessions(arguments.folder)
    spread = np.std(np.concatenate([r.behavior for r in recordings]))
    recordings = [r.replace(behavior=r.behavior / spread) for r in recordings]
    train = [part(r, slice(0, r.n_timesteps - TEST - GAP)) for r in recordings]
    test = [part(r, slice(r.n_timesteps - TEST, None)) for r in recordings]
    rows, few_rows, panels = [], [], {}
    for seed in range(arguments.seeds):

        def new(seed=seed, n_steps=arguments.steps):
            return embedding_model(8, seed, n_steps, conditional="time_delta", time_offset=5,
                                   early_stopping=False)  # fmt: skip

        start = time.perf_counter()
        # As many steps per session as when each is trained by itself would be unfair to time: both
        # get the same number in all.
        joint = new(n_steps=N_SESSIONS * arguments.steps).fit(train[:N_SESSIONS])
        seconds = {"together": time.perf_counter() - start}
        start = time.perf_counter()
        apart = [new().fit([r]) for r in train[:N_SESSIONS]]
        seconds["each by itself"] = time.perf_counter() - start
        for case, models in {"each by itself": apart, "together": [joint] * N_SESSIONS}.items():
            found = [scored(*three) for three in zip(models, train, test)]
            labels = [[r.behavior[:, 0] for r in of[:N_SESSIONS]] for of in (test, train)]
            rows.append({
                "recordings": name,
                "training": case,
                "position R²": np.mean([f[0] for f in found]),
                "consistency, held out": consistency(
                    [f[2] for f in found], labels=labels[0], n_bins=12, n_blocks=8
                )[1],
                "in sample, training data": consistency(
                    [f[1] for f in found], labels=labels[1], cross_fitted=False
                )[1],
                "seconds": seconds[case],
            })  # fmt: skip
            if seed == 0:
                for number, f in enumerate(found[:2]):
                    position = test[number].behavior[:, 0] * spread
                    panels[f"session {number}, {case}"] = (f[2], position)
        few_rows += few_shot(name, joint, new, train[-1], test[-1], arguments)
    table(rows, ["recordings", "training"])
    table(few_rows, ["recordings", "time steps", "model"])
    scatters(
        panels, arguments.figures / "study_many_sessions.png", label="position", cmap="viridis"
    )


def few_shot(name, joint, new, train, test, arguments):
    """A session that the joint model has not seen: its input weights only, or all from scratch."""
    import copy

    rows = []
    for n_timesteps in FEW:
        few = part(train, slice(0, n_timesteps))
        for case in ("adapted", "from scratch, as many steps", "from scratch, 4 times as many"):
            n_steps = max(50, arguments.steps // 4) * (4 if "4 times" in case else 1)
            start = time.perf_counter()
            if case == "adapted":
                model = copy.deepcopy(joint)
                model.adapt([few], max_iter=n_steps // model.steps_per_epoch)
            else:
                model = new(n_steps=n_steps).fit([few])
            seconds = time.perf_counter() - start
            rows.append({
                "recordings": name,
                "time steps": n_timesteps,
                "model": case,
                "position R²": scored(model, few, test)[0],
                "seconds": seconds,
            })  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
