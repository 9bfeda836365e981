"""Run a function over windows and put its results together, recording by recording."""

from __future__ import annotations

import numpy as np
import torch

from skneurovae.recordings.batches import make_batches
from skneurovae.recordings.windows import blend_weights

__all__ = ["infer_windows"]


def infer_windows(store, plan, batch_size, function, *, causal=False, context=None):
    """Apply a function to all windows and cross-fade its values where windows overlap.

    No more than `batch_size` windows exist at a time, next to the results.

    Parameters
    ----------
    store : RecordingStore
    plan : int array of shape (n_windows, 3)
        Of `plan_windows`; it covers every recording of the store.
    batch_size : int
        Most windows in a call of `function`. The results do not depend on it, up to rounding.
    function : callable
        ``function(batch)`` returns a dict of float tensors of shape (B, T, ...). Those with a name
        that begins with ``"neuron_"`` end in the axis of neurons, whose padding is cut off. Those
        with ``"draw_"`` are independent draws around 0: they are added up with the roots of the
        weights, so that their variance stays.
    causal : bool, default=False
        Take each time step from the one window that saw most of its past.
    context : (int, int), default=None
        Steps before and after that a result depends on: windows that overlap by their sum then give
        what the whole recording would. See `blend_weights`.

    Returns
    -------
    results : list of dict of str to ndarray
        One dict per recording, with arrays of shape (n_timesteps, ...).
    """
    results = [{} for _ in store.lengths]
    weights = {}
    for index, n_timesteps in enumerate(store.lengths):
        rows = plan[plan[:, 0] == index]
        values = blend_weights(rows, n_timesteps, causal, context)
        weights.update(zip(map(tuple, rows.tolist()), values))

    def add(block, values):
        for name, tensor in values.items():
            for row, value in zip(block.tolist(), tensor.cpu().numpy()):
                index, start, stop = row
                value = value[: stop - start]
                if name.startswith("neuron_"):
                    value = value[..., : store.n_neurons[index]]
                if name not in results[index]:
                    shape = (store.lengths[index], *value.shape[1:])
                    results[index][name] = np.zeros(shape, dtype=value.dtype)
                weight = weights[tuple(row)].astype(value.dtype)
                if name.startswith("draw_"):
                    weight = np.sqrt(weight)
                results[index][name][start:stop] += (value.T * weight).T

    for block in make_batches(plan, store, batch_size, shuffle=False):
        with torch.inference_mode():
            add(block, function(store.batch(block)))
    return results
