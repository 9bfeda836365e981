"""CeNeuroVAE's network: neurons pooled into a mean token, a transformer over time, a shared head.

The architecture is the published one (github.com/urlicht/CeNeuroVAE, version 0.1), so that its
checkpoints load. What was added starts at zero and leaves its results as they are: an embedding of
missing behavior, units of neurons and behavior, and a noise scale per neuron.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from skneurovae.common.randomness import Dropout, dropout, rand_like
from skneurovae.networks.attention import attend, visible_steps
from skneurovae.networks.belief import Belief
from skneurovae.networks.variational import Posterior, VariationalNetwork
from skneurovae.objectives import StandardNormal, soft_cap

# Hidden units alive at a time, counted over (window, time step, neuron, unit): on a CPU few enough
# to stay in its cache, elsewhere enough to keep the device busy.
_CPU_UNITS, _DEVICE_UNITS = 2**20, 2**25
_SMALLEST_COUNT = 1e-3  # per bin; the mean of a silent neuron, whose logarithm must exist


class PooledNetwork(VariationalNetwork):
    """Behavior-conditioned transformer VAE whose encoder does not see identities.

    Parameters
    ----------
    n_neurons, n_behaviors : int
        Rows of the table of neurons; behavior channels Q, which may be 0.
    n_components : int, default=24
    token_dim, model_dim, embedding_dim, decoder_hidden : int
        Width of neuron tokens (default 64), of the transformer (256, even), of the embedding of
        neurons (32) and of the decoder's hidden layers (256).
    n_layers, n_heads : int, default=4
        Of the transformer; `n_heads` must divide `model_dim`.
    dropout : float, default=0.1
    behavior_dropout : float, default=0.1
        Probability that in training the decoder takes a behavior channel of a window for missing.
    causal : bool, default=False
        Latents at t depend on nothing after t.
    likelihood : str, default="gaussian"
    elbo_weight, beta, free_bits : float, default=1.0, 1.0, 0.01
        See `VariationalNetwork`.

    Attributes
    ----------
    offset, scale : Tensor of shape (n_neurons,)
        Mean and standard deviation by which traces are standardized, and in which they are decoded.
        The decoder's log rates of counts are relative to the log of `offset`.
    behavior_offset, behavior_scale : Tensor of shape (n_behaviors,)
        The same of behavior.

    Raises
    ------
    ValueError
        If `model_dim` is odd or `n_heads` does not divide it.
    """

    def __init__(
        self, n_neurons, n_behaviors, *, n_components=24, token_dim=64, model_dim=256,
        embedding_dim=32, decoder_hidden=256, n_layers=4, n_heads=4, dropout=0.1,
        behavior_dropout=0.1, causal=False, likelihood="gaussian", elbo_weight=1.0, beta=1.0,
        free_bits=0.01,
    ):  # fmt: skip
        super().__init__(n_neurons, likelihood, elbo_weight, beta, free_bits)
        self.register_buffer("behavior_offset", torch.zeros(n_behaviors))
        self.register_buffer("behavior_scale", torch.ones(n_behaviors))
        if model_dim % 2:
            raise ValueError(
                f"model_dim must be even, for pairs of sine and cosine, got {model_dim}."
            )
        if model_dim % n_heads:
            raise ValueError(f"n_heads={n_heads} must divide model_dim={model_dim}.")
        self.behavior_dropout, self.causal = behavior_dropout, causal
        self.prior = StandardNormal(n_components)
        # A mean count of one has the log rate zero.
        start = torch.ones if self.likelihood.is_count else torch.zeros
        self.register_buffer("offset", start(n_neurons))
        self.register_buffer("scale", torch.ones(n_neurons))

        self.neuron_scalar_mlp = nn.Sequential(
            nn.Linear(1, token_dim), nn.GELU(), nn.Linear(token_dim, token_dim), nn.GELU()
        )
        behavior_dim = max(32, model_dim // 16) if n_behaviors else 0
        if n_behaviors:
            self.beh_proj = nn.Sequential(nn.Linear(n_behaviors, behavior_dim), nn.GELU())
            self.beh_missing = _zeros(n_behaviors, behavior_dim)
            self.dec_missing = _zeros(n_behaviors, decoder_hidden)
        self.combined_proj = nn.Sequential(
            nn.Linear(token_dim + behavior_dim, model_dim), nn.GELU(), Dropout(dropout)
        )
        layer = _EncoderLayer(model_dim, n_heads, 4 * model_dim, dropout)
        self.encoder = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)
        self.to_mu = nn.Linear(model_dim, n_components)
        self.to_logvar = nn.Linear(model_dim, n_components)

        self.id_embed = nn.Embedding(n_neurons, embedding_dim)
        self.id_to_affine = nn.Linear(embedding_dim, 2)
        with torch.no_grad():  # every neuron at gain 1 and bias 0, not at random ones to unlearn
            self.id_to_affine.weight.zero_()
            self.id_to_affine.bias.copy_(torch.tensor([1.0, 0.0]))
        self.dec_time = nn.Sequential(
            nn.Linear(n_components + n_behaviors, decoder_hidden), nn.GELU(),
            nn.Linear(decoder_hidden, decoder_hidden), nn.GELU(),
        )  # fmt: skip
        self.neuron_head = nn.Sequential(
            nn.Linear(decoder_hidden + embedding_dim, decoder_hidden), nn.GELU(),
            nn.Linear(decoder_hidden, 1),
        )  # fmt: skip
        if self.likelihood.has_scale:
            self.log_scale = nn.Parameter(torch.zeros(n_neurons))

    def posterior(self, batch):
        """Posterior of the latents given what the batch shows, a `Posterior`."""
        tokens = [self._pool(batch)]
        if len(self.behavior_offset):
            behavior, missing = self._behavior(batch)
            to_token, activate = self.beh_proj
            tokens.append(activate(to_token(behavior) + self.beh_missing(missing)))
        features = self.combined_proj(torch.cat(tokens, -1))
        features = features + _sinusoids(features)
        visible = visible_steps(batch.valid, self.causal)[:, None]
        # A mask that blocks nothing would only take time and memory.
        visible = None if visible.all() else visible
        for layer in self.encoder.layers:
            features = layer(features, visible)
        mean = self.to_mu(features).to(self.offset.dtype)
        log_variance = self.to_logvar(features).to(self.offset.dtype)
        return Posterior(_unit_belief(mean), mean, 0.5 * log_variance)

    def _behavior(self, batch):
        """Standardized behavior, 0 where missing, and the flags that say where that is."""
        seen = batch.behavior_shown & batch.valid[..., None]
        behavior = (batch.behavior - self.behavior_offset) / self.behavior_scale
        return torch.where(seen, behavior, 0.0), (~seen).to(behavior.dtype)

    def _pool(self, batch):
        """Mean over shown neurons of a token made of each one's trace, (B, T, token_dim)."""
        rows = batch.neurons.clamp(min=0)
        shown = batch.shown & (batch.neurons >= 0)[:, None]
        # Chosen before any arithmetic: whatever stands under the mask, it reaches nothing.
        traces = torch.where(shown, batch.traces, self.offset[rows][:, None])
        values = (traces - self.offset[rows][:, None]) / self.scale[rows][:, None]

        def pool(values, shown):
            tokens = self.neuron_scalar_mlp(values[..., None])
            total = (shown[:, :, None].to(tokens.dtype) @ tokens).squeeze(2)
            return total / shown.sum(2, keepdim=True).clamp(min=1)

        token_dim = self.neuron_scalar_mlp[0].out_features
        return _in_pieces(pool, values, shown, units_per_step=values[:, 0].numel() * token_dim)

    def decode(self, latents, batch):
        """See `LatentNetwork.decode`; in the units of the traces, log rates for counts."""
        rows = batch.neurons.clamp(min=0)
        embedding = self.id_embed(rows)
        gain, bias = self.id_to_affine(embedding)[:, None].unbind(-1)
        standard = self._head(self._dynamics(latents, batch), embedding) * gain + bias
        offset, unit = self.offset[rows][:, None], self.unit(batch)
        if self.likelihood.is_count:
            offset = offset.clamp(min=_SMALLEST_COUNT).log()
        location = offset + unit * standard
        if not self.likelihood.has_scale:
            return location, None
        log_scale = -soft_cap(-self.log_scale[rows][:, None], 5.0)  # a silent neuron's stays finite
        return location, log_scale + unit.log()

    def _log_probs(self, posterior, batch):
        """Hidden entries from the same draw as shown ones, as published."""
        log_prob = self.likelihood.log_prob(batch.traces, *self.decode(posterior.draw(), batch))
        return log_prob, log_prob

    def predictive(self, batch):
        """Decode the posterior mean, as published; the spread is that of the likelihood alone.

        Cubature would run the decoder, which is nearly all of the cost, twice per component.
        """
        parameters = self.decode(self.posterior(batch).mean, batch)
        return self.likelihood.mean(*parameters), self.likelihood.std(*parameters)

    def _dynamics(self, latents, batch):
        """What the decoder knows of each time step, (B, T, decoder_hidden)."""
        behavior, missing = self._behavior(batch)
        if self.training:
            chance = rand_like(behavior[:, :1])
            dropped = (chance < self.behavior_dropout).expand_as(behavior)
            behavior, missing = behavior.masked_fill(dropped, 0), missing.masked_fill(dropped, 1)
        to_hidden, *rest = self.dec_time
        hidden = to_hidden(torch.cat([latents, behavior], -1))
        if len(self.behavior_offset):
            hidden = hidden + self.dec_missing(missing)
        return nn.Sequential(*rest)(hidden)

    def _head(self, dynamics, embedding):
        """``neuron_head([dynamics; embedding])`` of every time step and neuron, (B, T, N).

        Its first layer acts on each part by itself, W [d; e] = W_d d + W_e e, and only the sum is
        formed per time step and neuron.
        """
        first, activate, last = self.neuron_head
        size = dynamics.shape[-1]
        per_step = F.linear(dynamics, first.weight[:, :size], first.bias)
        per_neuron = F.linear(embedding, first.weight[:, size:])

        def combine(per_step):
            return last(activate(per_step[:, :, None] + per_neuron[:, None])).squeeze(-1)

        return _in_pieces(combine, per_step, units_per_step=per_neuron.numel())

    def unit(self, batch):
        """Standard deviation of each neuron, of shape (B, 1, N); 1 for counts."""
        unit = self.scale[batch.neurons.clamp(min=0)][:, None]
        return torch.ones_like(unit) if self.likelihood.is_count else unit

    def load_state_dict(self, state_dict, strict=True, assign=False):
        """Load weights, also of a published checkpoint; see `torch.nn.Module.load_state_dict`.

        A published checkpoint is known by its table of positions, which are computed here. What it
        lacks keeps its present value.
        """
        if "pos_encoder.pe" in state_dict:
            added = {
                name: value
                for name, value in self.state_dict().items()
                if name.endswith(("offset", "scale", "missing.weight"))
            }
            state_dict = {**added, **state_dict}
            del state_dict["pos_encoder.pe"]
        return super().load_state_dict(state_dict, strict=strict, assign=assign)


