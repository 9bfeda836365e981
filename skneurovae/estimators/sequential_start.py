"""Start of the rows of a sequential network: units, read-in and read-out."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from sklearn.linear_model import Ridge

from skneurovae.common.moments import (
    column_moments,
    largest_by_row,
    standardization,
    unit_of,
)
from skneurovae.common.randomness import randn_like
from skneurovae.networks.sequential import TABLES, UNITS
from skneurovae.objectives import log_ceiling

SMOOTHING = 2.0  # time steps, the standard deviation of the Gaussian
SMALL = 0.1  # relative size of what a regression leaves open
# What may differ between a fit and the next that goes on from it.
FREE_ARGUMENTS = {
    "n_neurons", "beta_static", "beta_dynamic", "warmup", "free_bits", "dropout",
    "coordinated_dropout", "recurrent_l2", "alpha", "n_sequences",
}  # fmt: skip


@torch.no_grad()
def start_rows(network, trained, measured, n_before):
    """Set units of rows from `n_before` on and draw their read-in; read-outs stay as drawn.

    Parameters
    ----------
    network : SequentialNetwork
    trained, measured : (list of Recording, list of ndarray)
        Recordings, and the row of each of their neurons. Units are those of `trained`; of neurons
        that are not observed there, those of `measured`.
    n_before : int
        Rows that stay as they are.
    """
    new = np.arange(n_before, network.n_neurons)
    recordings, rows = trained
    seen = np.zeros(network.n_neurons, dtype=bool)
    for recording, row in zip(recordings, rows):
        np.logical_or.at(seen, row, ~np.isnan(recording.traces).all(0))
    units = [
        standardization([r.traces for r in part], own, network.n_neurons)
        for part, own in (trained, measured)
    ]
    network.set_units(*(np.where(seen, *pair) for pair in zip(*units)), new)
    if network.likelihood.has_log_link:
        ceiling = torch.as_tensor(
            np.where(seen, *(_ceiling(network, *p) for p in (trained, measured)))
        )
        network.ceiling[new] = ceiling[new].to(network.ceiling)
    # A recording holds the neurons of its own session only.
    width = np.mean([len(row) for row in rows])
    network.read_in[new] = randn_like(network.read_in[new]) / width**0.5
    if not n_before and len(network.stimulus_offset):
        mean, std = column_moments(np.concatenate([r.stimulus for r in recordings]))
        network.stimulus_offset.copy_(torch.as_tensor(mean))
        network.stimulus_scale.copy_(torch.as_tensor(unit_of(std)))


def _ceiling(network, recordings, rows):
    largest = largest_by_row([r.traces for r in recordings], rows, network.n_neurons)
    return log_ceiling(largest, network.likelihood.is_count)


@torch.no_grad()
def align_rows(network, trained, conditions, n_before=0, courses=None):
    """Start read-in and read-out of rows from `n_before` on from mean responses to conditions.

    Mean responses of the neurons of each session are regressed on what is common to all sessions:
    by the read-in they add up to it (ridge, with the variance of single trials as penalty), and by
    the read-out they follow from it (penalty 1). In a model that is not trained yet this is the
    principal components of the mean responses of all neurons together, and a factor stands for a
    component; what components do not reach stays drawn, and small. In one that is trained it is its
    own time courses. Neurons with equal mean responses get equal weights in all sessions.

    Parameters
    ----------
    network : SequentialNetwork
        With the units of its neurons set.
    trained : (list of Recording, list of ndarray)
        Recordings, and the row of each of their neurons; those with the same are one session.
    conditions : list
        Of each recording. Recordings of a condition are cut to the shortest.
    n_before : int, default=0
        Rows that stay as they are.
    courses : dict of condition to (ndarray, ndarray), default=None
        Read-in channels and factors of a trained model in each condition, (n_timesteps, ...) each.

    Raises
    ------
    ValueError
        If the sessions share no condition.

    References
    ----------
    Pandarinath et al. (2018), Inferring single-trial neural population dynamics using sequential
    auto-encoders, methods ("stitching").
    """
    offset, scale = network.offset.numpy(), network.scale.numpy()
    sessions = {}
    for recording, row, condition in zip(*trained, conditions):
        if row.max() >= n_before:
            standard = (recording.traces - offset[row]) / scale[row]
            parts = sessions.setdefault(tuple(row.tolist()), ([], []))
            parts[0].append(standard)
            parts[1].append(condition)
    sessions = {row: mean_courses(*parts) for row, parts in sessions.items()}
    if courses is None:
        made = component_courses(list(sessions.values()), network.read_in.shape[1])
        courses = {c: (v, v[:, : network.read_out.shape[1]]) for c, v in made.items()}
    n_in, n_out = (values.shape[1] for values in next(iter(courses.values())))
    sums, count = np.zeros((network.n_neurons, n_in + n_out + 1)), np.zeros((network.n_neurons, 1))
    for row, means in sessions.items():
        row = np.array(row)
        response, inputs, factors = _together(means, courses)
        old = row < n_before  # these add to the channels already
        known = network.read_in[row[old], :n_in].numpy()
        read_in = np.zeros((len(row), n_in))
        # What is read in later is no mean: noise of about unit variance is on every time step.
        missing = inputs - response[:, old] @ known
        read_in[~old] = _ridge(response[:, ~old], missing, len(response))[0].T
        modulation = network.modulation(torch.as_tensor(response), row).numpy()
        read_out, shift = _ridge(factors, modulation, 1.0)
        np.add.at(sums, row, np.concatenate([read_in, read_out, shift[:, None]], 1))
        np.add.at(count, row, 1)
    values = torch.as_tensor(sums / np.maximum(count, 1))[n_before:].to(network.read_in)
    for table, n, part in (
        (network.read_in, n_in, values[:, :n_in]),
        (network.read_out, n_out, values[:, n_in:-1]),
    ):
        table[n_before:, n:] *= SMALL
        table[n_before:, :n] = part
    if n_before:  # the factors of a new model do not follow the components yet
        network.bias[n_before:] += values[:, -1]


def _together(means, courses):
    """Mean responses of a session, and channels and factors at the same time steps."""
    shared = [c for c in means if c in courses]
    if not shared:
        raise ValueError(
            f"y has none of the conditions that the model was trained with ({_some(courses)}); "
            f"got {_some(means)}."
        )
    lengths = [min(len(means[c]), len(courses[c][0])) for c in shared]
    pieces = [[values[:n] for values in (means[c], *courses[c])] for c, n in zip(shared, lengths)]
    return (np.concatenate(parts) for parts in zip(*pieces))


def _some(labels):
    """The first labels, for a message."""
    return ", ".join(map(repr, list(labels)[:5])) + (", ..." if len(labels) > 5 else "")


def _ridge(inputs, targets, penalty):
    """Weights of shape (n_targets, n_inputs), and shifts (n_targets,)."""
    if not inputs.shape[1] or not targets.shape[1]:
        return np.zeros((targets.shape[1], inputs.shape[1])), targets.mean(0)
    fit = Ridge(alpha=penalty).fit(inputs, targets)
    return fit.coef_.reshape(targets.shape[1], -1), np.reshape(fit.intercept_, -1)


def mean_courses(trials, conditions):
    """Mean of the smoothed trials of each condition, cut to the shortest; a dict.

    Only observed entries count; far from any the mean is 0.
    """
    smooth = {}
    for trial, condition in zip(trials, conditions):
        parts = np.stack([np.nan_to_num(trial), ~np.isnan(trial)]).astype(float)
        parts = gaussian_filter1d(parts, SMOOTHING, axis=1, mode="nearest")
        smooth.setdefault(condition, []).append(parts)
    means = {}
    for condition, same in smooth.items():
        length = min(parts.shape[1] for parts in same)
        total, weight = sum(parts[:, :length] for parts in same)
        means[condition] = total / np.maximum(weight, 1e-3)
    return means


def component_courses(sessions, n_components):
    """Principal components of mean responses to the conditions that all sessions share.

    Parameters
    ----------
    sessions : list of dict of condition to ndarray of shape (n_timesteps, n_neurons)
    n_components : int
        Most components.

    Returns
    -------
    dict of condition to ndarray of shape (n_timesteps, at most n_components)
        Components over all conditions together have unit variance.
    """
    shared = [c for c in sessions[0] if all(c in means for means in sessions)]
    if not shared:
        found = "; ".join(_some(means) for means in sessions)
        raise ValueError(f"y must have a condition that all sessions share; got {found}.")
    lengths = [min(len(means[c]) for means in sessions) for c in shared]
    together = np.concatenate(
        [np.concatenate([m[c][:n] for c, n in zip(shared, lengths)]) for m in sessions], 1
    )
    left, singular, _ = np.linalg.svd(together - together.mean(0), full_matrices=False)
    left = left[:, singular > 1e-6 * singular[:1]][:, :n_components] * np.sqrt(len(together))
    return dict(zip(shared, np.split(left, np.cumsum(lengths)[:-1])))


class StartMixin:
    """How a sequential estimator starts its network, and adds neurons to a fitted one."""

    def _start_network(self, recordings, rows, random_state):
        if self.freeze_core:
            raise ValueError(
                "freeze_core=True goes on with a fitted model: call partial_fit, or fit with "
                "warm_start=True."
            )
        network = self._new_network(self._network_arguments())
        trained, measured = self._start_sets(recordings, rows)
        start_rows(network, trained, measured, 0)
        conditions = self._conditions_of(recordings, trained[0], required=True)
        self._started_on, self._courses = (trained, conditions), None
        if conditions is not None:
            if self.initialization == "pcr" and len({tuple(row) for row in rows}) == 1:
                # Single trials of one session need not be alike.
                conditions = list(range(len(conditions)))
            align_rows(network, trained, conditions)
        self._n_core_rows = network.n_neurons
        return network

    def _grow_network(self, old, recordings, rows, adding):
        network = self._new_network(self._arguments_as_before(FREE_ARGUMENTS))
        n_before = old.n_neurons
        if not self.freeze_core:
            self._n_core_rows = network.n_neurons
        elif np.concatenate(rows).max() < self._n_core_rows:
            raise ValueError(
                "freeze_core=True trains neurons that the model did not know when its core was "
                "last trained, of which these recordings have none; set freeze_core=False to "
                "train all on them."
            )
        state = network.state_dict()
        for name, value in old.state_dict().items():
            if name in TABLES or name in UNITS:
                state[name][:n_before] = value
            elif state[name].shape == value.shape:
                state[name] = value.clone()
        network.load_state_dict(state)
        grown = network.n_neurons > n_before
        trained, measured = self._start_sets(recordings, rows)
        if network.likelihood.has_log_link:  # rates may rise to what further recordings hold
            seen = torch.as_tensor(_ceiling(network, *trained)).to(network.ceiling)
            raised = torch.where(seen.isfinite(), seen, -torch.inf)
            network.ceiling.copy_(torch.maximum(network.ceiling, raised))
        conditions = self._conditions_of(recordings, trained[0], required=grown)
        self._started_on = trained, conditions
        if grown:
            start_rows(network, trained, measured, n_before)
            if conditions is not None:
                align_rows(network, trained, conditions, n_before, self._known_courses())
        network.freeze_core = self.freeze_core
        network.n_frozen = self._n_core_rows if self.freeze_core else 0
        return network

    def _start_sets(self, recordings, rows):
        """What the start is measured on, and for neurons missing there; each (recordings, rows).

        What validates must not reach it.
        """
        trained = self._trained_on or (recordings, rows)
        return trained, trained if self.sample_validation else (recordings, rows)

    @contextmanager
    def _labels_of_conditions(self, y):
        self._labels = y
        try:
            yield
        finally:
            vars(self).pop("_labels", None)

    def _conditions_of(self, recordings, trained, required):
        """Condition of each of the recordings `trained`; None to draw, or if not required."""
        if self.initialization == "random":
            return None
        if self.initialization == "pcr":  # sessions meet in their mean over trials
            return [0] * len(trained)
        labels = getattr(self, "_labels", None)
        if labels is None and not required:
            return None
        if labels is None or len(labels) != len(recordings):
            found = "none" if labels is None else f"{len(labels)} labels"
            raise ValueError(
                "initialization='conditions' needs y, one condition for each of the "
                f"{len(recordings)} recordings; got {found}."
            )
        labels = [label.item() if isinstance(label, np.generic) else label for label in labels]
        for index, label in enumerate(labels):
            if not isinstance(label, Hashable):
                raise ValueError(
                    "initialization='conditions' needs as y one condition per recording, a number "
                    f"or name and no behavior; that of recording {index} is of type "
                    f"{type(label).__name__}."
                )
        if len(trained) == len(recordings):  # all trials, or a part of each
            return labels
        label_of = {id(r): label for r, label in zip(recordings, labels)}
        return [label_of[id(r)] for r in trained]

    def _keep_courses(self):
        """Keep what the network, just trained, does in each condition; later neurons meet that."""
        trained, conditions = self._started_on
        self._courses = None  # those of before are of another core
        if conditions is None:
            return
        share = 1 - self.sample_validation if self._trained_on else 1.0
        results = self._infer(*trained, partial(_channels_and_factors, share))
        inputs, factors = (
            mean_courses([result[name] for result in results], conditions)
            for name in ("inputs", "factors")
        )
        # Lists, as labels may be what no file has as keys.
        self._courses = {
            "initialization": self.initialization, "labels": list(inputs),
            "inputs": [values.astype("f4") for values in inputs.values()],
            "factors": [values.astype("f4") for values in factors.values()],
        }  # fmt: skip

    def _known_courses(self):
        kept = self._courses
        if kept is None or kept["initialization"] != self.initialization:
            raise ValueError(
                f"initialization={self.initialization!r} starts new neurons from what the model "
                "does in each condition, which must be known since its core was last trained: "
                "call fit or partial_fit with it on known recordings first"
                f"{', and y,' if self.initialization == 'conditions' else ''} "
                "or draw new neurons by 'random'."
            )
        return dict(zip(kept["labels"], zip(kept["inputs"], kept["factors"])))


def _channels_and_factors(share, network, batch):
    """What a trained network reads in and makes of trials, of which it sees a share."""
    batch = replace(batch, gain=batch.gain / share)
    return {"inputs": network.inputs(batch)[0], "factors": network.mean_path(batch).factors}
