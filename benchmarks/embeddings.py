"""Embeddings of ContrastiveEmbedding and of the `cebra` package, measured by one set of functions.

Shared by `contrastive.py` and the studies.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from real import binned, load, part
from scipy.spatial import cKDTree
from scipy.special import logsumexp

from skneurovae import ContrastiveEmbedding, Recording
from skneurovae.decoding import BehaviorDecoder
from skneurovae.metrics import infonce_bits

HAS_CEBRA = importlib.util.find_spec("cebra") is not None
WITHOUT_CEBRA = (
    "The cebra package is not installed, so there is nothing to compare with: "
    "pip install 'skneurovae[benchmark]'."
)


@dataclass(frozen=True)
class Training:
    """What both packages are trained with."""

    n_steps: int = 500
    batch_size: int = 512
    network: str = "offset10"
    n_components: int = 8
    hidden_dim: int = 32
    learning_rate: float = 1e-3
    time_offset: int = 10
    similarity: str = "cosine"
    delta: float | None = None


class Cebra:
    """The `cebra` package behind `fit(pieces, labels)` and `transform(traces)`.

    Pieces of one recording are joined, which is what its users can do: it knows no trials.

    Parameters
    ----------
    conditional : {"time", "time_delta", "delta", "discrete"}
    seed : int
    training : Training
    """

    def __init__(self, conditional, seed, training):
        self.conditional, self.seed, self.training = conditional, seed, training

    def fit(self, pieces, labels):
        import cebra
        import torch

        # cebra takes no seed: the global states are all that can be set.
        torch.manual_seed(self.seed)
        np.random.seed(self.seed)
        training, conditional = self.training, self.conditional
        self.model = cebra.CEBRA(
            model_architecture=f"{training.network}-model",
            conditional=None if conditional == "discrete" else conditional,
            distance=training.similarity,
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            max_iterations=training.n_steps,
            time_offsets=training.time_offset,
            delta=training.delta,
            output_dimension=training.n_components,
            num_hidden_units=training.hidden_dim,
            device="cpu",
        )
        traces = np.concatenate(pieces).astype(np.float32)
        y = []
        if conditional == "discrete":
            y = [np.concatenate(labels)[:, 0].astype(int)]
        elif conditional != "time":
            y = [np.concatenate(labels).astype(np.float32)]
        self.model.fit(traces, *y)
        return self

    def transform(self, traces):
        return self.model.transform(traces.astype(np.float32))


class Ours:
    """ContrastiveEmbedding behind the same two methods.

    Parameters
    ----------
    conditional, seed, training
        As in `Cebra`.
    **changes
        Parameters of the estimator that differ from those of `cebra`.
    """

    def __init__(self, conditional, seed, training, **changes):
        per_epoch = math.gcd(100, training.n_steps)  # no step more or less
        settings = {
            "network": training.network,
            "conditional": conditional,
            "similarity": training.similarity,
            "time_offset": training.time_offset if conditional.startswith("time") else None,
            "delta": training.delta,
            "discrete": "all" if conditional == "discrete" else None,
            "batch_size": training.batch_size,
            "learning_rate": training.learning_rate,
            "hidden_dim": training.hidden_dim,
            "steps_per_epoch": per_epoch,
            "max_iter": training.n_steps // per_epoch,
            "early_stopping": False,
            "random_state": seed,
            "device": "cpu",
        }
        self.model = ContrastiveEmbedding(training.n_components, **settings | changes)

    def fit(self, pieces, labels):
        if self.model.conditional == "time":
            labels = [None] * len(pieces)
        recordings = [Recording(x, behavior=y) for x, y in zip(pieces, labels)]
        self.model.fit(recordings)
        return self

    def transform(self, traces):
        return self.model.transform([Recording(traces)])[0]


# Ours with what `cebra` does, and with what it does not: the weights that embed held-out data best.
# Both have the same number of steps at most.
ARMS = {
    "cebra": Cebra,
    "ours, alike": Ours,
    "ours, default": partial(Ours, early_stopping=True),
}


def arms():
    """Arms that can be run here."""
    if HAS_CEBRA:
        warnings.filterwarnings("ignore", module="cebra")
        return ARMS
    print(WITHOUT_CEBRA, file=sys.stderr)
    return {name: arm for name, arm in ARMS.items() if name != "cebra"}


# -- measures --------------------------------------------------------------------------------------


def positives(labels, reference, time_offset, delta, rng):
    """Steps whose label is closest to that of the reference plus a change.

    The change is drawn from the data, or normal of standard deviation `delta` where that is given.
    Equal labels are drawn from at random, and a step is not its own positive where there is another
    of its label.
    """
    unique, group = np.unique(labels, axis=0, return_inverse=True)
    group = group.ravel()
    members = [np.flatnonzero(group == g) for g in range(len(unique))]
    if delta is None:
        end = rng.integers(time_offset, len(labels), len(reference))
        change = labels[end] - labels[end - time_offset]
    else:
        change = delta * rng.standard_normal((len(reference), labels.shape[1]))
    query = labels[reference] + change
    _, nearest = cKDTree(unique).query(query, k=min(2, len(unique)))
    nearest = nearest.reshape(len(reference), -1)
    found = np.empty(len(reference), dtype=int)
    for i, (step, groups) in enumerate(zip(reference, nearest)):
        for g in groups:
            others = members[g][members[g] != step]
            if len(others):
                found[i] = rng.choice(others)
                break
        else:
            found[i] = step
    return found


def same_label(labels, reference, rng):
    """A step with the same label as the reference, drawn at random."""
    return np.array([rng.choice(np.flatnonzero(labels == labels[i])) for i in reference])


def goodness(
    embedding, conditional, labels=None, *, time_offset=10, delta=None, similarity="cosine",
    n_draws=8, n=1024, seed=0,
):  # fmt: skip
    """InfoNCE of an embedding in bits over chance, with draws that only depend on the data.

    Parameters
    ----------
    embedding : ndarray of shape (n_timesteps, n_components)
    conditional : {"time", "time_delta", "delta", "discrete", "chance"}
        "chance": any two time steps are a pair. 0 or less, and less the more an embedding is spread
        out, since the mean of exponentials exceeds the exponential of the mean.
    labels : ndarray of shape (n_timesteps, n_channels), default=None
        Unless `conditional` is "time" or "chance".
    time_offset : int, default=10
    similarity : {"cosine", "euclidean"}, default="cosine"
    delta : float, default=None
        Of "delta", in units of the labels.
    n_draws, n : int
        Batches, and references and negatives in each.
    seed : int, default=0

    Returns
    -------
    float
    """
    rng = np.random.default_rng(seed)
    losses = []
    for _ in range(n_draws):
        n_references = len(embedding) - (time_offset if conditional == "time" else 0)
        reference = rng.integers(0, n_references, n)
        negative = rng.integers(0, len(embedding), n)
        if conditional == "time":
            positive = reference + time_offset
        elif conditional == "chance":
            positive = rng.integers(0, len(embedding), n)
        elif conditional == "discrete":
            positive = same_label(labels[:, 0], reference, rng)
        else:
            positive = positives(labels, reference, time_offset, delta, rng)
        r, p, q = embedding[reference], embedding[positive], embedding[negative]
        if similarity == "cosine":
            r, p, q = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (r, p, q))
            near, far = (r * p).sum(1), r @ q.T
        else:
            near = -((r - p) ** 2).sum(1)
            far = -((r[:, None] - q) ** 2).sum(-1)
        losses.append(np.mean(logsumexp(far, axis=1) - near))
    return infonce_bits(np.mean(losses), n)


def decode(train, y_train, test, y_test, kind="continuous"):
    """Nearest neighbors, their number chosen on the training data.

    Returns
    -------
    quality : float
        Mean R2 over channels, or balanced accuracy over chance.
    error : float
        Median absolute error of the first channel, in its units.
    """
    decoder = BehaviorDecoder("knn", kind=kind).fit(train, y_train)
    decoded = decoder.predict(test)
    decoded = np.concatenate(decoded) if isinstance(decoded, list) else decoded
    y_test = np.concatenate(y_test) if isinstance(y_test, list) else y_test
    decoded, y_test = decoded.reshape(len(y_test), -1), y_test.reshape(len(y_test), -1)
    residual = ((y_test - decoded) ** 2).sum(0)
    total = ((y_test - y_test.mean(0)) ** 2).sum(0)
    return float(np.mean(1 - residual / total)), float(np.median(np.abs(y_test - decoded)[:, 0]))


def holdout(n_timesteps, fold, n_folds, gap):
    """Training pieces (slices) around a held-out block of contiguous time, less a gap."""
    start, stop = (round(n_timesteps * f / n_folds) for f in (fold, fold + 1))
    pieces = [slice(0, max(0, start - gap)), slice(min(stop + gap, n_timesteps), n_timesteps)]
    return [p for p in pieces if p.stop - p.start > 50], slice(start, stop)


# -- recordings ------------------------------------------------------------------------------------

# File: how to read one recording of it, and the behavior that is learned from and decoded.
DATA = {
    "dag2023_celegans": {
        "identities": "class",
        "behaviors": ["velocity", "head_angle"],
        "sessions": "2022-07-26-31",
    },
    "chewie_myow": {"behaviors": ["pos_x", "pos_y"], "first": 1640},
    "kording_s1": {"behaviors": ["vel_x", "vel_y"], "first": 6000},
    "kording_m1_stevenson": {"behaviors": ["vel_x", "vel_y"], "first": 6000},
    "buddy_hippocampus": {"behaviors": ["position_m"], "first": 6577},
    "hd_a2929": {"behaviors": ["head_cos", "head_sin"], "width": 4, "first": 5000},
    "nelpy_ca1": {"behaviors": ["principal_axis_px"], "sessions": "linear_track", "running": True},
    "zivlab_multiple_maps": {"behaviors": ["position"], "sessions": "C16_M4_A_s1", "first": 6000},
}  # fmt: skip


def read(name, folder, *, running=False, first=None, **settings):
    """One recording of a file; with `running` only the steps of its running trials."""
    path = Path(folder) / f"{name}.h5"
    if not running:
        return load(path, first=first, **settings)[0]
    (recording,) = load(path, first=10**9, **settings)
    with h5py.File(path) as file:
        (group,) = (g for k, g in file["recordings"].items() if k == recording.session)
        moves = group["T"][:] == 1
    return recording.replace(
        traces=recording.traces[moves][:first], behavior=recording.behavior[moves][:first]
    )


__all__ = [
    "ARMS", "DATA", "HAS_CEBRA", "WITHOUT_CEBRA", "Cebra", "Ours", "Training", "arms", "binned",
    "decode", "goodness", "holdout", "part", "read",
]  # fmt: skip
