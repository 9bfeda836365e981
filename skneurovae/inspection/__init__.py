"""Figures and attributions. matplotlib is an optional extra: ``pip install 'skneurovae[plot]'``."""

from skneurovae.inspection.attribution import attribution
from skneurovae.inspection.comparisons import plot_comparison

__all__ = ["attribution", "plot_comparison"]
