"""NeuroBehaviorVAE: a behavior-conditioned VAE of recordings whose neurons have identities."""

from __future__ import annotations

import copy
import dataclasses
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skneurovae.common.isolation import isolated
from skneurovae.common.randomness import own_defaults
from skneurovae.estimators.base import LatentVariableEstimator
from skneurovae.estimators.ceneurovae import load_ceneurovae
from skneurovae.estimators.decoder_first import dispersion_of, slowed, step_batches
from skneurovae.estimators.generation import GenerationMixin
from skneurovae.estimators.inference import TracesMixin
from skneurovae.estimators.kinds import behavior_kinds, check_lags, likelihood_of
from skneurovae.estimators.leveled import LeveledMixin
from skneurovae.estimators.linear_start import (
    count_entries,
    grow_linear,
    number_of_components,
    raise_ceiling,
    start_linear,
    start_pooled,
    take_over,
    unlearned,
)
from skneurovae.estimators.support import check_support
from skneurovae.networks.behavior import N_FUNCTIONS
from skneurovae.networks.pooled import PooledNetwork
from skneurovae.networks.precision import PrecisionNetwork
from skneurovae.recordings import NeuronVocabulary
from skneurovae.recordings.masking import HidingSchedule, check_shares
from skneurovae.training import gain_over, train

BEHAVIOR_LAGS = (-8, -4, -2, 0, 2, 4, 8)  # time steps
# What may differ between a fit and the next that goes on from it.
FREE_ARGUMENTS = (
    "n_neurons", "elbo_weight", "beta", "free_bits", "dropout", "shrinkage", "learning_rate",
)  # fmt: skip
OVERDISPERSED = 1.5  # variance around predictions, in that of Poisson counts
AVERAGING = 0.99  # decay of the running mean of the weights
# Sizes that each encoder takes where the user gives none; "pooled" as published.
SIZES = {
    "precision": {
        "model_dim": 64,
        "n_layers": 2,
        "hidden_dim": 64,
        "elbo_weight": 0.1,
        "learning_rate": 4e-3,
    },
    "pooled": {
        "model_dim": 256,
        "n_layers": 4,
        "hidden_dim": 256,
        "elbo_weight": 1.0,
        "learning_rate": 1e-3,
    },
}


