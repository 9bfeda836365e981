"""Attention over time that neither padding nor, where it is causal, the future can reach."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

from skneurovae.common.randomness import Dropout, dropout

_here = threading.local()  # whether gradients of this thread are differentiated again


def visible_steps(valid, causal):
    """Time steps that each time step may attend to.

    Every step sees itself, so that a softmax always has something to sum over, also in padding.

    Parameters
    ----------
    valid : Tensor of bool, of shape (B, T)
        Real time steps, as opposed to padding.
    causal : bool
        Whether later steps are out of sight.

    Returns
    -------
    Tensor of bool, of shape (B, T, T)
        Queries along the second, keys along the third axis.
    """
    n_timesteps = valid.shape[1]
    visible = valid[:, None].expand(-1, n_timesteps, -1)
    if causal:
        visible = visible.tril()
    return visible | torch.eye(n_timesteps, dtype=torch.bool, device=valid.device)


@contextmanager
def twice_differentiable():
    """Attention of this thread has second derivatives, which PyTorch's fused kernels lack.

    Its own switch of kernels, `torch.nn.attention.sdpa_kernel`, is one for all threads.
    """
    before = getattr(_here, "twice", False)
    _here.twice = True
    try:
        yield
    finally:
        _here.twice = before


def attend(query, key, value, visible, rate=0.0):
    """Scaled dot-product attention.

    Parameters
    ----------
    query, key, value : Tensor of shape (B, heads, T, dim)
    visible : Tensor of bool, broadcastable to (B, heads, T, T), or None
        Which steps each step attends to, at least one; see `visible_steps`. None = all.
    rate : float, default=0.0
        Of dropout of the attention weights. The fused kernels draw from PyTorch's global generator.

    Returns
    -------
    Tensor of shape (B, heads, T, dim)
    """
    if not rate and not getattr(_here, "twice", False):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    root = query.shape[-1] ** -0.25  # of the scale, for half precision not to overflow
    scores = (query * root) @ (key.mT * root)
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    return dropout(scores.softmax(-1), rate) @ value


class RotaryPositions(nn.Module):
    """Rotate pairs of features by angles proportional to the time step.

    The product of a rotated query and a rotated key depends on how far apart in time they are and
    not on where, so any length of window can be used.

    Parameters
    ----------
    dim : int
        Number of features, even.
    base : float, default=10000.0
        Ratio of the slowest to the fastest rotation, which is one radian per time step.

    References
    ----------
    Su et al. (2021), RoFormer: enhanced transformer with rotary position embedding, eq. 34.
    """

    def __init__(self, dim, base=10000.0):
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim must be even, to be rotated in pairs, got {dim}.")
        self.dim, self.base = dim, base

    def turns(self, features):
        """Cosine and sine of the angles for features (..., T, dim), of shape (T, dim / 2) each."""
        # Half precision would not tell late time steps apart.
        dtype = torch.promote_types(features.dtype, torch.float32)
        exponents = torch.arange(0, self.dim, 2, device=features.device, dtype=dtype) / self.dim
        steps = torch.arange(features.shape[-2], device=features.device, dtype=dtype)
        angles = steps[:, None] * self.base**-exponents
        return angles.cos(), angles.sin()

    def forward(self, features, turns=None):
        """Rotate `features` of shape (..., T, dim), in their dtype; by `turns`, if at hand."""
        cos, sin = self.turns(features) if turns is None else turns
        first, second = features.to(cos.dtype).chunk(2, -1)
        rotated = torch.cat([first * cos - second * sin, first * sin + second * cos], -1)
        return rotated.to(features.dtype)


class TemporalTransformer(nn.Module):
    """Transformer over time: pre-norm, GELU, rotary positions.

    Parameters
    ----------
    d_model : int
        Number of features per time step.
    n_layers, n_heads : int
        Layers, and attention heads in each; `d_model / n_heads` must be an even integer.
    dropout : float
        Of hidden units and what each block adds.
    causal : bool
        Whether a time step sees only itself and earlier ones.
    feedforward : int, default=4
        Hidden units of the feed-forward blocks, in multiples of `d_model`.

    Raises
    ------
    ValueError
        If `n_heads` does not divide `d_model` into heads of even size.
    """

    def __init__(self, d_model, n_layers, n_heads, dropout, *, causal, feedforward=4):
        super().__init__()
        if d_model % (2 * n_heads):
            raise ValueError(
                f"n_heads={n_heads} must divide d_model={d_model} into heads of even size, "
                f"got {d_model / n_heads:g}."
            )
        self.causal = causal
        self.blocks = nn.ModuleList(
            _Block(d_model, n_heads, dropout, feedforward) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(self, features, valid, padded=True):
        """Features of each time step in the light of the others.

        Parameters
        ----------
        features : Tensor of shape (B, T, d_model)
            May hold anything, also NaN, where not valid.
        valid : Tensor of bool, of shape (B, T)
            Real time steps.
        padded : bool, default=True
            False if all are: a mask that blocks nothing would only take time.

        Returns
        -------
        Tensor of shape (B, T, d_model)
            Finite everywhere; without meaning where not valid.
        """
        # An attention weight of zero would not stop a NaN.
        visible = None
        if padded or self.causal:
            features = torch.where(valid[..., None], features, 0.0)
            visible = visible_steps(valid, self.causal)[:, None]
        turns = None
        for block in self.blocks:
            turns = block.rotate.turns(features) if turns is None else turns
            features = block(features, visible, turns)
        return self.norm(features)


class _Block(nn.Module):
    def __init__(self, d_model, n_heads, dropout, feedforward):
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.attention_norm = nn.LayerNorm(d_model)
        self.query_key_value = nn.Linear(d_model, 3 * d_model)
        self.rotate = RotaryPositions(d_model // n_heads)
        self.project = nn.Linear(d_model, d_model)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(d_model), nn.Linear(d_model, feedforward * d_model), nn.GELU(),
            Dropout(dropout), nn.Linear(feedforward * d_model, d_model), Dropout(dropout),
        )  # fmt: skip

    def forward(self, features, visible, turns):
        features = features + self._attend(self.attention_norm(features), visible, turns)
        return features + self.feedforward(features)

    def _attend(self, features, visible, turns):
        heads = self.query_key_value(features).unflatten(-1, (3, self.n_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = attend(self.rotate(query, turns), self.rotate(key, turns), value, visible)
        mixed = self.project(mixed.transpose(1, 2).flatten(2))
        return dropout(mixed, self.dropout, self.training)
