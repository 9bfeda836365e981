"""ContrastiveEmbedding: embeddings of neural recordings in which related time steps are close."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from skneurovae.common.isolation import isolated
from skneurovae.common.parameters import with_plain_parameters
from skneurovae.common.randomness import seeded
from skneurovae.common.rollback import all_or_nothing
from skneurovae.estimators.base import LatentVariableEstimator
from skneurovae.estimators.contrastive_labels import label_channels, number_labels, take_targets
from skneurovae.estimators.contrastive_training import (
    SCORED,
    ContrastiveTraining,
    make_samplers,
    mean_bits,
    session_order,
)
from skneurovae.estimators.inference import INPUTS
from skneurovae.networks.convolutional import NETWORKS
from skneurovae.recordings.doubts import tell_doubts
from skneurovae.recordings.pairs import Pairing


class ContrastiveEmbedding(ContrastiveTraining, LatentVariableEstimator):
    """Embedding in which time steps that belong together are close (CEBRA's method).

    A network embeds a short window of traces around every time step. It is trained to tell a
    related time step (near in time, or of like behavior) from others drawn at random. Recordings
    of many sessions share everything but the first layer, in which each neuron has a kernel of its
    own: neurons of one identity share it too. Behavior is never needed by `transform`.

    The method of CEBRA is covered by a US patent (US 12,499,131 B2). Check your own situation
    before you use it.

    Parameters
    ----------
    n_components : int, default=8
        With the cosine each part needs two or more: one number of length 1 is a sign.
    network : {"linear", "offset1", "offset5", "offset10", "offset36", "attention"}, \
default="offset10"
        Encoder. "offset..." are CEBRA's convolutional networks, with that many time steps in the
        window; "linear" sees one step; "attention" attends among the 10 steps of the window.
    conditional : str or list of dict, default="auto"
        What makes a pair. "time": `time_offset` steps later in the same recording. "time_delta":
        the step whose behavior is closest (channels in units of their spread) to that of the
        reference plus a change drawn from the data. "delta" (also "delta_normal"): plus a Gaussian
        change of standard deviation `delta`. "discrete": the same labels. "behavior": "discrete" if
        all channels are labels, else "time_delta". "hybrid": behavior in the first half of the
        components and time in the others.
        "auto": "behavior" if there is any, else "time". A list holds one dict per objective, with
        "conditional" and "components" (start, stop), and perhaps "channels", "weight",
        "time_offset" and "delta"; slices may overlap.
    time_offset : int, sequence of int or None, default=None
        Time steps between the two of a pair, or over which changes are taken. None is 1 for
        changes, and the window of the network (at most a quarter of the longest recording) for
        "time": windows that share samples are told from others in pure noise.
    delta : float or None, default=None
        In units of the behavior.
    discrete : sequence of int, "all" or None, default=None
        Behavior channels that are labels, of any values. All labels agree within a pair; next to
        continuous channels, the closest is looked for among steps with the same labels.
    circular : dict of int to float or None, default=None
        Behavior channels that are circular, with their period.
    prior : {"empirical", "uniform"}, default="empirical"
        References and negatives of labels as often as they occur, or all equally often.
    objective : {"infonce", "focal", "focal_published"}, default="infonce"
        See `skneurovae.objectives.contrastive.contrastive_loss`. The published focal form
        penalizes pairs that are well told apart; "focal" does not.
    gamma : float or None, default=None
        Of the focal forms; None is 2.
    similarity : {"cosine", "euclidean"}, default="cosine"
        The latter is minus the squared distance.
    normalize : bool or "auto", default="auto"
        Whether each part of the embedding has length 1 (the whole, where parts overlap); "auto" is
        True for the cosine.
    temperature : float, default=1.0
        Divides the similarity; where it is learned, the start.
    learn_temperature : bool, default=False
    min_temperature : float or None, default=None
        Floor of a learned temperature; None is 0.1.
    hidden_dim : int or None, default=None
        Width of the encoder; None is 32. "linear" has none.
    n_layers, n_heads : int or None, default=None
        Of "attention" only: None is 1 and 4. Twice `n_heads` must divide `hidden_dim`.
    dropout : float or None, default=None
        Of "attention" only: None is 0.
    standardize : bool, default=False
        Divide traces by the standard deviation of the neuron: for neurons in different units. Where
        many hardly fire it raises their noise, and CEBRA does not do it. The mean is always taken
        off.
    noise : float, default=0.0
        Augmentation: standard deviation of noise, in those of the neuron (without `standardize`, in
        units of the traces).
    time_jitter : int, default=0
        Augmentation: windows are shifted by up to so many steps.
    neuron_dropout : float, default=0.0
        Augmentation: probability that a neuron is missing from a window.
    amplitude_jitter : float, default=0.0
        Augmentation: windows are scaled by factors of 1 plus or minus up to this.
    jacobian_penalty : float, default=0.0
        Weight of half the squared norm of the derivatives of the embedding (xCEBRA), which rises
        along a line over the first fifth of the epochs.
    batch_size : int, default=512
        References in a batch, spread evenly over its sessions.
    steps_per_epoch : int, default=100
    max_iter : int, default=30
        Epochs.
    learning_rate : float, default=1e-3
    weight_decay : float, default=0.0
    early_stopping : bool, default=True
        Keep the weights with the best goodness of fit on held-out data, and stop when it no longer
        improves. Held out are whole recordings where four or more share their neurons, else up to
        five blocks spread over each.
    validation_fraction : float, default=0.15
        Fraction of recordings, or of their length.
    n_iter_no_change : int, default=10
    tol : float, default=1e-3
        Least improvement that counts, in bits.
    warm_start : bool, default=False
        Go on from the last fit; new neurons are added.
    random_state : int, RandomState instance or None, default=None
    device : str, default="auto"
    precision : {"float32", "bf16"}, default="float32"
    verbose : int, default=0

    Attributes
    ----------
    identities_ : ndarray of shape (n_identities,)
        Neurons that the model knows.
    n_features_in_ : int
        Number of columns, where all recordings have the same.
    n_behaviors_in_ : int
    network_ : torch.nn.Module
    loss_curve_ : list of float
        Training loss of each epoch, in nats.
    validation_scores_ : list of float
        Minus the held-out goodness of fit in bits (plus the penalty, divided by ln 2 and the sum
        of the weights), of the start and after each epoch.
    best_loss_ : float
        That of the weights that were kept; without validation the last training loss.
    n_iter_ : int
    fit_time_ : float
        Seconds that the last fit took.
    history_ : list of dict
        For each epoch: "bits" over chance and "temperature" of each part, "jacobian".

    See Also
    --------
    NeuroBehaviorVAE : A generative model of the traces.

    References
    ----------
    Schneider, Lee & Mathis (2023), Learnable latent embeddings for joint behavioural and neural
    analysis, Nature 617.

    Examples
    --------
    >>> import numpy as np
    >>> from skneurovae import ContrastiveEmbedding
    >>> angle = np.linspace(0, 20, 400)
    >>> traces = np.cos(angle[:, None] - np.linspace(0, 6, 12)) + np.zeros((400, 12))
    >>> model = ContrastiveEmbedding(2, max_iter=2, steps_per_epoch=5, random_state=0)
    >>> model.fit_transform(traces).shape
    (400, 2)
    """

    __metadata_request__score = INPUTS

    _whole = Interval(Integral, 1, None, closed="left")
    _above = Interval(Real, 0, None, closed="neither")
    _from_zero = Interval(Real, 0, None, closed="left")
    _share = Interval(Real, 0, 1, closed="left")
    _parameter_constraints = {
        **{
            name: constraint
            for name, constraint in LatentVariableEstimator._parameter_constraints.items()
            if name not in ("window_length", "stride")
        },
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "network": [StrOptions(set(NETWORKS))],
        "conditional": [str, list, tuple],
        "time_offset": [_whole, "array-like", None],
        "delta": [_above, None],
        "discrete": ["array-like", StrOptions({"all"}), None],
        "circular": [dict, None],
        "prior": [StrOptions({"empirical", "uniform"})],
        "objective": [StrOptions({"infonce", "focal", "focal_published"})],
        "gamma": [_from_zero, None],
        "similarity": [StrOptions({"cosine", "euclidean"})],
        "normalize": ["boolean", StrOptions({"auto"})],
        "temperature": [_above],
        "learn_temperature": ["boolean"],
        "min_temperature": [_above, None],
        "hidden_dim": [_whole, None],
        "n_layers": [_whole, None],
        "n_heads": [_whole, None],
        "dropout": [_share, None],
        "standardize": ["boolean"],
        "noise": [_from_zero],
        "time_jitter": [Interval(Integral, 0, None, closed="left")],
        "neuron_dropout": [_share],
        "amplitude_jitter": [_share],
        "jacobian_penalty": [_from_zero],
        "steps_per_epoch": [_whole],
    }

    def __init__(
        self, n_components=8, *, network="offset10", conditional="auto", time_offset=None,
        delta=None, discrete=None, circular=None, prior="empirical", objective="infonce",
        gamma=None, similarity="cosine", normalize="auto", temperature=1.0,
        learn_temperature=False, min_temperature=None, hidden_dim=None, n_layers=None, n_heads=None,
        dropout=None, standardize=False, noise=0.0, time_jitter=0, neuron_dropout=0.0,
        amplitude_jitter=0.0, jacobian_penalty=0.0, batch_size=512, steps_per_epoch=100,
        max_iter=30, learning_rate=1e-3, weight_decay=0.0, early_stopping=True,
        validation_fraction=0.15, n_iter_no_change=10, tol=1e-3, warm_start=False,
        random_state=None, device="auto", precision="float32", verbose=0,
    ):  # fmt: skip
        self.n_components = n_components
        self.network = network
        self.conditional = conditional
        self.time_offset = time_offset
        self.delta = delta
        self.discrete = discrete
        self.circular = circular
        self.prior = prior
        self.objective = objective
        self.gamma = gamma
        self.similarity = similarity
        self.normalize = normalize
        self.temperature = temperature
        self.learn_temperature = learn_temperature
        self.min_temperature = min_temperature
        self.hidden_dim = hidden_dim
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.dropout = dropout
        self.standardize = standardize
        self.noise = noise
        self.time_jitter = time_jitter
        self.neuron_dropout = neuron_dropout
        self.amplitude_jitter = amplitude_jitter
        self.jacobian_penalty = jacobian_penalty
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
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

    @isolated
    def fit(self, X, y=None, *, mask=None, behavior=None, stimulus=None, identities=None):
        """Fit the model.

        Parameters
        ----------
        X : array, DataFrame, list of arrays or DataFrames, or list of Recording
            Traces, time first. A 2-D array is one recording of shape (n_timesteps, n_neurons), a
            3-D array recordings of equal length. NaN = not observed.
        y : array of shape (n_timesteps,) or (n_timesteps, n_channels) or list, default=None
            Behavior that pairs are made of, where the recordings carry none: integers, booleans and
            strings are labels, unless `discrete` says which channels are; floats are numbers. On a
            circle, and for "time_delta" and "delta", integers are numbers too. Not used, as all
            behavior, by ``conditional="time"``. A pipeline and `cross_validate` hand their `y` to
            every step, and so train the embedding on what is decoded from it; what they score it
            with was not seen.
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
            If an argument is wrong, or `y` and behavior are both given; the message names it and
            the recording.
        """
        inputs = {
            "mask": mask, "behavior": behavior, "stimulus": stimulus, "identities": identities,
        }  # fmt: skip
        return super().fit(X, y, **inputs)

    @isolated
    @all_or_nothing
    @with_plain_parameters
    @_fit_context(prefer_skip_nested_validation=True)
    def adapt(
        self, X, y=None, *, mask=None, behavior=None, stimulus=None, identities=None, max_iter=5
    ):
        """Learn the input weights of new neurons; everything else stays as it is.

        Embeddings of recordings that the model knew do not change.

        Parameters
        ----------
        X, y, mask, behavior, stimulus, identities
            As in `fit`; with neurons that the model does not know.
        max_iter : int, default=5
            Epochs.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If there is no new neuron (`partial_fit` trains on what is known), or the model has not
            been fitted.
        """
        if not isinstance(max_iter, Integral) or max_iter < 1:
            raise ValueError(f"max_iter must be a positive integer, got {max_iter!r}.")
        self._fix_parameters()
        self._note_labels(X, y, fresh=False)
        recordings, _ = self._check(X, mask, behavior, stimulus, identities, y)
        self._check_parameters()
        self._adapting = True
        self._train(recordings, False, int(max_iter), None)
        del self._adapting
        return self

    @isolated
    def transform(self, X, *, mask=None, behavior=None, stimulus=None, identities=None):
        """Embed every time step; at the ends of a recording its edge is repeated.

        Parameters
        ----------
        X, mask, behavior, stimulus, identities
            As in `fit`. Behavior is not used, and may be absent.

        Returns
        -------
        embedding : array or list, in the form of `X`
            (n_timesteps, n_components) each; finite also where traces are NaN.
        """
        recordings, form = self._check(X, mask, behavior, stimulus, identities)
        self._check_container(form)
        result = self._infer(recordings, self._vocabulary.rows(recordings), _embedding)
        return form.wrap([r["embedding"] for r in result])

    @isolated
    def score(self, X, y=None, *, mask=None, behavior=None, stimulus=None, identities=None):
        """Goodness of fit in bits over chance: how well pairs are told from other time steps.

        InfoNCE with pairs drawn anew, always 512 references at a time and the same draws for the
        same `X`, whatever `batch_size`; 0 = chance, and what a collapsed embedding has, for any
        number of sessions. With several objectives their mean by weight. It is bounded by the
        temperature and the similarity (a cosine differs by 2 at most), and depends on what makes a
        pair: compare it between models that have these alike.

        Parameters
        ----------
        X, y, mask, behavior, stimulus, identities
            As in `fit`. With behavior, if it was trained on.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If no pair can be drawn from `X`.
        """
        recordings, _ = self._check(X, mask, behavior, stimulus, identities, y)
        rows = self._vocabulary.rows(recordings)
        embedded = [r["embedding"] for r in self._infer(recordings, rows, _embedding)]
        order, session = session_order(rows)
        embedding = torch.from_numpy(np.concatenate([embedded[i] for i in order])).float()
        pairings = [Pairing(**pairing) for pairing in self._pairings]
        samplers = make_samplers(pairings, [recordings[i] for i in order], session, "cpu")
        with seeded(0), torch.no_grad():
            draws = [sampler.draw(*SCORED) for sampler in samplers]
            return float(mean_bits(self.network_, embedding, draws))

    @isolated
    def jacobian(
        self,
        X,
        *,
        mask=None,
        behavior=None,
        stimulus=None,
        identities=None,
        max_samples=1000,
        absolute=False,
    ):
        """Derivatives of the embedding by the traces of every neuron.

        Parameters
        ----------
        X, mask, behavior, stimulus, identities
            As in `transform`.
        max_samples : int, default=1000
            Most time steps of each recording, evenly spaced.
        absolute : bool, default=False
            Take the mean over the time steps of a window of absolute derivatives.

        Returns
        -------
        derivatives : array or list, in the form of `X`
            (n_samples, n_components, n_neurons) each: means over the time steps of the window, per
            standard deviation of the neuron (per unit of the traces without `standardize`). 0 for
            a neuron that the model does not know.

        See Also
        --------
        skneurovae.inspection.attribution : One number for each neuron and component.
        """  # fmt: skip
        recordings, form = self._check(X, mask, behavior, stimulus, identities)
        rows = self._vocabulary.rows(recordings)
        return form.wrap(self._derivatives(recordings, rows, max_samples, absolute))

    # -- what is special to it ---------------------------------------------------------------------

    def _read_and_train(self, X, y, mask, behavior, stimulus, identities, fresh, n_epochs, context):
        self._note_labels(X, y, fresh)
        inputs = mask, behavior, stimulus, identities
        super()._read_and_train(X, y, *inputs, fresh, n_epochs, context)

    def _brings_behavior(self, X, y, behavior):
        given = y is not None or super()._brings_behavior(X, y, behavior)
        return given and self.conditional != "time"

    def _tell_doubts(self, recordings):
        tell_doubts(recordings)  # an embedding may be wider than its traces

    def _note_labels(self, X, y, fresh):
        """Keep which channels of behavior are labels where `y` tells."""
        if y is not None and self.conditional != "time":
            self._labels_of_y = label_channels(y, X, self.conditional, self.circular)
        elif fresh:
            self._labels_of_y = ()

    def _read(self, X, y, mask, behavior, stimulus, identities, reset):
        conditional, circular, discrete = (
            self._fitted_params[name] for name in ("conditional", "circular", "discrete")
        )
        targets = y is not None and conditional != "time"
        if targets:
            behavior = take_targets(X, y, behavior)
        if discrete is None:
            told = label_channels(behavior, X, conditional, circular) if targets else ()
            discrete = told or self._labels_of_y
        X, behavior = number_labels(X, behavior, discrete)
        try:
            return super()._read(X, None, mask, behavior, stimulus, identities, reset)
        except (TypeError, ValueError) as error:
            if not targets or not str(error).startswith("behavior"):
                raise
            raise type(error)("y" + str(error).removeprefix("behavior")) from error


def _embedding(network, batch):
    return {"embedding": network.encode(batch)}
