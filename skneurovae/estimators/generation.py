"""From latents, behavior or nothing to traces."""

from __future__ import annotations

import copy
from functools import partial
from numbers import Integral

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skneurovae.common.isolation import isolated
from skneurovae.common.missing import float_array, plain_array
from skneurovae.common.randomness import seeded
from skneurovae.recordings import Recording
from skneurovae.recordings.doubts import tell_extrapolation


class DecodingMixin:
    """From latents to traces, for any network that decodes."""

    @isolated
    def inverse_transform(self, Z, *, behavior=None):
        """Traces of all `identities_` that latents decode to.

        Parameters
        ----------
        Z : array of shape (n_timesteps, n_components), or list or 3-D array of such
            Latents, as `transform` returns them.
        behavior : array of shape (n_timesteps, n_behaviors) or list, default=None
            Behavior that goes with them; missing by default.

        Returns
        -------
        traces : array of shape (n_timesteps, n_identities), or list or 3-D array, as `Z`
            Expected traces in the units of the training data, columns as in `identities_`.

        Raises
        ------
        ValueError
            If the number of components or the lengths do not fit.
        """
        check_is_fitted(self)
        n_components = self._n_features_out
        many = isinstance(Z, list) or np.ndim(Z) == 3
        latents = [plain_array(z) for z in (Z if many else [Z])]
        behaviors = behavior if many and behavior is not None else [behavior] * len(latents)
        if len(behaviors) != len(latents):
            raise ValueError(f"behavior has {len(behaviors)} entries; Z has {len(latents)}.")
        decoded = []
        for number, (z, b) in enumerate(zip(latents, behaviors)):
            if z.ndim != 2 or z.shape[1] != n_components:
                raise ValueError(
                    f"Z of recording {number} must have shape (n_timesteps, {n_components}), "
                    f"got {z.shape}."
                )
            if not np.isfinite(z).all():
                raise ValueError(
                    f"Z of recording {number} must be finite, but holds NaN or infinity."
                )
            dtype = z.dtype if z.dtype in (np.float32, np.float64) else np.dtype(np.float64)
            decoded.append(self._decode(z.astype(dtype), self._all_neurons(len(z), b, dtype)))
        if isinstance(Z, list):
            return decoded
        return np.stack(decoded) if many else decoded[0]

    def _decode(self, latents, recording):
        kind = torch.float64 if latents.dtype == np.float64 else torch.float32
        network = copy.deepcopy(self.network_).to(dtype=kind)
        with torch.inference_mode():
            parameters = network.decode(
                torch.from_numpy(latents)[None], self._batch([recording], kind)
            )
            return network.likelihood.mean(*parameters)[0].numpy()

    def _all_neurons(self, n_timesteps, behavior, dtype):
        """Recording in which none of the known neurons is observed."""
        traces = np.full((n_timesteps, len(self.identities_)), np.nan, dtype=dtype)
        if behavior is not None:
            behavior = float_array(behavior).reshape(len(behavior), -1).astype(dtype)
            if behavior.shape != (n_timesteps, self.n_behaviors_in_):
                raise ValueError(
                    f"behavior must have shape ({n_timesteps}, {self.n_behaviors_in_}), "
                    f"got {behavior.shape}."
                )
            if np.isinf(behavior).any():
                raise ValueError("behavior holds infinity; give finite values, NaN = not observed.")
        return Recording(traces, behavior=behavior)

    def _batch(self, recordings, dtype=torch.float32):
        rows = self._all_rows(len(recordings))
        store = self._store(recordings, rows, torch.device("cpu"), dtype)
        plan = [(i, 0, r.n_timesteps) for i, r in enumerate(recordings)]
        return store.batch(np.array(plan))

    def _all_rows(self, n_recordings):
        return [np.arange(len(self.identities_))] * n_recordings

    def _columns(self, identities):
        if identities is None:
            return np.arange(len(self.identities_))
        place = {label: i for i, label in enumerate(self.identities_.tolist())}
        unknown = [label for label in identities if label not in place]
        if unknown:
            raise ValueError(
                f"identities holds labels that the model does not know: {unknown[:5]}."
            )
        return np.array([place[label] for label in identities])


