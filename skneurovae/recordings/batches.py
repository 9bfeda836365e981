"""Windows of recordings as padded tensors; the one way from recordings to a network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skneurovae.common.randomness import randperm
from skneurovae.recordings.strips import lay_out

__all__ = ["Batch", "RecordingStore", "make_batches"]

# Of the largest sizes in a batch, the least share that the sizes of each window have.
_LEAST_SHARE = 0.75


@dataclass
class Batch:
    """B windows of T time steps, N neurons, Q behavior and S stimulus channels, padded alike.

    Parameters
    ----------
    traces : Tensor of shape (B, T, N)
        0 where not observed.
    observed : Tensor of bool, shape (B, T, N)
        Entries that the recording holds; never padding, never a neuron the model does not know.
    behavior : Tensor of shape (B, T, Q)
        0 where not observed.
    behavior_observed : Tensor of bool, shape (B, T, Q)
    stimulus : Tensor of shape (B, T, S)
    neurons : Tensor of int64, shape (B, N)
        Row of each neuron in the tables of the model; -1 = unknown to it, or padding.
    valid : Tensor of bool, shape (B, T)
        Time steps of the recording; False = padding.
    recording, start : Tensor of int64, shape (B,)
        Where each window comes from.
    shown, behavior_shown : Tensor of bool, shapes (B, T, N) and (B, T, Q), default=None
        What an encoder may see; by default all that is observed.
    gain : Tensor of shape (B,), default=None
        By this an encoder multiplies its inputs, where a fixed share of all entries is withheld; 1
        by default.
    twins : Tensor of bool, shape (B,), default=None
        Windows of which two columns are one identity. On the CPU, where looking at it waits for no
        device; found in `neurons` by default.
    padded : bool, default=True
        False if all windows are known to be of one length.
    prepared : dict of str to Tensor, default=None
        What a network computed of each window in advance (`LatentNetwork.prepare`): one entry per
        window, and per time step along the second axis, or one for all of them.
    """

    traces: Tensor
    observed: Tensor
    behavior: Tensor
    behavior_observed: Tensor
    stimulus: Tensor
    neurons: Tensor
    valid: Tensor
    recording: Tensor
    start: Tensor
    shown: Tensor | None = None
    behavior_shown: Tensor | None = None
    gain: Tensor | None = None
    twins: Tensor | None = None
    padded: bool = True
    prepared: dict[str, Tensor] | None = None

    def __post_init__(self):
        if self.shown is None:
            self.shown = self.observed
        if self.behavior_shown is None:
            self.behavior_shown = self.behavior_observed
        if self.gain is None:
            self.gain = torch.ones_like(self.start, dtype=self.traces.dtype)
        if self.twins is None:
            self.twins = torch.tensor(
                [_has_twins(row) for row in self.neurons.cpu()], dtype=torch.bool
            )

    @property
    def hidden(self):
        """Entries that are observed but kept from the encoder, of shape (B, T, N)."""
        return self.observed & ~self.shown

    def take(self, windows):
        """Some of the windows, by their numbers, a tensor of int64 on the CPU."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        prepared, padded = fields.pop("prepared"), fields.pop("padded")
        prepared = prepared and {name: value[windows] for name, value in prepared.items()}
        taken = {name: value[windows] for name, value in fields.items()}
        return Batch(**taken, padded=padded, prepared=prepared)

    def take_steps(self, windows, steps):
        """Time steps of several windows, put together as if they were windows.

        Parameters
        ----------
        windows, steps : Tensor of int64, shape (n, n_steps), on the CPU
            Window, and place in it, of each time step. Those of a row must be of one recording.

        Returns
        -------
        Batch
            Of n windows with n_steps time steps each, without meaning as a course of time.
        """

        def pick(values):
            return values[windows, steps if values.shape[1] > 1 else torch.zeros_like(steps)]

        first = self.take(windows[:, 0])
        timed = ("traces", "observed", "behavior", "behavior_observed", "stimulus", "valid",
                 "shown", "behavior_shown")  # fmt: skip
        return dataclasses.replace(
            first,
            **{name: pick(getattr(self, name)) for name in timed},
            prepared=self.prepared and {n: pick(v) for n, v in self.prepared.items()},
        )

    def one_per_identity(self, chance):
        """Give all columns of one identity the random numbers of the first of them.

        Where something is hidden by them, a twin that stays shown would give it away.

        Parameters
        ----------
        chance : Tensor of shape (B, T, N)
            A number for each entry.

        Returns
        -------
        Tensor of shape (B, T, N)
            `chance` itself where no window has two columns of one identity.
        """
        if not self.twins.any():
            return chance
        order = torch.argsort(self.neurons, dim=1, stable=True)
        ordered = self.neurons.gather(1, order)
        begins = torch.ones_like(ordered, dtype=torch.bool)
        begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        place = torch.arange(ordered.shape[1], device=ordered.device)
        first = order.gather(1, torch.where(begins, place, 0).cummax(1).values)
        first = torch.empty_like(first).scatter_(1, order, first)
        return chance.gather(2, first[:, None].expand_as(chance))


