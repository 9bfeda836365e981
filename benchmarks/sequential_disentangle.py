"""Does the static latent hold the condition, the dynamic latent the signals, and a swap both?"""

from __future__ import annotations

import time

import numpy as np
from runs import spread
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skneurovae import DSAE, FHVAE
from skneurovae.datasets import make_static_dynamic

N_TRIALS, N_TRAIN = 240, 160
SEGMENT = 10  # time steps of FHVAE, the time constant of the signals
COLUMNS = {
    "condition_static": "condition from static", "condition_dynamic": "condition from dynamic",
    "condition_drawn": "condition from samples of dynamic",
    "signal_dynamic": "signals from dynamic, R²", "signal_static": "signals from static, R²",
    "donor": "swap: says the donor's condition", "own": "swap: says its own",
    "unswapped": "no swap: says its own", "swapped_rates": "swapped log rates against truth, R²",
}  # fmt: skip


def disentangle(seed, max_iter=None):
    """Probes and swap test on held-out trials of one simulation."""
    trials, truth = make_static_dynamic(N_TRIALS, random_state=seed)
    conditions = truth.conditions
    more = {"random_state": seed, "device": "cpu"}
    if max_iter is not None:
        more["max_iter"] = max_iter
    models = {
        "DSAE full": DSAE(variant="full", **more),
        "DSAE factorized": DSAE(variant="factorized", **more),
        "FHVAE": FHVAE(window_length=SEGMENT, **more),
    }
    held_out = range(N_TRAIN, N_TRIALS)
    test, labels = [trials[i] for i in held_out], conditions[N_TRAIN:]
    counts = np.stack([t.traces for t in trials]).mean(1)
    reader = _classifier().fit(np.sqrt(counts[:N_TRAIN]), conditions[:N_TRAIN])
    # What the counts themselves allow, above which no probe can be expected.
    scores = {"(mean counts)": {"condition_static": float(
        reader.score(np.sqrt(counts[N_TRAIN:]), labels))}}  # fmt: skip
    rng = np.random.RandomState(seed)
    donors = np.array([rng.choice(np.flatnonzero(labels != label)) for label in labels])
    expected = np.stack([
        truth.expected(truth.static[N_TRAIN + donor], truth.dynamic[N_TRAIN + own])
        for own, donor in enumerate(donors)
    ])  # fmt: skip
    for name, model in models.items():
        start = time.process_time()
        model.fit(trials[:N_TRAIN])
        seconds = time.process_time() - start
        if isinstance(model, FHVAE):
            model.set_params(stride=SEGMENT)  # segments side by side, as they are decoded
        inferred = model.infer(test)
        static = np.stack(inferred["static_mean"])
        if isinstance(model, FHVAE):
            static = model.sequence_vectors(test)
        dynamic = np.stack(inferred["dynamic_mean"])
        # What the decoder gets: a mean tells even what its posterior is too wide to hold.
        drawn = dynamic + np.stack(inferred["dynamic_std"]) * _noise(model, dynamic.shape, seed)
        signals = np.stack(truth.dynamic[N_TRAIN:])
        swapped = np.stack(model.swap(test, donors))
        said = reader.predict(np.sqrt(swapped.mean(1)))
        kept = np.stack(model.swap(test, np.arange(len(test))))
        plain = reader.predict(np.sqrt(kept.mean(1)))
        scores[name] = {
            "condition_static": _condition(static, labels),
            "condition_dynamic": _condition(dynamic.mean(1), labels),
            "condition_drawn": _condition(drawn.mean(1), labels),
            "signal_dynamic": _signal(dynamic, signals),
            "signal_static": _signal(np.repeat(static[:, None], signals.shape[1], 1), signals),
            "donor": float(np.mean(said == labels[donors])),
            "own": float(np.mean(said == labels)),
            "unswapped": float(np.mean(plain == labels)),
            "swapped_rates": float(
                r2_score(np.log(expected).reshape(-1, expected.shape[2]),
                         np.log(swapped).reshape(-1, expected.shape[2]))
            ),
            "seconds": seconds,
        }  # fmt: skip
    return {"scores": scores}


def _noise(model, shape, seed):
    """Standard normal numbers for every time step, or for every segment of FHVAE."""
    noise = np.random.RandomState(seed).standard_normal(shape)
    n = model.window_length if isinstance(model, FHVAE) else 1
    return np.repeat(noise[:, ::n], n, 1)[:, : shape[1]]


def _classifier():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def _condition(latents, labels):
    """Accuracy of a linear probe, cross-validated over trials."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(cross_val_score(_classifier(), latents, labels, cv=folds).mean())


def _signal(latents, signals):
    """R2 of a linear probe of the signals at every time step, cross-validated over trials."""
    groups = np.repeat(np.arange(len(signals)), signals.shape[1])
    values, targets = (a.reshape(-1, a.shape[2]) for a in (latents, signals))
    probe = make_pipeline(StandardScaler(), Ridge(1.0))
    found = cross_val_predict(probe, values, targets, groups=groups, cv=GroupKFold(5))
    return float(r2_score(targets, found))


def disentangle_table(results):
    """Markdown: mean and standard deviation over seeds."""
    lines = [
        "| model | " + " | ".join(COLUMNS.values()) + " | CPU seconds |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name in results[0]["scores"]:
        rows = [r["scores"][name] for r in results]
        cells = [spread([row[key] for row in rows if key in row], 2) for key in COLUMNS]
        seconds = (
            f"{np.median([row['seconds'] for row in rows]):.0f}" if "seconds" in rows[0] else ""
        )
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {seconds} |")
    return "\n".join(lines) + f"\n\n{len(results)} seeds; 4 conditions, so chance is 0.25."