class _EncoderLayer(nn.TransformerEncoderLayer):
    """The published layer, with its names of weights; PyTorch's own draws global random numbers."""

    def forward(self, features, visible):
        """Attention among the time steps of `features` (B, T, dim), then two linear layers."""
        attention, rate = self.self_attn, self.dropout.p if self.training else 0.0
        heads = F.linear(features, attention.in_proj_weight, attention.in_proj_bias)
        heads = heads.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = attend(*heads, visible, rate).transpose(1, 2).flatten(2)
        features = self.norm1(features + dropout(attention.out_proj(mixed), rate))
        hidden = dropout(F.gelu(self.linear1(features)), rate)
        return self.norm2(features + dropout(self.linear2(hidden), rate))


def _in_pieces(function, *inputs, units_per_step):
    """Apply `function` to pieces of `inputs` along time, (B, T, ...), and join what it gives.

    Hidden layers of a piece are forgotten and computed again for the gradient: they are too wide
    to be kept for all time steps, and a piece that stays in the cache is faster both times.
    """
    n_timesteps, device = inputs[0].shape[1], inputs[0].device
    limit = _CPU_UNITS if device.type == "cpu" else _DEVICE_UNITS
    n_steps = max(1, limit // max(1, units_per_step))
    result = None
    for start in range(0, n_timesteps, n_steps):
        steps = slice(start, start + n_steps)
        piece = checkpoint(
            function, *(tensor[:, steps] for tensor in inputs),
            use_reentrant=False, preserve_rng_state=False,
        )  # fmt: skip
        # Written in place: a list of small results, each left behind between large layers that are
        # freed, would keep the allocator from using their space again.
        if result is None:
            result = piece.new_empty(piece.shape[0], n_timesteps, *piece.shape[2:])
        result[:, steps] = piece
    return result


def _sinusoids(features):
    """Sine and cosine positions, in alternation, of features (..., T, dim) as (T, dim).

    Source: Vaswani et al. (2017), Attention is all you need, section 3.5.
    """
    n_timesteps, dim = features.shape[-2:]
    dtype = torch.promote_types(features.dtype, torch.float32)
    steps = torch.arange(n_timesteps, device=features.device, dtype=dtype)
    exponents = torch.arange(0, dim, 2, device=features.device, dtype=dtype) / dim
    angles = steps[:, None] * 10000.0**-exponents
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def _unit_belief(mean):
    """Standard normal belief of independent components and steps, to be moved and stretched."""
    eye = torch.eye(mean.shape[-1], device=mean.device, dtype=mean.dtype)[None, None]
    return Belief(
        mean=torch.zeros_like(mean),
        covariance=eye,
        gain=torch.zeros_like(eye),
        conditional=eye,
        lag_covariance=torch.zeros_like(mean),
    )


def _zeros(n_inputs, n_outputs):
    """Linear map without bias that is zero at first."""
    layer = nn.Linear(n_inputs, n_outputs, bias=False)
    nn.init.zeros_(layer.weight)
    return layer
