"""Time per training step of LFADS, DSAE and FHVAE against plain loops over bins.

Loss, backward pass and AdamW, with dropout and coordinated dropout on, in float32 on the CPU. The
plain models (`plain_sequential.py`) and ours take turns within every repetition, each with a step
that is not timed before the one that is: right after the other model, memory and caches are not its
own. Times are medians, ratios medians of the repetitions' ratios. Beforehand, with the same weights
and random numbers and without dropout, both must give the same loss and the same gradient.
"""

from __future__ import annotations

import functools
import statistics
import time

import torch
from plain_sequential import (
    BuiltinClippedGRUCell,
    ClippedGRUCell,
    PlainDSAE,
    PlainFHVAE,
    PlainLFADS,
    take_weights,
)

from skneurovae.networks.sequential_models import DSAENetwork, FHVAENetwork, LFADSNetwork
from skneurovae.recordings.batches import Batch

N_NEURONS, N_SEQUENCES = 50, 16
SHAPES = [(32, 50), (32, 100), (64, 50), (64, 100)]  # windows at once, 32 by default, and bins
MORE_SHAPES = {"FHVAE": [(64, 20)]}  # its defaults
COMMON = {"read_in_dim": 64, "n_factors": 16, "encoder_dim": 64, "generator_dim": 64}
OBJECTIVE = {
    "likelihood": "poisson", "beta_static": 1.0, "beta_dynamic": 1.0, "warmup": 0.0,
    "free_bits": 0.0,
}  # fmt: skip
LFADS_SIZES = {"static_dim": 32, "dynamic_dim": 4, "controller_dim": 64}
DSAE_SIZES = {"static_dim": 8, "dynamic_dim": 4, "prior_dim": 64}
FHVAE_SIZES = {"static_dim": 8, "dynamic_dim": 8, "n_sequences": N_SEQUENCES, "alpha": 10.0}
LFADS_OURS = {
    "static_length": 0, "causal": False, "lag": 1, "recurrent_l2": 0.0, "time_constant": 10.0,
}  # fmt: skip
DSAE_OURS = {"prior": "recurrent", "static_length": 0, "causal": False}
# Name: ours, what it takes beyond sizes, the plain model, sizes of both, and the aim.
MODELS = {
    "DSAE full": (DSAENetwork, DSAE_OURS, PlainDSAE, {**DSAE_SIZES, "variant": "full"}, 3.0),
    "DSAE factorized": (
        DSAENetwork, DSAE_OURS, PlainDSAE, {**DSAE_SIZES, "variant": "factorized"}, 3.0,
    ),
    "FHVAE": (FHVAENetwork, {}, PlainFHVAE, FHVAE_SIZES, 3.0),
    "LFADS, original GRU": (LFADSNetwork, LFADS_OURS, PlainLFADS, LFADS_SIZES, 1.5),
    "LFADS, nn.GRUCell": (
        LFADSNetwork, LFADS_OURS,
        functools.partial(PlainLFADS, cell=BuiltinClippedGRUCell), LFADS_SIZES, 1.5,
    ),
}  # fmt: skip
CELLS = {
    "LSTM": (torch.nn.LSTMCell, torch.nn.LSTM), "GRU": (torch.nn.GRUCell, torch.nn.GRU),
}  # fmt: skip


def make_batch(n_windows, n_bins):
    """Complete random counts."""
    shape = n_windows, n_bins
    complete = torch.ones(*shape, N_NEURONS, dtype=torch.bool)
    nothing = torch.zeros(*shape, 0)
    return Batch(
        traces=torch.poisson(torch.full(complete.shape, 0.5)), observed=complete, behavior=nothing,
        behavior_observed=nothing > 0, stimulus=nothing,
        neurons=torch.arange(N_NEURONS).expand(n_windows, -1),
        valid=torch.ones(shape, dtype=torch.bool), recording=torch.arange(n_windows) % N_SEQUENCES,
        start=torch.zeros(n_windows, dtype=torch.int64),
    )  # fmt: skip


class Ours:
    """A network and its optimizer."""

    def __init__(self, name, batch, dropout, coordinated_dropout):
        make, more, _, sizes, _ = MODELS[name]
        self.batch = batch
        self.network = make(
            N_NEURONS, 0, **COMMON, **OBJECTIVE, **sizes, **more, dropout=dropout,
            coordinated_dropout=coordinated_dropout,
        )  # fmt: skip
        if isinstance(self.network, FHVAENetwork):
            self.network.row_of = torch.arange(N_SEQUENCES)
            self.network.n_segments[:] = len(batch.traces) / N_SEQUENCES
        self.network.train()
        self.start()

    def start(self):
        self.trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-3, fused=True)

    def loss(self):
        return self.network.loss(self.batch).loss

    def step(self):
        """Seconds of one training step."""
        start = time.process_time()
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()
        return time.process_time() - start

    def gradient(self):
        """Loss and gradient of the read-in, with fixed random numbers."""
        self.optimizer.zero_grad()
        torch.manual_seed(0)
        loss = self.loss()
        loss.backward()
        return loss.item(), self.read_in_gradient()

    def read_in_gradient(self):
        return self.network.read_in.grad.T


