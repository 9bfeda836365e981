"""Training: the one loop, its settings and schedule, device."""

from skneurovae.training.history import EpochLog, History
from skneurovae.training.loop import gain_over, train
from skneurovae.training.runtime import resolve_device
from skneurovae.training.settings import TrainingSettings

__all__ = ["EpochLog", "History", "TrainingSettings", "gain_over", "resolve_device", "train"]
