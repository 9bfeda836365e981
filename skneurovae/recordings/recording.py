"""One recording of many neurons over time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False, repr=False)
class Recording:
    """Traces of neurons over time, with what is known about them.

    A plain container: `check_recordings`, which every estimator and metric calls, checks it.

    Parameters
    ----------
    traces : array of shape (n_timesteps, n_neurons)
        In any unit, for example dF/F or spikes per bin. NaN = not observed.
    behavior : array of shape (n_timesteps, n_behaviors) or (n_timesteps,), default=None
        NaN = not observed.
    stimulus : array of shape (n_timesteps, n_stimuli) or (n_timesteps,), default=None
        Input that is known at every time step.
    identities : array of shape (n_neurons,), default=None
        Names of the neurons, "" = unknown, or positive integers, 0 = unknown. Neurons of one
        identity are the same neuron in every recording; one identity may occur twice in a
        recording, as left and right of a class.
    session : str, default=None
        Recordings of one session share their unlabeled neurons, column by column.
    rate_hz : float, default=None
        Sampling rate, in time steps per second.

    Attributes
    ----------
    n_timesteps, n_neurons : int
        Shape of the traces.

    Examples
    --------
    >>> import numpy as np
    >>> from skneurovae import Recording
    >>> Recording(np.zeros((800, 130)), behavior=np.zeros((800, 3)), session="worm 1")
    Recording(traces: (800, 130), behavior: (800, 3), session='worm 1')
    """

    traces: np.ndarray
    behavior: np.ndarray | None = None
    stimulus: np.ndarray | None = None
    identities: np.ndarray | None = None
    session: str | None = None
    rate_hz: float | None = None

    @property
    def n_timesteps(self):
        """Length in time steps."""
        return np.shape(self.traces)[0]

    @property
    def n_neurons(self):
        """Number of columns of the traces."""
        return np.shape(self.traces)[1]

    def replace(self, **changes):
        """Copy with other values in some fields.

        Parameters
        ----------
        **changes
            New values by the name of the field.

        Returns
        -------
        Recording
        """
        return dataclasses.replace(self, **changes)

    def __repr__(self):
        arrays = ("traces", "behavior", "stimulus", "identities")
        parts = [f"{n}: {np.shape(v)}" for n in arrays if (v := getattr(self, n)) is not None]
        plain = ("session", "rate_hz")
        parts += [f"{n}={v!r}" for n in plain if (v := getattr(self, n)) is not None]
        return f"Recording({', '.join(parts)})"
