"""Linear baselines over recordings; NaN-aware, no torch."""

from skneurovae.baselines.align import AlignNeurons
from skneurovae.baselines.glm import PoissonGLM
from skneurovae.baselines.lagged import LaggedRidge
from skneurovae.baselines.missing_factor_analysis import MissingFactorAnalysis
from skneurovae.baselines.pooled import Pooled
from skneurovae.baselines.row_wise import RowWise
from skneurovae.baselines.smoothing import GaussianSmoother

__all__ = [
    "AlignNeurons",
    "GaussianSmoother",
    "LaggedRidge",
    "MissingFactorAnalysis",
    "PoissonGLM",
    "Pooled",
    "RowWise",
]
