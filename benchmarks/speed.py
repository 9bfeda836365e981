"""Time and memory of PooledNetwork against a plain writing of the same published architecture.

    python benchmarks/speed.py [--threads 1] [--repetitions 7]

Both networks hold the same weights and take the same complete data in float32 on the CPU. A
training step is loss, backward pass and AdamW; transform is posterior means, predict adds decoded
traces (at the posterior mean).
The two take turns within every repetition; times are medians, ratios medians of the repetitions'
ratios. Memory is the peak of a process's resident set over three training steps (Linux only), in a
process of its own for each network, less what was resident after a step on a tiny batch: libraries,
weights, gradients and the optimizer's state, which are the same for both.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from runs import use_threads

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from published import PublishedNetwork  # noqa: E402

from skneurovae.networks.pooled import PooledNetwork  # noqa: E402

SIZES = [(8, 200, 150), (8, 200, 100), (8, 100, 60), (2, 100, 60)]  # windows, time steps, neurons
N_IDENTITIES, N_BEHAVIORS = 155, 3


def make_batch(n_windows, n_timesteps, n_neurons):
    """Complete random data."""
    shape = (n_windows, n_timesteps)
    complete = torch.ones(*shape, n_neurons, dtype=torch.bool)
    behaving = torch.ones(*shape, N_BEHAVIORS, dtype=torch.bool)
    return SimpleNamespace(
        traces=torch.randn(*shape, n_neurons), observed=complete, shown=complete,
        behavior=torch.randn(*shape, N_BEHAVIORS), behavior_shown=behaving,
        neurons=torch.stack([torch.randperm(N_IDENTITIES)[:n_neurons] for _ in range(n_windows)]),
        valid=torch.ones(shape, dtype=torch.bool),
    )  # fmt: skip


class Published:
    """The published architecture, the decoder's input concatenated per time step and neuron."""

    def __init__(self, batch):
        torch.manual_seed(0)
        self.network = PublishedNetwork(N_IDENTITIES, N_BEHAVIORS)
        self.optimizer = torch.optim.AdamW(self.network.parameters())
        self.batch = batch

    def loss(self):
        batch = self.batch
        return self.network.loss(batch.traces, batch.behavior, batch.neurons)

    def transform(self):
        return self.network.encode(self.batch.traces, self.batch.behavior)[0]

    def predict(self):
        return self.network.decode(self.transform(), self.batch.behavior, self.batch.neurons)

    def step(self):
        self.network.train()
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def infer(self, name):
        self.network.eval()
        with torch.inference_mode():
            return getattr(self, name)()


class Ours(Published):
    """PooledNetwork with the same weights."""

    def __init__(self, batch):
        super().__init__(batch)
        published = self.network.state_dict()
        self.network = PooledNetwork(N_IDENTITIES, N_BEHAVIORS)
        self.network.load_state_dict(published)
        self.optimizer = torch.optim.AdamW(self.network.parameters())

    def loss(self):
        return self.network.loss(self.batch).loss

    def transform(self):
        return self.network.encode(self.batch)[0]

    def predict(self):
        return self.network.decode(self.transform(), self.batch)[0]


VARIANTS = {"published": Published, "ours": Ours}
TASKS = {
    "training step": lambda variant: variant.step(),
    "transform": lambda variant: variant.infer("transform"),
    "predict": lambda variant: variant.infer("predict"),
}


def timed(task, variant):
    """Seconds that a task takes."""
    start = time.perf_counter()
    task(variant)
    return time.perf_counter() - start


def time_tasks(size, n_repetitions):
    """Yield (task, median seconds of published and ours, median ratio)."""
    batch = make_batch(*size)
    variants = [make(batch) for make in VARIANTS.values()]
    difference = variants[0].infer("predict") - variants[1].infer("predict")
    assert difference.abs().max() < 1e-4, "the two networks do not compute the same"
    for name, task in TASKS.items():
        for variant in variants:
            task(variant)
        pairs = [[timed(task, v) for v in variants] for _ in range(n_repetitions)]
        yield name, *map(statistics.median, zip(*pairs)), statistics.median(a / b for a, b in pairs)


def resident(field):
    """Resident set of this process in MB, from Linux: "VmRSS" now, "VmHWM" at its peak."""
    # getrusage would report the peak of the parent process where that is larger.
    status = Path("/proc/self/status").read_text()
    return int(status.split(field + ":")[1].split()[0]) / 1024


def measure_memory(name, size):
    """Growth of this process's peak resident set over three training steps, in MB."""
    variant = VARIANTS[name](make_batch(1, 2, 2))
    variant.step()
    variant.batch = make_batch(*size)
    before = resident("VmRSS")
    for _ in range(3):
        variant.step()
    return resident("VmHWM") - before


def memory_of(name, size, n_threads):
    """`measure_memory` in a fresh process."""
    command = [sys.executable, __file__, "--threads", str(n_threads), "--memory", name]
    command += map(str, size)
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--memory", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    torch.manual_seed(0)
    if arguments.memory:
        name, *size = arguments.memory
        print(measure_memory(name, [int(n) for n in size]))
        return
    print(f"torch {torch.__version__}, {arguments.threads} CPU threads\n")
    print("| windows x steps x neurons | what | published | ours | published / ours |")
    print("|---|---|---:|---:|---:|")
    for size in SIZES:
        label = " x ".join(map(str, size))
        for task, published, ours, ratio in time_tasks(size, arguments.repetitions):
            print(f"| {label} | {task} | {published:.3f} s | {ours:.3f} s | {ratio:.2f} |")
        published, ours = (memory_of(name, size, arguments.threads) for name in VARIANTS)
        print(
            f"| {label} | memory of a step | {published:.0f} MB | {ours:.0f} MB "
            f"| {published / ours:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
