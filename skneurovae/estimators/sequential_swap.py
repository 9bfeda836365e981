"""Static and dynamic latents of different trials put together."""

from __future__ import annotations

import numpy as np
import torch

from skneurovae.common.isolation import isolated
from skneurovae.common.moments import own_moments


class SwapMixin:
    """`swap`, of estimators that infer a dynamic latent without the generator's help.

    Hooks
    -----
    _static_latents(network, recordings, rows) : Tensor of shape (n_recordings, static_dim)
        Posterior mean of what belongs to a recording as a whole; `rows` are those of its neurons.
    """

    @isolated
    def swap(self, X, order=None, *, mask=None, stimulus=None, identities=None):
        """Rates of each trial's dynamics with the static latent of another trial.

        Parameters
        ----------
        X : recordings
            As in `fit`.
        order : sequence of int, default=None
            The trial from which trial i gets its static latent; the one before it by default.
        mask, stimulus, identities
            As in `fit`.

        Returns
        -------
        list of ndarray of shape (n_timesteps, n_neurons), or 3-D array, in the form of `X`
            Expected traces of the neurons and time steps of each trial, at posterior means; a
            neuron unknown to the model has its own mean. What static and dynamic latents of a
            trial are is said in the notes of the class.

        Raises
        ------
        ValueError
            If `order` is no list of trials, or a trial has no single static latent.
        """
        recordings, form = self._check(X, mask, None, stimulus, identities)
        n = len(recordings)
        order = np.roll(np.arange(n), 1) if order is None else np.asarray(order)
        wrong = order.shape != (n,) or order.dtype.kind not in "iu"
        if wrong or not ((order >= 0) & (order < n)).all():
            raise ValueError(f"order must be {n} numbers of trials from 0 to {n - 1}.")
        rows = self._vocabulary.rows(recordings)
        network = self._network_in_full(recordings)
        static = self._static_latents(network, recordings, rows)
        rates = []
        for recording, row, source in zip(recordings, rows, order):
            pieces = [
                rates_of(network, batch, static[source, None], dynamic_latents(network, batch))[0]
                for batch in self._pieces(network, recording, row)
            ]
            rates.append(own_mean_where_unknown(np.concatenate(pieces), recording, row))
        return form.wrap(rates)

    def _network_in_full(self, recordings):
        """Network on the CPU, in the widest precision of the recordings."""
        dtype = np.result_type(*(recording.traces.dtype for recording in recordings))
        return self._network_for(dtype, torch.device("cpu"))[0]

    def _pieces(self, network, recording, row):
        """Batches of one window each, which together are a recording and do not overlap."""
        store = self._store([recording], [row], torch.device("cpu"), network.scale.dtype)
        length = self._fitted_params["window_length"]
        stops = [*range(length, recording.n_timesteps, length)]
        bounds = [0, *stops, recording.n_timesteps]
        return [store.batch(np.array([(0, *span)])) for span in zip(bounds, bounds[1:])]


def dynamic_latents(network, batch):
    """Posterior means of a window, (1, steps, dynamic_dim)."""
    with torch.inference_mode():
        return network.mean_path(batch).dynamic.mean


def rates_of(network, batch, static, dynamic):
    """Expected traces of a window, (draws, n_timesteps, n_neurons), of latents given."""
    n_draws = max(len(static), len(dynamic))
    with torch.inference_mode():
        stimulus = network.stimulus(batch).expand(n_draws, -1, -1)
        latents = static.expand(n_draws, -1), dynamic.expand(n_draws, -1, -1)
        factors = network.unroll(*latents, stimulus)
        return network.likelihood.mean(*network.decode(factors, batch)).numpy()


def own_mean_where_unknown(rates, recording, row):
    """As in `predict`: of a neuron unknown to the model only its own mean is known."""
    return np.where(row >= 0, rates, own_moments(recording)[0]).astype(recording.traces.dtype)
