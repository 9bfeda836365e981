"""DSAE: what stays the same over a trial and what changes, apart."""

from __future__ import annotations

from numbers import Integral

import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from skneurovae.common.isolation import isolated
from skneurovae.common.randomness import seeded
from skneurovae.estimators.generation import check_positive
from skneurovae.estimators.sequential import COUNT, SequentialEstimator
from skneurovae.estimators.sequential_swap import (
    SwapMixin,
    dynamic_latents,
    own_mean_where_unknown,
    rates_of,
)
from skneurovae.networks.sequential_models import DSAENetwork
from skneurovae.recordings import Recording

PAPER = {
    "static_dim": 256, "dynamic_dim": 32, "encoder_dim": 512, "generator_dim": 512,
    "prior_dim": 512, "read_in_dim": 512, "learning_rate": 1e-4, "dropout": 0.0,
    "coordinated_dropout": 0.0, "hide_neurons": (0.0, 0.0), "hide_bins": (0.0, 0.0),
    "kl_warmup": 0.0, "beta_static": 1.0, "beta_dynamic": 1.0,
}  # fmt: skip


class DSAE(SwapMixin, SequentialEstimator):
    """Disentangled sequential autoencoder (Li & Mandt 2018) for neural recordings.

    A trial has a static latent f and a dynamic latent z_t at every time step. The decoder has no
    memory: factors at t are a network of z_t, f and the stimulus alone, so that all structure in
    time has to be in the prior of z, and what does not change is cheapest in f::

        f ~ N(0, 1),   z_t ~ p(z_t | z_{t-1}, ...),   log rate_t = read-out * MLP([z_t, f]).

    Parameters
    ----------
    n_components : int, default=16
        Factors, what `transform` returns.
    variant : {"full", "factorized"}, default="full"
        q(z) from the whole trial and a sample of f, or of each time step from its own traces.
    static_dim : int, default=8
        Static latents. Few: f sees the whole trial, and nothing but its size keeps dynamics out.
    dynamic_dim : int, default=4
        Dynamic latents.
    read_in_dim : int, default=64
        Channels to which neurons add up before the encoders.
    encoder_dim, generator_dim, prior_dim : int, default=64
        Units of the encoders (of each direction), of the decoder's hidden layer, and of the
        prior's LSTM.
    prior : {"recurrent", "ar1"}, default="recurrent"
        Of z: an LSTM that reads samples of the posterior, or autoregressive with learned time
        constants and no LSTM, for which `prior_dim` is refused unless at its default.
    likelihood : {"poisson", "negative_binomial", "gaussian", "gamma"}, default="poisson"
        Of the traces: counts per bin for the first two, positive traces for "gamma".
    static_length : int, default=0
        f is inferred from this many first time steps of a window alone; 0 = from all.
    causal : bool, default=False
        z_t, and from `static_length` on the factors, depend on nothing after t. Needs
        `static_length` above 0, and windows that overlap by at least as much. "factorized" infers
        z without looking ahead in any case; here windows of long recordings do not either.
    beta_static, beta_dynamic : float, default=0.1
        Weights of the divergences of f and z; 1 is the bound, at which latents of noisy spikes stay
        at their prior. The smaller they are, the less do trials of `sample` resemble the data.
    kl_warmup : float, default=0.3
        Share of the epochs of a `fit` over which both rise from 0, also with `warm_start`. Only
        weights from after that may be kept.
    free_bits : float, default=0.0
        Floor of the divergence of a component, in nats per trial or, of z, per time step.
    dropout : float, default=0.05
        Of inputs and encoder states.
    coordinated_dropout : float, default=0.2
        Share of shown entries hidden from both encoders at each training step; the fit of the
        others then carries no gradient, so that no count is copied.
    sample_validation : float, default=0.0
        Share of entries held out of input and loss for the whole fit; see `LFADS`.
    hide_neurons : (float, float), default=(0.0, 0.4)
        Bounds of the share of neurons hidden over a whole window, drawn for each one in training.
    hide_bins : (float, float), default=(0.0, 0.1)
        Bounds of the share of time steps hidden in all neurons together, in spans of 4 to 16, drawn
        for each window in training: prepares for time steps that are NaN in all neurons. There
        "factorized" knows f alone.
    forward_bins : int, default=0
        Last time steps of each training window that are hidden from the encoders.
    initialization : {"random", "pcr", "conditions"}, default="random"
        Start of read-in and read-out; see `LFADS`.
    freeze_core : bool, default=False
        `partial_fit`, or `fit` with `warm_start`, trains new neurons only; see `LFADS`.
    n_samples : int, default=20
        Samples of the posterior over which `predict` and `infer` average rates.
    window_length : int, default=256
        Most time steps at once; longer recordings are cut into windows, each with its own f.
    stride, batch_size, max_iter, learning_rate, weight_decay, early_stopping, \
validation_fraction, n_iter_no_change, tol, warm_start, random_state, device, precision, verbose
        See `LFADS`.

    Attributes
    ----------
    identities_, neuron_scale_, n_features_in_, n_behaviors_in_, n_stimuli_in_, network_, \
loss_curve_, validation_scores_, best_loss_, n_iter_, fit_time_, n_rollbacks_, history_
        See `LFADS`.

    Notes
    -----
    `infer` names its outputs "rates", "rates_std", "factors", "factors_std", "states" (hidden
    units of the decoder), "static_mean", "static_std", "dynamic_mean" and "dynamic_std". `swap`
    exchanges f, which a trial longer than `window_length` does not have.

    References
    ----------
    Li & Mandt (2018), Disentangled sequential autoencoder. Its later implementations score samples
    of the posterior under a roll-out of the prior's own samples; here the prior reads the
    posterior's samples, as the bound has it.

    Examples
    --------
    >>> from skneurovae import DSAE
    >>> from skneurovae.datasets import make_static_dynamic
    >>> trials, truth = make_static_dynamic(10, n_timesteps=30, random_state=0)
    >>> model = DSAE(variant="factorized", max_iter=1, random_state=0).fit(trials)
    >>> len(model.swap(trials, order=range(10)))
    10
    """

    _network_class = DSAENetwork
    _parameter_constraints = {
        **SequentialEstimator._parameter_constraints,
        "variant": [StrOptions({"full", "factorized"})],
        "prior": [StrOptions({"recurrent", "ar1"})],
        "prior_dim": [Interval(Integral, 1, None, closed="left")],
        "static_length": [COUNT],
        "causal": ["boolean"],
    }

    def __init__(
        self, n_components=16, *, variant="full", static_dim=8, dynamic_dim=4,
        read_in_dim=64, encoder_dim=64, generator_dim=64, prior_dim=64, prior="recurrent",
        likelihood="poisson", static_length=0, causal=False, beta_static=0.1,
        beta_dynamic=0.1, kl_warmup=0.3, free_bits=0.0, dropout=0.05,
        coordinated_dropout=0.2, sample_validation=0.0, hide_neurons=(0.0, 0.4),
        hide_bins=(0.0, 0.1), forward_bins=0, initialization="random", freeze_core=False,
        n_samples=20, window_length=256, stride=None, batch_size=32, max_iter="auto",
        learning_rate=1e-2, weight_decay=0.0, early_stopping=True, validation_fraction=0.15,
        n_iter_no_change="auto", tol=1e-4, warm_start=False, random_state=None, device="auto",
        precision="float32", verbose=0,
    ):  # fmt: skip
        self.n_components = n_components
        self.variant = variant
        self.static_dim = static_dim
        self.dynamic_dim = dynamic_dim
        self.read_in_dim = read_in_dim
        self.encoder_dim = encoder_dim
        self.generator_dim = generator_dim
        self.prior_dim = prior_dim
        self.prior = prior
        self.likelihood = likelihood
        self.static_length = static_length
        self.causal = causal
        self.beta_static = beta_static
        self.beta_dynamic = beta_dynamic
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits
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
        """Estimator with the published sizes, rates and weights, not fitted.

        How the learning rate changes and when training stops is as in other fits.

        Parameters
        ----------
        **parameters
            Take the place of those; ``prior="ar1"`` leaves `prior_dim` at its default.

        Returns
        -------
        DSAE
        """
        return cls._published(PAPER, parameters)

    @isolated
    def generate(
        self, trial, fix="static", *, mask=None, stimulus=None, identities=None, n_samples=1,
        random_state=None,
    ):  # fmt: skip
        """New trials that keep one latent of a trial and draw the other from its prior.

        Parameters
        ----------
        trial : Recording, array of shape (n_timesteps, n_neurons), or DataFrame
            One recording of at most `window_length` time steps; its stimulus is kept too.
        fix : {"static", "dynamic"}, default="static"
            What is kept, at its posterior mean.
        mask, stimulus, identities : array, default=None
            Of `trial`, where it is an array; as in `fit`.
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        ndarray of shape (n_samples, n_timesteps, n_neurons)
            Expected traces.

        Raises
        ------
        ValueError, TypeError
            If `fix` is something else, `trial` is not one recording or longer than a window, or
            another argument is wrong.
        """
        if fix not in ("static", "dynamic"):
            raise ValueError(f"fix must be 'static' or 'dynamic', got {fix!r}.")
        check_positive("n_samples", n_samples)
        if not isinstance(trial, Recording) and getattr(trial, "ndim", 0) != 2:
            found = f"shape {trial.shape}" if hasattr(trial, "shape") else type(trial).__name__
            raise ValueError(
                "trial must be one recording, of shape (n_timesteps, n_neurons) or a Recording; "
                f"got {found}."
            )
        given = mask, None, stimulus, identities
        (recording,), _ = self._check([trial], *(None if v is None else [v] for v in given))
        (row,) = self._vocabulary.rows([recording])
        network = self._network_in_full([recording])
        static = self._static_latents(network, [recording], [row])
        (batch,) = self._pieces(network, recording, row)
        seed = check_random_state(random_state).randint(2**31 - 1)
        with seeded(seed):
            if fix == "static":
                dynamic = self.network_.dynamic_prior.sample(n_samples, recording.n_timesteps)
            else:
                dynamic = dynamic_latents(network, batch)
                static = self.network_.static_prior.sample(n_samples)
        # Drawn in single precision, so that the dtype of `trial` does not change what is drawn.
        latents = static.to(network.scale.dtype), dynamic.to(network.scale.dtype)
        return own_mean_where_unknown(rates_of(network, batch, *latents), recording, row)

    def _static_latents(self, network, recordings, rows):
        """Posterior mean of f of each trial, (n_recordings, static_dim)."""
        found, length = [], self._fitted_params["window_length"]
        for recording, row in zip(recordings, rows):
            if recording.n_timesteps > length:
                raise ValueError(
                    f"a trial has {recording.n_timesteps} time steps, more than one window of "
                    f"{length}: it has no single static latent."
                )
            with torch.inference_mode():
                (batch,) = self._pieces(network, recording, row)
                found.append(network.mean_path(batch).static.mean)
        return torch.cat(found)

    @classmethod
    def _idle(cls, parameters):
        idle = {"prior_dim": "prior='ar1'"} if parameters["prior"] == "ar1" else {}
        return {**super()._idle(parameters), **idle}

    def _network_arguments(self):
        return {
            **self._shared_arguments(), "prior_dim": self.prior_dim, "variant": self.variant,
            "prior": self.prior, "static_length": self.static_length, "causal": self.causal,
        }  # fmt: skip
