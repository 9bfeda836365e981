"""NeuroBehaviorVAE: a behavior-conditioned VAE of recordings whose neurons have identities."""

from __future__ import annotations

from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, StrOptions

from skneurovae.common.isolation import isolated
from skneurovae.common.randomness import own_defaults
from skneurovae.estimators.base import LatentVariableEstimator
from skneurovae.estimators.ceneurovae import load_ceneurovae
from skneurovae.estimators.generation import GenerationMixin
from skneurovae.estimators.inference import TracesMixin
from skneurovae.estimators.linear_start import (
    count_entries,
    grow_linear,
    start_linear,
    start_pooled,
    take_over,
)
from skneurovae.networks.pooled import PooledNetwork
from skneurovae.networks.precision import PrecisionNetwork
from skneurovae.recordings.masking import HidingSchedule

BEHAVIOR_LAGS = (-8, -4, -2, 0, 2, 4, 8)  # time steps
FREE_ARGUMENTS = ("n_neurons", "beta", "free_bits", "dropout", "shrinkage")  # between two fits
# Sizes that each encoder takes where the user gives none; "pooled" as published.
SIZES = {
    "precision": {"model_dim": 64, "n_layers": 2, "hidden_dim": 64},
    "pooled": {"model_dim": 256, "n_layers": 4, "hidden_dim": 256},
}


