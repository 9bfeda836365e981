"""Recordings end to end, from which many short windows are cut at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Strips", "by_session"]


@dataclass
class Strips:
    """Recordings one after the other, each padded at both ends by copies of its edges.

    Recordings with the same neurons, in columns of any order, are one session. All time steps of
    all recordings are numbered through, session by session; the window of a step never leaves its
    recording.

    Parameters
    ----------
    traces : list of Tensor of shape (P_s, N_s)
        Padded recordings of each session; 0 where not observed.
    missing : list of Tensor of shape (P_s, N_s), or None
        1 where not observed, in the dtype of the traces. None if nothing is missing anywhere.
    neurons : list of Tensor of int64, shape (N_s,)
        Row of each neuron in the tables of the model, in rising order; columns are in that order.
    window : Tensor of int64, shape (n_timesteps,)
        Where the window of each time step starts, along the padded sessions end to end.
    order : list of int
        Recordings in the order in which their steps are numbered.
    session : list of int
        Session of each recording of `order`.
    lengths : list of int
        Time steps of each recording of `order`.
    """

    traces: list[Tensor]
    missing: list[Tensor] | None
    neurons: list[Tensor]
    window: Tensor
    order: list[int]
    session: list[int]
    lengths: list[int]

    @property
    def n_padded(self):
        """Rows of all sessions together, padding included."""
        return sum(len(traces) for traces in self.traces)

    @property
    def starts(self):
        """First row of each session along the padded sessions end to end."""
        sizes = torch.tensor([0, *(len(traces) for traces in self.traces)])
        return sizes.cumsum(0)[:-1].tolist()

    def windows(self, position, length):
        """Cut windows, session by session.

        Parameters
        ----------
        position : Tensor of int64, shape (n,)
            Values of `window`.
        length : int

        Returns
        -------
        pieces : list of (session, traces, missing)
            Traces, and missing entries or None, each of shape (length, n_s, N_s), time first.
        order : Tensor of int64, shape (n,), or None
            Which of `position` the windows of all pieces are, one after the other; None = as given.
        """
        starts = self.starts
        steps = torch.arange(length, device=position.device)[:, None]
        if len(starts) == 1:
            return [(0, *self._cut(0, position + steps))], None
        bounds = torch.tensor(starts[1:], device=position.device)
        of = torch.bucketize(position, bounds, right=True)
        order = torch.argsort(of, stable=True)
        counts = torch.bincount(of, minlength=len(starts)).tolist()
        pieces = []
        for session, part in enumerate(position[order].split(counts)):
            if len(part):
                pieces.append((session, *self._cut(session, part - starts[session] + steps)))
        return pieces, order

    def _cut(self, session, index):
        index, shape = index.reshape(-1), (*index.shape, -1)
        traces = self.traces[session].index_select(0, index).view(shape)
        if self.missing is None:
            return traces, None
        return traces, self.missing[session].index_select(0, index).view(shape)


def by_session(rows):
    """Put recordings with the same neurons together, whatever the order of their columns.

    Parameters
    ----------
    rows : list of sequence of int
        Rows of the neurons of each recording in the tables of the model; -1 = unknown to it.

    Returns
    -------
    list of (rows, members)
        Rows that are known, in rising order, and numbers of the recordings, of each session in the
        order of appearance.
    """
    sessions = {}
    for number, row in enumerate(rows):
        key = tuple(sorted(int(n) for n in row if n >= 0))
        sessions.setdefault(key, []).append(number)
    return list(sessions.items())


def lay_out(tensors, left, right):
    """Put the tensors of recordings end to end; see `RecordingStore.strips`."""
    sessions = by_session([tensor["neurons"].tolist() for tensor in tensors])
    traces, missing, neurons, window = [], [], [], []
    order, session, lengths, start = [], [], [], 0
    for name, (rows, members) in enumerate(sessions):
        padded, gaps = [], []
        for number in members:
            tensor = tensors[number]
            n_timesteps = len(tensor["traces"])
            device = tensor["traces"].device
            steps = torch.arange(-left, n_timesteps + right - 1, device=device)
            steps = steps.clamp(0, n_timesteps - 1)
            # The known neurons by their rows; unknown ones are -1 and come first.
            columns = tensor["neurons"].argsort()[-len(rows) :].to(device)
            padded.append(tensor["traces"][steps][:, columns])
            gaps.append(~tensor["observed"][steps][:, columns])
            window.append(torch.arange(start, start + n_timesteps, device=device))
            start += n_timesteps + left + right - 1
            order.append(number)
            session.append(name)
            lengths.append(n_timesteps)
        traces.append(torch.cat(padded))
        missing.append(torch.cat(gaps))
        neurons.append(torch.tensor(rows, dtype=torch.int64, device=device))
    if any(bool(gap.any()) for gap in missing):
        missing = [gap.to(kind.dtype) for gap, kind in zip(missing, traces)]
    else:
        missing = None
    return Strips(traces, missing, neurons, torch.cat(window), order, session, lengths)
