"""Networks, batches and validation of contrastive embeddings."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, astuple, replace

import numpy as np
import torch

from skneurovae.common.moments import standardization
from skneurovae.common.randomness import own_defaults, randint
from skneurovae.estimators.contrastive_parts import resolve_parts, unit_slices
from skneurovae.networks.contrastive import ContrastiveNetwork, PairBatch
from skneurovae.networks.convolutional import receptive_field
from skneurovae.recordings.pairs import Pairing, PairSampler
from skneurovae.recordings.strips import by_session
from skneurovae.recordings.windows import plan_windows

STRETCH = 16384  # time steps in inference: of a window, and of all windows at a time
CHUNK = 256  # time steps whose derivatives are taken at once
DRAWN = 1000  # batches that are drawn at once
LARGEST_TABLE = 2**30  # similarities of a batch, which take 4 bytes each, several times over
# Batches that a score is the mean of, and references in each: always these, so that scores compare.
SCORED = (16, 512)
# What may change between two fits of one network.
FREE = {
    "n_neurons", "n_alike", "objective", "gamma", "augmentation", "jacobian_penalty", "dropout",
}  # fmt: skip
PACED = ("time", "time_delta")  # whose pairs need recordings longer than `time_offset`
TABLES = {"table.offset", "table.scale", "table.weight", "table.missing"}


class ContrastiveTraining:
    """What a contrastive estimator hands to the base: its network, batches and validation."""

    _labels_of_y = ()  # channels, where `y` is the behavior
    _least_known = 1.0  # a neuron that nothing trains has random weights

    def _check_parameters(self):
        if self.n_stimuli_in_:
            raise ValueError("stimulus is not used by ContrastiveEmbedding.")
        resolve_parts(self, self.n_behaviors_in_)
        if self.gamma is not None and self.objective == "infonce":
            raise ValueError(f"gamma={self.gamma} has no meaning for objective='infonce'.")
        if self.min_temperature is not None and not self.learn_temperature:
            raise ValueError("min_temperature has no meaning without learn_temperature=True.")
        if self.learn_temperature and self.temperature < self._floor:
            raise ValueError(
                f"temperature={self.temperature} is below min_temperature={self._floor}."
            )
        for name in ("n_layers", "n_heads", "dropout"):
            if getattr(self, name) is not None and self.network != "attention":
                raise ValueError(
                    f"{name}={getattr(self, name)} has no meaning for network={self.network!r}."
                )
        if self.hidden_dim is not None and self.network == "linear":
            raise ValueError(f"hidden_dim={self.hidden_dim} has no meaning for network='linear'.")
        heads = self._attention["n_heads"]
        if self.network == "attention" and self._width % (2 * heads):
            raise ValueError(
                f"n_heads={heads} must divide hidden_dim={self._width} into heads of even size."
            )

    @property
    def _width(self):
        return 32 if self.hidden_dim is None else self.hidden_dim

    @property
    def _floor(self):
        return 0.1 if self.min_temperature is None else self.min_temperature

    @property
    def _attention(self):
        defaults = {"n_layers": 1, "n_heads": 4, "dropout": 0.0}
        given = {name: getattr(self, name) for name in defaults}
        return {n: defaults[n] if value is None else value for n, value in given.items()}

    def _network_arguments(self):
        parts = [part for part, _ in resolve_parts(self, self.n_behaviors_in_)]
        return {
            "n_neurons": len(self._vocabulary), "n_components": self.n_components,
            "network": self.network, "hidden_dim": self._width,
            "parts": tuple(map(astuple, parts)), "objective": self.objective,
            "gamma": 2.0 if self.gamma is None else self.gamma, "similarity": self.similarity,
            "temperature": self.temperature,
            "min_temperature": self._floor if self.learn_temperature else None,
            "unit_slices": unit_slices(self, parts), **self._attention,
            "augmentation": (self.noise, self.neuron_dropout, self.amplitude_jitter),
            "jacobian_penalty": self.jacobian_penalty,
        }  # fmt: skip

    @own_defaults()
    def _new_network(self, arguments):
        """Untrained network."""
        return ContrastiveNetwork(**arguments)

    def _train(self, recordings, fresh, n_epochs, context):
        longest = max(recording.n_timesteps for recording in recordings)
        pairings = [pairing for _, pairing in resolve_parts(self, self.n_behaviors_in_, longest)]
        self._pairings = [asdict(pairing) for pairing in pairings]
        super()._train(recordings, fresh, n_epochs, context)
        self._standardized = self.standardize

    def _start_network(self, recordings, rows, random_state, n_before=0):
        arguments = self._network_arguments()
        n_alike = int(np.median([recording.n_neurons for recording in recordings]))
        network = self._new_network({**arguments, "n_alike": n_alike})
        offset, scale = standardization([r.traces for r in recordings], rows, network.n_neurons)
        network.table.offset.copy_(torch.as_tensor(offset))
        if self.standardize:
            network.table.scale.copy_(torch.as_tensor(scale))
        return network

    def _grow_network(self, old, recordings, rows, adding):
        self._arguments_as_before(FREE)
        if self.standardize != self._standardized:
            raise ValueError(
                f"standardize is {self.standardize}, but the last fit had {self._standardized}; "
                "training can only go on with the same."
            )
        network = self._start_network(recordings, rows, None)
        known = old.n_neurons
        with torch.no_grad():
            state = network.state_dict()
            for name, value in old.state_dict().items():
                state[name][:known].copy_(value) if name in TABLES else state[name].copy_(value)
        if getattr(self, "_adapting", False):
            if network.n_neurons == known:
                raise ValueError(
                    "X has no neuron that is new to the model; partial_fit trains on known ones."
                )
            network.freeze(known)
        return network

    def _batches(self, store, network):
        strips = network.prepare(store.strips(network.left, network.right))
        device = "cpu" if store.device.type == "mps" else store.device  # it has no float64
        recordings = [store.recordings[i] for i in strips.order]
        pairings = [Pairing(**pairing) for pairing in self._pairings]
        samplers = make_samplers(pairings, recordings, strips.session, device)
        self._warn_of_idle(strips, samplers)
        for part, sampler in zip(network.parts, samplers):
            refuse_large_table(self.batch_size, *sampler.shape(self.batch_size), part.within)
        first, last = ends_of(strips.lengths, store.device)

        def batches():
            for done in range(0, self.steps_per_epoch, DRAWN):
                n_steps = min(DRAWN, self.steps_per_epoch - done)
                draws = [s.draw(n_steps, self.batch_size).to(store.device) for s in samplers]
                if self.time_jitter:
                    draws = [jittered(draw, self.time_jitter, first, last) for draw in draws]
                for step in range(n_steps):
                    yield PairBatch(strips, [draw[step] for draw in draws])

        batches.n_steps = self.steps_per_epoch
        return batches

    def _training_settings(self, n_epochs, patience, annealing):
        # The shared schedule spends a fifth of a fit on warming up and then cools down: after as
        # many steps, pairs are told apart less well than by the constant rate of the method, and a
        # little less with shorter memory than Adam's own.
        settings = super()._training_settings(n_epochs, patience, annealing)
        return replace(settings, warmup_epochs=0, min_lr_ratio=1.0, betas=(0.9, 0.999))

    def _warn_of_idle(self, strips, samplers):
        """Tell of neurons that are in no recording that gives a pair: their weights stay random."""
        drawn = set().union(*(sampler.sessions for sampler in samplers))
        trained = {row for name in drawn for row in strips.neurons[name].tolist()}
        idle = sorted({row for rows in strips.neurons for row in rows.tolist()} - trained)
        if idle:
            names = ", ".join(map(str, self._vocabulary.labels[idle[:3]]))
            warnings.warn(
                f"Nothing trains the weights of {len(idle)} neurons ({names}, ...): no pair can be "
                "drawn from their recordings, which lack behavior or are too short. Embeddings of "
                "these recordings mean nothing.",
                stacklevel=2,
            )

    def _segments(self, n_timesteps):
        """Up to five segments, none with a tail too short for a few windows and pairs; see base.

        One tail would often show a part of the behavior only.
        """
        offsets = [n for p in self._pairings if p["conditional"] in PACED for n in p["time_offset"]]
        least = 2 * max(sum(receptive_field(self.network)), *offsets, 0)
        n_held_out = self.validation_fraction * n_timesteps
        n_segments = int(np.clip(n_held_out // least, 1, 5))
        ends = np.linspace(0, n_timesteps, n_segments + 1).astype(int).tolist()
        share = self.validation_fraction
        return [(a, b - int(share * (b - a)), b) for a, b in zip(ends, ends[1:])]

    def _validation(self, network, held_out, device, seed):
        """Closure that returns minus the bits over chance of fixed pairs of held-out data.

        A penalty is added, in bits per weight too: without it the weights that are kept would be
        those of the time before it told.
        """
        if held_out is None:
            return None
        store = self._store(*held_out, device, torch.float32)
        strips = network.prepare(store.strips(network.left, network.right))
        recordings = [store.recordings[i] for i in strips.order]
        pairings = [Pairing(**pairing) for pairing in self._pairings]
        try:
            samplers = make_samplers(pairings, recordings, strips.session, "cpu")
        except ValueError as error:
            warnings.warn(
                f"The data held out for early stopping give no pair, so all epochs are run: {error}"
                " Give more data, or early_stopping=False to train on all of it.",
                stacklevel=2,
            )
            return None
        draws = [sampler.draw(*SCORED).to(device) for sampler in samplers]
        steps = torch.arange(len(strips.window), device=device)
        some = PairBatch(strips, [draw[0] for draw in draws])
        total = math.log(2) * sum(part.weight for part in network.parts)

        def validate():
            loss = -mean_bits(network, network.embed(strips, steps), draws)
            if network.penalty:
                with torch.enable_grad():
                    loss = loss + network.penalty * network.squared_jacobian(some).cpu() / total
            return loss.detach()

        return validate

    def _derivatives(self, recordings, rows, max_samples, absolute):
        """Derivatives at some time steps of each recording, (n_samples, K, N) each."""
        device = torch.device(self._device)
        network, _ = self._network_for(np.float32, device)
        results = []
        for recording, row in zip(recordings, rows):
            store = self._store([recording], [row], device, torch.float32)
            strips = network.prepare(store.strips(network.left, network.right))
            columns = np.argsort(row, kind="stable")[(row < 0).sum() :]  # as in the strips
            n = min(max_samples, recording.n_timesteps)
            steps = np.linspace(0, recording.n_timesteps - 1, n).round().astype(int)
            result = np.zeros((n, network.n_components, recording.n_neurons), np.float32)
            for first in range(0, n, CHUNK):
                chunk = torch.as_tensor(steps[first : first + CHUNK], device=device)
                ((_, _, values),) = network.jacobian(strips, chunk)
                values = (values.abs() if absolute else values).mean(1).transpose(0, 1)
                result[first : first + CHUNK, :, columns] = values.cpu().numpy()
            results.append(result)
        return results

    def _plan(self, lengths):
        return plan_windows(lengths, STRETCH, STRETCH - sum(self._context))

    @property
    def _context(self):
        left, right = receptive_field(self._arguments["network"])
        return left, right - 1

    def _n_windows(self, plan):
        return max(1, STRETCH // int((plan[:, 2] - plan[:, 1]).max()))


def session_order(rows):
    """Recordings session by session, and the session of each."""
    sessions = by_session(rows)
    order = [number for _, members in sessions for number in members]
    session = [name for name, (_, members) in enumerate(sessions) for _ in members]
    return order, session


def make_samplers(pairings, recordings, session, device):
    lengths = [recording.n_timesteps for recording in recordings]
    behavior = [recording.behavior for recording in recordings]
    return [PairSampler(pairing, lengths, session, behavior, device) for pairing in pairings]


def mean_bits(network, embedding, draws):
    """Goodness of fit of an embedding (n_timesteps, K), mean over draws and, by weight, parts."""
    weight = torch.tensor([part.weight for part in network.parts])
    bits = [network.goodness([embedding[steps] for steps in batch]) for batch in zip(*draws)]
    return (torch.stack(bits).mean(0).cpu() * weight).sum() / weight.sum()


def refuse_large_table(batch_size, n_sessions, n_references, within):
    """Refuse batches whose references and negatives are too many to compare each with each."""
    n = n_sessions * n_references
    entries = n * n_references if within else n * n
    if entries > LARGEST_TABLE:
        most = int(batch_size * (LARGEST_TABLE / entries) ** 0.5)
        raise ValueError(
            f"batch_size must be at most {most} here, got {batch_size}: references are compared "
            f"each with each, in tables of {4 * entries / 2**30:.0f} GiB."
        )


def ends_of(lengths, device):
    """First and last time step of the recording of each time step."""
    lengths = torch.tensor(lengths, device=device)
    ends = lengths.cumsum(0)
    return (ends - lengths).repeat_interleave(lengths), (ends - 1).repeat_interleave(lengths)


def jittered(steps, jitter, first, last):
    shift = randint(-jitter, jitter + 1, steps.shape, steps.device)
    return (steps + shift).maximum(first[steps]).minimum(last[steps])
