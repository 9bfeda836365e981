"""What LFADS, DSAE and FHVAE share as estimators."""

from __future__ import annotations

import copy
import dataclasses
from inspect import signature
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skneurovae.common.isolation import isolated
from skneurovae.common.randomness import own_defaults
from skneurovae.estimators.base import LatentVariableEstimator
from skneurovae.estimators.inference import TracesMixin, latents_of
from skneurovae.estimators.sequential_start import StartMixin
from skneurovae.estimators.sequential_use import SequentialUseMixin
from skneurovae.recordings.batches import RecordingStore, make_batches
from skneurovae.recordings.masking import HidingSchedule, check_shares

LIKELIHOODS = {"poisson", "negative_binomial", "gaussian", "gamma"}
COUNT = Interval(Integral, 0, None, closed="left")
_POSITIVE = Interval(Integral, 1, None, closed="left")
_WEIGHT = Interval(Real, 0, None, closed="left")
_RATE = Interval(Real, 0, 1, closed="left")


class SequentialEstimator(StartMixin, SequentialUseMixin, TracesMixin, LatentVariableEstimator):
    """Base of the sequential VAEs; a subclass gives its network and what only it can do."""

    _parameter_constraints = {
        **LatentVariableEstimator._parameter_constraints,
        "static_dim": [_POSITIVE],
        "dynamic_dim": [_POSITIVE],
        "read_in_dim": [_POSITIVE],
        "encoder_dim": [_POSITIVE],
        "generator_dim": [_POSITIVE],
        "likelihood": [StrOptions(LIKELIHOODS)],
        "beta_static": [_WEIGHT],
        "beta_dynamic": [_WEIGHT],
        "kl_warmup": [Interval(Real, 0, 1, closed="both")],
        "free_bits": [_WEIGHT],
        "dropout": [_RATE],
        "coordinated_dropout": [_RATE],
        "sample_validation": [_RATE],
        "hide_neurons": [tuple, list],
        "hide_bins": [tuple, list],
        "forward_bins": [COUNT],
        "initialization": [StrOptions({"random", "pcr", "conditions"})],
        "freeze_core": ["boolean"],
        "n_samples": [Interval(Integral, 1, 100_000, closed="both")],
    }
    causal = False
    static_length = 0

    @isolated
    def fit(self, X, y=None, *, mask=None, behavior=None, stimulus=None, identities=None):
        """Fit the model.

        Parameters
        ----------
        X : array, DataFrame, list of arrays or DataFrames, or list of Recording
            A trial is a recording; a list holds trials of any lengths, a 3-D array trials of equal
            length, and a 2-D array is one recording. NaN = not observed.
        y : list, default=None
            Condition of each trial, a label, for ``initialization="conditions"``; ignored
            otherwise.
        mask : array of bool or list, default=None
            True = observed, for the array forms of `X`.
        behavior : array of shape (n_timesteps, n_behaviors) or list, default=None
            Not seen by the model, so that it may be decoded from what the model gives.
        stimulus : array of shape (n_timesteps, n_stimuli) or list, default=None
            External input of the generator, known at every time step.
        identities : array of shape (n_neurons,) or list, default=None
            For the array forms of `X`; 0 or "" = unknown.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError, TypeError
            If an argument is wrong; the message names it and the recording.
        """
        inputs = {
            "mask": mask, "behavior": behavior, "stimulus": stimulus, "identities": identities,
        }  # fmt: skip
        with self._labels_of_conditions(y):
            return super().fit(X, y, **inputs)

    @isolated
    def partial_fit(self, X, y=None, *, mask=None, behavior=None, stimulus=None, identities=None):
        """Train for one epoch on new recordings; new identities and sessions are added.

        At the constant `learning_rate`, and without validation: what was best before is not kept,
        and `sample_validation` withholds nothing.

        Parameters
        ----------
        X, y, mask, behavior, stimulus, identities
            As in `fit`.

        Returns
        -------
        self : object
        """
        inputs = {
            "mask": mask, "behavior": behavior, "stimulus": stimulus, "identities": identities,
        }  # fmt: skip
        with self._labels_of_conditions(y):
            return super().partial_fit(X, y, **inputs)

    def _brings_behavior(self, X, y, behavior):
        return False  # which the model never sees

    # Inference

    def _latents(self, return_std):
        return latents_of if return_std else _means

    def _network_for(self, dtype, device):
        network, kind = super()._network_for(dtype, device)
        network = copy.copy(network)  # other threads may use the same model
        network.n_samples = int(self.n_samples)
        return network, kind

    def _store(self, recordings, rows, device, dtype):
        # Behavior stays outside: it must not even move the random numbers of training.
        recordings = [recording.replace(behavior=None) for recording in recordings]
        return RecordingStore(recordings, rows, device=device, dtype=dtype, n_behaviors=0)

    # Parameters

    @classmethod
    def _published(cls, published, parameters):
        """Estimator with `published` parameters and others, which may leave some without meaning.

        Those keep their default.
        """
        idle = cls._idle({**_defaults(cls), **published, **parameters})
        return cls(**{k: v for k, v in published.items() if k not in idle} | parameters)

    @classmethod
    def _idle(cls, parameters):
        """Names of those parameters that do nothing beside the others, each with the reason."""
        validated = parameters["sample_validation"] > 0
        return {"validation_fraction": "sample_validation"} if validated else {}

    def _check_parameters(self):
        super()._check_parameters()
        parameters, defaults = self.get_params(deep=False), _defaults(type(self))
        for name, reason in self._idle(parameters).items():
            if parameters[name] != defaults[name]:
                raise ValueError(
                    f"{name} has no meaning with {reason}: leave it at {defaults[name]!r}, got "
                    f"{parameters[name]!r}."
                )
        for name in ("hide_neurons", "hide_bins"):
            check_shares(name, getattr(self, name))
        for name in ("static_length", "forward_bins"):
            value = getattr(self, name)
            if value and value >= self.window_length:
                raise ValueError(
                    f"{name} must be below window_length={self.window_length}, got {value}."
                )
        if self.sample_validation and not self.early_stopping:
            raise ValueError("sample_validation has no meaning without early_stopping.")
        if self.causal and not self.static_length:
            raise ValueError(
                "causal=True needs static_length > 0: static latents of a whole trial know its end."
            )
        # A window's first steps, whose latents looked ahead, must lie in the window before it.
        stride = self.stride or self.window_length // 2
        if self.causal and stride > self.window_length - self.static_length:
            raise ValueError(
                "causal=True needs a stride of at most window_length - static_length="
                f"{self.window_length - self.static_length}, got {stride}."
            )

    # The network

    def _shared_arguments(self):
        """Arguments that all networks take."""
        return {
            "n_neurons": len(self._vocabulary), "n_stimuli": self.n_stimuli_in_,
            "n_components": self.n_components, "static_dim": self.static_dim,
            "dynamic_dim": self.dynamic_dim, "read_in_dim": self.read_in_dim,
            "encoder_dim": self.encoder_dim, "generator_dim": self.generator_dim,
            "likelihood": self.likelihood, "beta_static": self.beta_static,
            "beta_dynamic": self.beta_dynamic, "warmup": self.kl_warmup,
            "free_bits": self.free_bits, "dropout": self.dropout,
            "coordinated_dropout": self.coordinated_dropout,
        }  # fmt: skip

    @own_defaults()
    def _new_network(self, arguments):
        """Untrained network."""
        arguments = dict(arguments)
        arguments["n_factors"] = arguments.pop("n_components")
        return self._network_class(**arguments)

    # Training

    def _train_network(self, recordings, fresh, n_epochs, context):
        self._trained_on = None  # (recordings, rows), where others or parts of them validate
        try:
            super()._train_network(recordings, fresh, n_epochs, context)
            if not self.freeze_core:
                self._keep_courses()
        finally:
            del self._trained_on
            vars(self).pop("_started_on", None)

    def _split(self, recordings, rows):
        if self.sample_validation:  # entries of all recordings are held out, not recordings
            kept = [
                r.replace(
                    traces=np.where(self._kept_samples(i, len(r.traces), row), r.traces, np.nan)
                )
                for i, (r, row) in enumerate(zip(recordings, rows))
            ]
            self._trained_on = kept, rows
            return (recordings, rows), (recordings, rows)
        parts = super()._split(recordings, rows)
        self._trained_on = parts[0]
        return parts

    def _training_settings(self, n_epochs, patience, annealing):
        settings = super()._training_settings(n_epochs, patience, annealing)
        ramp = round(self.kl_warmup * n_epochs) if annealing else 0
        return dataclasses.replace(settings, ramp_epochs=ramp)

    def _hiding(self):
        return HidingSchedule(
            neurons=self.hide_neurons, spans=(0.0, 0.0), bins=self.hide_bins, behavior=0.0,
            everything=0.0,
        )  # fmt: skip

    def _batches(self, store, network, choose=None):
        plain = super()._batches(store, network, choose)
        withhold = self._withholding(store)

        def batches():
            for batch in map(withhold, plain()):
                if self.forward_bins:
                    time = torch.arange(batch.valid.shape[1], device=batch.valid.device)
                    last = (batch.valid.sum(1) - self.forward_bins).clamp(min=1)
                    seen = (time < last[:, None])[..., None]
                    batch = dataclasses.replace(batch, shown=batch.shown & seen)
                yield batch

        batches.n_steps = plain.n_steps
        return batches

    def _validation_batches(self, store, recordings, rows, seed):
        if not self.sample_validation:
            yield from super()._validation_batches(store, recordings, rows, seed)
            return
        withhold = self._withholding(store)
        blocks = make_batches(self._plan(store.lengths), store, self.batch_size, shuffle=False)
        for batch in map(store.batch, blocks):
            yield dataclasses.replace(withhold(batch), observed=batch.observed)

    def _kept_samples(self, index, n_timesteps, row):
        """Entries of a training recording that are not held out by sample validation.

        They depend on the place of the recording alone, so that fits of one search that differ in
        their parameters and seeds are validated on the same entries. Columns of one identity, of
        `row`, are held out together: one would give the other away.
        """
        chance = np.random.RandomState([5, index]).random_sample((n_timesteps, len(row)))
        _, first, place = np.unique(row, return_index=True, return_inverse=True)
        return chance[:, first[place]] >= self.sample_validation

    def _withholding(self, store):
        """Function that takes out of a batch what sample validation withholds from training."""
        if not (self._trained_on and self.sample_validation):
            return lambda batch: batch
        sizes = zip(store.lengths, store.rows)
        masks = [torch.from_numpy(self._kept_samples(i, *size)) for i, size in enumerate(sizes)]

        def withhold(batch):
            kept = torch.ones(batch.traces.shape, dtype=torch.bool)
            for target, index, start in zip(kept, batch.recording.tolist(), batch.start.tolist()):
                piece = masks[index][start : start + len(target)]
                target[: len(piece), : piece.shape[1]] = piece
            kept = kept.to(batch.traces.device)
            return dataclasses.replace(
                batch, observed=batch.observed & kept, shown=batch.shown & kept,
                gain=batch.gain / (1 - self.sample_validation),
            )  # fmt: skip

        return withhold

    def _warn_of_collapse(self):
        """Nothing to warn of: an input that is not needed should collapse; see `history_`."""


def _defaults(cls):
    return {name: parameter.default for name, parameter in signature(cls).parameters.items()}


def _means(network, batch):
    """Factors of the posterior means alone, without their spread over samples."""
    mean = network.mean_path(batch).factors
    return {"mean": mean}