class NeuroBehaviorVAE(GenerationMixin, TracesMixin, LatentVariableEstimator):
    """Latents of neural recordings that know neuron identities, behavior and missing data.

    The default encoder lets every observed neuron add its evidence to a Gaussian belief about the
    latents, with the loading, offset and noise of its identity; behavior channels at several lags
    are further neurons. A transformer over time refines the belief, and a network refines the
    linear read-out. Both corrections start at zero, so training starts at the best linear model
    (missing-data factor analysis with shrinkage and latent dynamics, both chosen on the training
    recordings), and hidden neurons of held-out blocks decide whether anything better was found.

    Parameters
    ----------
    n_components : int, default=8
        Number of latents.
    neuron_encoder : {"precision", "pooled"}, default="precision"
        "pooled" is the architecture of CeNeuroVAE, whose encoder does not see identities.
    prior : {"auto", "ar1", "normal"}, default="auto"
        Latents as stationary autoregressive processes with time constants of their own, or
        independent over time. "auto" is "ar1" for "precision"; "pooled" has only "normal".
    likelihood : {"gaussian", "huber", "student_t", "poisson", "negative_binomial"}, \
default="gaussian"
        Of the traces; the last two are for spike counts per bin.
    noise : {"auto", "neuron", "heteroscedastic", "fixed"}, default="auto"
        Scale of the likelihood: one per neuron, one that also varies over time, or one standard
        deviation of the neuron. "auto" is "neuron". Only "auto" for "poisson", which has none;
        "pooled" has only "neuron".
    behavior_lags : "auto" or sequence of int, default="auto"
        Time steps by which behavior is shifted to become a channel of the belief; positive:
        behavior before the neural activity, as in `LaggedRidge`. "auto" is
        (-8, -4, -2, 0, 2, 4, 8), none negative if `causal`. Only "auto" for "pooled".
    shrinkage : float or "auto", default="auto"
        Precision of the Gaussian prior on loadings and read-outs, in time steps; "auto" chooses it
        by co-smoothing held-out training recordings. Only "auto" for "pooled".
    model_dim, n_layers, hidden_dim : int or None, default=None
        Width and depth of the transformer, width of the decoder's hidden layers. None is 64, 2, 64
        for "precision" and 256, 4, 256 for "pooled".
    n_heads : int, default=4
        Attention heads; must divide `model_dim`.
    dropout : float, default=0.1
    causal : bool, default=False
        Latents at t depend on nothing after t.
    beta : float, default=1.0
        Weight of the KL term; 1 is the evidence lower bound. It rises from 0 over the first 30 % of
        the epochs.
    free_bits : float, default=0.01
        Nats per component and time step, summed to one floor for the joint KL, below which it is
        not reduced further; from the first 10 % of the epochs on.
    hide_neurons : (float, float), default=(0.1, 0.6)
        Bounds of the fraction of neurons hidden from the encoder, drawn per training window.
    hide_spans : (float, float), default=(0.0, 0.2)
        Bounds of the fraction of the remaining entries hidden as contiguous spans.
    hide_behavior : float, default=0.5
        Probability that a behavior channel of a training window is hidden.
    hide_all_neurons : float, default=0.1
        Probability that a training window shows behavior only.
    window_length : int, default=128
        Time steps that the network sees at once; shorter recordings are one short window.
    stride : int or None, default=None
        Time steps between windows; None is half of `window_length`.
    batch_size : int, default=16
        Windows at a time, in training and inference.
    max_iter : int, default=60
        Epochs.
    learning_rate : float, default=2e-3
    weight_decay : float, default=1e-2
    early_stopping : bool, default=True
        Keep the weights that predict hidden neurons best in held-out data, and stop when they no
        longer improve; keep the linear start unless they are better by more than a standard error.
        Held out from the training of the network are whole recordings where four or more share
        their neurons, else the tail of each.
    validation_fraction : float, default=0.15
        Fraction of recordings, or length of that tail.
    n_iter_no_change : int, default=20
        Epochs without improvement before training stops.
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
        1 prints a line per epoch, and one at the end that tells which weights were kept.

    Attributes
    ----------
    identities_ : ndarray of shape (n_identities,)
        Neurons that the model knows.
    neuron_scale_ : ndarray of shape (n_identities,)
        Standard deviation of each neuron in training, in units of the traces; scores use it.
    n_features_in_ : int
        Number of columns, where all recordings have the same.
    n_behaviors_in_ : int
    network_ : torch.nn.Module
    linear_choice_ : Choice
        Shrinkage, time constant and weight of evidence of the linear start ("precision" only).
    loss_curve_, validation_scores_ : list of float
        Training loss (minus the bound, nats per entry) and validation loss per epoch; the first
        validation loss is that of the start.
    best_loss_ : float
        Validation loss of the weights that were kept; without validation the last training loss.
    n_iter_ : int
    start_kept_ : bool
        Whether the weights are those of the start, because no epoch predicted hidden neurons better
        by more than a standard error (with "pooled", whose start is random: better at all). False
        where nothing is compared: without `early_stopping`, and after `partial_fit`.
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
            StrOptions({"gaussian", "huber", "student_t", "poisson", "negative_binomial"})
        ],
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
        "hide_neurons": [tuple],
        "hide_spans": [tuple],
        "hide_behavior": [_unit],
        "hide_all_neurons": [_unit],
    }

    def __init__(
        self, n_components=8, *, neuron_encoder="precision", prior="auto", likelihood="gaussian",
        noise="auto", behavior_lags="auto", shrinkage="auto", model_dim=None, n_layers=None,
        hidden_dim=None, n_heads=4, dropout=0.1, causal=False, beta=1.0, free_bits=0.01,
        hide_neurons=(0.1, 0.6), hide_spans=(0.0, 0.2), hide_behavior=0.5, hide_all_neurons=0.1,
        window_length=128, stride=None, batch_size=16, max_iter=60, learning_rate=2e-3,
        weight_decay=1e-2, early_stopping=True, validation_fraction=0.15, n_iter_no_change=20,
        tol=1e-4, warm_start=False, random_state=None, device="auto", precision="float32",
        verbose=0,
    ):  # fmt: skip
        self.n_components = n_components
        self.neuron_encoder = neuron_encoder
        self.prior = prior
        self.likelihood = likelihood
        self.noise = noise
        self.behavior_lags = behavior_lags
        self.shrinkage = shrinkage
        self.model_dim = model_dim
        self.n_layers = n_layers
        self.hidden_dim = hidden_dim
        self.n_heads = n_heads
        self.dropout = dropout
        self.causal = causal
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
        for name in ("noise", "prior", "behavior_lags", "shrinkage"):
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
            bounds = getattr(self, name)
            numbers = len(bounds) == 2 and all(isinstance(bound, Real) for bound in bounds)
            if not numbers or not 0 <= bounds[0] <= bounds[1] <= 1:
                raise ValueError(
                    f"{name} must be (low, high) with 0 <= low <= high <= 1, got {bounds}."
                )
        if not isinstance(self.behavior_lags, str):
            lags = list(self.behavior_lags)
            if not all(isinstance(n, Integral) for n in lags) or len(set(lags)) < len(lags):
                raise ValueError(f"behavior_lags must be different integers, got {lags}.")
            if not self.n_behaviors_in_:
                raise ValueError(f"behavior_lags={lags} has no meaning without behavior.")
        for lag in self._lags:
            if abs(lag) >= self.window_length or (self.causal and lag < 0):
                limit = "at least 0 if causal" if self.causal else "shorter than window_length"
                raise ValueError(f"behavior_lags must be {limit}, got {lag}.")

    @property
    def _start_is_fitted(self):
        return self.neuron_encoder == "precision"

    @property
    def _sizes(self):
        return {
            name: default if getattr(self, name) is None else getattr(self, name)
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

    def _network_arguments(self):
        """What the network is built from, for the fitted vocabulary."""
        sizes = self._sizes
        shared = {
            "n_neurons": len(self._vocabulary), "n_behaviors": self.n_behaviors_in_,
            "n_components": self.n_components, "likelihood": self.likelihood, "beta": self.beta,
            "free_bits": self.free_bits, "dropout": self.dropout, "causal": self.causal,
            "n_layers": sizes["n_layers"], "n_heads": self.n_heads,
            "model_dim": sizes["model_dim"], "neuron_encoder": self.neuron_encoder,
        }  # fmt: skip
        if self.neuron_encoder == "pooled":
            return {**shared, "decoder_hidden": sizes["hidden_dim"]}
        return {
            **shared,
            "hidden_dim": sizes["hidden_dim"],
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
        self.linear_choice_ = start_linear(
            network, recordings, rows, shrinkage=self.shrinkage, dynamics=self._dynamics,
            random_state=random_state,
        )  # fmt: skip
        return network

    def _grow_network(self, old, recordings, rows, adding):
        network = self._new_network(self._arguments_as_before(FREE_ARGUMENTS))
        n_before = old.n_neurons
        take_over(network, old)
        if self.neuron_encoder == "precision":  # the prior of the read-out is spread over them
            network.n_entries.copy_(old.n_entries * adding + count_entries(recordings))
            if self.shrinkage != "auto":
                network.shrinkage.fill_(self.shrinkage)
        if self.neuron_encoder == "pooled":
            return start_pooled(network, recordings, rows, n_before)
        if len(self._vocabulary) > n_before:
            grow_linear(network, recordings, rows, n_before)
        return network

    def _note(self, history):
        super()._note(history)
        self.start_kept_ = history.best_epoch == 0
        self.start_gain_ = history.start_gain or (float("nan"), float("nan"))

    def _hiding(self):
        return HidingSchedule(
            neurons=self.hide_neurons,
            spans=self.hide_spans,
            behavior=self.hide_behavior,
            everything=self.hide_all_neurons if self.n_behaviors_in_ else 0.0,
        )
