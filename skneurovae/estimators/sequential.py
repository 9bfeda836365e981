"""What LFADS, DSAE and FHVAE share as estimators."""

from __future__ import annotations

import dataclasses
from functools import partial
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skneurovae.baselines.missing_factor_analysis import own_moments
from skneurovae.estimators.base import LatentVariableEstimator
from skneurovae.estimators.generation import DecodingMixin, check_positive
from skneurovae.estimators.inference import TracesMixin, latents_of
from skneurovae.estimators.sequential_start import start_rows
from skneurovae.estimators.support import check_support
from skneurovae.networks.sequential import TABLES, UNITS
from skneurovae.recordings.batches import make_batches
from skneurovae.recordings.masking import HidingSchedule
from skneurovae.training import seeded

LIKELIHOODS = {"poisson", "negative_binomial", "gaussian", "gamma"}
# What may differ between a fit and the next that goes on from it.
FREE_ARGUMENTS = {
    "n_neurons", "beta_static", "beta_dynamic", "warmup", "free_bits", "dropout",
    "coordinated_dropout", "recurrent_l2", "alpha", "n_sequences",
}  # fmt: skip
_COUNT = Interval(Integral, 0, None, closed="left")
_POSITIVE = Interval(Integral, 1, None, closed="left")
_WEIGHT = Interval(Real, 0, None, closed="left")
_RATE = Interval(Real, 0, 1, closed="left")


