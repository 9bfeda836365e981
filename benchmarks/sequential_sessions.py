"""A later session with other neurons meets a trained model whose core stays as it is."""

from __future__ import annotations

import pickle

import numpy as np
from runs import spread
from sklearn.metrics import r2_score

from skneurovae import DSAE, LFADS
from skneurovae.datasets import make_lorenz
from skneurovae.networks.sequential import TABLES, UNITS

N_NEURONS = 30  # of each session
CALLS = (1, 3, 10)  # of partial_fit, an epoch each


def sessions(seed, max_iter=50):
    """Rates of held-out trials of the later session, R2, after some calls of `partial_fit`."""
    trials, truth = make_lorenz(12, 20, n_neurons=2 * N_NEURONS, random_state=seed)
    place = np.arange(len(trials)) % 20  # 10 trials of a condition are the first session, 8 train
    first = [_session(t, "first", slice(N_NEURONS)) for t, p in zip(trials, place) if p < 10]
    later = [_session(t, "later", slice(N_NEURONS, None)) for t in trials]
    parts = {name: [t for t, p in zip(later, place) if low <= p < high]
             for name, low, high in (("train", 10, 18), ("test", 18, 20))}  # fmt: skip
    labels = {name: [c for c, p in zip(truth.conditions, place) if low <= p < high]
              for name, low, high in (("first", 0, 10), ("train", 10, 18))}  # fmt: skip
    rates = np.concatenate([r[:, N_NEURONS:] for r, p in zip(truth.rates, place) if p >= 18])
    found = {}
    for name, kind in {"LFADS": LFADS, "DSAE full": DSAE}.items():
        for start in ("random", "conditions"):
            parameters = {"initialization": start, "max_iter": max_iter, "random_state": seed}
            model = kind(device="cpu", **parameters).fit(first, labels["first"])
            together = kind(device="cpu", **parameters)
            together.fit(first + parts["train"], labels["first"] + labels["train"])
            row = {"together": _score(together, parts["test"], rates)}
            model.set_params(freeze_core=True)
            core = pickle.dumps(_core(model))
            for call in range(1, max(CALLS) + 1):
                model.partial_fit(parts["train"], labels["train"])
                if call in CALLS:
                    row[str(call)] = _score(model, parts["test"], rates)
            assert pickle.dumps(_core(model)) == core, "the core has moved"
            found[f"{name}, {start}"] = row
    return {"scores": found}


def _session(trial, name, neurons):
    return trial.replace(traces=trial.traces[:, neurons], session=name)


def _core(model):
    state = model.network_.state_dict()
    return {n: v.numpy().copy() for n, v in state.items() if n not in (*TABLES, *UNITS)}


def _score(model, trials, rates):
    predicted = np.concatenate(model.predict(trials))
    # All neurons together, around the mean rate of each.
    return float(r2_score(rates, predicted, multioutput="variance_weighted"))


def sessions_table(results):
    """Markdown: mean and standard deviation over seeds."""
    columns = {**{str(n): f"after {n} epochs" for n in CALLS}, "together": "both fitted together"}
    lines = [
        "| model, start of read-in and read-out | " + " | ".join(columns.values()) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in results[0]["scores"]:
        rows = [r["scores"][name] for r in results]
        cells = [spread([row[key] for row in rows], 2) for key in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n{len(results)} seeds."