class RecordingStore:
    """Recordings as tensors, from which windows are cut.

    Arrays are copied once, so read-only memory maps do. The tensors live on `device` if they take
    no more than `budget` bytes; otherwise they stay in main memory and batches move.

    Parameters
    ----------
    recordings : list of Recording
        As `check_recordings` returns them.
    rows : list of int arrays of shape (n_neurons,)
        Row of each neuron in the tables of the model, -1 = unknown to it.
    device : torch.device
        Where batches are.
    dtype : torch.dtype
        Of traces, behavior and stimulus.
    n_behaviors : int, default=None
        Behavior channels of a batch, for recordings of which none has any; those of the recordings
        by default. A recording without behavior has all of it unobserved.
    budget : int, default=4 GiB
        Bytes that may be kept on `device`.

    Attributes
    ----------
    recordings, rows : list
        As they were given.
    lengths, n_neurons : list of int
        Time steps and neurons of each recording.

    Raises
    ------
    ValueError
        If rows and neurons do not go together, or values are too large for `dtype`.
    """

    def __init__(self, recordings, rows, *, device, dtype, n_behaviors=None, budget=4 * 2**30):
        self.device = torch.device(device)
        self.recordings, self.rows = recordings, rows
        self.lengths = [recording.n_timesteps for recording in recordings]
        self.n_neurons = [recording.n_neurons for recording in recordings]
        if n_behaviors is None:
            n_behaviors = _n_channels(recordings, "behavior")
        n_stimuli = _n_channels(recordings, "stimulus")
        self._recordings, self._twins = [], []
        for index, (recording, row) in enumerate(zip(recordings, rows, strict=True)):
            if np.shape(row) != (recording.n_neurons,):
                raise ValueError(
                    f"rows of recording {index} must have shape ({recording.n_neurons},), one per "
                    f"neuron; got {np.shape(row)}."
                )
            neurons = torch.tensor(row, dtype=torch.int64)
            self._twins.append(_has_twins(neurons))
            traces, observed = _tensors(recording, "traces", recording.n_neurons, dtype, index)
            behavior, seen = _tensors(recording, "behavior", n_behaviors, dtype, index)
            stimulus, _ = _tensors(recording, "stimulus", n_stimuli, dtype, index)
            self._recordings.append(
                {
                    "traces": traces,
                    "observed": observed
                    if bool((neurons >= 0).all())
                    else observed & (neurons >= 0),
                    "behavior": behavior,
                    "behavior_observed": seen,
                    "stimulus": stimulus,
                    "neurons": neurons,
                    "valid": torch.ones(recording.n_timesteps, dtype=torch.bool),
                }
            )
        if sum(t.nbytes for tensors in self._recordings for t in tensors.values()) <= budget:
            self._recordings = [
                {name: tensor.to(self.device) for name, tensor in tensors.items()}
                for tensors in self._recordings
            ]

    def batch(self, rows):
        """Cut windows and pad them to the longest and the widest.

        Parameters
        ----------
        rows : array of int, shape (B, 3)
            Rows of a plan of `plan_windows`.

        Returns
        -------
        Batch
        """
        rows = np.asarray(rows)
        fields = {}
        for name in self._recordings[0]:
            pieces = [self._recordings[index][name] for index, _, _ in rows]
            if name != "neurons":
                pieces = [p[start:stop] for p, (_, start, stop) in zip(pieces, rows)]
            fields[name] = _pad(pieces, -1 if name == "neurons" else 0).to(self.device)
        recording, start = torch.tensor(rows[:, :2].T, dtype=torch.int64, device=self.device)
        twins = torch.tensor([self._twins[index] for index, _, _ in rows], dtype=torch.bool)
        padded = len(set((rows[:, 2] - rows[:, 1]).tolist())) > 1
        return Batch(**fields, recording=recording, start=start, twins=twins, padded=padded)

    def strips(self, left, right):
        """Lay recordings end to end, to cut many short windows at once.

        Parameters
        ----------
        left, right : int
            The window of time step t begins with t - left and ends before t + right. Where it
            would leave the recording, the first or last time step stands in.

        Returns
        -------
        Strips
        """
        return lay_out(self._recordings, left, right)


