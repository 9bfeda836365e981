"""What every latent-variable estimator shares: fitting, persistence, the scikit-learn contract."""

from __future__ import annotations

import copy
import math
import time
import warnings
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from skneurovae.baselines.linear_selection import share_neurons
from skneurovae.common.isolation import isolated
from skneurovae.common.moments import moments_by_row
from skneurovae.common.parameters import with_plain_parameters
from skneurovae.common.randomness import rand, randperm, seeded
from skneurovae.common.rollback import all_or_nothing
from skneurovae.common.versions import Versioned
from skneurovae.estimators.inference import INPUTS, InferenceMixin
from skneurovae.metrics import neuron_folds
from skneurovae.recordings import NeuronVocabulary
from skneurovae.recordings.batches import make_batches
from skneurovae.recordings.doubts import behavior_range, tell_doubts, tell_left_out
from skneurovae.recordings.masking import HidingSchedule
from skneurovae.recordings.windows import draw_windows
from skneurovae.training import TrainingSettings, resolve_device, train

N_FOLDS = 3  # of neurons, in validation
LEAST_EPOCHS, LEAST_PATIENCE, LEAST_STEPS = 10, 3, 20  # of "auto"; steps per epoch
PREPARED_WINDOWS, PREPARED_ENTRIES = 256, 2**22  # at a time, in training
PREPARED_BYTES = 2**28  # kept of what validation prepares; beyond, it is prepared each time
COLLAPSED = 0.01  # nats per time step, below which a component is taken to carry nothing
_POSITIVE = Interval(Integral, 1, None, closed="left")