class GenerationMixin(DecodingMixin):
    """Generative uses of an estimator whose network is a VAE conditioned on behavior."""

    @isolated
    def predict_from_behavior(
        self, behavior, *, identities=None, return_std=False, n_samples=None, random_state=None
    ):
        """Activity that a behavior drives, the prior of the latents integrated out.

        Parameters
        ----------
        behavior : array of shape (n_timesteps, n_behaviors)
            NaN = not observed.
        identities : sequence of labels of `identities_`, default=None
            Neurons to predict; all by default.
        return_std : bool, default=False
            Also return the standard deviation of an observation.
        n_samples : int, default=None
            Return this many draws of traces in place of the mean. Latents are drawn jointly over
            the time steps of a window (each step by itself if `causal`) and blend from one window
            to the next.
        random_state : int, RandomState instance or None, default=None
            Of the draws.

        Returns
        -------
        traces : ndarray of shape (n_timesteps, n_identities), or (n_samples, ...) of it
        std : ndarray like `traces`, only if `return_std`

        Raises
        ------
        ValueError
            If the model was fitted without behavior, or an identity is unknown.
        """
        check_is_fitted(self)
        if not self.n_behaviors_in_:
            raise ValueError("predict_from_behavior needs a model that was fitted with behavior.")
        if n_samples is not None:
            check_positive("n_samples", n_samples)
            if return_std:
                raise ValueError(
                    "return_std has no meaning together with n_samples: take it from them."
                )
        many = isinstance(behavior, (list, tuple)) and np.ndim(behavior[0]) > 1
        if many or (isinstance(behavior, np.ndarray) and behavior.ndim > 2):
            raise ValueError(
                "behavior must be one array of shape (n_timesteps, n_behaviors); call "
                "predict_from_behavior for each recording."
            )
        behavior = np.atleast_1d(float_array(behavior))
        columns = self._columns(identities)
        recording = self._all_neurons(len(behavior), behavior, behavior.dtype)
        self._tell_of_behavior([recording])
        if n_samples is not None:
            return self._draw(recording, columns, n_samples, random_state)
        (mean,), (std,) = self._predict([recording], self._all_rows(1))
        return (mean[:, columns], std[:, columns]) if return_std else mean[:, columns]

    def _tell_of_behavior(self, recordings):
        tell_extrapolation(recordings, vars(self).get("_behavior_range"))

    @isolated
    def sample(
        self, n_timesteps=100, *, behavior=None, identities=None, n_samples=1, random_state=None
    ):
        """Draw traces from the model: latents from their prior, given `behavior` if any.

        Parameters
        ----------
        n_timesteps : int, default=100
            Length; that of `behavior` where it is given.
        behavior : array of shape (n_timesteps, n_behaviors), default=None
        identities : sequence of labels of `identities_`, default=None
            All by default.
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        traces : ndarray of shape (n_samples, n_timesteps, n_identities)
            In the units of the training data, with observation noise.
        """
        check_is_fitted(self)
        check_positive("n_timesteps", n_timesteps)
        check_positive("n_samples", n_samples)
        columns = self._columns(identities)
        if behavior is not None:
            return self.predict_from_behavior(
                behavior, identities=identities, n_samples=n_samples, random_state=random_state
            )
        with seeded(check_random_state(random_state).randint(2**31 - 1)):
            latents = self.network_.prior.sample(n_samples, n_timesteps)
            batch = self._batch([self._all_neurons(n_timesteps, None, np.float32)] * n_samples)
            with torch.inference_mode():
                traces = self.network_.likelihood.sample(*self.network_.decode(latents, batch))
        return traces.numpy()[:, :, columns]

    def _draw(self, recording, columns, n_samples, random_state):
        """Draws of traces given the recording, latents drawn jointly within each window."""
        network = copy.deepcopy(self.network_).to(dtype=torch.float64)
        batch = self._batch([recording], torch.float64)
        draws = []
        seed = check_random_state(random_state).randint(2**31 - 1)
        with seeded(seed), torch.inference_mode():
            function = partial(_deviations, n_samples=n_samples)
            (posterior,) = self._infer([recording], self._all_rows(1), function)
            mean = torch.from_numpy(posterior["mean"].astype(float))
            deviations = torch.from_numpy(posterior["draw_deviation"].astype(float))
            for deviation in deviations.unbind(1):
                parameters = network.decode((mean + deviation)[None], batch)
                draws.append(network.likelihood.sample(*parameters)[0].numpy()[:, columns])
        return np.stack(draws).astype(recording.traces.dtype)


def _deviations(network, batch, n_samples):
    """Posterior means, and draws around them of shape (B, T, n_samples, K)."""
    posterior = network.posterior(batch)
    draws = [posterior.draw_deviation() for _ in range(n_samples)]
    return {"mean": posterior.mean, "draw_deviation": torch.stack(draws, 2)}


def check_positive(name, value):
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
