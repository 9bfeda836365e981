"""Compare models on recordings: pieces, splitters that scikit-learn lacks, comparisons, leaks."""

from skneurovae.model_selection.compare import compare_models
from skneurovae.model_selection.comparison import Comparison
from skneurovae.model_selection.leaks import Leak, LeakError, find_leaks
from skneurovae.model_selection.segments import Segment, segment
from skneurovae.model_selection.splitters import (
    ContiguousSpeckles,
    ForwardChaining,
    HeldOutNeurons,
    held_out_score,
)

__all__ = [
    "Comparison",
    "ContiguousSpeckles",
    "ForwardChaining",
    "HeldOutNeurons",
    "Leak",
    "LeakError",
    "Segment",
    "compare_models",
    "find_leaks",
    "held_out_score",
    "segment",
]
