"""Decoding of behavior from latents: the last step of a pipeline, and scorers that hide behavior.

Behavior that conditioned the encoder is in its latents, so a decoder would only read it back.
`decoding_score` and `decoding_errors` take behavior away before they ask for latents, always.
"""

from skneurovae.decoding.decoder import BehaviorDecoder
from skneurovae.decoding.scoring import decoding_errors, decoding_score
from skneurovae.decoding.values import behavior_decay_time, decoding_error, decoding_quality

__all__ = [
    "BehaviorDecoder",
    "behavior_decay_time",
    "decoding_error",
    "decoding_errors",
    "decoding_quality",
    "decoding_score",
]