class SequentialEstimator(DecodingMixin, TracesMixin, LatentVariableEstimator):
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
        "hide_neurons": [tuple],
        "forward_bins": [_COUNT],
        "initialization": [StrOptions({"random", "pcr", "conditions"})],
        "freeze_core": ["boolean"],
        "n_samples": [_POSITIVE],
    }
    _n_trained_dimensions = ("static_dim", "dynamic_dim", "read_in_dim", "encoder_dim")
    # How `infer` calls what the skeleton calls static, dynamic and states.
    _names = {"static": "static", "dynamic": "dynamic", "states": "states"}
    causal = False
    static_length = 0

    def fit(self, X, y=None, *, mask=None, behavior=None, stimulus=None, identities=None):
        """Fit the model.

        Parameters
        ----------
        X : array, DataFrame, list of arrays or DataFrames, or list of Recording
            A trial is a recording; a list holds trials of any lengths, a 3-D array trials of equal
            length, and a 2-D array is one recording. NaN = not observed.
        y : list, default=None
            Condition of each trial, for ``initialization="conditions"``; ignored otherwise.
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
        self._conditions = y
        try:
            return super().fit(
                X, y, mask=mask, behavior=behavior, stimulus=stimulus, identities=identities
            )
        finally:
            vars(self).pop("_conditions", None)

    def infer(self, X, *, mask=None, behavior=None, stimulus=None, identities=None, units="bin"):
        """All that the model infers, by name.

        Parameters
        ----------
        X, mask, behavior, stimulus, identities
            As in `fit`.
        units : {"bin", "hz"}, default="bin"
            Of the rates of count likelihoods: expected counts per bin, or per second, which is
            `rate_hz` of the recording times as much. Other likelihoods have the units of `X`.

        Returns
        -------
        dict of str to array or list, in the form of `X`
            "rates", "rates_std" : (n_timesteps, n_neurons), average and standard deviation of
            expected traces over `n_samples` samples of the posterior. A neuron unknown to the
            model has its own mean.
            "factors", "factors_std" : (n_timesteps, n_components), of the posterior means, and
            their spread over the samples.
            The other names are those of the model, listed with it. States are
            (n_timesteps, n_units). Static latents are (static_dim,); those of a recording longer
            than `window_length` are the mean over its windows, by their share of its time steps.
            Dynamic latents are (n_timesteps, dynamic_dim).

        Raises
        ------
        ValueError
            If `units` asks for Hz where traces are no counts or a recording has no `rate_hz`.
        """
        recordings, form = self._check(X, mask, behavior, stimulus, identities)
        factors = self._units(units, recordings)
        rows = self._vocabulary.rows(recordings)
        results = self._infer(recordings, rows, self._outputs)
        for recording, row, result, factor in zip(recordings, rows, results, factors):
            own = own_moments(recording)
            for name, fallback in zip(("neuron_rates", "neuron_rates_std"), own):
                result[name] = np.where(row >= 0, result[name], fallback) * factor
            for name in [n for n in result if n.startswith("neuron_rates_")][1:]:
                result[name] = np.where(row >= 0, result[name], own[0]) * factor
            for name in ("static_mean", "static_std"):
                result[name] = result[name].mean(0)
        named = {}
        for name in results[0]:
            first, *rest = name.removeprefix("neuron_").split("_")
            label = "_".join([self._names.get(first, first), *rest])
            named[label] = form.wrap([result[name] for result in results])
        return named

    @staticmethod
    def _outputs(network, batch):
        return network.infer(batch)

    def _units(self, units, recordings):
        """What rates per bin are multiplied by, one number per recording."""
        if units not in ("bin", "hz"):
            raise ValueError(f"units must be 'bin' or 'hz', got {units!r}.")
        if units == "bin":
            return [1.0] * len(recordings)
        if not self.network_.likelihood.is_count:
            raise ValueError(f"units='hz' has no meaning for likelihood={self.likelihood!r}.")
        for index, recording in enumerate(recordings):
            if recording.rate_hz is None:
                raise ValueError(f"units='hz' needs rate_hz, which recording {index} lacks.")
        return [recording.rate_hz for recording in recordings]

    def inverse_transform(self, Z):
        """Traces of all `identities_` that factors decode to.

        Parameters
        ----------
        Z : array of shape (n_timesteps, n_components), or list or 3-D array of such
            Factors, as `transform` returns them.

        Returns
        -------
        traces : array of shape (n_timesteps, n_identities), or list or 3-D array, as `Z`
            Expected traces, counts per bin for count likelihoods; columns as in `identities_`.

        Raises
        ------
        ValueError
            If the number of factors does not fit, or they are not finite.
        """
        return super().inverse_transform(Z)

    def sample(
        self, n_timesteps=100, *, stimulus=None, identities=None, n_samples=1, random_state=None
    ):
        """Draw trials from the model: latents from their priors, traces from the likelihood.

        Parameters
        ----------
        n_timesteps : int, default=100
            Length of a trial.
        stimulus : array of shape (n_timesteps, n_stimuli), default=None
            Needed where the model was fitted with one.
        identities : sequence of labels of `identities_`, default=None
            All by default.
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        traces : ndarray of shape (n_samples, n_timesteps, n_identities)
            With observation noise; counts per bin for count likelihoods.
        """
        check_is_fitted(self)
        check_positive("n_timesteps", n_timesteps)
        check_positive("n_samples", n_samples)
        columns = self._columns(identities)
        external = self._external(stimulus, n_timesteps)
        with (
            seeded(check_random_state(random_state).randint(2**31 - 1), torch.device("cpu")),
            torch.inference_mode(),
        ):
            batch = self._batch([self._all_neurons(n_timesteps, None, np.float32)] * n_samples)
            factors = self.network_.generate(external.expand(n_samples, -1, -1))
            traces = self.network_.likelihood.sample(*self.network_.decode(factors, batch))
        return traces.expand(n_samples, n_timesteps, -1).numpy()[:, :, columns]

    def _external(self, stimulus, n_timesteps):
        """Stimulus of one trial as the network takes it, of shape (1, n_timesteps, n_stimuli)."""
        shape = n_timesteps, self.n_stimuli_in_
        given = np.zeros((n_timesteps, 0)) if stimulus is None else np.asarray(stimulus, float)
        given = given[:, None] if given.ndim == 1 else given
        if given.shape != shape or not np.isfinite(given).all():
            raise ValueError(
                f"stimulus must be finite and have shape {shape}, as in fit; got {given.shape}."
            )
        network = self.network_
        values = torch.as_tensor(given[None], dtype=network.scale.dtype)
        return (values - network.stimulus_offset) / network.stimulus_scale

    # Inference

    def _latents(self, return_std):
        return latents_of if return_std else _means

    def _infer(self, recordings, rows, function):
        return super()._infer(recordings, rows, partial(_with_draws, self.n_samples, function))

    # Checks

    def _check_parameters(self):
        super()._check_parameters()
        bounds = self.hide_neurons
        numbers = len(bounds) == 2 and all(isinstance(bound, Real) for bound in bounds)
        if not numbers or not 0 <= bounds[0] <= bounds[1] <= 1:
            raise ValueError(
                f"hide_neurons must be (low, high) with 0 <= low <= high <= 1, got {bounds}."
            )
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
        if self.freeze_core and not hasattr(self, "network_"):
            raise ValueError("freeze_core=True needs a model that was fitted before.")

    def _check_traces(self, recordings):
        check_support(self.likelihood, recordings)

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

    def _new_network(self, arguments):
        """Untrained network."""
        arguments = dict(arguments)
        arguments["n_factors"] = arguments.pop("n_components")
        return self._network_class(**arguments)

    def _start_network(self, recordings, rows, random_state):
        network = self._new_network(self._network_arguments())
        conditions = self._chosen_conditions(recordings, rows)
        start_rows(network, self._without_withheld(recordings), rows, 0, conditions)
        return network

    def _grow_network(self, old, recordings, rows, adding):
        arguments = self._network_arguments()
        for name, value in self._arguments.items():
            if name not in FREE_ARGUMENTS and arguments[name] != value:
                raise ValueError(
                    f"{name} is {arguments[name]!r}, but the last fit had {value!r}; training can "
                    "only go on with the same network."
                )
        network = self._new_network(arguments)
        n_before = old.n_neurons
        if self.freeze_core and network.n_neurons == n_before:
            raise ValueError(
                "freeze_core=True trains neurons that the model does not know; it knows all of "
                "these recordings."
            )
        state = network.state_dict()
        for name, value in old.state_dict().items():
            if name in TABLES or name in UNITS:
                state[name][:n_before] = value
            elif state[name].shape == value.shape:
                state[name] = value.clone()
        network.load_state_dict(state)
        if network.n_neurons > n_before:
            start_rows(network, self._without_withheld(recordings), rows, n_before)
        network.freeze_core = self.freeze_core
        network.n_frozen = n_before if self.freeze_core else 0
        return network

    def _chosen_conditions(self, recordings, rows):
        """Condition of each trial from which the read-in starts; None to draw it."""
        conditions = getattr(self, "_conditions", None)
        if self.initialization == "conditions":
            if conditions is None or len(conditions) != len(recordings):
                found = "none" if conditions is None else f"{len(conditions)} labels"
                raise ValueError(
                    "initialization='conditions' needs y, one condition for each of the "
                    f"{len(recordings)} recordings; got {found}."
                )
            return np.asarray(conditions).tolist()
        if self.initialization == "pcr":
            # Trials of one session need not be alike; sessions meet in their mean over trials.
            one = len({tuple(row.tolist()) for row in rows}) == 1
            return list(range(len(recordings))) if one else [0] * len(recordings)
        return None

    # Training

    def _train_network(self, recordings, fresh, n_epochs, context):
        self._validates = False
        try:
            super()._train_network(recordings, fresh, n_epochs, context)
        finally:
            del self._validates

    def _split(self, recordings, rows):
        self._validates = True
        if self.sample_validation:  # entries of all recordings are held out, not recordings
            return (recordings, rows), (recordings, rows)
        return super()._split(recordings, rows)

    def _training_settings(self, n_epochs, annealing):
        settings = super()._training_settings(n_epochs, annealing)
        ramp = round(self.kl_warmup * n_epochs) if annealing else 0
        return dataclasses.replace(settings, ramp_epochs=ramp)

    def _hiding(self):
        return HidingSchedule(
            neurons=self.hide_neurons, spans=(0.0, 0.0), behavior=0.0, everything=0.0
        )

    def _batches(self, store):
        plain = super()._batches(store)
        sampled = self._sampled(store) if self._validates and self.sample_validation else None

        def batches():
            for batch in plain():
                if sampled is not None:
                    kept = sampled(batch)
                    batch = dataclasses.replace(
                        batch, observed=batch.observed & kept, shown=batch.shown & kept,
                        gain=batch.gain / (1 - self.sample_validation),
                    )  # fmt: skip
                if self.forward_bins:
                    time = torch.arange(batch.valid.shape[1], device=batch.valid.device)
                    last = (batch.valid.sum(1) - self.forward_bins).clamp(min=1)
                    seen = (time < last[:, None])[..., None]
                    batch = dataclasses.replace(batch, shown=batch.shown & seen)
                yield batch

        return batches

    def _validation_batches(self, store, recordings, rows, seed):
        if not self.sample_validation:
            yield from super()._validation_batches(store, recordings, rows, seed)
            return
        sampled = self._sampled(store)
        blocks = make_batches(self._plan(store.lengths), store, self.batch_size, shuffle=False)
        for batch in map(store.batch, blocks):
            gain = batch.gain / (1 - self.sample_validation)
            yield dataclasses.replace(batch, shown=batch.shown & sampled(batch), gain=gain)

    def _kept_samples(self, index, shape):
        """Entries of a training recording that are not held out by sample validation.

        They depend on the place of the recording alone, so that fits of one search that differ in
        their parameters and seeds are validated on the same entries.
        """
        return np.random.RandomState([5, index]).random_sample(shape) >= self.sample_validation

    def _sampled(self, store):
        """Function of a batch that tells which entries are kept, (B, T, N)."""
        shapes = zip(store.lengths, store.n_neurons)
        masks = [torch.from_numpy(self._kept_samples(i, s)) for i, s in enumerate(shapes)]

        def kept(batch):
            result = torch.ones(batch.traces.shape, dtype=torch.bool)
            for target, index, start in zip(result, batch.recording.tolist(), batch.start.tolist()):
                piece = masks[index][start : start + len(target)]
                target[: len(piece), : piece.shape[1]] = piece
            return result.to(batch.traces.device)

        return kept

    def _without_withheld(self, recordings):
        """Recordings from which units are measured: what validates must not reach them."""
        if not (self._validates and self.sample_validation):
            return recordings
        return [
            r.replace(traces=np.where(self._kept_samples(i, r.traces.shape), r.traces, np.nan))
            for i, r in enumerate(recordings)
        ]

    def _warn_of_collapse(self):
        """Nothing to warn of: an input that is not needed should collapse; see `history_`."""


def _means(network, batch):
    """Factors of the posterior means alone, without their spread over samples."""
    mean = network.mean_path(batch).factors
    return {"mean": mean}


def _with_draws(n_samples, function, network, batch):
    network.n_samples = n_samples
    return function(network, batch)