class Plain(Ours):
    """The plain model."""

    def __init__(self, name, batch, dropout, coordinated_dropout):
        _, _, make, sizes, _ = MODELS[name]
        self.batch = batch
        self.network = make(
            N_NEURONS, **COMMON, **sizes, dropout=dropout, coordinated_dropout=coordinated_dropout
        )
        if isinstance(self.network, PlainFHVAE):
            self.network.sequence = batch.recording
            self.network.n_segments = torch.full((N_SEQUENCES,), len(batch.traces) / N_SEQUENCES)
        self.start()

    def loss(self):
        return self.network.loss(self.batch.traces)

    def read_in_gradient(self):
        return self.network.read_in.weight.grad


def check(name, n_windows=16, n_bins=7):
    """Both networks compute the same; returns how many weights ours and the plain one train."""
    batch = make_batch(n_windows, n_bins)
    ours, plain = (kind(name, batch, 0.0, 0.0) for kind in (Ours, Plain))
    n_weights = [sum(p.numel() for p in variant.trained) for variant in (ours, plain)]
    if not isinstance(getattr(plain.network, "generator", None), ClippedGRUCell):
        take_weights(plain.network, ours.network)
        (a, da), (b, db) = ours.gradient(), plain.gradient()
        assert abs(a - b) < 1e-5 * abs(b), f"{name}: losses {a} and {b}"
        assert (da - db).abs().max() < 1e-3 * db.abs().max(), f"{name}: gradients differ"
    return n_weights


def _steady(step):
    """Seconds of a step that follows one of the same model, as steps of training do."""
    step()
    return step()


def time_steps(name, shape, n_repetitions):
    """Median seconds of a step of the plain model and of ours, and median ratio."""
    batch = make_batch(*shape)
    variants = [kind(name, batch, 0.05, 0.2) for kind in (Plain, Ours)]
    pairs = [[_steady(variant.step) for variant in variants] for _ in range(n_repetitions)]
    return *map(statistics.median, zip(*pairs)), statistics.median(a / b for a, b in pairs)


def time_cells(kind, shape, n_repetitions):
    """The same for one recurrent layer of PyTorch: a loop over its cell, and its fused call."""
    values = torch.randn(*shape, COMMON["encoder_dim"])
    cell, fused = CELLS[kind]
    cell, fused = cell(*2 * [values.shape[2]]), fused(*2 * [values.shape[2]], batch_first=True)

    def loop():
        state, states = None, []
        for value in values.unbind(1):
            state = cell(value, state)
            states.append(state if isinstance(state, torch.Tensor) else state[0])
        return torch.stack(states, 1)

    def seconds(call):
        start = time.process_time()
        call().sum().backward()
        return time.process_time() - start

    calls = (lambda: seconds(loop)), (lambda: seconds(lambda: fused(values)[0]))
    pairs = [[_steady(call) for call in calls] for _ in range(n_repetitions)]
    return *map(statistics.median, zip(*pairs)), statistics.median(a / b for a, b in pairs)


def run(n_repetitions):
    """Print the table; its last rows are what PyTorch's own layers gain over a loop."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} CPU threads\n")
    print(
        "| model | windows x bins | plain, ms | ours, ms | plain / ours | aim | weights of both |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, (*_, aim) in MODELS.items():
        ours, plain = check(name)
        for shape in [*MORE_SHAPES.get(name, []), *SHAPES]:
            slow, fast, ratio = time_steps(name, shape, n_repetitions)
            show(name, shape, f"{1e3 * slow:.0f}", f"{1e3 * fast:.0f}", f"{ratio:.1f}", aim,
                 f"{plain} / {ours}")  # fmt: skip
    for kind in CELLS:
        for shape in SHAPES:
            slow, fast, ratio = time_cells(kind, shape, n_repetitions)
            name = f"(one {kind} layer)"
            show(name, shape, f"{1e3 * slow:.1f}", f"{1e3 * fast:.1f}", f"{ratio:.1f}", "", "")


def show(name, shape, *cells):
    """Print a row."""
    print(
        "| " + " | ".join([name, " x ".join(map(str, shape)), *map(str, cells)]) + " |", flush=True
    )
