"""What every objective hands to the training loop."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

__all__ = ["LossTerms"]


@dataclass
class LossTerms:
    """A loss to descend and the named terms that it was made of.

    Parameters
    ----------
    loss : Tensor of shape ()
        The scalar that is differentiated.
    parts : dict of str to Tensor, default={}
        Terms to log, in nats: scalars, and ``"kl_per_component"`` of shape (n_components,).
        They are detached here, so that keeping them does not keep the graph of a batch alive.
    """

    loss: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self):
        self.parts = {name: value.detach() for name, value in self.parts.items()}
