"""Recurrent bricks: fused GRUs and LSTMs that read padded trials from both of their own ends."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CLIP", "Reader", "advance", "bounded", "delay", "initialize", "last_valid", "reverse"]

# A GRU's state stays within the larger of 1 and its first state (it is an average of that and of
# values of tanh), so that clipping the first state is all that a clipped GRU does.
CLIP = 5.0


def bounded(log_variance: Tensor) -> Tensor:
    """Log variances within plus and minus 8, with a gradient everywhere."""
    return 8 * torch.tanh(log_variance / 8)


def reverse(values: Tensor, lengths: Tensor) -> Tensor:
    """Turn each trial around within its own length; zeros behind its end.

    Parameters
    ----------
    values : Tensor of shape (B, T, H)
    lengths : Tensor of int64, shape (B,)

    Returns
    -------
    Tensor of shape (B, T, H)
    """
    if _all_full(values, lengths):
        return values.flip(1)
    steps = torch.arange(values.shape[1], device=values.device)
    source = lengths[:, None] - 1 - steps
    index = source.clamp(min=0)[..., None].expand_as(values)
    return torch.where((source >= 0)[..., None], values.gather(1, index), 0.0)


def last_valid(values: Tensor, lengths: Tensor) -> Tensor:
    """Values at the last step of each trial, of shape (B, H)."""
    index = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, values.shape[2])
    return values.gather(1, index)[:, 0]


def delay(values: Tensor, lag: int, lengths: Tensor) -> Tensor:
    """Values of `lag` steps earlier; zeros before the start and behind the end of each trial."""
    n_steps = values.shape[1]
    return _within(F.pad(values, (0, 0, min(lag, n_steps), 0))[:, :n_steps], lengths)


def advance(values: Tensor, lag: int, lengths: Tensor) -> Tensor:
    """Values of `lag` steps later; zeros where those lie behind the end of each trial."""
    lag = min(lag, values.shape[1])
    return F.pad(_within(values, lengths), (0, 0, 0, lag))[:, lag:]


def _all_full(values, lengths):
    """Whether no trial is padded; not looked up on a GPU, which would have to wait for it."""
    return values.device.type == "cpu" and bool((lengths == values.shape[1]).all())


def _within(values, lengths):
    if _all_full(values, lengths):
        return values
    steps = torch.arange(values.shape[1], device=values.device)
    return torch.where((steps < lengths[:, None])[..., None], values, 0.0)


def initialize(rnn: nn.RNNBase, apart: bool = False) -> nn.RNNBase:
    """Weights of variance 1 / (inputs + units), and gates that keep the state at first.

    The bias of a GRU's gates, and of an LSTM's forget gate, is 1 in sum; all others are 0.

    Parameters
    ----------
    rnn : nn.GRU, nn.LSTM or nn.RNN
    apart : bool, default=False
        True: weights of the inputs have variance 1 / inputs, and recurrent ones 1 / units, so that
        few inputs move many units (the generator and the controller of Sussillo et al. 2016).

    Returns
    -------
    nn.RNNBase
        The same module.
    """
    n_units = rnn.hidden_size
    for name, value in rnn.named_parameters():
        if name.startswith("weight_ih"):
            partner = dict(rnn.named_parameters())[name.replace("ih", "hh")]
            sizes = value.shape[1], partner.shape[1]
            for weight, size in zip((value, partner), sizes if apart else (sum(sizes),) * 2):
                nn.init.normal_(weight, std=1 / math.sqrt(size))
        elif name.startswith("bias"):
            nn.init.zeros_(value)
            if name.startswith("bias_ih") and rnn.mode == "GRU":
                nn.init.ones_(value[: 2 * n_units])
            elif name.startswith("bias_ih") and rnn.mode == "LSTM":
                nn.init.ones_(value[n_units : 2 * n_units])
    return rnn


class Reader(nn.Module):
    """Reads a padded trial forward, and backward from its own last step, one fused call each.

    Parameters
    ----------
    n_inputs, n_units : int
        Channels of the input; units of each direction.
    kind : {"gru", "lstm"}
        Cell.
    backward : bool, default=True
        Whether there is a backward direction.
    learn_start : bool, default=False
        Whether the first state is learned (GRU only); 0 otherwise.
    """

    def __init__(
        self, n_inputs: int, n_units: int, kind: str, backward: bool = True,
        learn_start: bool = False,
    ):  # fmt: skip
        super().__init__()
        cell = {"gru": nn.GRU, "lstm": nn.LSTM}[kind]
        self.directions = nn.ModuleList(
            initialize(cell(n_inputs, n_units, batch_first=True)) for _ in range(1 + backward)
        )
        self.starts = None
        if learn_start:
            self.starts = nn.Parameter(torch.zeros(1 + backward, 1, 1, n_units))

    def forward(self, values: Tensor, lengths: Tensor) -> list[Tensor]:
        """States at every step.

        Parameters
        ----------
        values : Tensor of shape (B, T, n_inputs)
            T at least 1.
        lengths : Tensor of int64, shape (B,)
            Steps of each trial.

        Returns
        -------
        list of Tensor of shape (B, T, n_units)
            The forward stream and, if there is one, the backward stream, whose entry t has read
            t and all later steps of its trial; 0 behind its end.
        """
        streams = [self.directions[0](values, self._start(0, len(values)))[0]]
        if len(self.directions) > 1:
            turned = self.directions[1](reverse(values, lengths), self._start(1, len(values)))[0]
            streams.append(reverse(turned, lengths))
        return streams

    def summary(self, values: Tensor, lengths: Tensor) -> Tensor:
        """What is known after the last step of each direction, of shape (B, directions * units)."""
        streams = self(values, lengths)
        ends = [last_valid(streams[0], lengths)]
        if len(streams) > 1:
            ends.append(streams[1][:, 0])
        return torch.cat(ends, -1)

    def _start(self, direction, n_windows):
        if self.starts is None:
            return None
        return self.starts[direction].expand(-1, n_windows, -1).contiguous()
