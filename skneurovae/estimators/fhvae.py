"""FHVAE: what belongs to a sequence and what to a segment of it, apart."""

from __future__ import annotations

import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skneurovae.common.isolation import isolated
from skneurovae.common.randomness import randperm
from skneurovae.estimators.sequential import SequentialEstimator
from skneurovae.estimators.sequential_swap import SwapMixin
from skneurovae.networks.sequential_models import FHVAENetwork
from skneurovae.recordings.batches import make_batches

PAPER = {
    "static_dim": 32, "dynamic_dim": 32, "encoder_dim": 256, "generator_dim": 256,
    "read_in_dim": 256, "window_length": 20, "stride": 8, "batch_size": 256, "alpha": 10.0,
    "learning_rate": 1e-3, "dropout": 0.0, "coordinated_dropout": 0.0,
    "hide_neurons": (0.0, 0.0), "hide_bins": (0.0, 0.0),
}  # fmt: skip


class FHVAE(SwapMixin, SequentialEstimator):
    """Factorized hierarchical variational autoencoder (Hsu, Zhang & Glass 2017).

    Recordings are cut into segments, windows of `window_length`. A segment has two vectors: a
    dynamic one of its own, z ~ N(0, 1), and a static one, f ~ N(m_i, 0.25), around the vector of
    its sequence, m_i ~ N(0, 1). A sequence is a recording or a session. An LSTM that gets [z, f] at
    every step makes the factors, and each neuron reads them out.

    Parameters
    ----------
    n_components : int, default=16
        Factors, what `transform` returns.
    sequences : {"recording", "session"}, default="recording"
        What shares a vector: the segments of a recording, or of all recordings of a session.
    static_dim, dynamic_dim : int, default=8
        Latents of a segment.
    read_in_dim : int, default=64
        Channels to which neurons add up before the encoders.
    encoder_dim, generator_dim : int, default=64
        Units of each layer of the LSTMs.
    alpha : float, default=10.0
        Weight of the log probability of the right sequence given a segment's f. It needs several
        sequences: a fit of one warns that it has no effect.
    n_sequences_at_once : int or None, default=None
        Hierarchical sampling (Hsu & Glass 2018): every epoch draws this many sequences, sets their
        vectors from their segments in closed form, and trains on these alone; for more sequences
        than can be told apart at once; 1 needs ``alpha=0``. None = all.
    likelihood : {"poisson", "negative_binomial", "gaussian", "gamma"}, default="poisson"
        Of the traces: counts per bin for the first two, positive traces for "gamma".
    beta_static, beta_dynamic : float, default=1.0
        Weights of the divergences of f and z; 1 is the bound.
    kl_warmup : float, default=0.0
        Share of the epochs of a `fit` over which both rise from 0, also with `warm_start`. Only
        weights from after that may be kept.
        While z costs nothing it takes over what belongs to f, and keeps it: hence 0.
    free_bits : float, default=0.0
        Floor of the divergence of a component, in nats per segment.
    dropout : float, default=0.05
        Of inputs and encoder states.
    coordinated_dropout : float, default=0.2
        Share of shown entries hidden from both encoders at each training step; the fit of the
        others then carries no gradient, so that no count is copied.
    sample_validation : float, default=0.0
        Share of entries held out of input and loss for the whole fit; see `LFADS`.
    hide_neurons : (float, float), default=(0.0, 0.4)
        Bounds of the share of neurons hidden over a whole segment, drawn for each one in training.
    hide_bins : (float, float), default=(0.0, 0.0)
        Bounds of the share of time steps hidden in all neurons together, in spans of 4 to 16, drawn
        for each segment in training. A segment is encoded by itself, so that little is left of it.
    forward_bins : int, default=0
        Last time steps of each training segment that are hidden from the encoders.
    initialization : {"random", "pcr", "conditions"}, default="random"
        Start of read-in and read-out; see `LFADS`.
    freeze_core : bool, default=False
        `partial_fit`, or `fit` with `warm_start`, trains new neurons only; see `LFADS`.
    n_samples : int, default=20
        Samples of the posterior over which `predict` and `infer` average rates.
    window_length : int, default=20
        Time steps of a segment; `sample` makes trials of segments that share a sequence's vector.
    stride : int or None, default=None
        Time steps between segments; None is half of `window_length`. Segments cross-fade.
    batch_size, max_iter, learning_rate, weight_decay, early_stopping, validation_fraction, \
n_iter_no_change, tol, warm_start, random_state, device, precision, verbose
        See `LFADS`; `batch_size` is 64 here.

    Attributes
    ----------
    identities_, neuron_scale_, n_features_in_, n_behaviors_in_, n_stimuli_in_, network_, \
loss_curve_, validation_scores_, best_loss_, n_iter_, fit_time_, n_rollbacks_, history_
        See `LFADS`.

    Notes
    -----
    `infer` names its outputs "rates", "rates_std", "factors", "factors_std", "states" (of the
    LSTM), "static_mean", "static_std", and "dynamic_mean", "dynamic_std" at every time step of
    their segment. `swap` gives every segment the vector of another sequence in place of f and keeps
    its z; segments do not overlap there. With ``sequences="session"`` recordings of one session
    share their vector, so only an `order` across sessions changes anything.

    References
    ----------
    Hsu, Zhang & Glass (2017), Unsupervised learning of disentangled and interpretable
    representations from sequential data. Hsu & Glass (2018), Scalable factorized hierarchical
    variational autoencoder training.

    Examples
    --------
    >>> from skneurovae import FHVAE
    >>> from skneurovae.datasets import make_static_dynamic
    >>> trials, truth = make_static_dynamic(6, n_timesteps=60, random_state=0)
    >>> model = FHVAE(max_iter=1, random_state=0).fit(trials)
    >>> model.sequence_vectors(trials).shape
    (6, 8)
    """

    _network_class = FHVAENetwork
    _parameter_constraints = {
        **SequentialEstimator._parameter_constraints,
        "sequences": [StrOptions({"recording", "session"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "n_sequences_at_once": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self, n_components=16, *, sequences="recording", static_dim=8, dynamic_dim=8,
        read_in_dim=64, encoder_dim=64, generator_dim=64, alpha=10.0,
        n_sequences_at_once=None, likelihood="poisson", beta_static=1.0, beta_dynamic=1.0,
        kl_warmup=0.0, free_bits=0.0, dropout=0.05, coordinated_dropout=0.2,
        sample_validation=0.0, hide_neurons=(0.0, 0.4), hide_bins=(0.0, 0.0),
        forward_bins=0, initialization="random", freeze_core=False, n_samples=20,
        window_length=20, stride=None, batch_size=64, max_iter="auto", learning_rate=1e-2,
        weight_decay=0.0, early_stopping=True, validation_fraction=0.15,
        n_iter_no_change="auto", tol=1e-4, warm_start=False, random_state=None, device="auto",
        precision="float32", verbose=0,
    ):  # fmt: skip
        self.n_components = n_components
        self.sequences = sequences
        self.static_dim = static_dim
        self.dynamic_dim = dynamic_dim
        self.read_in_dim = read_in_dim
        self.encoder_dim = encoder_dim
        self.generator_dim = generator_dim
        self.alpha = alpha
        self.n_sequences_at_once = n_sequences_at_once
        self.likelihood = likelihood
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
            Take the place of those.

        Returns
        -------
        FHVAE
        """
        return cls._published(PAPER, parameters)

    @isolated
    def sequence_vectors(self, X, *, mask=None, stimulus=None, identities=None):
        """Most probable vectors of sequences, in closed form; also of sequences never seen.

        Parameters
        ----------
        X, mask, stimulus, identities
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_recordings, static_dim)
            The sum of the posterior means of the segments' f, divided by their number plus 0.25,
            in the dtype of the traces. With ``sequences="session"`` recordings of one session have
            the same vector.

        References
        ----------
        Hsu, Zhang & Glass (2017), section 3.2.
        """
        recordings, _ = self._check(X, mask, None, stimulus, identities)
        network = self._network_in_full(recordings)
        return self._static_latents(network, recordings, self._vocabulary.rows(recordings)).numpy()

    def _static_latents(self, network, recordings, rows):
        store = self._store(recordings, rows, torch.device("cpu"), network.scale.dtype)
        sequence, names = self._sequences_of(recordings)
        return self._closed_form(network, store, sequence, len(names))[sequence]

    def _closed_form(self, network, store, sequence, n_sequences, prepare=lambda batch: batch):
        """Vectors from segments that do not overlap.

        `sequence` is that of each recording, -1 = left out; `prepare` is applied to each batch.
        """
        window = self._fitted_params["window_length"]
        plan = np.array([
            (index, start, min(start + window, length))
            for index, length in enumerate(store.lengths)
            for start in range(0, length, window)
            if sequence[index] >= 0
        ])  # fmt: skip
        means, owners = [], []
        training = network.training
        network.eval()
        for block in make_batches(plan, store, self._n_windows(plan), shuffle=False):
            means.append(network.draw_static(prepare(store.batch(block))))
            owners.append(torch.from_numpy(sequence[block[:, 0]]))
        network.train(training)
        means, owners = torch.cat(means), torch.cat(owners).to(means[0].device)
        return network.static_prior.vectors(means, owners, n_sequences)

    def _sequences_of(self, recordings):
        """Number of the sequence of each recording, and the names of the sequences."""
        by_session = self._fitted_params["sequences"] == "session"
        keys = [
            ("session", r.session) if by_session and r.session is not None else ("recording", i)
            for i, r in enumerate(recordings)
        ]
        names = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        return np.array([names[key] for key in keys]), list(names)

    def _check_parameters(self):
        super()._check_parameters()
        if self.n_sequences_at_once == 1 and self.alpha > 0:
            raise ValueError(
                "alpha has no meaning with n_sequences_at_once=1, among which there is nothing to "
                f"tell apart; set it to 0, got {self.alpha}."
            )
        if self.beta_static == 0 and self.alpha == 0:
            raise ValueError("beta_static=0 and alpha=0 leave the sequence vectors without use.")

    def _network_arguments(self):
        return {
            **self._shared_arguments(), "alpha": self.alpha, "n_sequences": self._n_rows(),
        }  # fmt: skip

    def _n_rows(self):
        """Rows of the table of sequence vectors."""
        sequences = getattr(self, "_n_sequences", 1)
        return min(sequences, self.n_sequences_at_once or sequences)

    def _train(self, recordings, fresh, n_epochs, context):
        self._n_sequences = len(self._sequences_of(recordings)[1])
        super()._train(recordings, fresh, n_epochs, context)

    def _train_network(self, recordings, fresh, n_epochs, context):
        super()._train_network(recordings, fresh, n_epochs, context)
        self.network_.row_of = None

    def _batches(self, store, network, choose=None):
        sequence, names = self._sequences_of(store.recordings)
        if len(names) == 1 and self.alpha:
            warnings.warn(
                "alpha has no effect on this fit: there is one sequence to train on, and nothing "
                "to tell it from.",
                stacklevel=2,
            )
        owners = sequence[self._plan(store.lengths)[:, 0]]
        n_segments = torch.from_numpy(np.bincount(owners, minlength=len(names)))
        withhold = self._withholding(store)

        def take(chosen, closed_form):
            """Give the rows of the table to the sequences `chosen`; the row of each recording."""
            row = np.full(len(names), -1)
            row[chosen] = np.arange(len(chosen))
            row = row[sequence]
            network.row_of = torch.from_numpy(row).to(store.device)
            network.n_segments[: len(chosen)] = n_segments[chosen].to(network.n_segments)
            if closed_form:
                vectors = self._closed_form(network, store, row, len(chosen), withhold)
                with torch.no_grad():
                    network.static_prior.table[: len(chosen)] = vectors
            return row

        def draw(plan):
            """Windows of some sequences, whose vectors start in closed form."""
            chosen = randperm(len(names))[: self.n_sequences_at_once].numpy()
            return plan[take(chosen, True)[plan[:, 0]] >= 0]

        if self.n_sequences_at_once and self.n_sequences_at_once < len(names):
            return super()._batches(store, network, draw)
        # Sequences that a fitted model meets have vectors of their own, not those of the last fit.
        take(np.arange(len(names)), self._n_updates > 0)
        return super()._batches(store, network, lambda plan: plan)
