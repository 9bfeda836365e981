"""Inference with a fitted network: windows of each recording, stitched, in bounded memory."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted

from skneurovae.common.isolation import isolated
from skneurovae.common.moments import own_moments
from skneurovae.estimators.support import check_support
from skneurovae.metrics import co_smoothing_bits, co_smoothing_score
from skneurovae.recordings import check_recordings
from skneurovae.recordings.batches import RecordingStore
from skneurovae.recordings.stitching import infer_windows
from skneurovae.recordings.windows import plan_windows

INPUTS = {"mask": True, "behavior": True, "stimulus": True, "identities": True}  # metadata


class InferenceMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Latents of recordings from a fitted `network_`, whatever it is."""

    __metadata_request__transform = INPUTS

    @isolated
    def transform(
        self, X, *, mask=None, behavior=None, stimulus=None, identities=None, return_std=False
    ):
        """Posterior means of the latents, never a sample.

        Parameters
        ----------
        X, mask, behavior, stimulus, identities
            As in `fit`. Behavior may be absent.
        return_std : bool, default=False
            Also return posterior standard deviations.

        Returns
        -------
        latents : array or list, in the form of `X`
            (n_timesteps, n_components) each.
        std : like `latents`, only if `return_std`
        """
        recordings, form = self._check(X, mask, behavior, stimulus, identities)
        self._check_container(form)
        result = self._infer(
            recordings, self._vocabulary.rows(recordings), self._latents(return_std)
        )
        latents = form.wrap([r["mean"] for r in result])
        return (latents, form.wrap([r["std"] for r in result])) if return_std else latents

    def _check_container(self, form):
        container = _get_output_config("transform", self)["dense"]
        if container != "default" and form.kind != "array":
            raise ValueError(
                f"set_output(transform={container!r}) serves one recording, a 2-D X; transform "
                "each of many, or use 'default'."
            )

    def _latents(self, return_std):
        """Function of (network, batch) that gives "mean" and "std" of the latents."""
        return latents_of

    def _check(self, X, mask=None, behavior=None, stimulus=None, identities=None, y=None):
        check_is_fitted(self)
        recordings, form = self._read(X, y, mask, behavior, stimulus, identities, reset=False)
        self._check_traces(recordings)
        return recordings, form

    def _read(self, X, y, mask, behavior, stimulus, identities, reset):
        """Recordings through the one door; `y` stays outside where nothing is learned from it."""
        return check_recordings(
            X, mask=mask, behavior=behavior, stimulus=stimulus, identities=identities,
            estimator=self, reset=reset,
        )  # fmt: skip

    def _check_traces(self, recordings):
        """Refuse traces that the likelihood has no meaning for."""

    def _infer(self, recordings, rows, function):
        """Run `function(network, batch)` over windows of each recording and stitch the results.

        Arithmetic is in the dtype of the recording, so that float64 input keeps its digits.
        """
        device = torch.device(self._device)
        results = [None] * len(recordings)
        for dtype in sorted({r.traces.dtype for r in recordings}, key=str):
            kept = [i for i, r in enumerate(recordings) if r.traces.dtype == dtype]
            network, kind = self._network_for(dtype, device)
            store = self._store(
                [recordings[i] for i in kept], [rows[i] for i in kept], device, kind
            )
            plan = self._plan(store.lengths)
            stitched = infer_windows(
                store, plan, self._n_windows(plan), partial(function, network),
                causal=self._fitted_params.get("causal", False), context=self._context,
            )  # fmt: skip
            for i, result in zip(kept, stitched):
                results[i] = {name: value.astype(dtype) for name, value in result.items()}
        return results

    def _network_for(self, dtype, device):
        """The network on a device for traces of a dtype, and the dtype of its arithmetic."""
        kind = torch.float64 if dtype == np.float64 and device.type != "mps" else torch.float32
        if device.type == "cpu" and kind == torch.float32:
            return self.network_, kind
        return copy.deepcopy(self.network_).to(device=device, dtype=kind).eval(), kind

    # Steps before and after that a result depends on, where that is less than a window.
    _context = None

    def _n_windows(self, plan):
        """Windows of a plan at a time in inference."""
        return int(self.batch_size)

    def _store(self, recordings, rows, device, dtype):
        return RecordingStore(
            recordings, rows, device=device, dtype=dtype, n_behaviors=self.n_behaviors_in_
        )

    def _plan(self, lengths):
        length, stride = (self._fitted_params[name] for name in ("window_length", "stride"))
        causal = self._fitted_params.get("causal", False)
        return plan_windows(lengths, length, stride or max(1, length // 2), causal=causal)


class TracesMixin:
    """What a fitted `network_` can be asked about traces, for any network with a likelihood."""

    __metadata_request__predict = INPUTS
    __metadata_request__score = INPUTS

    @isolated
    def predict(
        self, X, *, mask=None, behavior=None, stimulus=None, identities=None, return_std=False
    ):
        """Traces that the model expects at every entry, observed or not.

        Parameters
        ----------
        X, mask, behavior, stimulus, identities
            As in `fit`.
        return_std : bool, default=False
            Also return the standard deviation of an observation: noise of the neuron and
            uncertainty of the latents.

        Returns
        -------
        traces : array or list, in the form and units of `X`
            A neuron unknown to the model is predicted by its own observed mean.
        std : like `traces`, only if `return_std`
        """
        recordings, form = self._check(X, mask, behavior, stimulus, identities)
        self._tell_of_behavior(recordings)
        traces, stds = self._predict(recordings, self._vocabulary.rows(recordings))
        return (form.wrap(traces), form.wrap(stds)) if return_std else form.wrap(traces)

    @isolated
    def impute(
        self, X, *, mask=None, behavior=None, stimulus=None, identities=None, return_std=False
    ):
        """Observed entries as they are, missing ones predicted.

        Parameters
        ----------
        X, mask, behavior, stimulus, identities
            As in `fit`.
        return_std : bool, default=False
            Also return the standard deviation of each entry, 0 where it was observed.

        Returns
        -------
        traces : array or list, in the form and units of `X`
            Finite everywhere.
        std : like `traces`, only if `return_std`
        """
        recordings, form = self._check(X, mask, behavior, stimulus, identities)
        traces, stds = self._predict(recordings, self._vocabulary.rows(recordings))
        missing = [np.isnan(r.traces) for r in recordings]
        filled = [np.where(m, t, r.traces) for m, t, r in zip(missing, traces, recordings)]
        if not return_std:
            return form.wrap(filled)
        return form.wrap(filled), form.wrap([np.where(m, s, 0) for m, s in zip(missing, stds)])

    @isolated
    def score(self, X, y=None, *, mask=None, behavior=None, stimulus=None, identities=None):
        """Co-smoothing score on fixed folds of neurons, higher is better.

        Every neuron is predicted once from neurons of the other folds. Continuous traces: R2, see
        `skneurovae.metrics.co_smoothing_score`. Counts: bits per spike, see
        `skneurovae.metrics.co_smoothing_bits`.

        Parameters
        ----------
        X, y, mask, behavior, stimulus, identities
            As in `fit`.

        Returns
        -------
        float
        """
        recordings, _ = self._check(X, mask, behavior, stimulus, identities)
        counts = self.network_.likelihood.is_count
        return (co_smoothing_bits if counts else co_smoothing_score)(self, recordings)

    @isolated
    def score_samples(self, X, *, mask=None, behavior=None, stimulus=None, identities=None):
        """Evidence lower bound of each time step in nats, (n_timesteps,) each, in the form of `X`.

        Parameters
        ----------
        X, mask, behavior, stimulus, identities
            As in `fit`.
        """
        recordings, form = self._check(X, mask, behavior, stimulus, identities)
        result = self._infer(recordings, self._vocabulary.rows(recordings), _bound)
        return form.wrap([r["bound"] for r in result])

    def _tell_of_behavior(self, recordings):
        """Warn of behavior far from that of training; most models never see any."""

    def _check_traces(self, recordings):
        check_support(self._fitted_params["likelihood"], recordings)

    def _predict(self, recordings, rows):
        """Predicted traces and their standard deviations, finite at every entry."""
        traces, stds = [], []
        for recording, row, result in zip(
            recordings, rows, self._infer(recordings, rows, _predictive)
        ):
            # Of a neuron unknown to the model only its own mean and spread are known.
            own, spread, known = *own_moments(recording), row >= 0
            traces.append(np.where(known, result["neuron_mean"], own))
            stds.append(np.where(known, result["neuron_std"], spread))
        return traces, stds


def latents_of(network, batch):
    """Posterior mean and standard deviation of the latents."""
    mean, log_variance = network.encode(batch)
    return {"mean": mean, "std": torch.exp(0.5 * log_variance)}


def _predictive(network, batch):
    mean, std = network.predictive(batch)
    return {"neuron_mean": mean, "neuron_std": std}


def _bound(network, batch):
    return {"bound": network.bound(batch)}
