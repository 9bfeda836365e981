"""Training: the one loop, its settings and schedule, device and seed."""

from skneurovae.training.loop import EpochLog, History, train
from skneurovae.training.runtime import resolve_device, seeded
from skneurovae.training.settings import TrainingSettings

__all__ = ["EpochLog", "History", "TrainingSettings", "resolve_device", "seeded", "train"]
