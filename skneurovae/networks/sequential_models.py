"""LFADS, DSAE and FHVAE as choices of the slots of `SequentialNetwork`."""

from __future__ import annotations

import torch

from skneurovae.networks.sequential import TABLES, SequentialNetwork
from skneurovae.networks.sequential_bricks import (
    DynamicsGenerator,
    LoopEncoder,
    NoEncoder,
    SegmentEncoder,
    SegmentGenerator,
    StackReader,
    StaticReader,
    StepEncoder,
    StepGenerator,
    TrialEncoder,
)
from skneurovae.objectives import (
    DiagonalNormal,
    HierarchicalNormal,
    RecurrentPrior,
    StandardNormal,
    StationaryAR1,
)


class LFADSNetwork(SequentialNetwork):
    """Initial condition, closed-loop controller, GRU generator (Sussillo et al. 2016).

    Parameters
    ----------
    n_neurons, n_stimuli, n_factors, static_dim, dynamic_dim, read_in_dim, encoder_dim, \
controller_dim, generator_dim : int
        Sizes; no controller where `dynamic_dim` is 0.
    static_length : int
        Time steps from which alone the initial condition is inferred; 0 = all.
    causal : bool
        Forward streams only.
    lag : int
        Steps by which the controller's data are shifted.
    recurrent_l2 : float
        Weight of the mean square of recurrent weights of generator and controller.
    time_constant : float
        Of the prior of inferred inputs at the start, in time steps.
    **parameters
        See `SequentialNetwork`.
    """

    def __init__(
        self, n_neurons, n_stimuli, *, n_factors, static_dim, dynamic_dim, read_in_dim,
        encoder_dim, controller_dim, generator_dim, static_length, causal, lag, recurrent_l2,
        time_constant, dropout, **parameters,
    ):  # fmt: skip
        controlled = LoopEncoder(
            read_in_dim, encoder_dim, dynamic_dim, n_factors=n_factors,
            controller_dim=controller_dim, first=static_length, lag=lag, backward=not causal,
            dropout=dropout,
        ) if dynamic_dim else NoEncoder()  # fmt: skip
        super().__init__(
            n_neurons, n_stimuli, read_in_dim=read_in_dim, n_factors=n_factors,
            static_dim=static_dim, dynamic_dim=dynamic_dim, dropout=dropout,
            static_encoder=StaticReader(
                read_in_dim, encoder_dim, static_dim, kind="gru", first=static_length,
                dropout=dropout, variance=0.1,
            ),
            dynamic_encoder=controlled,
            generator=DynamicsGenerator(
                static_dim, dynamic_dim, n_stimuli, generator_dim, n_factors, dropout
            ),
            static_prior=DiagonalNormal(static_dim, 0.1, train_variance=False),
            dynamic_prior=StationaryAR1(dynamic_dim, time_constant),
            **parameters,
        )  # fmt: skip
        self.first_dynamic, self.recurrent_l2 = static_length, recurrent_l2

    def other_rates(self, drawn, batch):
        """Rates that the same initial conditions make with all inferred inputs at 0."""
        stimulus = self.stimulus(batch).repeat_interleave(drawn.static_sample.shape[1], 0)
        nothing = stimulus.new_zeros(*stimulus.shape[:2], self.dynamic_dim)
        factors = self.unroll(drawn.static_sample.flatten(0, 1), nothing, stimulus)
        factors = factors.unflatten(0, drawn.static_sample.shape[:2])
        return {"rates_without_inputs": self._rates(factors, batch)}

    def extras(self, path, batch):
        """Mean square of the recurrent weights, ramped like the divergences."""
        if not self.recurrent_l2:
            return {}
        weights = [self.generator.rnn.weight_hh_l0]
        if self.dynamic_dim:
            weights.append(self.dynamic_encoder.controller.rnn.weight_hh_l0)
        square = sum(0.5 * w.square().sum() for w in weights) / sum(w.numel() for w in weights)
        return {"recurrent_l2": self.ramp * self.recurrent_l2 * square}


class DSAENetwork(SequentialNetwork):
    """Static and dynamic latents with a decoder without memory (Li & Mandt 2018).

    Parameters
    ----------
    n_neurons, n_stimuli, n_factors, static_dim, dynamic_dim, read_in_dim, encoder_dim, \
generator_dim, prior_dim : int
        Sizes; `prior_dim` is that of the prior's LSTM.
    variant : {"full", "factorized"}
        Whether q(z) sees the trial and f, or each step by itself.
    static_length : int
        Time steps that the static encoder sees; 0 = all.
    causal : bool
        Forward streams only.
    prior : {"recurrent", "ar1"}
        Of z.
    **parameters
        See `SequentialNetwork`.
    """

    def __init__(
        self, n_neurons, n_stimuli, *, n_factors, static_dim, dynamic_dim, read_in_dim,
        encoder_dim, generator_dim, prior_dim, variant, prior, static_length, causal, dropout,
        **parameters,
    ):  # fmt: skip
        if variant == "full":
            dynamic_encoder = TrialEncoder(
                read_in_dim, static_dim, encoder_dim, dynamic_dim, dropout=dropout,
                backward=not causal,
            )  # fmt: skip
        else:
            dynamic_encoder = StepEncoder(read_in_dim, encoder_dim, dynamic_dim)
        recurrent = prior == "recurrent"
        super().__init__(
            n_neurons, n_stimuli, read_in_dim=read_in_dim, n_factors=n_factors,
            static_dim=static_dim, dynamic_dim=dynamic_dim, dropout=dropout,
            static_encoder=StaticReader(
                read_in_dim, encoder_dim, static_dim, kind="lstm", first=static_length,
                dropout=dropout,
            ),
            dynamic_encoder=dynamic_encoder,
            generator=StepGenerator(static_dim, dynamic_dim, n_stimuli, generator_dim, n_factors),
            static_prior=DiagonalNormal(static_dim, train_mean=False, train_variance=False),
            dynamic_prior=RecurrentPrior(dynamic_dim, prior_dim) if recurrent
            else StationaryAR1(dynamic_dim),
            **parameters,
        )  # fmt: skip
        self.closed_form = not recurrent

    def dynamic_kl(self, path):
        """Divergence of q(z), in closed form where the prior has one for independent steps."""
        moments = path.dynamic.mean, path.dynamic.log_variance, path.steps
        return self.dynamic_prior.kl(*moments, None if self.closed_form else path.sample)


