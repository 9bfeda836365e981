"""Leaks between training and test, and between input and target, that data and splits show."""

from skneurovae.model_selection.leaks.find import find_leaks
from skneurovae.model_selection.leaks.leak import Leak, LeakError

__all__ = ["Leak", "LeakError", "find_leaks"]
