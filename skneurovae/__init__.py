"""scikit-learn-compatible latent-variable models of neural recordings."""

from importlib import import_module

from skneurovae.common.data_warning import DataWarning
from skneurovae.common.versions import VersionWarning
from skneurovae.recordings import Recording

__version__ = "0.1.0"

# Estimators load PyTorch, which takes seconds; data, metrics and baselines do without.
_ESTIMATORS = {
    "ContrastiveEmbedding": "skneurovae.estimators.contrastive_embedding",
    "DSAE": "skneurovae.estimators.dsae",
    "FHVAE": "skneurovae.estimators.fhvae",
    "LFADS": "skneurovae.estimators.lfads",
    "NeuroBehaviorVAE": "skneurovae.estimators.neuro_behavior_vae",
}

__all__ = [
    "DSAE", "FHVAE", "LFADS", "ContrastiveEmbedding", "DataWarning", "NeuroBehaviorVAE",
    "Recording", "VersionWarning",
]  # fmt: skip


def __getattr__(name):
    if name in _ESTIMATORS:
        return getattr(import_module(_ESTIMATORS[name]), name)
    raise AttributeError(f"module 'skneurovae' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_ESTIMATORS])
