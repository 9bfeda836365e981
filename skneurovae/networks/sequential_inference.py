"""Inference with a sequential network: posterior means, and averages over posterior samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skneurovae.objectives import masked_sum

# Entries of rates that exist at a time when posterior samples are averaged.
_ENTRIES = 2**24


@dataclass
class Normal:
    """A normal posterior with independent components, given by mean and log variance."""

    mean: Tensor
    log_variance: Tensor

    def draw(self, noise: Tensor | None) -> Tensor:
        """Mean plus noise in units of the standard deviation; the mean where noise is None."""
        if noise is None:
            return self.mean
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    @property
    def std(self) -> Tensor:
        """Standard deviations."""
        return torch.exp(0.5 * self.log_variance)


@dataclass
class Unrolled:
    """What a generator made: `sample` of q(z) that it consumed, its states, and the factors."""

    dynamic: Normal
    sample: Tensor
    states: Tensor
    factors: Tensor


@dataclass
class Path(Unrolled):
    """One run of the whole network; `steps` (B, steps of z) are those at which z exists."""

    static: Normal
    static_sample: Tensor
    steps: Tensor


class PosteriorAverages:
    """What a `SequentialNetwork` tells of recordings after training."""

    n_samples = 16  # of the posterior, set before inference

    def mean_path(self, batch):
        return self.run(self.inputs(batch)[0], batch.valid, self.stimulus(batch))

    def encode(self, batch):
        """Factors of the posterior means; log variance of factors over posterior samples."""
        mean = self.mean_path(batch).factors
        spread = self._average(batch, lambda drawn: {"": (drawn.factors - mean[:, None]).square()})
        return mean, spread[""].clamp(min=1e-12).log()

    def predictive(self, batch):
        """Mean and standard deviation of the traces over posterior samples, each (B, T, N)."""
        offset, unit = self._units(batch)

        def moments(drawn):
            parameters = self._decode_all(drawn.factors, batch)
            moved = (self.likelihood.mean(*parameters) - offset[:, None]) / unit[:, None]
            noise = self.likelihood.std(*parameters) / unit[:, None]
            return {"rates": moved, "square": moved.square() + noise.square()}

        return _mean_and_std(self._average(batch, moments), offset, unit)

    def bound(self, batch):
        """Evidence lower bound of each time step in nats, (B, T).

        Expectations are over posterior samples. The divergences belong to a window as a whole and
        are spread evenly over its time steps.
        """
        scored = batch.observed & (batch.neurons >= 0)[:, None]
        n_steps = batch.valid.sum(1).clamp(min=1)[:, None]

        def bound(drawn):
            parameters = self._decode_all(drawn.factors, batch)
            log_prob = self.likelihood.log_prob(batch.traces[:, None], *parameters)
            fit = masked_sum(log_prob, scored[:, None], -1)
            flat = Path(**{name: _flat(value) for name, value in vars(drawn).items()})
            dynamic = self.dynamic_kl(flat).sum(-1).unflatten(0, fit.shape[:2])
            static = self.static_kl(_first(drawn), None).sum(-1)[:, None]
            kl = ((dynamic + static) / n_steps)[..., None]
            return {"": torch.where(batch.valid[:, None], fit - kl, 0.0)}

        return self._average(batch, bound)[""]

    def infer(self, batch):
        """Named outputs of each time step, for `infer_windows`."""
        path = self.mean_path(batch)
        offset, unit = self._units(batch)

        def moments(drawn):
            moved = (self._rates(drawn.factors, batch) - offset[:, None]) / unit[:, None]
            spread = (drawn.factors - path.factors[:, None]).square()
            more = self.other_rates(drawn, batch)
            return {"rates": moved, "square": moved.square(), "spread": spread, **more}

        found = self._average(batch, moments)
        found["rates"], rates_std = _mean_and_std(found, offset, unit)
        factors_std = found.pop("spread").sqrt()
        n_steps = batch.valid.shape[1]
        # Where there is no z yet, there is nothing to be unsure of either.
        dynamic_std = torch.where(path.steps[..., None], path.dynamic.std, 0.0)
        return {
            **{f"neuron_{name}": rates for name, rates in found.items()},
            "neuron_rates_std": rates_std,
            "factors": path.factors,
            "factors_std": factors_std,
            "states": path.states,
            "static_mean": path.static.mean[:, None].expand(-1, n_steps, -1),
            "static_std": path.static.std[:, None].expand(-1, n_steps, -1),
            "dynamic_mean": path.dynamic.mean.expand(-1, n_steps, -1),
            "dynamic_std": dynamic_std.expand(-1, n_steps, -1),
        }

    def other_rates(self, drawn, batch):
        """Further rates of posterior samples, by name, (B, draws, T, N); none by default."""
        return {}

    def _average(self, batch, function):
        """Averages over posterior samples of what `function` gives.

        It gets a `Path` of shape (B, draws, ...) and returns such tensors by name.
        """
        total = {}
        for drawn, share in self._paths(batch):
            for name, values in function(drawn).items():
                total[name] = total.get(name, 0.0) + share * values.mean(1)
        return total

    def _paths(self, batch):
        """Yield paths of shape (B, draws, ...) and their share of all posterior samples.

        The draws come in pairs of opposite sign and are the same for every window, so that what
        is inferred of a window depends neither on chance nor on other windows.
        """
        values, stimulus = self.inputs(batch)[0], self.stimulus(batch)
        n_pairs = -(-self.n_samples // 2)
        steps = self._steps(batch.valid).shape[1]
        like = self.scale
        # Two streams: from one, the first draws of f and of z would be the same numbers.
        static = _fixed_noise(0, 1, n_pairs, self.static_dim, like)[0]
        # Time first: the draws of a step do not depend on how many follow.
        dynamic = _fixed_noise(1, steps, n_pairs, self.dynamic_dim, like).transpose(0, 1)
        static, dynamic = (
            torch.stack([n, -n], 1).flatten(0, 1)[: self.n_samples] for n in (static, dynamic)
        )
        size = max(1, _ENTRIES // max(1, batch.traces.numel()))
        for f, z in zip(static.split(size), dynamic.split(size)):
            n_draws = len(f)

            def each(tensor, n_draws=n_draws):
                return tensor.repeat_interleave(n_draws, 0)

            path = self.run(
                each(values), each(batch.valid), each(stimulus),
                f.repeat(len(values), 1), z.repeat(len(values), 1, 1),
            )  # fmt: skip
            pieces = {name: _unflat(value, n_draws) for name, value in vars(path).items()}
            yield Path(**pieces), n_draws / self.n_samples

    def generate(self, stimulus, window_length):
        """Factors of latents drawn from their priors; `stimulus` (B, T, S) is standardized.

        One draw of the latents makes a trial of any length; of segments see `FHVAENetwork`.
        """
        static = self.static_prior.sample(len(stimulus))
        return self.unroll(static, self.dynamic_prior.sample(*stimulus.shape[:2]), stimulus)

    def unroll(self, static, dynamic, stimulus):
        """Factors along given latents, before the first of which the generator has none."""
        dynamic = dynamic.clone()
        dynamic[:, : self.first_dynamic] = 0
        drive = Normal(dynamic, torch.zeros_like(dynamic))
        return self.generator.unroll(static, drive, stimulus, None).factors

    def _units(self, batch):
        """What traces are measured from and in, before they are squared, (B, 1, N) each.

        Squares of others overflow, or hide a small spread around a large mean. Rates, which must
        not become negative by rounding, stay as they are.
        """
        rows = batch.neurons.clamp(min=0)
        offset, unit = self.offset[rows][:, None], self.scale[rows][:, None]
        if self.likelihood.has_log_link:
            return torch.zeros_like(offset), torch.ones_like(unit)
        return offset, unit

    def _rates(self, factors, batch):
        """Expected traces of factors of all draws, (B, draws, T, N)."""
        return self.likelihood.mean(*self._decode_all(factors, batch))

    def _decode_all(self, factors, batch):
        """Likelihood parameters of all draws, (B, draws, T, N)."""
        n_draws, n_steps = factors.shape[1:3]
        location, log_scale = self.decode(factors.flatten(1, 2), batch)
        location = location.unflatten(1, (n_draws, n_steps))
        return location, None if log_scale is None else log_scale[:, None]


def _mean_and_std(found, offset, unit):
    """Mean and standard deviation of traces, from averages of what `_units` makes of them."""
    mean, square = found["rates"], found.pop("square")
    return offset + unit * mean, unit * (square - mean.square()).clamp(min=0).sqrt()


def _fixed_noise(stream, n_steps, n_pairs, size, like):
    noise = np.random.RandomState(stream).standard_normal((n_steps, n_pairs, size))
    return torch.as_tensor(noise, dtype=like.dtype, device=like.device)


def _unflat(value, n_draws):
    if isinstance(value, Normal):
        return Normal(_unflat(value.mean, n_draws), _unflat(value.log_variance, n_draws))
    return value.unflatten(0, (-1, n_draws))


def _flat(value):
    if isinstance(value, Normal):
        return Normal(value.mean.flatten(0, 1), value.log_variance.flatten(0, 1))
    return value.flatten(0, 1)


def _first(path):
    """The static posterior of each window, which no draw changes."""
    static = Normal(path.static.mean[:, 0], path.static.log_variance[:, 0])
    return Path(**{**vars(path), "static": static})