class NeuroBehaviorVAE(GenerationMixin, TracesMixin, LeveledMixin, LatentVariableEstimator):
    """Latents of neural recordings that know neuron identities, behavior and missing data.

    The default encoder lets every observed neuron add its evidence to a Gaussian belief about the
    latents, with the loading, offset and noise of its identity; behavior channels at several lags
    are further neurons. A transformer over time refines the belief, and networks of latents and
    behavior refine the linear read-out. All corrections start at zero, so training starts at the
    best linear model (missing-data factor analysis with shrinkage and latent dynamics, both chosen
    on the training recordings). First the read-out alone is trained, on the belief as it is, then
    all together. Hidden neurons of held-out blocks, which neither the start nor the training has
    seen, decide whether anything better was found.

    The loss is minus the log probability of hidden entries given the posterior mean, which is what
    `predict` gives, and `elbo_weight` times minus the evidence lower bound on what is shown.

    Parameters
    ----------
    n_components : int or "auto", default=12
        Number of latents; "auto" takes the one of 2, 4, 8, 12, 16, 24 and 32 with which a static
        linear model predicts hidden neurons best.
    neuron_encoder : {"precision", "pooled"}, default="precision"
        "pooled" is the architecture of CeNeuroVAE, whose encoder does not see identities.
    prior : {"auto", "ar1", "normal"}, default="auto"
        Latents as stationary autoregressive processes with time constants of their own, or
        independent over time. "auto" is "ar1" for "precision"; "pooled" has only "normal".
    likelihood : {"auto", "gaussian", "huber", "student_t", "poisson", "negative_binomial"}, \
default="auto"
        Of the traces; the last two are for spike counts per bin. "auto" takes traces for counts if
        all are whole numbers, none negative, and most neurons are 0 at times, in at least 200 time
        steps: then it is "negative_binomial" where, in most neurons, the variance around what the
        other neurons predict is at least 1.5 times that of Poisson counts, and "poisson" otherwise
        (always for "pooled").
        Other traces are "gaussian".
    noise : {"auto", "neuron", "heteroscedastic", "fixed"}, default="auto"
        Scale of the likelihood: one per neuron, one that also varies over time, or one standard
        deviation of the neuron. "auto" is "neuron". Only "auto" for "poisson", which has none;
        "pooled" has only "neuron".
    normalize : {"auto", "identity", "recording"}, default="auto"
        Units in which traces are modeled: offset and gain of each identity over all recordings, or
        of each neuron in each recording. For the latter what is observed of the neuron counts
        against what its identity and the other neurons of the recording lead to expect, so that a
        neuron of which nothing is observed has units too; outputs are in the units of `X`. "auto"
        is "recording" where traces are no counts and neurons differ more between recordings than
        within them. "recording" is refused for counts, and if `causal`.
    behavior_lags : "auto" or sequence of int, default="auto"
        Time steps by which behavior is shifted to become a channel of the belief; positive:
        behavior before the neural activity, as in `LaggedRidge`. "auto" is
        (-8, -4, -2, 0, 2, 4, 8), none negative if `causal`. Only "auto" for "pooled".
    behavior_kind : {"auto", "linear", "bounded", "angle"} or sequence of these, default="auto"
        Of all channels of behavior, or of each. Belief and decoder see smooth functions of a
        channel: of a "bounded" one itself and six bumps over its range in training, of an "angle"
        (radians) sine and cosine of three multiples, of a "linear" one itself. Beyond the range of
        training the functions keep the value that they have at its end. "auto": channels that have
        the range of a turn and jump from one end of it to the other are angles, channels of at most
        six values linear, others bounded. Only "auto" for "pooled", which takes all as linear.
    shrinkage : float or "auto", default="auto"
        Precision of the Gaussian prior on loadings and read-outs, in time steps; "auto" chooses it
        by co-smoothing held-out training recordings, for the log rates of counts once more, from 1
        to 30 times that, by their likelihood in held-out blocks. Only "auto" for "pooled".
    model_dim, n_layers, hidden_dim : int or None, default=None
        Width and depth of the transformer, width of the decoder's hidden layers. None is 64, 2, 64
        for "precision" and 256, 4, 256 for "pooled".
    n_heads : int, default=4
        Attention heads; must divide `model_dim`.
    dropout : float, default=0.1
    causal : bool, default=False
        Latents at t depend on nothing after t.
    elbo_weight : float or "auto", default="auto"
        Weight of the evidence lower bound on the entries that the encoder sees, relative to the log
        probability of hidden ones. More of it makes latents follow what is seen, and less predicts
        hidden neurons better. "auto" is 0.1, and 1 for "pooled", as published.
    beta : float, default=1.0
        Weight of the KL term within that bound; 1 makes it the evidence lower bound. It rises from
        0 over the first 30 % of the epochs.
    free_bits : float, default=0.01
        Nats per component and time step, summed to one floor for the joint KL, below which it is
        not reduced further; from the first 10 % of the epochs on.
    hide_neurons : (float, float), default=(0.1, 0.6)
        Bounds of the fraction of neurons hidden from the encoder, drawn per training window.
    hide_spans : (float, float), default=(0.0, 0.2)
        Bounds of the fraction of the remaining entries hidden as contiguous spans.
    hide_behavior : float, default=0.5
        Probability that a training window shows no behavior. Of the others, each channel is hidden
        with half of it.
    hide_all_neurons : float, default=0.1
        Probability that a training window shows behavior only.
    window_length : int, default=64
        Time steps that the network sees at once; shorter recordings are one short window. Training
        cuts windows anew in each epoch, at random places.
    stride : int or None, default=None
        Time steps between windows in inference and validation; None is half of `window_length`.
    batch_size : int, default=8
        Windows at a time, in training and inference.
    max_iter : int or "auto", default="auto"
        Epochs, of the read-out alone and then again of all together. "auto" is as many as make
        1,000 gradient steps, and at least 10. In an epoch every window is used three times, with
        the same entries hidden ("pooled": once); with "auto", where these are fewer than 20 steps,
        an epoch is several such passes.
    learning_rate : float or "auto", default="auto"
        "auto" is 4e-3, for n < 8,000 time steps times the root of n / 8,000; 1e-3 for "pooled".
    weight_decay : float, default=1e-2
    early_stopping : bool, default=True
        Keep the weights that predict hidden neurons best in held-out data, and stop when they no
        longer improve; keep the linear start unless they are better by more than a standard error.
        Held out from the training of the network are whole recordings where four or more share
        their neurons, else the tail of each.
    validation_fraction : float, default=0.15
        Fraction of recordings, or length of that tail.
    n_iter_no_change : int or "auto", default="auto"
        Epochs without improvement before training stops, not counting those in which the weight of
        the KL term rises. "auto" is as many as make 250 gradient steps, and at least 3.
    tol : float, default=1e-4
        Least improvement that counts.
    warm_start : bool, default=False
        Go on from the last fit; new identities are added.
    random_state : int, RandomState instance or None, default=None
    device : str, default="auto"
        "auto" takes CUDA, then MPS, then the CPU.
    precision : {"float32", "bf16"}, default="float32"
        "bf16" trains under autocast.
    verbose : int, default=0
        1 prints what "auto" came to, a line per epoch, and one at the end that says which weights
        were kept.

    Attributes
    ----------
    identities_ : ndarray of shape (n_identities,)
        Neurons that the model knows.
    neuron_scale_ : ndarray of shape (n_identities,)
        Standard deviation of each neuron in training, in units of the traces; scores use it.
    n_features_in_ : int
        Number of columns, where all recordings have the same.
    n_behaviors_in_ : int
    n_components_ : int
    likelihood_, normalize_ : str
        What "auto" came to.
    behavior_kind_ : tuple of str
        Kind of each channel of behavior.
    network_ : torch.nn.Module
    linear_choice_ : Choice
        Shrinkage, time constant and weight of evidence of the linear start ("precision" only).
    loss_curve_, validation_scores_ : list of float
        Training loss (nats per entry, see docs/model.md) and validation loss per epoch of training
        all together; the first validation loss is that of the start.
    best_loss_ : float
        Validation loss of the weights that were kept; without validation the last training loss.
    n_iter_ : int
        Epochs of training all together.
    start_kept_ : bool
        Whether the model is the linear start, then fitted to all recordings, because no epoch
        predicted hidden neurons better by more than a standard error (with "pooled", whose start is
        random: better at all). False where nothing is compared: without `early_stopping`, and after
        `partial_fit`.
    start_gain_ : (float, float)
        By how much the validation loss of the best epoch is below that of the start, and the
        standard error of this difference, whichever was kept; (nan, nan) where nothing is compared.
        The start is the linear model, with "pooled" a random network, with `warm_start` the last
        fit.
    fit_time_ : float
        Seconds that the last fit took, the linear start included.
    n_rollbacks_ : int
        How often training was not finite and went back an epoch, with half the learning rate.
    history_ : list of dict
        Parts of the training loss of each epoch, in nats per observed entry, and
        "kl_per_component", of shape (n_components,), in nats per time step.

    Warns
    -----
    UserWarning
        If components carry next to no information after training.

    See Also
    --------
    skneurovae.baselines.MissingFactorAnalysis : The linear model alone.

    Examples
    --------
    >>> from skneurovae import NeuroBehaviorVAE
    >>> from skneurovae.datasets import make_worms
    >>> recordings, _ = make_worms(4, n_timesteps=200, random_state=0)
    >>> model = NeuroBehaviorVAE(4, max_iter=2, random_state=0).fit(recordings[:3])
    >>> model.transform(recordings[3:])[0].shape
    (200, 4)
    """

    _unit = Interval(Real, 0, 1, closed="both")
    _size = [Interval(Integral, 1, None, closed="left"), None]
    _parameter_constraints = {
        **LatentVariableEstimator._parameter_constraints,
        "neuron_encoder": [StrOptions({"precision", "pooled"})],
        "prior": [StrOptions({"auto", "ar1", "normal"})],
        "likelihood": [
            StrOptions({"auto", "gaussian", "huber", "student_t", "poisson", "negative_binomial"})
        ],
        "n_components": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "normalize": [StrOptions({"auto", "identity", "recording"})],
        "behavior_kind": [StrOptions({"auto", *N_FUNCTIONS}), "array-like"],
        "elbo_weight": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "noise": [StrOptions({"auto", "neuron", "heteroscedastic", "fixed"})],
        "behavior_lags": [StrOptions({"auto"}), "array-like"],
        "shrinkage": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "model_dim": _size,
        "n_layers": _size,
        "hidden_dim": _size,
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "causal": ["boolean"],
        "beta": [Interval(Real, 0, None, closed="left")],
        "free_bits": [Interval(Real, 0, None, closed="left")],
        "hide_neurons": [tuple, list],
        "hide_spans": [tuple, list],
        "hide_behavior": [_unit],
        "hide_all_neurons": [_unit],
    }

    def __init__(
        self, n_components=12, *, neuron_encoder="precision", prior="auto", likelihood="auto",
        noise="auto", normalize="auto", behavior_lags="auto", behavior_kind="auto",
        shrinkage="auto", model_dim=None, n_layers=None, hidden_dim=None, n_heads=4,
        dropout=0.1, causal=False, elbo_weight="auto", beta=1.0, free_bits=0.01,
        hide_neurons=(0.1, 0.6), hide_spans=(0.0, 0.2), hide_behavior=0.5, hide_all_neurons=0.1,
        window_length=64, stride=None, batch_size=8, max_iter="auto", learning_rate="auto",
        weight_decay=1e-2, early_stopping=True, validation_fraction=0.15,
        n_iter_no_change="auto", tol=1e-4, warm_start=False, random_state=None, device="auto",
        precision="float32", verbose=0,
    ):  # fmt: skip
        self.n_components = n_components
        self.neuron_encoder = neuron_encoder
        self.prior = prior
        self.likelihood = likelihood
        self.noise = noise
        self.normalize = normalize
        self.behavior_lags = behavior_lags
        self.behavior_kind = behavior_kind
        self.shrinkage = shrinkage
        self.model_dim = model_dim
        self.n_layers = n_layers
        self.hidden_dim = hidden_dim
        self.n_heads = n_heads
        self.dropout = dropout
        self.causal = causal
        self.elbo_weight = elbo_weight
        self.beta = beta
        self.free_bits = free_bits
        self.hide_neurons = hide_neurons
        self.hide_spans = hide_spans
        self.hide_behavior = hide_behavior
        self.hide_all_neurons = hide_all_neurons
        self.window_length = window_length
        self.stride = stride
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.verbose = verbose

    @classmethod
    @isolated
    def from_ceneurovae(cls, checkpoint, *, identities=None, behavior_scale=None, **parameters):
        """Load a checkpoint of CeNeuroVAE as a fitted estimator with `neuron_encoder="pooled"`.

        Parameters
        ----------
        checkpoint : path or dict
            File with a dict that holds "model_state", or that dict, or the state itself. A file is
            read as weights alone: nothing in it is executed.
        identities : sequence of str or of int, default=None
            Name of each identity from 1 on (its 0 is "unknown"); integers 1, 2, ... by default.
        behavior_scale : array-like of shape (n_behaviors,), default=None
            What its training data divided behavior by (`B_norm_divisor` of its file); 1 by default.
        **parameters
            Further parameters of the estimator, such as `window_length` or `n_heads`, which a
            checkpoint does not tell.

        Returns
        -------
        NeuroBehaviorVAE
            Its posterior means are those of the original on complete data.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError, TypeError
            If it is not such a checkpoint: a layer is missing, unknown, of another shape, of
            another type than floats, or not finite; or if `identities`, `behavior_scale` or another
            parameter does not fit it.
        """
        return load_ceneurovae(cls, checkpoint, identities, behavior_scale, parameters)

    def _check_parameters(self):
        super()._check_parameters()
        pooled = self.neuron_encoder == "pooled"
        for name in ("noise", "prior", "behavior_lags", "behavior_kind", "shrinkage"):
            value = getattr(self, name)
            allowed = {"auto", {"noise": "neuron", "prior": "normal"}.get(name)}
            if pooled and (not isinstance(value, str) or value not in allowed):
                raise ValueError(
                    f"{name}={value!r} needs neuron_encoder='precision'; 'pooled' takes 'auto'."
                )
        if self.n_stimuli_in_:
            raise ValueError("stimulus is not used by NeuroBehaviorVAE; give it as behavior.")
        if self.likelihood == "negative_binomial" and self.noise == "fixed":
            raise ValueError("noise='fixed' has no meaning for counts, use 'auto'.")
        if self.likelihood == "poisson" and self.noise != "auto":
            raise ValueError(
                f"noise={self.noise!r} has no meaning for likelihood='poisson', use 'auto'."
            )
        if self.prior == "ar1" and self.window_length == 1:
            raise ValueError("prior='ar1' needs window_length > 1: one time step has no dynamics.")
        width = self._sizes["model_dim"]
        if width % (self.n_heads if pooled else 2 * self.n_heads):
            heads = "" if pooled else " into heads of even size"
            raise ValueError(f"n_heads={self.n_heads} must divide model_dim={width}{heads}.")
        for name in ("hide_neurons", "hide_spans"):
            check_shares(name, getattr(self, name))
        check_lags(self, self._lags)

    @property
    def _start_is_fitted(self):
        return self.neuron_encoder == "precision"

    @property
    def _n_passes(self):
        return 3 if self.neuron_encoder == "precision" else 1

    @property
    def _sizes(self):
        return {
            name: default if getattr(self, name) in (None, "auto") else getattr(self, name)
            for name, default in SIZES[self.neuron_encoder].items()
        }

    @property
    def _lags(self):
        if isinstance(self.behavior_lags, str):
            first = 0 if self.causal else 1 - self.window_length
            return tuple(n for n in BEHAVIOR_LAGS if first <= n < self.window_length)
        return tuple(self.behavior_lags)

    @property
    def _dynamics(self):
        return self.prior == "ar1" or (self.prior == "auto" and self.window_length > 1)

    def _read_and_train(self, X, y, *inputs):
        self._range_is_fixed = self.neuron_encoder == "precision"
        if inputs[-3]:  # a fresh fit: another may have chosen another
            vars(self).pop("likelihood_", None)
        super()._read_and_train(X, y, *inputs)

    def _check_traces(self, recordings):
        given = self._fitted_params["likelihood"]
        check_support(vars(self).get("likelihood_", given), recordings)

    def _train(self, recordings, fresh, n_epochs, context):
        vocabulary = NeuronVocabulary() if fresh else copy.deepcopy(self._vocabulary)
        rows = vocabulary.extend(recordings)
        # What a user changed since the last fit is refused where the network would be another.
        if fresh or self.likelihood != "auto":
            self.likelihood_ = likelihood_of(self.likelihood, self.noise, recordings)
        if fresh or self.behavior_kind != "auto":
            pooled = self.neuron_encoder == "pooled"
            kinds = ["linear"] * self.n_behaviors_in_ if pooled else self.behavior_kind
            self.behavior_kind_ = behavior_kinds(kinds, recordings, self.n_behaviors_in_)
        given, scale = recordings, None if fresh else self.neuron_scale_
        recordings = self._level(recordings, rows, len(vocabulary), fresh)
        if fresh and self.n_components == "auto":
            self.n_components_ = number_of_components(
                recordings, rows, len(vocabulary), self.likelihood_, self.random_state
            )
        elif self.n_components != "auto":
            self.n_components_ = int(self.n_components)
        if self.verbose and fresh:
            chosen = ("likelihood_", "normalize_", "n_components_", "behavior_kind_")
            values = ", ".join(f"{name[:-1]}={getattr(self, name)!r}" for name in chosen)
            print(f"[{type(self).__name__}] {values}")
        super()._train(recordings, fresh, n_epochs, context)
        self.neuron_scale_ = scale  # in the units of the traces as they were given
        self._measure_neurons(given, rows, fresh)

    def _network_arguments(self):
        """What the network is built from, for the fitted vocabulary."""
        sizes = self._sizes
        shared = {
            "n_neurons": len(self._vocabulary), "n_components": self.n_components_,
            "likelihood": self.likelihood_, "elbo_weight": sizes["elbo_weight"],
            "beta": self.beta, "free_bits": self.free_bits, "dropout": self.dropout,
            "causal": self.causal, "n_layers": sizes["n_layers"], "n_heads": self.n_heads,
            "model_dim": sizes["model_dim"], "neuron_encoder": self.neuron_encoder,
        }  # fmt: skip
        if self.neuron_encoder == "pooled":
            hidden = sizes["hidden_dim"]
            return {**shared, "decoder_hidden": hidden, "n_behaviors": self.n_behaviors_in_}
        return {
            **shared,
            "hidden_dim": sizes["hidden_dim"],
            "behavior_kinds": self.behavior_kind_,
            "lags": self._lags if self.n_behaviors_in_ else (),
            "prior": "ar1" if self._dynamics else "normal",
            "noise": "neuron" if self.noise == "auto" else self.noise,
            "shrinkage": 0.0 if self.shrinkage == "auto" else self.shrinkage,
        }

    @own_defaults()
    def _new_network(self, arguments):
        """Untrained network."""
        arguments = dict(arguments)
        pooled = arguments.pop("neuron_encoder") == "pooled"
        return (PooledNetwork if pooled else PrecisionNetwork)(**arguments)

    def _start_network(self, recordings, rows, random_state):
        network = self._new_network(self._network_arguments())
        if self.neuron_encoder == "pooled":
            return start_pooled(network, recordings, rows)
        options = {"shrinkage": self.shrinkage, "dynamics": self._dynamics}
        self.linear_choice_ = start_linear(
            network, recordings, rows, **options, random_state=random_state
        )
        return network

    def _grow_network(self, old, recordings, rows, adding):
        network = self._new_network(self._arguments_as_before(FREE_ARGUMENTS))
        n_before = old.n_neurons
        take_over(network, old)
        if self.neuron_encoder == "pooled":
            return start_pooled(network, recordings, rows, n_before)
        # The prior of the read-out is spread over them.
        network.n_entries.copy_(old.n_entries * adding + count_entries(recordings))
        if self.shrinkage != "auto":
            network.shrinkage.fill_(self.shrinkage)
        if network.n_neurons > n_before:
            grow_linear(network, recordings, rows, np.arange(n_before, network.n_neurons))
        raise_ceiling(network, recordings, rows)
        return network

    def _training_settings(self, n_epochs, patience, annealing):
        settings = super()._training_settings(n_epochs, patience, annealing)
        settings = dataclasses.replace(settings, learning_rate=self._sizes["learning_rate"])
        if self.neuron_encoder == "pooled" or not annealing:
            return settings
        return dataclasses.replace(
            settings, averaging=AVERAGING, warmup_epochs=0.1 * n_epochs, cosine_portion=1.0,
            grace_epochs=0.3 * n_epochs,
        )  # fmt: skip

    def _fit_network(self, network, batches, store, *, settings, validate, on_epoch):
        """Train the decoder on the belief as it is, then all together.

        What is left of the linear start is decided at the end, so that two small gains may add up.
        """
        if self.learning_rate == "auto" and self._start_is_fitted:
            settings = slowed(settings, sum(store.lengths))
        together = {"settings": settings, "validate": validate, "on_epoch": on_epoch}
        hides = self.hide_neurons[1] or self.hide_spans[1] or self._hiding().everything
        if not self._start_is_fitted or self._n_updates or not settings.annealing or not hides:
            return train(network, batches, trust_start=self._start_is_fitted, **together)
        start = copy.deepcopy(network.state_dict())
        network.refining = False
        max_iter = self._fitted_params["max_iter"]
        length = self._fitted_params["window_length"]
        steps = self._lengthened(
            step_batches(store, network, self._hiding(), length, self._n_passes), max_iter
        )
        n_epochs, patience = self._lengths(max_iter, steps)
        first = train(
            network,
            steps,
            settings=dataclasses.replace(
                settings, max_iter=n_epochs, n_iter_no_change=patience, grace_epochs=0.0,
                warmup_epochs=0.03 * n_epochs,
            ),
            validate=validate,
        )  # fmt: skip
        if self.likelihood == "auto" and self.likelihood_ == "poisson":
            dispersion, excess = dispersion_of(network, steps)
            if dispersion >= OVERDISPERSED:
                self.likelihood_ = "negative_binomial"
                network.count_with(self.likelihood_, excess)
                if self.verbose:
                    print(f"[{type(self).__name__}] likelihood={self.likelihood_!r}")
        network.refining = True
        if first.interrupted:
            history = first
        else:
            history = train(network, batches, **together)
            if validate is not None:
                history.validation_scores[0] = first.validation_scores[0]
        if validate is None or not first.n_iter:  # nothing is compared
            return history
        history.start_gain = gain_over(first.start_shares, history.kept_shares)
        history.start_kept = history.start_gain[0] <= history.start_gain[1]
        if history.start_kept:
            network.load_state_dict(start)
            history.kept_shares, history.best_epoch = first.start_shares, 0
        return history

    def _validation_batches(self, store, recordings, rows, seed):
        """Hidden neurons, with behavior and without: a model must do without it too."""
        for batch in super()._validation_batches(store, recordings, rows, seed):
            yield batch
            if batch.behavior_shown.any():
                nothing = torch.zeros_like(batch.behavior_shown)
                yield dataclasses.replace(batch, behavior_shown=nothing)

    def _finish_network(self, network, recordings, rows, train_set, history):
        if self.neuron_encoder == "pooled":
            return
        if history.start_kept:
            start_linear(
                network, recordings, rows, choice=self.linear_choice_, shrinkage=self.shrinkage,
                dynamics=self._dynamics, random_state=np.random.RandomState(0),
            )  # fmt: skip
        elif len(new := unlearned(*train_set, network.n_neurons)):
            grow_linear(network, recordings, rows, new)

    def _note(self, history):
        super()._note(history)
        self.start_kept_ = history.start_kept
        self.start_gain_ = history.start_gain or (float("nan"), float("nan"))

    def _hiding(self):
        everything = self.hide_all_neurons if self.n_behaviors_in_ else 0.0
        return HidingSchedule(
            neurons=self.hide_neurons, spans=self.hide_spans, behavior=self.hide_behavior / 2,
            all_behavior=self.hide_behavior, everything=everything,
        )  # fmt: skip
