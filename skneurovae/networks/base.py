"""What every network offers to the training loop and to the estimators."""

from __future__ import annotations

from torch import nn


class LatentNetwork(nn.Module):
    """Latent-variable network; the training loop knows only `loss`, `evaluate` and `anneal`.

    Tensors are time first after the batch axis: B windows, T time steps, N neurons, K components.
    `batch` is a `skneurovae.recordings.batches.Batch`.
    """

    def encode(self, batch):
        """Return `(mean, log_variance)` of the latents, each of shape (B, T, K)."""
        raise NotImplementedError

    def decode(self, latents, batch):
        """Return `(location, log_scale)` of the likelihood, broadcastable to (B, T, N)."""
        raise NotImplementedError

    def loss(self, batch):
        """Return `LossTerms`: minus the bound in nats per observed entry, and its parts."""
        raise NotImplementedError

    def evaluate(self, batch):
        """Return `(total, weight)`, (B, N) each: validation loss of each neuron of each window.

        It is a sum and what to divide it by, so that windows of a recording can be added up.
        """
        raise NotImplementedError

    def prepare(self, batch):
        """Compute what training does not change, once for many steps: `Batch.prepared`.

        Called on many windows at a time, after what is hidden from them was drawn. Nothing by
        default.
        """
        return batch

    def anneal(self, epoch, max_iter):
        """Set whatever follows a schedule over epochs; nothing by default."""

    def parameter_groups(self, weight_decay):
        """Parameter groups for AdamW: only matrices decay, never biases, gains or noise."""
        trained = [p for p in self.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