def make_batches(plan, store, batch_size, *, shuffle, generator=None):
    """Put windows of about equal numbers of neurons and time steps together.

    In a batch every window has at least 3/4 of the neurons and 3/4 of the time steps of the
    largest, so that less than 7/16 of it is padding (less than 1/4 where all windows are equally
    long). Within that, windows of different recordings mix. Batches of one kind are equally large
    up to one window, and their number does not depend on the shuffling.

    Parameters
    ----------
    plan : int array of shape (n_windows, 3)
        Of `plan_windows`.
    store : RecordingStore
    batch_size : int
        Most windows in a batch.
    shuffle : bool
        Draw which windows go together, and the order of the batches.
    generator : torch.Generator, default=None
        On the CPU, for the shuffling; that of `skneurovae.common.randomness` by default.

    Returns
    -------
    blocks : list of int arrays of shape (at most batch_size, 3)
        Rows of the plan; each row is in one block.
    """
    if shuffle:
        plan = plan[randperm(len(plan), generator).numpy()]
    widths = _size_classes(np.array(store.n_neurons)[plan[:, 0]])
    lengths = _size_classes(plan[:, 2] - plan[:, 1])
    blocks = []
    for width, length in sorted(set(zip(widths, lengths))):
        alike = plan[(widths == width) & (lengths == length)]
        blocks += np.array_split(alike, -(-len(alike) // batch_size))
    if shuffle:
        blocks = [blocks[i] for i in randperm(len(blocks), generator)]
    return blocks


def _size_classes(sizes):
    """Number of a class for each size; sizes of one class lie within the least share."""
    classes, top = {}, np.inf
    for size in np.unique(sizes)[::-1].tolist():
        if size < _LEAST_SHARE * top:
            top = size
        classes[size] = top
    return np.array([classes[size] for size in sizes.tolist()])


def _has_twins(neurons):
    known = neurons[neurons >= 0]
    return len(torch.unique(known)) < len(known)


def _n_channels(recordings, name):
    channels = (getattr(recording, name) for recording in recordings)
    return max((c.shape[1] for c in channels if c is not None), default=0)


def _tensors(recording, name, n_columns, dtype, index):
    """An array of a recording, 0 where it is NaN, and where it is not; new tensors."""
    array = getattr(recording, name)
    if array is None:
        array = np.full((recording.n_timesteps, n_columns), np.nan)
    # Passes over large arrays less where nothing is missing: NaN would be in the sum.
    with np.errstate(over="ignore", invalid="ignore"):
        complete = np.isfinite(array.sum())
    observed = np.ones(array.shape, dtype=bool) if complete else ~np.isnan(array)
    filled = np.array(array) if complete or observed.all() else np.where(observed, array, 0)
    values = torch.from_numpy(filled)
    narrower = values.dtype.itemsize > dtype.itemsize
    values = values.to(dtype)
    if narrower and not torch.isfinite(values).all():
        raise ValueError(
            f"{name} of recording {index} reach {np.nanmax(np.abs(array)):g}, beyond {dtype}; "
            "give them in other units."
        )
    return values, torch.from_numpy(observed)


def _pad(pieces, value):
    """Stack tensors of unequal shapes, `value` behind the ends of the smaller ones."""
    if len({piece.shape for piece in pieces}) == 1:
        return torch.stack(pieces)
    shape = torch.tensor([piece.shape for piece in pieces]).amax(0).tolist()
    padded = pieces[0].new_full((len(pieces), *shape), value)
    for target, piece in zip(padded, pieces):
        target[tuple(slice(size) for size in piece.shape)] = piece
    return padded
