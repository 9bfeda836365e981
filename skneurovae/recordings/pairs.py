"""Which time steps belong together: references, positives and negatives of contrastive learning."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from skneurovae.common.moments import column_moments, unit_of
from skneurovae.common.randomness import rand, randint, randn_like
from skneurovae.recordings.nearest import Nearest, pick

__all__ = ["PairSampler", "Pairing"]

LEAST_REFERENCES = 32  # of a session in a batch; with more sessions than fit, they take turns


@dataclass(frozen=True)
class Pairing:
    """What makes two time steps a pair.

    Parameters
    ----------
    conditional : {"time", "time_delta", "delta", "discrete"}
        "time": a step and the one `time_offset` later. "time_delta": the step whose behavior is
        closest to that of the reference plus a change drawn from the data, over `time_offset`.
        "delta": the same with a Gaussian change of standard deviation `delta`. "discrete": a step
        with the same labels.
    channels : sequence of int, default=()
        Behavior channels in use.
    discrete : sequence of int, default=()
        Those of them that are labels of any value; all of them always agree within a pair.
    circular : dict of int to float, default={}
        Those of them that are circular, with their period.
    time_offset : sequence of int, default=(1,)
        In time steps, positive; with several one is drawn for each pair.
    delta : float, default=None
        In units of the behavior.
    prior : {"empirical", "uniform"}, default="empirical"
        References and negatives of labels as often as they occur, or every combination of labels
        equally often.
    """

    conditional: str
    channels: tuple = ()
    discrete: tuple = ()
    circular: dict = field(default_factory=dict)
    time_offset: tuple = (1,)
    delta: float | None = None
    prior: str = "empirical"

    @property
    def continuous(self):
        """Channels that are neither labels nor unused."""
        return [c for c in self.channels if c not in self.discrete]

    @property
    def within(self):
        """Whether reference, positive and negatives of a pair share their session.

        Pairs in time do by nature: were negatives from elsewhere, the embedding would only have to
        tell sessions apart.
        """
        return self.conditional == "time"


class PairSampler:
    """Draw pairs of time steps of recordings; nothing crosses the end of a recording.

    Every step of a batch has the same number of references in each of its sessions. Of behavior,
    the positive of a reference is looked for in a session assigned to it by a random permutation
    of the references of a batch (a label that the assigned session lacks is looked for in all
    sessions). Equal behavior is drawn from uniformly, and no step is its own positive. Steps of
    which a channel in use is NaN are not drawn.

    Parameters
    ----------
    pairing : Pairing
    lengths : sequence of int
        Time steps of each recording.
    session : sequence of int
        Session of each recording, counted from 0; recordings of a session follow each other.
    behavior : list of array of shape (n_timesteps, n_channels) or None, default=None
        Of each recording; floats, or labels of any kind where all channels are discrete.
    device : torch.device, default="cpu"

    Raises
    ------
    ValueError
        If no pair can be drawn.
    """

    def __init__(self, pairing, lengths, session, behavior=None, device="cpu"):
        self.pairing, self.device = pairing, torch.device(device)
        lengths, session = np.asarray(lengths), np.asarray(session)
        self.n_timesteps = int(lengths.sum())
        place = np.concatenate([np.arange(n) for n in lengths])  # within the recording
        until_end = np.repeat(lengths, lengths) - place
        self._session_of = self._tensor(np.repeat(session, lengths))
        n_sessions = int(session.max()) + 1
        if pairing.within:
            valid = until_end > max(pairing.time_offset)
            if not valid.any():
                raise ValueError(
                    f"time_offset={max(pairing.time_offset)} needs a longer recording: the longest "
                    f"has n_samples = {lengths.max()} time steps."
                )
            strata = np.zeros(self.n_timesteps, dtype=np.int64)
        else:
            values, strata, valid = self._read(behavior, lengths)
            if pairing.conditional == "time_delta":
                self._changes(valid, place, lengths)
            self._index(values, strata, valid, n_sessions)
        self._prior(valid, strata, np.repeat(session, lengths), n_sessions)

    @property
    def sessions(self):
        """Sessions that steps are drawn from."""
        return set(self._sessions.tolist())

    def _tensor(self, array):
        return torch.as_tensor(array, device=self.device)

    def _read(self, behavior, lengths):
        """Values to search in, class of every step, and which steps can be drawn."""
        used = list(self.pairing.channels)
        absent = [b is None for b in behavior] if behavior is not None else [True]
        if all(absent):
            raise ValueError(
                f"conditional={self.pairing.conditional!r} needs behavior, and no recording has it."
            )
        kind = object if any(b is not None and b.dtype.kind in "OUS" for b in behavior) else float
        rows = [
            np.full((n, len(used)), np.nan, dtype=kind) if b is None else b[:, used].astype(kind)
            for b, n in zip(behavior, lengths)
        ]
        table = np.concatenate(rows)
        # Only NaN differs from itself.
        valid = (table == table).all(1)
        labels = [i for i, c in enumerate(used) if c in self.pairing.discrete]
        strata = np.zeros(len(table), dtype=np.int64)
        for column in labels:
            codes = np.full(len(table), 0)
            codes[valid] = np.unique(table[valid, column], return_inverse=True)[1]
            strata = strata * (codes.max() + 1) + codes
        strata = np.unique(strata, return_inverse=True)[1]
        # A step that is alone with its label has no positive.
        valid &= np.bincount(strata[valid], minlength=strata.max() + 1)[strata] > 1
        if not valid.any():
            raise ValueError(
                f"conditional={self.pairing.conditional!r} finds no pair: of n_samples = "
                f"{len(table)} time steps, fewer than two have behavior in all channels in use, or "
                "no two share their labels."
            )
        numbers = [i for i in range(len(used)) if i not in labels]
        raw = np.where(valid[:, None], table[:, numbers], 0).astype(float)
        self._scale = self._tensor(unit_of(column_moments(raw[valid])[1]))
        self._period = self._tensor(
            np.array([self.pairing.circular.get(used[i], np.nan) for i in numbers])
        )
        self._raw = self._tensor(raw)
        return self._place(self._raw), strata, valid

    def _place(self, raw):
        """Continuous channels in units of their spread, circular ones as cosine and sine."""
        circular = ~torch.isnan(self._period)
        angle = 2 * np.pi * raw[:, circular] / self._period[circular]
        return torch.cat([(raw / self._scale)[:, ~circular], angle.cos(), angle.sin()], 1)

    def _changes(self, valid, place, lengths):
        """Steps at whose end a change over each time offset is known."""
        self._ends = []
        for offset in self.pairing.time_offset:
            before = np.zeros_like(valid)
            before[offset:] = valid[:-offset]
            ends = np.flatnonzero(valid & (place >= offset) & before)
            if not len(ends):
                raise ValueError(
                    f"time_offset={offset} needs a longer recording: no two time steps that far "
                    f"apart have behavior; the longest has n_samples = {lengths.max()} time steps."
                )
            self._ends.append(self._tensor(ends))

    def _index(self, values, strata, valid, n_sessions):
        """Search structures of every class, in each session and in all of them."""
        self._strata = self._tensor(strata)
        session = self._session_of.cpu().numpy()
        self._stores = {}
        for label in np.unique(strata[valid]):
            of_label = valid & (strata == label)
            self._stores[-1, label] = Nearest(self._tensor(np.flatnonzero(of_label)), values)
            for name in range(n_sessions if n_sessions > 1 else 0):
                ids = np.flatnonzero(of_label & (session == name))
                if len(ids):
                    self._stores[name, label] = Nearest(self._tensor(ids), values)

    def _prior(self, valid, strata, session, n_sessions):
        """Steps to draw from, sorted by session and, for the uniform prior, by class."""
        if self.pairing.prior == "empirical":
            strata = np.zeros_like(strata)
        ids = np.flatnonzero(valid)
        ids = ids[np.lexsort((strata[ids], session[ids]))]
        _, first, count = np.unique(
            np.stack([session[ids], strata[ids]]), axis=1, return_index=True, return_counts=True
        )
        block_session = session[ids[first]]
        self._ids = self._tensor(ids)
        self._first, self._count = self._tensor(first), self._tensor(count)
        self._sessions = self._tensor(np.unique(block_session))
        blocks = np.bincount(block_session, minlength=n_sessions)
        self._n_blocks = self._tensor(blocks)
        self._first_block = self._tensor(np.cumsum(blocks) - blocks)

    def shape(self, batch_size):
        """Sessions of a batch, and references of each of them."""
        # Where behavior is what sessions share, a batch of one would not bring them together.
        least = 1 if self.pairing.within else 2
        n_sessions = min(len(self._sessions), max(least, batch_size // LEAST_REFERENCES))
        return n_sessions, max(1, batch_size // n_sessions)

    def draw(self, n_steps, batch_size):
        """Draw batches.

        Parameters
        ----------
        n_steps : int
            Batches.
        batch_size : int
            References in a batch, spread evenly over its sessions.

        Returns
        -------
        Tensor of int64, shape (n_steps, 3, n_sessions, n_references)
            Time steps: references, positives and negatives, as numbered through all recordings;
            `n_sessions` is that of a batch.
        """
        n_sessions, n = self.shape(batch_size)
        turns = rand(n_steps, len(self._sessions), device=self.device).argsort(1)[:, :n_sessions]
        session = self._sessions[turns]
        reference, negative = self._from_prior(session, n), self._from_prior(session, n)
        if self.pairing.within:
            # Negatives are distributed as positives are: no edge tells them apart.
            positive, negative = self._later(reference), self._later(negative)
        else:
            positive = self._alike(reference, session)
        return torch.stack([reference, positive, negative], 1)

    def _from_prior(self, session, n):
        session = session[..., None].expand(*session.shape, n)
        block = self._first_block[session] + pick(self._n_blocks[session])
        return self._ids[self._first[block] + pick(self._count[block])]

    def _later(self, steps):
        offsets = torch.tensor(self.pairing.time_offset, device=self.device)
        return steps + offsets[randint(0, len(offsets), steps.shape, self.device)]

    def _alike(self, reference, session):
        """Positive of each reference, in the session that a permutation assigns to it."""
        n_steps, n_sessions, n = reference.shape
        assigned = session[..., None].expand_as(reference).reshape(n_steps, -1)
        if n_sessions > 1:
            order = rand(*assigned.shape, device=self.device).argsort(1)
            assigned = assigned.gather(1, order)
        reference, assigned = reference.reshape(-1), assigned.reshape(-1)
        queries = self._queries(reference)
        strata = self._strata[reference]
        positive = torch.full_like(reference, -1)
        names = self._sessions.tolist() if len(self._sessions) > 1 else []
        for name, label in self._stores:
            if name in names:
                rows = ((assigned == name) & (strata == label)).nonzero()[:, 0]
                store = self._stores[name, label]
                positive[rows] = store.draw(queries[rows], reference[rows])
        for name, label in self._stores:
            if name < 0:
                rows = ((positive < 0) & (strata == label)).nonzero()[:, 0]
                store = self._stores[name, label]
                positive[rows] = store.draw(queries[rows], reference[rows])
        return positive.view(n_steps, n_sessions, n)

    def _queries(self, reference):
        """Behavior to look for."""
        raw = self._raw[reference]
        if self.pairing.conditional == "delta":
            raw = raw + self.pairing.delta * randn_like(raw)
        elif self.pairing.conditional == "time_delta":
            which = randint(0, len(self._ends), reference.shape, self.device)
            change = torch.zeros_like(raw)
            for number, (offset, ends) in enumerate(zip(self.pairing.time_offset, self._ends)):
                rows = (which == number).nonzero()[:, 0]
                end = ends[randint(0, len(ends), rows.shape, self.device)]
                change[rows] = self._raw[end] - self._raw[end - offset]
            raw = raw + change
        return self._place(raw)
