"""Linear baselines over recordings; NaN-aware, no torch."""

from skneurovae.baselines.lagged import LaggedRidge
from skneurovae.baselines.missing_factor_analysis import MissingFactorAnalysis
from skneurovae.baselines.pooled import Pooled

__all__ = ["LaggedRidge", "MissingFactorAnalysis", "Pooled"]
