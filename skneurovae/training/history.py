"""What a fit tells of its course: a line per epoch, and all epochs afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["EpochLog", "History"]


@dataclass(frozen=True)
class EpochLog:
    """What one epoch came to; ``str(log)`` is one line.

    Parameters
    ----------
    epoch, max_iter : int
        Number of epochs done, and of all.
    loss : float
        Mean of the training loss over the steps of the epoch.
    validation_loss : float or None
        After the epoch; None without validation.
    learning_rate : float
        Of the last step.
    parts : dict of str to float or ndarray
        Means of the parts of the loss over the steps; arrays where a part has one value per
        component.
    seconds : float, default=0.0
        Since training began.
    """

    epoch: int
    max_iter: int
    loss: float
    validation_loss: float | None
    learning_rate: float
    parts: dict
    seconds: float = 0.0

    @property
    def seconds_left(self):
        """Seconds that the epochs to come take at the pace so far; less if training stops early."""
        return self.seconds / self.epoch * (self.max_iter - self.epoch)

    def __str__(self):
        validation = self.validation_loss
        shown = "" if validation is None else f", validation {validation:.5g}"
        left = f", at most {_clock(self.seconds_left)} left" if self.epoch < self.max_iter else ""
        return (
            f"epoch {self.epoch}/{self.max_iter}: loss {self.loss:.5g}{shown}, "
            f"learning rate {self.learning_rate:.2g}, {_clock(self.seconds)} done{left}"
        )


@dataclass
class History:
    """Course of a fit.

    Parameters
    ----------
    loss_curve : list of float
        Training loss of each epoch.
    validation_scores : list of float
        Validation loss, lower is better: of the start, then after each epoch. Empty without
        validation.
    parts : list of dict
        Parts of the training loss of each epoch; see `EpochLog`.
    best_epoch : int
        Number of epochs after which the weights were what the network has now; 0 = the start.
    n_rollbacks : int
        How often training diverged and went back.
    tried_epoch : int
        After which the trained weights were best, kept or not; 0 = no epoch was done.
    start_gain : (float, float) or None
        By how much their validation loss is below that of the start, and the standard error of this
        difference (0 where it is of one unit). None without validation, or without an epoch.
    start_shares, kept_shares : Tensor or None
        Shares of the validation loss of the start, and of the weights that were kept.
    start_kept : bool
        Whether the network was left as, or brought back to, what it was before training.
    interrupted : bool
        Whether a `KeyboardInterrupt` ended the training.
    """

    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    parts: list[dict] = field(default_factory=list)
    best_epoch: int = 0
    n_rollbacks: int = 0
    tried_epoch: int = 0
    start_gain: tuple[float, float] | None = None
    start_shares: Tensor | None = None
    kept_shares: Tensor | None = None
    start_kept: bool = False
    interrupted: bool = False

    @property
    def n_iter(self):
        """Number of epochs done."""
        return len(self.loss_curve)

    @property
    def best_loss(self):
        """Validation loss of the weights that were kept; without validation the last training loss.

        NaN if there is neither.
        """
        if self.validation_scores and self.kept_shares is not None:
            return float(self.kept_shares.sum())
        if self.validation_scores:
            return self.validation_scores[self.best_epoch]
        return self.loss_curve[-1] if self.loss_curve else float("nan")

    def cut(self, n_epochs):
        """Forget what came after the first `n_epochs`."""
        del self.loss_curve[n_epochs:], self.parts[n_epochs:]
        del self.validation_scores[n_epochs + 1 :]

    def summary(self, seconds, start="start"):
        """One line on how the fit ended.

        Parameters
        ----------
        seconds : float
            That the fit took.
        start : str, default="start"
            What the network started as.
        """
        epochs = f"{self.n_iter} epoch{'s' * (self.n_iter != 1)} in {_clock(seconds)}"
        if self.start_gain is None:
            kept = "its last weights" if self.n_iter else f"the {start}"
            return f"{epochs}; kept {kept}"
        gain, error = self.start_gain
        found = f"{abs(gain):.3g} {'below' if gain >= 0 else 'above'}"
        spread = f" (standard error {error:.2g})" if error else ""
        if not self.start_kept:
            kept = f"epoch {self.best_epoch}" if self.best_epoch else "what was trained before them"
            return (
                f"{epochs}; kept {kept}: its validation loss is {found} that of the {start}{spread}"
            )
        return (
            f"{epochs}; kept the {start}: after the best epoch, {self.tried_epoch}, the "
            f"validation loss was {found}{spread}"
        )


def _clock(seconds):
    """Seconds below a minute, else minutes and hours."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h" if minutes >= 60 else (
        f"{minutes}:{rest:02} min"
    )  # fmt: skip
