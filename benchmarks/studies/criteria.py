"""What the focal criteria gain: InfoNCE, focal as published and its monotone form, in turn.

The published focal loss weighs a pair of log ratio u by (1 - p)^gamma, p = sigmoid(u), and
multiplies u itself: beyond a minimum it penalizes pairs that are better told apart. The monotone
form has ln p in place of u. With many negatives p is small at a temperature of 1, and the weight
close to 1; so a low temperature stands beside it. Held-out blocks of time of a simulated latent,
and with a folder of real recordings::

    python benchmarks/studies/criteria.py path/to/recordings
"""

from __future__ import annotations

from functools import partial

import numpy as np
from common import embedding_model, kept, parse, table
from embeddings import DATA, decode, goodness, holdout, read

from skneurovae import Recording
from skneurovae.datasets import make_latent_counts
from skneurovae.metrics import latent_r2

N_FOLDS, GAP, OFFSET = 5, 40, 10
NAMES = ("simulated", "buddy_hippocampus", "chewie_myow")
CRITERIA = {
    "InfoNCE": {},
    "focal, gamma 1": {"objective": "focal", "gamma": 1.0},
    "focal, gamma 2": {"objective": "focal", "gamma": 2.0},
    "focal as published, gamma 1": {"objective": "focal_published", "gamma": 1.0},
    "focal as published, gamma 2": {"objective": "focal_published", "gamma": 2.0},
}
TEMPERATURES = (1.0, 0.1)
BY = ["recording", "temperature", "criterion"]


def source(name, seed, folder):
    """Traces, what is decoded, labels of the pairs, and the true latent or None."""
    if name == "simulated":
        (recording,), truth = make_latent_counts(n_timesteps=5000, random_state=seed)
        label = recording.behavior
        circle = np.column_stack([np.cos(label), np.sin(label)])
        return recording.traces, circle, circle, truth.latents[0]
    recording = read(name, folder, **DATA[name])
    known = np.isfinite(recording.behavior).all(1)
    behavior = recording.behavior[known]
    return recording.traces[known], behavior, behavior / behavior.std(0), None


def run(name, seed, temperature, criterion, n_steps, *, folder):
    x, behavior, labels, latent = source(name, seed, folder)
    train, test = holdout(len(x), 1 + seed % (N_FOLDS - 1), N_FOLDS, GAP)
    pairs = {"conditional": "time_delta", "time_offset": OFFSET}
    if name == "simulated":
        pairs = {"conditional": "delta", "delta": 0.1, "network": "offset1", "time_offset": None}
    model = embedding_model(
        8, seed, n_steps, temperature=temperature, **pairs, **CRITERIA[criterion]
    )
    model.fit([Recording(x[p], behavior=labels[p]) for p in train])
    inside, outside = [model.transform(x[p]) for p in train], model.transform(x[test])
    row = {
        "recording": name,
        "temperature": str(temperature),
        "criterion": criterion,
        # Of InfoNCE at a temperature of 1, whatever was trained.
        "goodness of fit, held out (bits)": goodness(
            outside, pairs["conditional"], labels[test], delta=pairs.get("delta")
        ),
        "kNN decoding R²": decode(inside, [behavior[p] for p in train], outside, behavior[test])[0],
    }
    if latent is not None:
        row["latent R², held out"] = latent_r2(latent[test], outside)
    return [row], {}


def main():
    arguments = parse(__doc__, seeds=3, steps=200)
    folder = arguments.folder
    names = [n for n in NAMES if n == "simulated" or (folder and (folder / f"{n}.h5").exists())]
    plan = [
        {"name": name, "seed": seed, "temperature": temperature, "criterion": criterion}
        for name in names
        for temperature in TEMPERATURES
        for seed in range(arguments.seeds)
        for criterion in CRITERIA
    ]
    rows, _ = kept(plan, partial(run, folder=folder), arguments)
    table(rows, BY)


if __name__ == "__main__":
    main()
