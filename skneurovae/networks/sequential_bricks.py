"""Encoders and generators of sequential VAEs; what they are for stands in `sequential_models`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skneurovae.common.randomness import dropout, randn
from skneurovae.networks.controller import Controller, closed_loop
from skneurovae.networks.recurrent import (
    CLIP,
    Reader,
    advance,
    bounded,
    delay,
    initialize,
    last_valid,
)
from skneurovae.networks.sequential_inference import Normal, Unrolled


class ToNormal(nn.Module):
    """Linear map to the moments of a normal posterior."""

    def __init__(self, n_inputs, n_components, dropout=0.0, variance=1.0):
        super().__init__()
        self.dropout = dropout
        self.linear = nn.Linear(n_inputs, 2 * n_components)
        with torch.no_grad():  # the posterior begins close to its prior
            self.linear.weight.mul_(0.1)
            self.linear.bias.zero_()
            self.linear.bias[n_components:] = math.log(variance)

    def forward(self, values):
        moments = self.linear(dropout(values, self.dropout, self.training))
        # Divergences are differences of large numbers, for which half precision is too coarse.
        mean, log_variance = moments.to(self.linear.weight.dtype).chunk(2, -1)
        return Normal(mean, bounded(log_variance))


# Static encoders: (values, lengths) -> Normal (B, F)


class StaticReader(nn.Module):
    """q(f) from the first `first` time steps (0 = all), read from both of their ends."""

    def __init__(self, n_inputs, n_units, n_components, *, kind, first, dropout, variance=1.0):
        super().__init__()
        self.first = first
        self.reader = Reader(n_inputs, n_units, kind, learn_start=kind == "gru")
        self.to_normal = ToNormal(2 * n_units, n_components, dropout, variance)

    def forward(self, values, lengths):
        if self.first:
            values, lengths = values[:, : self.first], lengths.clamp(max=self.first)
        return self.to_normal(self.reader.summary(values, lengths))


class StackReader(nn.Module):
    """q of a segment from the last states of two stacked LSTMs (Hsu et al. 2017, appendix)."""

    def __init__(self, n_inputs, n_units, n_components, dropout):
        super().__init__()
        self.layers = nn.ModuleList(
            initialize(nn.LSTM(n, n_units, batch_first=True)) for n in (n_inputs, n_units)
        )
        self.to_normal = ToNormal(2 * n_units, n_components, dropout)

    def forward(self, values, lengths):
        ends = []
        for layer in self.layers:
            values = layer(values)[0]
            ends.append(last_valid(values, lengths))
        return self.to_normal(torch.cat(ends, -1))


# Dynamic encoders: (values, static, lengths) -> drive


class StepEncoder(nn.Module):
    """q(z_t | x_t): each time step by itself."""

    def __init__(self, n_inputs, n_units, n_components):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(n_inputs, n_units), nn.LeakyReLU())
        self.to_normal = ToNormal(n_units, n_components)

    def forward(self, values, static, lengths):
        return self.to_normal(self.hidden(values))


class TrialEncoder(nn.Module):
    """q(z_t | x, f): two streams over the trial and f, summed, then a recurrent layer."""

    def __init__(self, n_inputs, n_static, n_units, n_components, *, dropout, backward=True):
        super().__init__()
        self.dropout = dropout
        self.reader = Reader(n_inputs + n_static, n_units, "lstm", backward=backward)
        self.rnn = initialize(nn.RNN(n_units, n_units, batch_first=True))
        self.to_normal = ToNormal(n_units, n_components)

    def forward(self, values, static, lengths):
        tiled = static[:, None].expand(-1, values.shape[1], -1)
        states = sum(self.reader(torch.cat([values, tiled], -1), lengths))
        return self.to_normal(self.rnn(dropout(states, self.dropout, self.training))[0])


class SegmentEncoder(nn.Module):
    """q(z | x, f): one vector per segment."""

    def __init__(self, n_inputs, n_static, n_units, n_components, dropout):
        super().__init__()
        self.reader = StackReader(n_inputs + n_static, n_units, n_components, dropout)

    def forward(self, values, static, lengths):
        tiled = static[:, None].expand(-1, values.shape[1], -1)
        normal = self.reader(torch.cat([values, tiled], -1), lengths)
        return Normal(normal.mean[:, None], normal.log_variance[:, None])


@dataclass
class Loop:
    """A drive that is inferred while the generator runs."""

    data: Tensor  # (B, T - first, channels), what was read of the recording
    controller: Controller


class LoopEncoder(nn.Module):
    """What LFADS's controller gets to see of the data from step `first` on.

    The forward stream comes `lag` steps late and the backward stream `lag` steps early, so that
    the input inferred at t is not read off the counts at t alone.
    """

    def __init__(
        self, n_inputs, n_units, n_components, *, n_factors, controller_dim, first, lag, backward,
        dropout,
    ):  # fmt: skip
        super().__init__()
        self.first, self.lag, self.dropout = first, lag, dropout
        self.reader = Reader(n_inputs, n_units, "gru", backward=backward, learn_start=True)
        n_data = (1 + backward) * n_units
        self.controller = Controller(n_data, n_factors, controller_dim, n_components)

    def forward(self, values, static, lengths):
        values, lengths = values[:, self.first :], (lengths - self.first).clamp(min=0)
        if not values.shape[1]:  # all trials end before the controller begins
            return Loop(values.new_zeros(len(values), 0, self.controller.n_data), self.controller)
        streams = self.reader(values, lengths)
        shifted = [delay(streams[0], self.lag, lengths)]
        shifted += [advance(stream, self.lag, lengths) for stream in streams[1:]]
        data = dropout(torch.cat(shifted, -1), self.dropout, self.training)
        return Loop(data, self.controller)


class NoEncoder(nn.Module):
    """No dynamic latents: the generator runs alone."""

    def forward(self, values, static, lengths):
        nothing = values.new_zeros(*values.shape[:2], 0)
        return Normal(nothing, nothing)


# Generators: unroll(static, drive, stimulus, noise) -> Unrolled


class StepGenerator(nn.Module):
    """Factors at t from z_t, f and the stimulus alone: all structure in time is that of z."""

    def __init__(self, n_static, n_dynamic, n_stimuli, n_units, n_factors):
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Linear(n_static + n_dynamic + n_stimuli, n_units), nn.LeakyReLU()
        )
        self.to_factors = nn.Linear(n_units, n_factors)

    def unroll(self, static, drive, stimulus, noise=None):
        """Decode every time step."""
        sample = drive.draw(noise)
        tiled = static[:, None].expand(-1, sample.shape[1], -1)
        states = self.hidden(torch.cat([sample, tiled, stimulus], -1))
        return Unrolled(drive, sample, states, self.to_factors(states))


class SegmentGenerator(nn.Module):
    """Two LSTM layers that get the same [z, f] at every step (Hsu et al. 2017)."""

    def __init__(self, n_static, n_dynamic, n_stimuli, n_units, n_factors):
        super().__init__()
        n_inputs = n_static + n_dynamic + n_stimuli
        self.rnn = initialize(nn.LSTM(n_inputs, n_units, 2, batch_first=True))
        self.to_factors = nn.Linear(n_units, n_factors)

    def unroll(self, static, drive, stimulus, noise=None):
        """Decode a segment."""
        sample = drive.draw(noise)
        tiled = torch.cat([sample[:, 0], static], -1)[:, None].expand(-1, stimulus.shape[1], -1)
        states = self.rnn(torch.cat([tiled, stimulus], -1))[0]
        return Unrolled(drive, sample, states, self.to_factors(states))


class DynamicsGenerator(nn.Module):
    """GRU whose first state is a linear map of f, driven by z and the stimulus.

    Its first state is clipped to plus and minus 5, which bounds all states; see
    `skneurovae.networks.recurrent.CLIP`. Rows of the map to factors have unit length, or scales
    could wander between it and the read-out.
    """

    def __init__(self, n_static, n_dynamic, n_stimuli, n_units, n_factors, dropout):
        super().__init__()
        self.dropout, self.n_stimuli = dropout, n_stimuli
        self.to_start = nn.Linear(n_static, n_units)
        # PyTorch's GRU takes no input of zero channels.
        self.n_inputs = max(1, n_dynamic + n_stimuli)
        self.rnn = initialize(nn.GRU(self.n_inputs, n_units, batch_first=True), apart=True)
        self.to_factors = nn.Parameter(randn(n_factors, n_units))

    def unroll(self, static, drive, stimulus, noise=None):
        """Run open loop, in one fused call, along a finished z; else bin by bin."""
        start = self.to_start(static).clamp(-CLIP, CLIP)
        to_factors = F.normalize(self.to_factors, dim=1)
        if isinstance(drive, Loop) and drive.data.shape[1]:
            return self._closed(start, to_factors, drive, stimulus, noise)
        if isinstance(drive, Loop):
            shape = *stimulus.shape[:2], self.rnn.input_size - self.n_stimuli
            drive = Normal(stimulus.new_zeros(shape), stimulus.new_zeros(shape))
            noise = None
        sample = drive.draw(noise)
        inputs = torch.cat([sample, stimulus], -1)
        inputs = F.pad(inputs, (0, self.n_inputs - inputs.shape[-1]))
        states = self.rnn(inputs, start[None].contiguous())[0]
        factors = dropout(states, self.dropout, self.training) @ to_factors.T
        return Unrolled(drive, sample, states, factors)

    def _closed(self, start, to_factors, drive, stimulus, noise):
        n_steps, first = stimulus.shape[1], stimulus.shape[1] - drive.data.shape[1]
        n_inputs = self.rnn.input_size - self.n_stimuli
        later = noise[:, first:] if noise is not None else None
        if later is None:
            later = start.new_zeros(len(start), n_steps - first, n_inputs)
        ones = torch.ones_like
        keep = (
            dropout(ones(start.new_empty(n_steps - first, len(start), len(to_factors))),
                    self.dropout, self.training),
            dropout(ones(start.new_empty(n_steps + 1, *start.shape)),
                    self.dropout, self.training),
        )  # fmt: skip
        moments, inputs, states, factors = closed_loop(
            drive.controller, self.rnn, to_factors, start, drive.data, stimulus, later, keep
        )
        # Before the controller begins there is no inferred input.
        moments, inputs = (F.pad(values, (0, 0, first, 0)) for values in (moments, inputs))
        return Unrolled(Normal(*moments.chunk(2, -1)), inputs, states, factors)
