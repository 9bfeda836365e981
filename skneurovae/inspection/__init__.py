"""Figures. matplotlib is an optional extra: ``pip install 'skneurovae[plot]'``."""

from skneurovae.inspection.comparisons import plot_comparison

__all__ = ["plot_comparison"]
