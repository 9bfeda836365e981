"""Reaching: decoding of movement, of the target, and of whether the hand moves.

Held-out blocks of time of recordings of motor and somatosensory cortex. The recordings at hand tell
no passive movement apart, so moving against resting stands in its place. Without a folder the data
are `make_worms`, whose behavior is continuous only::

    python benchmarks/studies/reaching.py path/to/recordings
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
from common import (
    WINDOW,
    averaged,
    embedding_model,
    kept,
    parse,
    scatters,
    shown,
    side_by_side,
    table,
)
from embeddings import decode, holdout, read
from sklearn.decomposition import PCA

from skneurovae import NeuroBehaviorVAE, Recording
from skneurovae.baselines import MissingFactorAnalysis, Pooled
from skneurovae.datasets import make_worms

N_FOLDS, GAP = 5, 10
N_EPOCHS = 20  # of NeuroBehaviorVAE
# Baselines that are given the window of the contrastive networks, and how.
WINDOWED = {
    f"PCA, averaged over {WINDOW} steps": averaged,
    f"PCA, {WINDOW} steps side by side": side_by_side,
}
# File: behavior that is embedded and decoded, channel of labels if there is one, length.
DATA = {
    "chewie_myow": {"behaviors": ["pos_x", "pos_y", "vel_x", "vel_y", "target"], "first": 1640},
    "kording_s1": {"behaviors": ["vel_x", "vel_y"], "first": 4000},
}


def sources(folder):
    """Name, recording, and targets to decode: (columns, kind), by name."""
    if folder is None:
        (worm,), _ = make_worms(1, n_timesteps=1600, random_state=0)
        yield "make_worms", worm, {"behavior": (worm.behavior, "continuous")}, None
        return
    for name, settings in DATA.items():
        if not (folder / f"{name}.h5").exists():
            print(f"Skipped: no {name}.h5 in {folder}")
            continue
        recording = read(name, folder, **settings)
        b = recording.behavior
        labels = None
        if name == "chewie_myow":
            targets = {"position": (b[:, :2], "continuous"), "velocity": (b[:, 2:4], "continuous")}
            known = np.isfinite(b[:, 4])
            labels = np.where(known, b[:, 4], -1.0)
            targets["target"] = (labels[:, None].astype(int), "categorical")
            speed = np.hypot(*b[:, 2:4].T)
            recording = recording.replace(behavior=b[:, :4])
        else:
            targets = {"velocity": (b, "continuous")}
            speed = np.hypot(*b.T)
        moving = (speed > np.median(speed)).astype(int)[:, None]
        yield name, recording, targets | {"moving": (moving, "categorical")}, labels


def quality(inside, of_train, outside, of_test, kind):
    """R2, or balanced accuracy of classes."""
    if kind == "continuous":
        return decode(inside, of_train, outside, of_test)[0]
    from sklearn.metrics import balanced_accuracy_score

    from skneurovae.decoding import BehaviorDecoder

    decoder = BehaviorDecoder("knn", kind="categorical").fit(inside, of_train)
    return balanced_accuracy_score(of_test.ravel(), np.ravel(decoder.predict(outside)))


def models(seed, n_steps, scaled, labels):
    """Models, and the behavior that each is trained on."""
    found = {
        "contrastive, time": (embedding_model(8, seed, n_steps, conditional="time"), None),
        "contrastive, behavior": (
            embedding_model(8, seed, n_steps, conditional="time_delta"), scaled,
        ),
        "contrastive, hybrid": (embedding_model(8, seed, n_steps, conditional="hybrid"), scaled),
    }  # fmt: skip
    if labels is not None:
        mixed = np.column_stack([scaled, labels])
        last = mixed.shape[1] - 1
        found["contrastive, target"] = (
            embedding_model(8, seed, n_steps, discrete="all"), labels[:, None],
        )  # fmt: skip
        found["contrastive, behavior and target"] = (
            embedding_model(8, seed, n_steps, discrete=[last]), mixed,
        )  # fmt: skip
    return found | {
        "PCA": (Pooled(PCA(8)), None),
        **{case: (Pooled(PCA(8, random_state=seed)), None) for case in WINDOWED},
        "factor analysis": (MissingFactorAnalysis(8, smoothing="auto", random_state=seed), None),
        "NeuroBehaviorVAE": (NeuroBehaviorVAE(8, max_iter=N_EPOCHS, random_state=seed), scaled),
    }


def run(name, seed, n_steps, *, folder):
    """Decoding of one held-out block of time by every model."""
    recording, targets, labels = next(s[1:] for s in sources(folder) if s[0] == name)
    x, behavior = recording.traces, recording.behavior
    scaled = (behavior - behavior.mean(0)) / behavior.std(0)
    pieces, test = holdout(len(x), 1 + seed % (N_FOLDS - 1), N_FOLDS, GAP)
    rows, panels = [], {}
    for case, (model, known) in models(seed, n_steps, scaled, labels).items():
        seen = WINDOWED.get(case, np.asarray)
        start = time.process_time()
        model.fit([
            Recording(seen(x[p]), behavior=None if known is None else known[p]) for p in pieces
        ])  # fmt: skip
        seconds = time.process_time() - start
        inside = model.transform([Recording(seen(x[p])) for p in pieces])
        outside = model.transform([Recording(seen(x[test]))])[0]
        row = {"recording": name, "model": case}
        for target, (values, kind) in targets.items():
            key = f"{target} {'R²' if kind == 'continuous' else 'accuracy'}"
            row[key] = quality(inside, [values[p] for p in pieces], outside, values[test], kind)
        rows.append(row | {"seconds": seconds})
        # Chewie's behavior ends in velocity; that of the others begins with it.
        first = 2 if behavior.shape[1] == 4 else 0
        panels[case] = shown(outside, np.arctan2(*behavior[test, first : first + 2].T[::-1]))
    return rows, panels


def main():
    arguments = parse(__doc__, seeds=3, steps=300)
    first = None
    for name, *_ in sources(arguments.folder):
        plan = [{"name": name, "seed": seed} for seed in range(arguments.seeds)]
        rows, panels = kept(plan, partial(run, folder=arguments.folder), arguments)
        table(rows, ["recording", "model"])
        # Of the kinds of PCA the figure shows the one that sees all that the networks see.
        hidden = {"PCA", next(iter(WINDOWED))}
        first = first or {case: panel for case, panel in panels.items() if case not in hidden}
    if first:
        scatters(first, arguments.figures / "study_reaching.png",
                 label="direction of movement (rad)")  # fmt: skip


if __name__ == "__main__":
    main()
