"""Simulated recordings with known ground truth, and recordings from files."""

from skneurovae.datasets.worms import make_worms
from skneurovae.recordings import load_h5, save_h5

__all__ = ["load_h5", "make_worms", "save_h5"]
