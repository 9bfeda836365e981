"""Small networks and batches for the tests of PooledNetwork."""

import torch

from skneurovae.networks.pooled import PooledNetwork
from skneurovae.recordings.batches import Batch

V, B, T, N, Q, K = 12, 3, 14, 7, 2, 4
SMALL = {"n_components": K, "token_dim": 8, "model_dim": 16, "embedding_dim": 6, "n_layers": 2}


def make(seed=0, n_behaviors=Q, dtype=torch.float64, **options):
    """Small network in evaluation; nothing of it is left at zero, so that everything acts."""
    torch.manual_seed(seed)
    options = {**SMALL, "decoder_hidden": 20, "dropout": 0.0, **options}
    network = PooledNetwork(V, n_behaviors, **options).to(dtype).eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if "missing" in name or name.endswith("offset") or name == "log_scale":
                tensor.copy_(0.5 * torch.randn_like(tensor))
            elif name.endswith("scale"):
                tensor.copy_(torch.exp(0.3 * torch.randn_like(tensor)))
    return network


def make_batch(seed=1, n_behaviors=Q, dtype=torch.float64, missing=0.2, **changes):
    """Windows with a fifth of all entries missing, NaN there, and one neuron unknown in each."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        values = torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
        seen = torch.rand(*shape, generator=generator) >= missing
        return values.masked_fill(~seen, torch.nan), seen

    traces, observed = numbers(B, T, N)
    behavior, behavior_observed = numbers(B, T, n_behaviors)
    neurons = torch.stack([torch.randperm(V, generator=generator)[:N] for _ in range(B)])
    if missing:
        neurons[:, -1] = -1
        observed = observed & (neurons >= 0)[:, None]
    fields = {
        "traces": traces, "observed": observed, "behavior": behavior,
        "behavior_observed": behavior_observed, "stimulus": traces.new_zeros(B, T, 0),
        "neurons": neurons, "valid": torch.ones(B, T, dtype=torch.bool),
        "recording": torch.zeros(B, dtype=torch.int64), "start": torch.zeros(B, dtype=torch.int64),
    }  # fmt: skip
    return Batch(**{**fields, **changes})


def results(network, batch):
    """Latents, their log variances, and the traces they decode to."""
    with torch.no_grad():
        mean, log_variance = network.encode(batch)
        return mean, log_variance, network.decode(mean, batch)[0]


def same(ours, theirs):
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
