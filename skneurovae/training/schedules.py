"""How the learning rate changes over a fit: warm-up, cosine, then steps down at plateaus."""

from __future__ import annotations

import math

__all__ = ["Plateau", "learning_rate_at"]


def learning_rate_at(position, settings):
    """Learning rate before a step: a pure function of how far the fit has come.

    It changes from step to step, so that a fit of few epochs warms up too. The shape is that of
    CeNeuroVAE: a line from a thousandth of the learning rate, then half a period of a cosine
    (Loshchilov & Hutter 2017, eq. 5, without restarts), then constant. Without `annealing` it is
    constant throughout.

    Parameters
    ----------
    position : float
        Epochs done, with the share of the current one as fraction.
    settings : TrainingSettings

    Returns
    -------
    float

    Examples
    --------
    >>> from skneurovae.training import TrainingSettings
    >>> settings = TrainingSettings(max_iter=110, cosine_portion=1.0)
    >>> [learning_rate_at(position, settings) for position in (0, 5, 10, 60, 110)]
    [1e-06, 0.0005005, 0.001, 0.00055, 0.0001]
    """
    if not settings.annealing:
        ratio = 1.0
    elif position < settings.warmup_end:
        ratio = 1e-3 + (1 - 1e-3) * position / settings.warmup_end
    else:
        length = settings.cosine_end - settings.warmup_end
        progress = min(1.0, (position - settings.warmup_end) / length)
        fall = (1 + math.cos(math.pi * progress)) / 2
        ratio = settings.min_lr_ratio + (1 - settings.min_lr_ratio) * fall
    return settings.learning_rate * ratio


class Plateau:
    """Factor on the learning rate that falls each time a loss has stopped to fall.

    The rule of PyTorch's ``ReduceLROnPlateau``, as a factor that goes together with a schedule.

    Parameters
    ----------
    factor : float
    patience : int
        Epochs without improvement that are tolerated.
    tol : float
        Least fall that counts.

    Attributes
    ----------
    scale : float
        The factor so far, 1 at first.
    """

    def __init__(self, factor, patience, tol):
        self.factor, self.patience, self.tol = factor, patience, tol
        self.scale, self._best, self._n_bad = 1.0, math.inf, 0

    def update(self, loss):
        """Take note of the loss of one more epoch."""
        if loss < self._best - self.tol:
            self._best, self._n_bad = loss, 0
        else:
            self._n_bad += 1
        if self._n_bad > self.patience:
            self.scale, self._n_bad = self.scale * self.factor, 0
