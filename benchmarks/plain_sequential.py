"""Plain PyTorch reimplementations of LFADS, DSAE and FHVAE, bin by bin: what `sequential.py` times.

Written straight from the published equations, one cell call per bin, for complete data of one
session and Poisson counts. Sizes and priors are those of our networks, so that weights can be
copied from one to the other (`take_weights`) and both compute the same loss: the benchmark asserts
that before it times anything.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.distributions import Normal, Poisson, kl_divergence
from torch.nn import functional as F


class ClippedGRUCell(nn.Module):
    """The GRU of LFADS: reset before the product with the recurrent weights, states clipped."""

    def __init__(self, n_inputs, n_units):
        super().__init__()
        self.hidden_size = n_units
        self.gates = nn.Linear(n_inputs + n_units, 2 * n_units)
        self.new = nn.Linear(n_inputs + n_units, n_units)

    def forward(self, x, h):
        z, r = torch.sigmoid(self.gates(torch.cat([x, h], -1))).chunk(2, -1)
        n = torch.tanh(self.new(torch.cat([x, r * h], -1)))
        return torch.clamp(z * h + (1 - z) * n, -5, 5)


class BuiltinClippedGRUCell(nn.GRUCell):
    """PyTorch's cell, reset after the product, clipped: faster than the original's."""

    def forward(self, x, h):
        return torch.clamp(super().forward(x, h), -5, 5)


def run_gru(cell, values, h):
    """States of a GRU at every bin."""
    states = []
    for t in range(values.shape[1]):
        h = cell(values[:, t], h)
        states.append(h)
    return states


def run_lstm(cell, values):
    """States of an LSTM at every bin."""
    h = c = values.new_zeros(len(values), cell.hidden_size)
    states = []
    for t in range(values.shape[1]):
        h, c = cell(values[:, t], (h, c))
        states.append(h)
    return states


def run_backward(run, cell, values, *start):
    """States at every bin of a cell that reads from the end; entry t has read t and later bins."""
    return run(cell, values.flip(1), *start)[::-1]


def to_normal(linear, values):
    """Normal posterior from a linear map; log variances are bounded, as in our networks."""
    mean, log_variance = linear(values).chunk(2, -1)
    return Normal(mean, torch.exp(4 * torch.tanh(log_variance / 8)))


class PlainModel(nn.Module):
    """Inputs with dropout and coordinated dropout, Poisson loss on what encoders did not see."""

    def __init__(self, n_neurons, read_in_dim, n_factors, dropout, coordinated_dropout):
        super().__init__()
        self.read_in = nn.Linear(n_neurons, read_in_dim, bias=False)
        self.read_out = nn.Linear(n_factors, n_neurons)
        self.drop = nn.Dropout(dropout)
        self.coordinated_dropout = coordinated_dropout

    def loss(self, counts):
        """Minus the bound in nats per entry; counts (B, T, N)."""
        rate = self.coordinated_dropout
        kept = torch.rand_like(counts) >= rate if rate else torch.ones_like(counts).bool()
        values = self.read_in(self.drop(counts * kept / (1 - rate)))
        factors, kl = self(values)
        nll = 0.0
        for t in range(counts.shape[1]):
            rates = torch.exp(self.read_out(factors[t]))
            log_prob = Poisson(rates, validate_args=False).log_prob(counts[:, t])
            nll = nll - (log_prob[~kept[:, t]].sum() if rate else log_prob.sum())
        return nll / ((~kept).sum() if rate else counts.numel()) + kl / counts.numel()


class PlainLFADS(PlainModel):
    """Two bidirectional GRU encoders, controller and generator in one loop, AR(1) prior."""

    def __init__(
        self, n_neurons, *, read_in_dim, n_factors, static_dim, dynamic_dim, encoder_dim,
        controller_dim, generator_dim, dropout, coordinated_dropout, cell=ClippedGRUCell,
    ):  # fmt: skip
        super().__init__(n_neurons, read_in_dim, n_factors, dropout, coordinated_dropout)
        self.ic = nn.ModuleList(cell(read_in_dim, encoder_dim) for _ in range(2))
        self.ci = nn.ModuleList(cell(read_in_dim, encoder_dim) for _ in range(2))
        self.ic_start = nn.Parameter(torch.zeros(2, encoder_dim))
        self.ci_start = nn.Parameter(torch.zeros(2, encoder_dim))
        self.ic_normal = nn.Linear(2 * encoder_dim, 2 * static_dim)
        self.controller = cell(2 * encoder_dim + n_factors, controller_dim)
        self.controller_start = nn.Parameter(torch.zeros(controller_dim))
        self.co_normal = nn.Linear(controller_dim, 2 * dynamic_dim)
        self.to_start = nn.Linear(static_dim, generator_dim)
        self.generator = cell(dynamic_dim, generator_dim)
        self.to_factors = nn.Parameter(torch.randn(n_factors, generator_dim))
        self.ic_prior_mean = nn.Parameter(torch.zeros(static_dim))
        self.log_time_constant = nn.Parameter(torch.full((dynamic_dim,), math.log(10.0)))

    def forward(self, values):
        n_trials, n_bins, _ = values.shape
        ahead, behind = self._read(self.ic, self.ic_start, values)
        ic = to_normal(self.ic_normal, self.drop(torch.cat([ahead[-1], behind[0]], -1)))
        ic_prior = Normal(self.ic_prior_mean, math.sqrt(0.1))
        kl = kl_divergence(ic, ic_prior).sum()
        g = torch.clamp(self.to_start(ic.rsample()), -5, 5)
        ahead, behind = self._read(self.ci, self.ci_start, values)
        nothing = torch.zeros_like(ahead[0])
        ahead, behind = [nothing, *ahead[:-1]], [*behind[1:], nothing]  # lag of one bin
        phi = torch.exp(-1 / self.log_time_constant.exp())
        noise = torch.randn(n_trials, n_bins, len(phi))
        c, u = self.controller_start.expand(n_trials, -1), None
        to_factors = F.normalize(self.to_factors, dim=1)
        factor, factors = self.drop(g) @ to_factors.T, []
        for t in range(n_bins):
            data = self.drop(torch.cat([ahead[t], behind[t]], -1))
            c = self.controller(torch.cat([data, self.drop(factor)], -1), c)
            q = to_normal(self.co_normal, c)
            if u is None:
                prior = Normal(torch.zeros_like(phi), torch.ones_like(phi))
            else:
                prior = Normal(phi * u, torch.sqrt(1 - phi**2))
            kl = kl + kl_divergence(q, prior).sum()
            u = q.mean + q.stddev * noise[:, t]
            g = self.generator(u, g)
            factor = self.drop(g) @ to_factors.T
            factors.append(factor)
        return factors, kl

    def _read(self, cells, starts, values):
        first, last = (start.expand(len(values), -1) for start in starts)
        return run_gru(cells[0], values, first), run_backward(run_gru, cells[1], values, last)


class PlainDSAE(PlainModel):
    """BiLSTM for f, BiLSTM and RNN (or an MLP of each bin) for z, LSTM prior, MLP decoder."""

    def __init__(
        self, n_neurons, *, read_in_dim, n_factors, static_dim, dynamic_dim, encoder_dim,
        generator_dim, prior_dim, variant, dropout, coordinated_dropout,
    ):  # fmt: skip
        super().__init__(n_neurons, read_in_dim, n_factors, dropout, coordinated_dropout)
        self.variant = variant
        self.static = nn.ModuleList(nn.LSTMCell(read_in_dim, encoder_dim) for _ in range(2))
        self.static_normal = nn.Linear(2 * encoder_dim, 2 * static_dim)
        if variant == "full":
            n_inputs = read_in_dim + static_dim
            self.dynamic = nn.ModuleList(nn.LSTMCell(n_inputs, encoder_dim) for _ in range(2))
            self.rnn = nn.RNNCell(encoder_dim, encoder_dim)
        else:
            self.hidden = nn.Linear(read_in_dim, encoder_dim)
        self.dynamic_normal = nn.Linear(encoder_dim, 2 * dynamic_dim)
        self.prior = nn.LSTMCell(dynamic_dim, prior_dim)
        self.prior_normal = nn.Linear(prior_dim, 2 * dynamic_dim)
        self.decode_hidden = nn.Linear(dynamic_dim + static_dim, generator_dim)
        self.decode_factors = nn.Linear(generator_dim, n_factors)

    def forward(self, values):
        n_trials, n_bins, _ = values.shape
        ends = run_lstm(self.static[0], values)[-1]
        starts = run_backward(run_lstm, self.static[1], values)[0]
        q = to_normal(self.static_normal, self.drop(torch.cat([ends, starts], -1)))
        kl = kl_divergence(q, Normal(0.0, 1.0)).sum()
        f = q.rsample()
        states = self._states(values, f)
        noise = torch.randn(n_trials, n_bins, self.prior_normal.out_features // 2)
        h = c = values.new_zeros(n_trials, self.prior.hidden_size)
        z, factors = torch.zeros_like(noise[:, 0]), []
        for t in range(n_bins):
            h, c = self.prior(z, (h, c))  # reads what the posterior drew before
            prior = to_normal(self.prior_normal, h)
            q = to_normal(self.dynamic_normal, states[t])
            kl = kl + kl_divergence(q, prior).sum()
            z = q.mean + q.stddev * noise[:, t]
            hidden = F.leaky_relu(self.decode_hidden(torch.cat([z, f], -1)))
            factors.append(self.decode_factors(hidden))
        return factors, kl

    def _states(self, values, f):
        n_bins = values.shape[1]
        if self.variant == "factorized":
            return [F.leaky_relu(self.hidden(values[:, t])) for t in range(n_bins)]
        both = torch.cat([values, f[:, None].expand(-1, n_bins, -1)], -1)
        ahead = run_lstm(self.dynamic[0], both)
        behind = run_backward(run_lstm, self.dynamic[1], both)
        h, states = torch.zeros_like(ahead[0]), []
        for a, b in zip(ahead, behind):
            h = self.rnn(self.drop(a + b), h)
            states.append(h)
        return states


class PlainFHVAE(PlainModel):
    """Two stacked LSTMs for each of two vectors of a segment, and for the decoder."""

    def __init__(
        self, n_neurons, *, read_in_dim, n_factors, static_dim, dynamic_dim, encoder_dim,
        generator_dim, n_sequences, alpha, dropout, coordinated_dropout,
    ):  # fmt: skip
        super().__init__(n_neurons, read_in_dim, n_factors, dropout, coordinated_dropout)
        self.alpha = alpha
        n_latents = static_dim + dynamic_dim
        self.static = _stack(read_in_dim, encoder_dim)
        self.static_normal = nn.Linear(2 * encoder_dim, 2 * static_dim)
        self.dynamic = _stack(read_in_dim + static_dim, encoder_dim)
        self.dynamic_normal = nn.Linear(2 * encoder_dim, 2 * dynamic_dim)
        self.generator = _stack(n_latents, generator_dim)
        self.decode_factors = nn.Linear(generator_dim, n_factors)
        self.table = nn.Parameter(torch.randn(n_sequences, static_dim))
        self.sequence = self.n_segments = None  # of each segment of the batch; of each sequence

    def forward(self, values):
        n_bins = values.shape[1]
        q_static = to_normal(self.static_normal, self._ends(self.static, values))
        f = q_static.rsample()
        both = torch.cat([values, f[:, None].expand(-1, n_bins, -1)], -1)
        q = to_normal(self.dynamic_normal, self._ends(self.dynamic, both))
        z = q.rsample()
        kl = kl_divergence(q_static, Normal(self.table[self.sequence], 0.5)).sum()
        kl = kl + kl_divergence(q, Normal(0.0, 1.0)).sum()
        log_prior = Normal(0.0, 1.0).log_prob(self.table).sum(-1) / self.n_segments
        distance = (q_static.mean[:, None] - self.table).square().sum(-1)
        right = -F.cross_entropy(-distance / (2 * 0.25), self.sequence, reduction="sum")
        kl = kl - log_prior[self.sequence].sum() - self.alpha * right
        inputs = torch.cat([z, f], -1)[:, None].expand(-1, n_bins, -1)
        factors = [self.decode_factors(h[-1]) for h in _run_stack(self.generator, inputs)]
        return factors, kl

    def _ends(self, cells, values):
        return torch.cat(_run_stack(cells, values)[-1], -1)


def _stack(n_inputs, n_units):
    return nn.ModuleList([nn.LSTMCell(n_inputs, n_units), nn.LSTMCell(n_units, n_units)])


def _run_stack(cells, values):
    """States of both layers at every bin."""
    zero = values.new_zeros(len(values), cells[0].hidden_size)
    h, c, states = [zero, zero], [zero, zero], []
    for t in range(values.shape[1]):
        below = values[:, t]
        for i, cell in enumerate(cells):
            h[i], c[i] = cell(below, (h[i], c[i]))
            below = h[i]
        states.append(list(h))
    return states


# Where our networks keep what the plain models call by the names on the right.
NAMES = {
    PlainLFADS: {
        "static_encoder.reader.directions.{i}": "ic.{i}",
        "dynamic_encoder.reader.directions.{i}": "ci.{i}",
        "static_encoder.to_normal.linear": "ic_normal",
        "dynamic_encoder.controller.rnn": "controller",
        "dynamic_encoder.controller.to_moments": "co_normal",
        "dynamic_encoder.controller.start": "controller_start",
        "generator.to_start": "to_start",
        "generator.rnn": "generator",
        "generator.to_factors": "to_factors",
        "static_prior.mean": "ic_prior_mean",
        "dynamic_prior.log_time_constant": "log_time_constant",
    },
    PlainDSAE: {
        "static_encoder.reader.directions.{i}": "static.{i}",
        "dynamic_encoder.reader.directions.{i}": "dynamic.{i}",
        "dynamic_encoder.rnn": "rnn",
        "dynamic_encoder.hidden.0": "hidden",
        "static_encoder.to_normal.linear": "static_normal",
        "dynamic_encoder.to_normal.linear": "dynamic_normal",
        "dynamic_prior.rnn": "prior",
        "dynamic_prior.to_moments": "prior_normal",
        "generator.hidden.0": "decode_hidden",
        "generator.to_factors": "decode_factors",
    },
    PlainFHVAE: {
        "static_encoder.layers.{i}": "static.{i}",
        "dynamic_encoder.reader.layers.{i}": "dynamic.{i}",
        "static_encoder.to_normal.linear": "static_normal",
        "dynamic_encoder.reader.to_normal.linear": "dynamic_normal",
        "generator.rnn": "generator",
        "generator.to_factors": "decode_factors",
        "static_prior.table": "table",
    },
}


@torch.no_grad()
def take_weights(plain, network):
    """Copy all weights of one of our networks (cells must be PyTorch's own).

    Raises
    ------
    KeyError
        If a weight of the plain model has no counterpart.
    """
    state = {"read_in.weight": network.read_in.T, "read_out.weight": network.read_out,
             "read_out.bias": network.bias}  # fmt: skip
    names = {
        ours.format(i=i): own.format(i=i)
        for ours, own in NAMES[type(plain)].items()
        for i in range(2)
    }
    for name, value in network.named_parameters():
        for ours, own in names.items():
            if name == ours or name.startswith(ours + "."):
                rest = name.removeprefix(ours)
                if isinstance(plain, PlainFHVAE) and own == "generator":  # two layers in one
                    own += "." + rest[-1]
                state[own + rest.replace("_l0", "").replace("_l1", "")] = value
    if isinstance(plain, PlainLFADS):
        state["ic_start"], state["ci_start"] = (
            encoder.reader.starts[:, 0, 0]
            for encoder in (network.static_encoder, network.dynamic_encoder)
        )
    plain.load_state_dict(state)