class LatentVariableEstimator(InferenceMixin, CallbackSupportMixin, Versioned, BaseEstimator):
    """Base of all estimators that train a network on windows of recordings.

    A subclass stores its parameters, adds its constraints, and gives `_start_network` (a network
    ready to train) and `_grow_network` (the last one with more neurons, for new recordings in place
    of the old or, if `adding`, next to them).
    """

    __metadata_request__fit = INPUTS
    __metadata_request__partial_fit = INPUTS

    _parameter_constraints = {
        "n_components": [_POSITIVE],
        "window_length": [_POSITIVE],
        "stride": [_POSITIVE, None],
        "batch_size": [_POSITIVE],
        "max_iter": [_POSITIVE, StrOptions({"auto"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [_POSITIVE, StrOptions({"auto"})],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "device": [str],
        "precision": [StrOptions({"float32", "bf16"})],
        "verbose": ["verbose"],
    }

    @isolated
    @all_or_nothing
    @with_plain_parameters
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, mask=None, behavior=None, stimulus=None, identities=None):
        """Fit the model.

        Parameters
        ----------
        X : array, DataFrame, list of arrays or DataFrames, or list of Recording
            Traces, time first. A 2-D array is one recording of shape (n_timesteps, n_neurons), a
            3-D array recordings of equal length. NaN = not observed.
        y : None
            Ignored.
        mask : array of bool or list, default=None
            True = observed, for the array forms of `X`.
        behavior, stimulus : array of shape (n_timesteps, n_channels) or list, default=None
            For the array forms of `X`; NaN in behavior = not observed.
        identities : array of shape (n_neurons,) or list, default=None
            For the array forms of `X`; 0 or "" = unknown.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError, TypeError
            If an argument is wrong; the message names it and the recording.

        Warns
        -----
        ConvergenceWarning
            If it is interrupted (Ctrl-C) while the network trains: the best weights so far are
            kept.
        """
        most = None if self.max_iter == "auto" else self.max_iter
        context = self._init_callback_context(max_subtasks=most)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        fresh = not (self.warm_start and hasattr(self, "network_"))
        inputs = mask, behavior, stimulus, identities
        self._read_and_train(X, y, *inputs, fresh, self.max_iter, context)
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    @isolated
    def fit_transform(self, X, y=None, *, mask=None, behavior=None, stimulus=None, identities=None):
        """Fit, then return the latents of the same recordings.

        Parameters
        ----------
        X, y, mask, behavior, stimulus, identities
            As in `fit`.

        Returns
        -------
        latents : array or list, in the form of `X`
            See `transform`.
        """
        inputs = {
            "mask": mask, "behavior": behavior, "stimulus": stimulus, "identities": identities,
        }  # fmt: skip
        return self.fit(X, y, **inputs).transform(X, **inputs)

    @isolated
    @all_or_nothing
    @with_plain_parameters
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, *, mask=None, behavior=None, stimulus=None, identities=None):
        """Train for one epoch on new recordings; new identities and sessions are added.

        At the constant `learning_rate`, and without validation: what was best before is not kept.

        Parameters
        ----------
        X, y, mask, behavior, stimulus, identities
            As in `fit`.

        Returns
        -------
        self : object
        """
        fresh = not hasattr(self, "network_")
        self._read_and_train(X, y, mask, behavior, stimulus, identities, fresh, 1, None)
        return self

    def _read_and_train(self, X, y, mask, behavior, stimulus, identities, fresh, n_epochs, context):
        self._fix_parameters()
        if not fresh and self.n_behaviors_in_ == 0 and self._brings_behavior(X, y, behavior):
            tell_left_out(type(self).__name__)
        recordings, _ = self._read(X, y, mask, behavior, stimulus, identities, reset=fresh)
        self._check_parameters()
        self._check_traces(recordings)
        if context is not None:
            self._tell_doubts(recordings)
        known = None if fresh else vars(self).get("_behavior_range")
        if fresh or not self._range_is_fixed:
            self._behavior_range = behavior_range(recordings, known)
        self._train(recordings, fresh, n_epochs, context)

    def _brings_behavior(self, X, y, behavior):
        """Whether there is behavior to learn from."""
        inside = isinstance(X, list) and any(getattr(r, "behavior", None) is not None for r in X)
        return behavior is not None or inside

    def _tell_doubts(self, recordings):
        given = {n: self._fitted_params.get(n) for n in ("n_components", "likelihood")}
        leveled = self._fitted_params.get("normalize", "identity") != "identity"
        tell_doubts(recordings, **given, leveled=leveled)

    def _fix_parameters(self):
        """Keep the parameters of this fit: they go with the network, whatever is set later."""
        self._fitted_params = self.get_params(deep=False)
        del self._fitted_params["random_state"]

    def _check_parameters(self):
        """Refuse combinations of parameters in which one of them would do nothing."""
        if self.stride is not None and self.stride > self.window_length:
            raise ValueError(
                f"stride must be at most window_length={self.window_length}, got {self.stride}: "
                "frames between windows would be dropped."
            )

    def _train(self, recordings, fresh, n_epochs, context):
        self._vocabulary = NeuronVocabulary() if fresh else copy.deepcopy(self._vocabulary)
        self._n_updates = 0 if fresh else getattr(self, "_n_updates", 0) + 1
        self._train_network(recordings, fresh, n_epochs, context)
        self.identities_ = self._vocabulary.labels
        self._arguments = self._network_arguments()

    def _train_network(self, recordings, fresh, n_epochs, context):
        begun = time.perf_counter()
        device = resolve_device(self.device)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        if self._n_updates:  # each goes on with other numbers
            seed = int(np.random.RandomState([seed, self._n_updates]).randint(2**31 - 1))
        with seeded(seed):
            rows = self._vocabulary.extend(recordings)
            self._measure_neurons(recordings, rows, fresh)
            validate_on = self.early_stopping and context is not None
            train_set, held_out = self._split(recordings, rows) if validate_on else (
                (recordings, rows), None,
            )  # fmt: skip
            if fresh:
                # What validates the network must not have made its start.
                begin_on = train_set if self._start_is_fitted else (recordings, rows)
                network = self._start_network(*begin_on, np.random.RandomState(seed))
            else:
                network = self._grow_network(self.network_, recordings, rows, context is None)
            network = network.to(device)
            store = self._store(*train_set, device, torch.float32)
            batches = self._lengthened(self._batches(store, network), n_epochs)
            history = self._fit_network(
                network,
                batches,
                store,
                settings=self._training_settings(
                    *self._lengths(n_epochs, batches), annealing=context is not None
                ),
                validate=self._validation(network, held_out, device, seed),
                on_epoch=self._on_epoch(context),
            )
            network = network.cpu()
            if held_out is not None and fresh:
                self._finish_network(network, recordings, rows, train_set, history)
        self.network_ = network.eval()
        self._device = str(device)
        self.fit_time_ = time.perf_counter() - begun
        self._note(history)
        if self.verbose:
            start = "linear start" if self._start_is_fitted and fresh else "start"
            print(f"[{type(self).__name__}] {history.summary(self.fit_time_, start)}")
        self._warn_of_collapse()

    def _note(self, history):
        """Set what is told of the course of the training."""
        self.loss_curve_ = history.loss_curve
        self.validation_scores_ = history.validation_scores
        self.best_loss_ = history.best_loss
        self.n_iter_ = history.n_iter
        self.n_rollbacks_ = history.n_rollbacks
        self.history_ = history.parts

    def _measure_neurons(self, recordings, rows, fresh):
        """Standard deviation of each neuron when it was first trained on, by which scores count."""
        traces = [recording.traces for recording in recordings]
        _, std = moments_by_row(traces, rows, len(self._vocabulary))
        before = np.empty(0) if fresh else self.neuron_scale_
        self.neuron_scale_ = np.append(before, std[len(before) :])

    def _arguments_as_before(self, free):
        """Arguments of a network that goes on from the last; only those named `free` may differ."""
        arguments = self._network_arguments()
        for name, value in self._arguments.items():
            if name not in free and arguments[name] != value:
                raise ValueError(
                    f"{name} is {arguments[name]!r}, but the last fit had {value!r}; training can "
                    "only go on with the same network."
                )
        return arguments

    def _fit_network(self, network, batches, store, **arguments):
        """Train the network; the `History`."""
        return train(network, batches, **arguments)

    def _finish_network(self, network, recordings, rows, train_set, history):
        """Learn what is still to be learned from the recordings that validated."""

    def _lengthened(self, batches, n_epochs):
        """The batches of an epoch, several times over where they are few.

        Each epoch ends with a validation, which would take longer than a handful of steps.
        """
        n_passes = math.ceil(LEAST_STEPS / max(1, batches.n_steps))
        if n_epochs != "auto" or n_passes <= 1:
            return batches

        def lengthened():
            for _ in range(n_passes):
                yield from batches()

        lengthened.n_steps = n_passes * batches.n_steps
        return lengthened

    def _lengths(self, n_epochs, batches):
        """Epochs, and epochs without improvement, "auto" by the gradient steps of an epoch."""
        n_steps = max(1, batches.n_steps)
        patience = self.n_iter_no_change
        if n_epochs == "auto":
            n_epochs = max(LEAST_EPOCHS, math.ceil(self._n_steps / n_steps))
        if patience == "auto":
            patience = max(LEAST_PATIENCE, math.ceil(self._n_steps / 4 / n_steps))
        return n_epochs, patience

    def _batches(self, store, network, choose=None):
        """Function that gives the batches of one epoch of training, each time drawn anew.

        Windows begin at other places in every epoch. What the network prepares of them serves
        `_n_passes` passes, in which batches are other choices of the same windows. `choose`, if
        given, is called once per epoch with the plan of inference, and returns the windows of the
        epoch.
        """
        hiding = self._hiding()
        length, size = self._fitted_params["window_length"], self.batch_size

        def draw():
            if choose is not None:
                return choose(self._plan(store.lengths))
            return draw_windows(store.lengths, length, rand(len(store.lengths)).tolist())

        def batches():
            if self._n_passes == 1:
                for block in make_batches(draw(), store, size, shuffle=True):
                    yield hiding.hide(store.batch(block))
                return
            widest = max(store.n_neurons) * min(length, max(store.lengths))
            n_prepared = size * max(1, min(PREPARED_WINDOWS, PREPARED_ENTRIES // widest) // size)
            for block in make_batches(draw(), store, n_prepared, shuffle=True):
                prepared = network.prepare(hiding.hide(store.batch(block)))
                for _ in range(self._n_passes):
                    n_batches = math.ceil(len(block) / size)
                    yield from map(prepared.take, randperm(len(block)).tensor_split(n_batches))

        plan = self._plan(store.lengths) if choose is not None else draw_windows(
            store.lengths, length, [0.5] * len(store.lengths)
        )  # fmt: skip
        batches.n_steps = self._n_passes * len(make_batches(plan, store, size, shuffle=False))
        return batches

    def _warn_of_collapse(self):
        kl = self.history_[-1].get("kl_per_component", np.array([])) if self.history_ else []
        idle = int(np.sum(np.asarray(kl) < COLLAPSED))
        if idle:
            warnings.warn(
                f"{idle} of {len(kl)} components have collapsed: they tell less than {COLLAPSED} "
                "nats per time step. Fewer n_components, or a lower beta, would serve as well.",
                stacklevel=2,
            )

    def _split(self, recordings, rows):
        """Training and validation part, each (recordings, rows).

        Whole recordings are held out where four or more share their neurons, because only another
        animal tells what carries over to another animal; otherwise the tail of each recording.
        Of a recording that is held out, at least `_least_known` of the neurons are trained.
        """
        parts = ([], []), ([], [])
        held_out = set()
        if len(recordings) >= 4 and share_neurons(rows):
            n_held_out = max(1, round(self.validation_fraction * len(recordings)))
            for number in randperm(len(recordings)).tolist():
                kept = [row for i, row in enumerate(rows) if i not in {number, *held_out}]
                # Nothing would train neurons that no other recording has.
                known = np.isin(rows[number], np.concatenate(kept)).mean()
                if len(held_out) < n_held_out and known >= self._least_known:
                    held_out.add(number)
        if held_out:
            for number, pair in enumerate(zip(recordings, rows)):
                for kept, value in zip(parts[number in held_out], pair):
                    kept.append(value)
            return parts
        for recording, row in zip(recordings, rows):
            for first, cut, stop in self._segments(recording.n_timesteps):
                for part, span in zip(parts, (slice(first, cut), slice(cut, stop))):
                    piece = _cut(recording, span)
                    if piece.n_timesteps:
                        part[0].append(piece)
                        part[1].append(row)
        return parts[0], parts[1] if parts[1][0] else None

    def _segments(self, n_timesteps):
        """Segments of a recording, each (start, where its held-out tail begins, stop)."""
        return [(0, n_timesteps - int(self.validation_fraction * n_timesteps), n_timesteps)]

    def _validation(self, network, held_out, device, seed):
        """Closure that returns the loss of hidden neurons, every one hidden once, as in scoring."""
        if held_out is None:
            return None
        store = self._store(*held_out, device, torch.float32)
        shape = len(store.lengths), max(store.n_neurons)
        fixed, budget = [], PREPARED_BYTES
        for batch in self._validation_batches(store, *held_out, seed):
            if budget > 0:
                batch = network.prepare(batch)
                budget -= sum(v.nbytes for v in (batch.prepared or {}).values())
            fixed.append(batch)

        def validate():
            """Each neuron of each recording, as its share of the mean loss of all entries."""
            total, weight = torch.zeros(2, *shape, dtype=torch.float64)
            with torch.no_grad():
                for batch in fixed:
                    width = batch.neurons.shape[1]
                    for sums, values in zip((total, weight), network.evaluate(batch)):
                        values = values.cpu().double()
                        sums[:, :width].index_add_(0, batch.recording.cpu(), values)
            return total[weight > 0] / weight.sum()

        # Where no neuron is held out that the model knows, all epochs are run.
        return validate if len(validate()) else None

    def _validation_batches(self, store, recordings, rows, seed):
        """Batches with one of the folds of neurons hidden, for each fold."""
        folds = torch.full((len(store.lengths), max(store.n_neurons)), -1)
        for number, recording in enumerate(recordings):
            several = len(set(rows[number])) > 1  # a single neuron is predicted from nothing
            fold = neuron_folds(recording, N_FOLDS, seed) if several else 0
            folds[number, : recording.n_neurons] = torch.as_tensor(fold)
        blocks = make_batches(self._plan(store.lengths), store, self.batch_size, shuffle=False)
        for batch in map(store.batch, blocks):
            fold = folds[batch.recording.cpu(), : batch.neurons.shape[1]].to(store.device)
            for k in range(N_FOLDS):
                yield replace(batch, shown=batch.shown & (fold != k)[:, None])

    def _training_settings(self, n_epochs, patience, annealing):
        return TrainingSettings(
            max_iter=n_epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            n_iter_no_change=patience,
            tol=self.tol,
            annealing=annealing,
            precision=self.precision,
        )

    def _on_epoch(self, context):
        """Report an epoch to callbacks and to the terminal; True stops the training."""

        def report(log):
            if self.verbose:
                print(f"[{type(self).__name__}] {log}")
            if context is None:
                return False
            task = context.subcontext(task_name="epoch")
            task.call_on_fit_task_begin(estimator=self)
            return task.call_on_fit_task_end(estimator=self)

        return report

    def _hiding(self):
        """What training hides from the encoder; nothing by default."""
        return HidingSchedule(neurons=(0.0, 0.0), spans=(0.0, 0.0), behavior=0.0, everything=0.0)

    # Whether the network goes on with the range of behavior that it was first fitted to.
    _range_is_fixed = False

    # Gradient steps of a fit, where `max_iter` is "auto".
    _n_steps = 1000

    # How often the windows of an epoch are gone through, as they were cut and hidden.
    _n_passes = 1

    # Share of the neurons of a held-out recording that others must have.
    _least_known = 0.5

    # Whether `_start_network` gives a fitted model, to be left only for a clearly better one.
    _start_is_fitted = False

    @property
    def _n_features_out(self):
        return self._arguments["n_components"]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self):
        """Weights as NumPy arrays: loads without the device, and skops can read it."""
        state = dict(super().__getstate__())
        if "network_" in state:
            weights = state.pop("network_").state_dict()
            state["_weights"] = {name: value.numpy() for name, value in weights.items()}
        return state

    @isolated
    def __setstate__(self, state):
        state = dict(state)
        weights = state.pop("_weights", None)
        super().__setstate__(state)
        if weights is not None:
            with seeded(0):  # what is drawn is written over
                network = self._new_network(self._arguments)
            network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.items()})
            self.network_ = network.eval()
            if torch.device(self._device).type == "cuda" and not torch.cuda.is_available():
                self._device = "cpu"


def _cut(recording, span):
    """Part of a recording; None stays None."""
    parts = {
        name: getattr(recording, name)[span]
        for name in ("traces", "behavior", "stimulus")
        if getattr(recording, name) is not None
    }
    return recording.replace(**parts)
