"""The numbers that a training run needs."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TrainingSettings"]


@dataclass(frozen=True)
class TrainingSettings:
    """How to train: optimizer, schedule of the learning rate, and when to stop.

    Parameters
    ----------
    max_iter : int
        Most epochs.
    learning_rate : float, default=1e-3
        Of AdamW, after the warm-up.
    weight_decay : float, default=1e-4
        Of AdamW; the network says which parameters decay.
    betas : (float, float), default=(0.9, 0.95)
        Of AdamW.
    warmup_epochs : int, default=10
        Epochs of linear warm-up, at most a fifth of `max_iter`.
    min_lr_ratio : float, default=0.1
        Where the cosine ends, relative to `learning_rate`.
    cosine_portion : float, default=0.8
        Share of the epochs after the warm-up that the cosine takes; the rest is the plateau tail.
    plateau_factor : float, default=0.5
        By this the learning rate falls in the tail once the score has stopped to improve.
    plateau_patience : int, default=4
        Epochs without improvement in the tail before that.
    gradient_clip : float, default=1.0
        Largest norm of the gradient of all parameters together.
    n_iter_no_change : int, default=20
        Epochs without improvement of the validation loss after which training stops. Epochs of
        the warm-up do not count.
    tol : float, default=1e-4
        Least fall of a loss that counts as improvement, in the units of the loss.
    grace_epochs : float, default=0
        Epochs at first that do not count as epochs without improvement either.
    averaging : float, default=0.0
        Decay per step of a running mean of the weights; it is the mean that is validated and kept.
        0 keeps the weights themselves. The mean forgets its start sooner: after n steps it reaches
        back over no more than about n / 2.
    ramp_epochs : int, default=0
        Epochs during which the objective still changes: of their weights only the last are
        eligible as the best ones, and they do not count as epochs without improvement.
    annealing : bool, default=True
        Whether the schedules run; otherwise the learning rate is constant, and what the network
        anneals has its final value.
    precision : {"float32", "bf16"}, default="float32"
        "bf16" runs the loss under autocast; parameters and validation stay in float32.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    max_iter: int
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_epochs: int = 10
    min_lr_ratio: float = 0.1
    cosine_portion: float = 0.8
    plateau_factor: float = 0.5
    plateau_patience: int = 4
    gradient_clip: float = 1.0
    n_iter_no_change: int = 20
    tol: float = 1e-4
    grace_epochs: float = 0
    averaging: float = 0.0
    ramp_epochs: int = 0
    annealing: bool = True
    precision: str = "float32"

    def __post_init__(self):
        if self.max_iter < 1:
            raise ValueError(f"max_iter must be at least 1, got {self.max_iter}.")
        if not 0 < self.cosine_portion <= 1:
            raise ValueError(
                f"cosine_portion must be above 0 and at most 1, got {self.cosine_portion}."
            )
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging must be from 0 to below 1, got {self.averaging}.")
        if self.precision not in ("float32", "bf16"):
            raise ValueError(f"precision must be 'float32' or 'bf16', got {self.precision!r}.")

    @property
    def warmup_end(self):
        """Where the warm-up ends, in epochs."""
        return min(self.warmup_epochs, self.max_iter / 5)

    @property
    def cosine_end(self):
        """Where the cosine ends and the plateau tail begins, in epochs."""
        return self.warmup_end + self.cosine_portion * (self.max_iter - self.warmup_end)
