"""Plain networks to be beaten: on the belief of our own linear start, and on lagged behavior."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from skneurovae import NeuroBehaviorVAE

N_STEPS, BATCH, EVERY = 3000, 256, 100
LAGS = (-8, -4, -2, 0, 2, 4, 8)


def perceptron(inputs, counts, scored, seed, widths=(128, 64)):
    """Log rates from inputs: trained on shuffled rows, the last 15 % of which stop the training.

    Parameters
    ----------
    inputs : ndarray of shape (n_masks, n_timesteps, n_inputs)
    counts : ndarray of shape (n_timesteps, n_neurons)
    scored : ndarray of bool, shape (n_masks, n_neurons)
        Neurons that a row of each mask is trained on.
    seed : int
    widths : (int, int)

    Returns
    -------
    callable
        From inputs (n_timesteps, n_inputs) to rates (n_timesteps, n_neurons).
    """
    torch.manual_seed(seed)
    values, spikes = torch.tensor(inputs).float(), torch.tensor(counts).float()
    mask, cut = torch.tensor(scored), int(0.85 * len(counts))
    network = nn.Sequential(
        nn.Linear(values.shape[-1], widths[0]), nn.GELU(), nn.Dropout(0.1),
        nn.Linear(widths[0], widths[1]), nn.GELU(), nn.Dropout(0.1),
        nn.Linear(widths[1], spikes.shape[1]),
    )  # fmt: skip
    nn.init.zeros_(network[-1].weight)
    network[-1].bias.data = spikes[:cut].mean(0).clamp(min=1e-3).log()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, N_STEPS)

    def loss(which, steps):
        log_rates = network(values[which, steps])
        error = log_rates.exp() - spikes[steps] * log_rates
        return (error * mask[which]).sum() / mask[which].sum()

    best, kept = np.inf, None
    for step in range(1, N_STEPS + 1):
        which, steps = torch.randint(len(values), (BATCH,)), torch.randint(cut, (BATCH,))
        optimizer.zero_grad()
        loss(which, steps).backward()
        optimizer.step()
        schedule.step()
        if step % EVERY == 0:
            network.eval()
            with torch.no_grad():
                later = torch.arange(cut, len(counts))
                score = sum(
                    float(loss(torch.full_like(later, k), later)) for k in range(len(values))
                )
            network.train()
            if score < best:
                best, kept = score, {n: v.clone() for n, v in network.state_dict().items()}
    network.load_state_dict(kept)
    network.eval()

    def rates(new):
        with torch.no_grad():
            return network(torch.tensor(new).float()).exp().numpy().astype(float)

    return rates


class BeliefNetwork:
    """A perceptron on the latents of the linear start, each neuron learned while it is hidden."""

    def __init__(self, seed):
        self.seed = seed

    def fit(self, recordings):
        (recording,) = recordings
        counts = recording.traces
        self.start_ = NeuroBehaviorVAE(
            max_iter=1, learning_rate=1e-12, likelihood="poisson", random_state=self.seed
        ).fit([recording.replace(behavior=None)])
        order = np.random.RandomState(self.seed)
        hidden = []
        for _ in range(3):
            fold = order.permutation(counts.shape[1]) % 3
            hidden += [fold == k for k in range(3)]
        latents = [self.start_.transform(np.where(columns, np.nan, counts)) for columns in hidden]
        self.rates_ = perceptron(np.stack(latents), counts, np.stack(hidden), self.seed)
        return self

    def transform(self, recordings):
        return [self.start_.transform(r.traces) for r in recordings]

    def predict(self, recordings):
        return [self.rates_(z) for z in self.transform(recordings)]


def rates_from_behavior(train, test, seed):
    """Rates of a perceptron on behavior at several lags, for the behavior of `test`."""
    mean, std = np.nanmean(train.behavior, 0), np.nanstd(train.behavior, 0) + 1e-9

    def lagged(behavior):
        standard = np.nan_to_num((behavior - mean) / std)
        return np.concatenate([np.roll(standard, lag, 0) for lag in LAGS], 1)

    scored = np.ones((1, train.n_neurons), dtype=bool)
    rates = perceptron(lagged(train.behavior)[None], train.traces, scored, seed, (64, 64))
    return rates(lagged(test.behavior))
