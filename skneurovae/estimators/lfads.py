"""LFADS: single-trial rates from a dynamical system with inferred inputs."""

from __future__ import annotations

from numbers import Integral, Real

from sklearn.utils._param_validation import Interval

from skneurovae.estimators.sequential import COUNT, SequentialEstimator
from skneurovae.networks.sequential_models import LFADSNetwork

PAPER = {
    "n_components": 50, "static_dim": 64, "dynamic_dim": 1, "read_in_dim": 128,
    "encoder_dim": 128, "controller_dim": 128, "generator_dim": 200, "dropout": 0.05,
    "coordinated_dropout": 0.0, "batch_size": 128, "learning_rate": 0.01,
    "hide_neurons": (0.0, 0.0), "hide_bins": (0.0, 0.0), "n_samples": 50,
    "beta_static": 0.001, "beta_dynamic": 0.07,
}  # fmt: skip


class LFADS(SequentialEstimator):
    """Latent factor analysis via dynamical systems (Sussillo et al. 2016).

    A trial is what a recurrent generator makes of an initial condition, and of inputs that a
    controller infers while the generator runs::

        g_0 = W f,   u_t ~ q(u_t | data, factors before t),   g_t = GRU(u_t, stimulus_t; g_{t-1}),
        factors_t = unit rows of F times g_t,    log rate_t = read-out of the neuron * factors_t.

    The prior of f is normal, that of u autoregressive. The loss is minus the bound: with weights
    of 1 the divergences count in nats against the nats of all observed entries. (Weights of the
    original multiply sums against a mean over entries: k there is k * bins * neurons here.)

    Parameters
    ----------
    n_components : int, default=16
        Factors, what `transform` returns.
    static_dim : int, default=32
        Dimensions of the initial condition.
    dynamic_dim : int, default=4
        Inferred inputs (not to be confused with `stimulus`, the inputs that are known); 0 = no
        controller, and the initial condition and the stimulus alone make the trial. Then
        `controller_dim`, `lag`, `time_constant` and `beta_dynamic` are refused unless at their
        defaults; a search over both takes a list of grids.
    read_in_dim : int, default=64
        Channels to which neurons add up before the encoders.
    encoder_dim, controller_dim, generator_dim : int, default=64, 64, 100
        Units of each direction of the two encoders, of the controller, and of the generator.
    likelihood : {"poisson", "negative_binomial", "gaussian", "gamma"}, default="poisson"
        Of the traces: counts per bin for the first two, positive traces for "gamma".
    static_length : int, default=0
        The initial condition is inferred from this many first time steps of a window alone, and
        the controller begins behind them; 0 = from all, with the controller from the start. Above
        0 nothing that is inferred before a time step t beyond them saw the trial's end through
        the initial condition.
    causal : bool, default=False
        What is inferred at t, from `static_length` on, depends on nothing after t, for use while a
        trial runs. Needs `static_length` above 0, and windows that overlap by at least as much.
    lag : int, default=1
        Time steps by which the controller's view of the past comes late, and of the future early.
    time_constant : float, default=10.0
        Of the prior of inferred inputs at the start, in time steps; it is learned.
    beta_static, beta_dynamic : float, default=0.01, 0.1
        Weights of the divergences of initial condition and inferred inputs; 1 is the bound, at
        which initial conditions of noisy spikes stay at their prior. Those published for the
        Lorenz system are 0.001 and 0.07 in these units. The smaller they are, the less do trials
        of `sample` resemble the data.
    kl_warmup : float, default=0.3
        Share of the epochs of a `fit` over which both, and `recurrent_l2`, rise from 0, also with
        `warm_start`. Only weights from after that may be kept.
    free_bits : float, default=0.0
        Floor of the divergence of a component, in nats per trial or, of inputs, per time step.
    recurrent_l2 : float, default=0.0
        Weight of half the mean square of the recurrent weights of generator and controller, in
        nats per observed entry.
    dropout : float, default=0.05
        Of inputs, encoder states, factors and generator states.
    coordinated_dropout : float, default=0.2
        Share of shown entries hidden from the encoders at each training step; the fit of the
        others then carries no gradient, so that no count is copied (Keshtkaran & Pandarinath
        2019). It acts on the first `static_length` steps too, since they are reconstructed.
    sample_validation : float, default=0.0
        Share of entries held out of input and loss for the whole fit, by a fixed mask, to tell
        when to stop, in place of held-out neurons of held-out recordings; `best_loss_` is then the
        loss of these, and comparable between fits. At inference everything is input.
    hide_neurons : (float, float), default=(0.0, 0.4)
        Bounds of the share of neurons hidden over a whole window, drawn for each one in training:
        prepares for predicting neurons that were not recorded.
    hide_bins : (float, float), default=(0.0, 0.1)
        Bounds of the share of time steps hidden in all neurons together, in spans of 4 to 16, drawn
        for each window in training: prepares for time steps that are NaN in all neurons, in gaps
        or behind the end.
    forward_bins : int, default=0
        Last time steps of every training window that are hidden from the encoders, for a model
        of which nothing but prediction of what follows is asked.
    initialization : {"random", "pcr", "conditions"}, default="random"
        Start of read-in and read-out: drawn; by principal-component regression of the mean over
        trials (of single trials where all have the same neurons); or of the mean of each condition,
        given as `y`, by which sessions with different neurons meet. Neurons added later start from
        regression on the time courses of channels and factors of the fitted model in these means,
        and ``"conditions"`` needs their `y` too.
    freeze_core : bool, default=False
        `partial_fit`, or `fit` with `warm_start`, trains nothing but read-in and read-out of
        neurons that the model did not know when its core was last trained: adaptation to new
        sessions, in as many calls as it takes, that leaves the others untouched.
    n_samples : int, default=20
        Samples of the posterior over which `predict` and `infer` average rates, at most 100,000;
        the same for every window.
    window_length : int, default=256
        Most time steps at once. A trial of at most this length is one window; longer recordings
        are cut into windows with an initial condition of their own, cross-faded.
    stride : int or None, default=None
        Time steps between windows in inference; None is half of `window_length`. Training cuts
        longer recordings at random places, anew in each epoch.
    batch_size : int, default=32
        Trials at a time, in training and inference.
    max_iter : int or "auto", default="auto"
        Epochs; "auto" is as many as make 1,000 gradient steps, and at least 10, where an epoch is
        as many passes over the data as make 20 steps.
    learning_rate : float, default=1e-2
    weight_decay : float, default=0.0
        Of matrices of the core.
    early_stopping : bool, default=True
        Keep the weights that predict held-out entries best, and stop when they no longer improve.
    validation_fraction : float, default=0.15
        Share of recordings held out where four or more share their neurons, else of the length of
        each; refused with `sample_validation`.
    n_iter_no_change : int or "auto", default="auto"
        Epochs without improvement, after `kl_warmup`, before training stops; "auto" is as many as
        make 250 gradient steps, and at least 3.
    tol : float, default=1e-4
        Least improvement that counts.
    warm_start : bool, default=False
        Go on from the last fit; new neurons are added.
    random_state : int, RandomState instance or None, default=None
    device : str, default="auto"
        "auto" takes CUDA, then MPS, then the CPU.
    precision : {"float32", "bf16"}, default="float32"
        "bf16" trains under autocast, the closed loop excepted.
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
    n_behaviors_in_, n_stimuli_in_ : int
    network_ : torch.nn.Module
    loss_curve_, validation_scores_ : list of float
        Training loss (nats per entry) and validation loss of each epoch; the first validation loss
        is that of the start.
    best_loss_ : float
        Validation loss of the weights that were kept; without validation the last training loss.
    n_iter_ : int
    fit_time_ : float
        Seconds that the last fit took.
    n_rollbacks_ : int
        How often a loss or gradient was not finite and training went back to the epoch before, with
        half the learning rate.
    history_ : list of dict
        Parts of the training loss of each epoch: "nll", "kl_static" and "kl_dynamic" in nats per
        observed entry; "kl_static_per_component" in nats per window and
        "kl_dynamic_per_component" in nats per time step.

    Notes
    -----
    `infer` names its outputs "rates", "rates_std", "rates_without_inputs" (averaged over the same
    samples with all inferred inputs at 0: what the dynamics alone explain), "factors",
    "factors_std", "generator_states", "initial_condition_mean" and "_std", "inferred_inputs_mean"
    and "_std".

    The GRUs apply the reset gate after the recurrent weights, as cuDNN does; the original applies
    it before. Only the first state of the generator is clipped, which bounds all others.

    References
    ----------
    Sussillo, Jozefowicz, Abbott & Pandarinath (2016), LFADS. Pandarinath et al. (2018), Inferring
    single-trial neural population dynamics using sequential auto-encoders.

    Examples
    --------
    >>> from skneurovae import LFADS
    >>> from skneurovae.datasets import make_lorenz
    >>> trials, _ = make_lorenz(n_conditions=4, n_trials=5, random_state=0)
    >>> model = LFADS(4, generator_dim=16, max_iter=1, random_state=0).fit(trials)
    >>> model.predict(trials[:2])[0].shape
    (50, 30)
    """

    _network_class = LFADSNetwork
    _names = {
        "static": "initial_condition", "dynamic": "inferred_inputs", "states": "generator_states",
    }  # fmt: skip
    _parameter_constraints = {
        **SequentialEstimator._parameter_constraints,
        "dynamic_dim": [COUNT],
        "controller_dim": [Interval(Integral, 1, None, closed="left")],
        "static_length": [COUNT],
        "causal": ["boolean"],
        "lag": [COUNT],
        "time_constant": [Interval(Real, 0, None, closed="neither")],
        "recurrent_l2": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self, n_components=16, *, static_dim=32, dynamic_dim=4, read_in_dim=64,
        encoder_dim=64, controller_dim=64, generator_dim=100, likelihood="poisson",
        static_length=0, causal=False, lag=1, time_constant=10.0, beta_static=0.01,
        beta_dynamic=0.1, kl_warmup=0.3, free_bits=0.0, recurrent_l2=0.0, dropout=0.05,
        coordinated_dropout=0.2, sample_validation=0.0, hide_neurons=(0.0, 0.4),
        hide_bins=(0.0, 0.1), forward_bins=0, initialization="random", freeze_core=False,
        n_samples=20, window_length=256, stride=None, batch_size=32, max_iter="auto",
        learning_rate=1e-2, weight_decay=0.0, early_stopping=True, validation_fraction=0.15,
        n_iter_no_change="auto", tol=1e-4, warm_start=False, random_state=None, device="auto",
        precision="float32", verbose=0,
    ):  # fmt: skip
        self.n_components = n_components
        self.static_dim = static_dim
        self.dynamic_dim = dynamic_dim
        self.read_in_dim = read_in_dim
        self.encoder_dim = encoder_dim
        self.controller_dim = controller_dim
        self.generator_dim = generator_dim
        self.likelihood = likelihood
        self.static_length = static_length
        self.causal = causal
        self.lag = lag
        self.time_constant = time_constant
        self.beta_static = beta_static
        self.beta_dynamic = beta_dynamic
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits
        self.recurrent_l2 = recurrent_l2
        self.dropout = dropout
        self.coordinated_dropout = coordinated_dropout
        self.sample_validation = sample_validation
        self.hide_neurons = hide_neurons
        self.hide_bins = hide_bins
        self.forward_bins = forward_bins
        self.initialization = initialization
        self.freeze_core = freeze_core
        self.n_samples = n_samples
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
    def paper(cls, **parameters):
        """Estimator with the sizes, rates and weights of the original code, not fitted.

        How the learning rate changes and when training stops is as in other fits.

        Parameters
        ----------
        **parameters
            Take the place of those; the weights of the divergences are those published for the
            Lorenz system, in units of the bound. What they leave without meaning, as
            ``dynamic_dim=0`` does `controller_dim`, keeps its default.

        Returns
        -------
        LFADS
        """
        return cls._published(PAPER, parameters)

    @classmethod
    def _idle(cls, parameters):
        names = ("controller_dim", "lag", "time_constant", "beta_dynamic")
        idle = {} if parameters["dynamic_dim"] else dict.fromkeys(names, "dynamic_dim=0")
        return {**super()._idle(parameters), **idle}

    def _network_arguments(self):
        return {
            **self._shared_arguments(), "controller_dim": self.controller_dim,
            "static_length": self.static_length, "causal": self.causal, "lag": self.lag,
            "recurrent_l2": self.recurrent_l2, "time_constant": self.time_constant,
        }  # fmt: skip
