"""Offset and gain of each neuron in each recording, where they differ between recordings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skneurovae.baselines.linear_gaussian import LinearGaussian, fit_em, infer, random_start
from skneurovae.common.moments import unit_of
from skneurovae.recordings.level_differences import (
    LEAST_STEPS,
    column_levels,
    measured_levels,
    steps_per_sample,
)

__all__ = ["Levels"]

PRIOR_RECORDINGS = 10  # as many as the variance of all neurons counts for that of each
MOST_FACTORS, RIDGE = 3, 3.0  # of a recording; on their loadings, in recordings
LARGEST_GAIN = 20.0  # of a neuron in a recording, relative to its identity


@dataclass(frozen=True, eq=False)
class Levels:
    """What the offset and log gain of a neuron in a recording are drawn from.

    Each is a factor analysis over recordings: in units of its identity, the offset of a neuron in a
    recording is a sum of a few factors of the recording and a deviation of its own, and so is its
    log gain. What is observed of a neuron is weighed against that. A neuron of which nothing is
    observed has the offset and gain that the other neurons of the recording lead to expect.

    Parameters
    ----------
    mean, std : ndarray of shape (n_rows,)
        Of each identity: mean over recordings of its means, and spread within a recording.
    offsets, gains : LinearGaussian
        Their models; noise is the variance of the neurons' own deviations.
    steps_per_sample : float
        Time steps that tell as much as one independent sample.
    """

    mean: np.ndarray
    std: np.ndarray
    offsets: LinearGaussian
    gains: LinearGaussian
    steps_per_sample: float

    @classmethod
    def fit(cls, recordings, rows, n_rows):
        """Levels of recordings.

        Parameters
        ----------
        recordings : list of Recording
        rows : list of ndarray of int
            Row of each neuron, -1 = unknown.
        n_rows : int

        Returns
        -------
        Levels
        """
        measured = [measured_levels(r, row) for r, row in zip(recordings, rows)]
        steps = steps_per_sample(recordings)
        owners = np.concatenate([row for row, *_ in measured])
        means, stds, counts = (np.concatenate([m[i] for m in measured]) for i in (1, 2, 3))
        number = np.maximum(np.bincount(owners, minlength=n_rows), 1)
        mean = np.bincount(owners, means, n_rows) / number
        total = np.maximum(np.bincount(owners, counts, n_rows), 1)
        std = unit_of(np.sqrt(np.bincount(owners, counts * stds**2, n_rows) / total))
        tables = np.full((2, len(recordings), n_rows), np.nan)
        errors = []
        for number, (row, own_mean, own_std, count) in enumerate(measured):
            good = (count >= LEAST_STEPS) & (own_std > 0)
            row = row[good]
            tables[0, number, row] = (own_mean[good] - mean[row]) / std[row]
            tables[1, number, row] = np.log(own_std[good] / std[row])
            errors.append(np.mean(steps / count[good]) if good.any() else np.nan)
        error = np.nanmean(errors) if np.isfinite(errors).any() else 0.0
        return cls(mean, std, _factors(tables[0], error), _factors(tables[1], error / 2), steps)

    def extended(self, recordings, rows, n_rows):
        """The same levels for old rows; of new ones, those of new recordings."""
        n_old = len(self.mean)
        new = Levels.fit(recordings, rows, n_rows)
        mean, std = new.mean.copy(), new.std.copy()
        mean[:n_old], std[:n_old] = self.mean, self.std
        models = []
        for model in (self.offsets, self.gains):
            n_more = n_rows - n_old
            models.append(
                LinearGaussian(
                    np.concatenate([model.loadings, np.zeros((n_more, model.n_components))]),
                    np.concatenate([model.offset, np.zeros(n_more)]),
                    np.concatenate([model.noise, np.full(n_more, np.median(model.noise))]),
                    model.phi,
                    np.ones(n_rows),
                )
            )
        return Levels(mean, std, *models, self.steps_per_sample)

    def of(self, recording, row):
        """Offset and gain of each column; without them its traces have those of its identity.

        Parameters
        ----------
        recording : Recording
        row : ndarray of int

        Returns
        -------
        offset, gain : ndarray of shape (n_neurons,)
            0 and 1 for neurons of an unknown identity.
        """
        known = row >= 0
        offset, gain = np.zeros(len(row)), np.ones(len(row))
        if not known.any():
            return offset, gain
        place = row[known]
        own_mean, own_std, count = column_levels(recording.traces[:, known])
        good = (count >= LEAST_STEPS) & (own_std > 0)
        samples = np.maximum(count / self.steps_per_sample, 1e-9)
        moved = _weighed(
            self.offsets, place, (own_mean - self.mean[place]) / self.std[place], count > 0,
            1 / samples,
        )  # fmt: skip
        stretched = _weighed(
            self.gains, place, np.log(np.where(good, own_std, 1.0) / self.std[place]), good,
            0.5 / samples,
        )  # fmt: skip
        scale = np.clip(np.exp(stretched), 1 / LARGEST_GAIN, LARGEST_GAIN)
        gain[known] = scale
        offset[known] = self.mean[place] * (1 - scale) + self.std[place] * moved
        return offset, gain

    def leveled(self, recording, row):
        """The recording in the levels of its identities, and its offset and gain; see `of`."""
        offset, gain = self.of(recording, row)
        traces = ((recording.traces - offset) / gain).astype(recording.traces.dtype)
        return recording.replace(traces=traces), offset, gain


def _factors(table, error):
    """Factor analysis of a table (n_recordings, n_rows), less the variance of its errors."""
    n_recordings, n_rows = table.shape
    n_factors = min(MOST_FACTORS, max(1, n_recordings // 8))
    data = [(table, np.arange(n_rows))]
    start = random_start(data, n_rows, n_factors, np.random.RandomState(0))
    model = fit_em(data, start, shrinkage=RIDGE, n_iter=100)
    # EM finds the scale of factors slowly; that their variance is one settles it.
    ((mean, covariance, _),) = infer(data, model)
    second = (mean[:, :, None] * mean[:, None] + covariance).mean(0)
    loadings = model.loadings @ np.linalg.cholesky(second)
    # Of few recordings the variance of one neuron is as good as unknown.
    number = (~np.isnan(table)).sum(0)
    noise = np.maximum(model.noise - error, 0.01 * model.noise)
    typical = np.median(noise[number > 1]) if (number > 1).any() else 0.0
    number = np.where(number > 1, number, 0)
    noise = (number * noise + PRIOR_RECORDINGS * typical) / (number + PRIOR_RECORDINGS)
    return replace(model, loadings=loadings, noise=np.maximum(noise, 1e-6))


def _weighed(model, rows, values, seen, errors):
    """Values of neurons of one recording, each weighed against what the others lead to expect."""
    observed = np.where(seen, values, np.nan)
    weight = model.noise[rows] / (model.noise[rows] + errors)  # an uncertain value tells less
    alike = replace(
        model,
        loadings=model.loadings[rows], offset=model.offset[rows], noise=model.noise[rows],
        evidence=weight,
    )  # fmt: skip
    ((mean, *_),) = infer([(observed[None], np.arange(len(rows)))], alike)
    expected = model.offset[rows] + model.loadings[rows] @ mean[0]
    return np.where(seen, expected + weight * (values - expected), expected)
