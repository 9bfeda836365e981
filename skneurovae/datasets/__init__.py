"""Simulated recordings with known ground truth, and recordings from files."""

from skneurovae.datasets.lorenz import make_lorenz, make_static_dynamic
from skneurovae.datasets.worms import make_worms
from skneurovae.recordings import load_h5, save_h5

__all__ = ["load_h5", "make_lorenz", "make_static_dynamic", "make_worms", "save_h5"]