class FHVAENetwork(SequentialNetwork):
    """One static and one dynamic vector per segment; sequences have vectors (Hsu et al. 2017).

    Parameters
    ----------
    n_neurons, n_stimuli, n_factors, static_dim, dynamic_dim, read_in_dim, encoder_dim, \
generator_dim : int
        Sizes.
    n_sequences : int
        Rows of the table of sequence vectors.
    alpha : float
        Weight of the discriminative term.
    **parameters
        See `SequentialNetwork`.

    Attributes
    ----------
    row_of : Tensor of int64
        Row of the table of each training recording; -1 = not in it now.
    n_segments : Tensor of int64
        Segments of each row, over which the prior of its vector is spread.
    """

    segment_latent = True
    trained_when_frozen = (*TABLES, "static_prior.table")  # sequences are new, like neurons

    def __init__(
        self, n_neurons, n_stimuli, *, n_factors, static_dim, dynamic_dim, read_in_dim,
        encoder_dim, generator_dim, n_sequences, alpha, dropout, **parameters,
    ):  # fmt: skip
        super().__init__(
            n_neurons, n_stimuli, read_in_dim=read_in_dim, n_factors=n_factors,
            static_dim=static_dim, dynamic_dim=dynamic_dim, dropout=dropout,
            static_encoder=StackReader(read_in_dim, encoder_dim, static_dim, dropout),
            dynamic_encoder=SegmentEncoder(
                read_in_dim, static_dim, encoder_dim, dynamic_dim, dropout
            ),
            generator=SegmentGenerator(
                static_dim, dynamic_dim, n_stimuli, generator_dim, n_factors
            ),
            static_prior=HierarchicalNormal(static_dim, n_sequences),
            dynamic_prior=StandardNormal(dynamic_dim),
            **parameters,
        )  # fmt: skip
        self.alpha = alpha
        self.row_of = None
        self.register_buffer("n_segments", torch.ones(n_sequences), persistent=False)

    def rows(self, batch):
        """Row of each window's sequence in the table, -1 outside of training."""
        if batch is None or not self.training or self.row_of is None:
            return None
        return self.row_of[batch.recording]

    def static_kl(self, path, batch):
        """Divergence of q(f) from the segments of its sequence, or of any where it is unknown."""
        return self.static_prior.kl(path.static.mean, path.static.log_variance, self.rows(batch))

    def dynamic_kl(self, path):
        """Divergence of q(z), in closed form."""
        return self.dynamic_prior.kl(path.dynamic.mean, path.dynamic.log_variance, path.steps)

    def extras(self, path, batch):
        """Prior of the sequence vectors, and how well a segment tells its sequence."""
        rows = self.rows(batch)
        if rows is None:
            return {}
        n_scored = (batch.observed & (batch.neurons >= 0)[:, None]).sum().clamp(min=1)
        known = rows >= 0
        share = self.static_prior.log_density(rows) / self.n_segments[rows.clamp(min=0)]
        terms = {"sequence_prior": -share.sum() / n_scored}
        present = torch.unique(self.row_of[self.row_of >= 0])
        if self.alpha and len(present) > 1:
            log_posterior = self.static_prior.log_posterior(path.static.mean, present)
            target = torch.searchsorted(present, rows.clamp(min=0))
            right = log_posterior.gather(1, target[:, None])[:, 0]
            wrong = -torch.where(known, right, 0.0).sum() / n_scored
            terms["discrimination"] = self.alpha * wrong
        return terms

    def generate(self, stimulus, window_length):
        """See `PosteriorAverages.generate`; each sample is a sequence of segments."""
        pieces = stimulus.split(window_length, 1)
        static = self.static_prior.sample(len(stimulus), len(pieces))
        dynamic = self.dynamic_prior.sample(len(stimulus), len(pieces))
        return torch.cat([
            self.unroll(static[:, i], dynamic[:, i : i + 1], piece)
            for i, piece in enumerate(pieces)
        ], 1)  # fmt: skip

    @torch.no_grad()
    def draw_static(self, batch):
        """Posterior means of the static latents of each window, (B, static_dim)."""
        return self.static_encoder(self.inputs(batch)[0], batch.valid.sum(1)).mean
