"""What a fitted sequential model is asked for beyond factors and rates."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skneurovae.common.isolation import isolated
from skneurovae.common.missing import float_array
from skneurovae.common.moments import own_moments
from skneurovae.common.randomness import seeded
from skneurovae.estimators.generation import DecodingMixin, check_positive


class SequentialUseMixin(DecodingMixin):
    """Named outputs, decoding, and samples of a sequential model."""

    # How `infer` calls what the skeleton calls static, dynamic and states.
    _names = {"static": "static", "dynamic": "dynamic", "states": "states"}

    @isolated
    def infer(self, X, *, mask=None, behavior=None, stimulus=None, identities=None, units="bin"):
        """All that the model infers, by name.

        Parameters
        ----------
        X, mask, behavior, stimulus, identities
            As in `fit`.
        units : {"bin", "hz"}, default="bin"
            Of the rates of count likelihoods: expected counts per bin, or per second, which is
            `rate_hz` of the recording times as much. Other likelihoods have the units of `X`.

        Returns
        -------
        dict of str to array or list, in the form of `X`
            "rates", "rates_std" : (n_timesteps, n_neurons), average and standard deviation of
            expected traces over `n_samples` samples of the posterior. A neuron unknown to the
            model has its own mean.
            "factors", "factors_std" : (n_timesteps, n_components), of the posterior means, and
            their spread over the samples.
            The other names are those of the model, listed with it. States are
            (n_timesteps, n_units). Static latents are (static_dim,); those of a recording longer
            than `window_length` are the mean over its windows, by their share of its time steps.
            Dynamic latents are (n_timesteps, dynamic_dim).

        Raises
        ------
        ValueError
            If `units` asks for Hz where traces are no counts or a recording has no `rate_hz`.
        """
        recordings, form = self._check(X, mask, behavior, stimulus, identities)
        factors = self._units(units, recordings)
        rows = self._vocabulary.rows(recordings)
        results = self._infer(recordings, rows, lambda network, batch: network.infer(batch))
        for recording, row, result, factor in zip(recordings, rows, results, factors):
            own, spread = own_moments(recording)
            for name in [name for name in result if name.startswith("neuron_rates")]:
                fallback = spread if name.endswith("_std") else own
                result[name] = np.where(row >= 0, result[name], fallback) * factor
            for name in ("static_mean", "static_std"):
                result[name] = result[name].mean(0)
        named = {}
        for name in results[0]:
            first, *rest = name.removeprefix("neuron_").split("_")
            label = "_".join([self._names.get(first, first), *rest])
            named[label] = form.wrap([result[name] for result in results])
        return named

    def _units(self, units, recordings):
        """What rates per bin are multiplied by, one number per recording."""
        if units not in ("bin", "hz"):
            raise ValueError(f"units must be 'bin' or 'hz', got {units!r}.")
        if units == "bin":
            return [1.0] * len(recordings)
        if not self.network_.likelihood.is_count:
            likelihood = self._fitted_params["likelihood"]
            raise ValueError(f"units='hz' has no meaning for likelihood={likelihood!r}.")
        for index, recording in enumerate(recordings):
            if recording.rate_hz is None:
                raise ValueError(f"units='hz' needs rate_hz, which recording {index} lacks.")
        return [recording.rate_hz for recording in recordings]

    @isolated
    def inverse_transform(self, Z):
        """Traces of all `identities_` that factors decode to.

        Parameters
        ----------
        Z : array of shape (n_timesteps, n_components), or list or 3-D array of such
            Factors, as `transform` returns them.

        Returns
        -------
        traces : array of shape (n_timesteps, n_identities), or list or 3-D array, as `Z`
            Expected traces, counts per bin for count likelihoods; columns as in `identities_`.

        Raises
        ------
        ValueError
            If the number of factors does not fit, or they are not finite.
        """
        return super().inverse_transform(Z)

    @isolated
    def sample(
        self, n_timesteps=100, *, stimulus=None, identities=None, n_samples=1, random_state=None
    ):
        """Draw trials from the model: latents from their priors, traces from the likelihood.

        Parameters
        ----------
        n_timesteps : int, default=100
            Length of a trial.
        stimulus : array of shape (n_timesteps, n_stimuli), default=None
            Needed where the model was fitted with one.
        identities : sequence of labels of `identities_`, default=None
            All by default.
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        traces : ndarray of shape (n_samples, n_timesteps, n_identities)
            With observation noise; counts per bin for count likelihoods.
        """
        check_is_fitted(self)
        check_positive("n_timesteps", n_timesteps)
        check_positive("n_samples", n_samples)
        columns = self._columns(identities)
        external = self._external(stimulus, n_timesteps)
        with (
            seeded(check_random_state(random_state).randint(2**31 - 1)),
            torch.inference_mode(),
        ):
            batch = self._batch([self._all_neurons(n_timesteps, None, np.float32)] * n_samples)
            external = external.expand(n_samples, -1, -1)
            factors = self.network_.generate(external, self._fitted_params["window_length"])
            traces = self.network_.likelihood.sample(*self.network_.decode(factors, batch))
        return traces.expand(n_samples, n_timesteps, -1).numpy()[:, :, columns]

    def _external(self, stimulus, n_timesteps):
        """Stimulus of one trial as the network takes it, of shape (1, n_timesteps, n_stimuli)."""
        shape = n_timesteps, self.n_stimuli_in_
        given = np.zeros((n_timesteps, 0)) if stimulus is None else float_array(stimulus)
        given = given[:, None] if given.ndim == 1 else given
        if given.shape != shape or not np.isfinite(given).all():
            raise ValueError(
                f"stimulus must be finite and have shape {shape}, as in fit; got {given.shape}."
            )
        network = self.network_
        values = torch.as_tensor(given[None], dtype=network.scale.dtype)
        return (values - network.stimulus_offset) / network.stimulus_scale
