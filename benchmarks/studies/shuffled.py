"""Do embeddings fit what is not there? Goodness of fit of shuffled labels and shuffled traces.

Held-out blocks of time, with a gap. Time steps of the labels, or of the traces, are permuted, or
every neuron is shifted in time by an amount of its own, before training and test data are parted.
A goodness of fit of an embedding that is spread out is below 0 where there is nothing to find, so
that of the same embedding with pairs drawn at random stands beside it. Simulated rats, and with a
folder real recordings too::

    python benchmarks/studies/shuffled.py path/to/recordings
"""

from __future__ import annotations

from functools import partial

import numpy as np
from common import embedding_model, kept, parse, table
from embeddings import DATA, goodness, holdout, read

from skneurovae import Recording
from skneurovae.datasets import make_linear_track

N_FOLDS, GAP, OFFSET, LENGTH = 5, 40, 10, 6000
NAMES = ("simulated", "buddy_hippocampus", "chewie_myow")
CASES = {
    "as recorded": ("time", "behavior"),
    "labels permuted": ("behavior",),
    "traces permuted": ("time", "behavior"),
    "neurons shifted": ("time", "behavior"),
}


def source(name, seed, folder):
    if name == "simulated":
        return make_linear_track(1, n_timesteps=LENGTH, random_state=seed)[0][0]
    return read(name, folder, **DATA[name])


def shuffle(case, x, labels, rng):
    """Traces and labels of a case."""
    if case == "labels permuted":
        labels = labels[rng.permutation(len(x))]
    elif case == "traces permuted":
        x = x[rng.permutation(len(x))]
    elif case == "neurons shifted":
        # Far from the start and from each other's shift, as far as chance has it.
        shifts = rng.integers(len(x) // 10, len(x) - len(x) // 10, x.shape[1])
        x = np.column_stack([np.roll(column, shift) for column, shift in zip(x.T, shifts)])
    return x, labels


def run(name, seed, case, n_steps, *, folder):
    recording = source(name, seed, folder)
    known = np.isfinite(recording.behavior).all(1)
    behavior = recording.behavior[known]
    rng = np.random.default_rng(seed)
    x, labels = shuffle(case, recording.traces[known], behavior / behavior.std(0), rng)
    train, test = holdout(len(x), 1 + seed % (N_FOLDS - 1), N_FOLDS, GAP)
    rows = []
    for pairs in CASES[case]:
        conditional = {"time": "time", "behavior": "time_delta"}[pairs]
        for stopping in ("no", "yes"):  # without, so that it may overfit
            model = embedding_model(
                8, seed, n_steps, conditional=conditional, time_offset=OFFSET,
                early_stopping=stopping == "yes",
            )  # fmt: skip
            shown = [None if pairs == "time" else labels[p] for p in train]
            model.fit([Recording(x[p], behavior=b) for p, b in zip(train, shown)])
            longest = max(train, key=lambda p: p.stop - p.start)
            bits = {}
            for where, part in (("held out", test), ("training data", longest)):
                z = model.transform(x[part])
                fitted = goodness(z, conditional, labels[part])
                bits[f"{where} (bits)"] = fitted
                bits[f"{where}, above random pairs"] = fitted - goodness(z, "chance", seed=1)
            start = {"recording": name, "pairs by": pairs, "data": case}
            rows.append({**start, "early stopping": stopping, **bits})
    return rows, {}


def main():
    arguments = parse(__doc__, seeds=3, steps=150)
    folder = arguments.folder
    names = [n for n in NAMES if n == "simulated" or (folder and (folder / f"{n}.h5").exists())]
    plan = [
        {"name": name, "seed": seed, "case": case}
        for name in names
        for seed in range(arguments.seeds)
        for case in CASES
    ]
    rows, _ = kept(plan, partial(run, folder=folder), arguments)
    by = ["recording", "pairs by", "data", "early stopping"]
    table(rows, by)


if __name__ == "__main__":
    main()
