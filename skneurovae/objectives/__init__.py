"""Likelihoods, latent priors, schedules and the terms of a loss, as plain torch.

Log likelihoods and divergences are in nats, so that ``beta = 1`` is the evidence lower bound.
"""

from .learned_priors import DiagonalNormal, HierarchicalNormal, RecurrentPrior, normal_kl
from .likelihoods import Likelihood, get_likelihood
from .masked import bounded_above, log_ceiling, masked_sum, soft_cap
from .priors import MarkovPrior, StandardNormal, StationaryAR1
from .schedules import apply_free_bits, beta_at, free_bits_at
from .terms import LossTerms

__all__ = [
    "DiagonalNormal",
    "HierarchicalNormal",
    "Likelihood",
    "LossTerms",
    "MarkovPrior",
    "RecurrentPrior",
    "StandardNormal",
    "StationaryAR1",
    "apply_free_bits",
    "beta_at",
    "bounded_above",
    "free_bits_at",
    "get_likelihood",
    "log_ceiling",
    "masked_sum",
    "normal_kl",
    "soft_cap",
]
