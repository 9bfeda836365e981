"""One movie seen by two modalities: do spikes and calcium traces get the same embedding?

Sessions of different neurons, spikes and calcium, are embedded by the features of the frames, apart
and together (one model, a first layer for each session). The last repeats are held out::

    python benchmarks/studies/two_modalities.py
"""

from __future__ import annotations

import numpy as np
from common import embedding_model, kept, parse, scatters, shown, table

from skneurovae.datasets import make_movie_responses
from skneurovae.metrics import consistency

N_REPEATS, N_TEST, N_FRAMES = 8, 2, 450
SIZES = (15, 45, 120)  # neurons of each session


def run(n_neurons, seed, n_steps):
    """Both modalities apart and together."""
    recordings, truth = make_movie_responses(
        N_REPEATS, n_frames=N_FRAMES, n_neurons=n_neurons, random_state=seed
    )
    labelled = [r.replace(stimulus=None, behavior=r.stimulus) for r in recordings]
    sessions = {name: [r for r in labelled if r.session == name] for name in truth.areas}
    train = {name: s[:-N_TEST] for name, s in sessions.items()}
    test = {name: s[-N_TEST:] for name, s in sessions.items()}

    def new(n_steps=n_steps):
        return embedding_model(8, seed, n_steps, conditional="time_delta", time_offset=5)

    # A batch is shared by the sessions, so together gets the steps of both.
    joint = new(2 * n_steps).fit([r for s in train.values() for r in s])
    apart = {name: new().fit(s) for name, s in train.items()}
    rows, panels = [], {}
    together = dict.fromkeys(train, joint)
    for case, models in {"each by itself": apart, "together": together}.items():
        inside, outside = (
            [np.mean(models[name].transform(part[name]), axis=0) for name in part]
            for part in (train, test)
        )
        first = [models[name].transform(test[name])[0] for name in test]
        rows.append({
            "neurons": str(n_neurons),
            "training": case,
            "consistency, held-out repeats": consistency(outside)[1],
            "of single repeats": consistency(first)[1],
            "in sample, training repeats": consistency(inside, cross_fitted=False)[1],
            # Where both have one space, frame by frame without any map.
            "cosine without a map": np.mean(np.sum(_unit(outside[0]) * _unit(outside[1]), 1)),
        })  # fmt: skip
        if n_neurons == SIZES[-1]:
            for name, z in zip(test, outside):
                panels[f"{name}, {case}"] = shown(z, np.arange(len(z)) / 30)
    return rows, panels


def main():
    arguments = parse(__doc__, seeds=3, steps=200)
    plan = [{"n_neurons": n, "seed": s} for n in SIZES for s in range(arguments.seeds)]
    rows, panels = kept(plan, run, arguments)
    table(rows, ["neurons", "training"])
    scatters(
        panels, arguments.figures / "study_two_modalities.png", label="time in the movie (s)",
        cmap="viridis",
    )  # fmt: skip


def _unit(z):
    return z / np.linalg.norm(z, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
