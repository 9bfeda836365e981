"""CeNeuroVAE's forward pass as published, written down plainly, to compare PooledNetwork with."""

import math

import torch
from torch import nn


class PublishedNetwork(nn.Module):
    """Sizes, layers and names of version 0.1, time first, for complete data."""

    def __init__(
        self, n_identities, n_behaviors, n_components=24, token_dim=64, model_dim=256,
        embedding_dim=32, hidden=256, n_layers=4, n_heads=4, dropout=0.1,
    ):  # fmt: skip
        super().__init__()
        width = max(32, model_dim // 16)
        self.neuron_scalar_mlp = nn.Sequential(
            nn.Linear(1, token_dim), nn.GELU(), nn.Linear(token_dim, token_dim), nn.GELU()
        )
        self.beh_proj = nn.Sequential(nn.Linear(n_behaviors, width), nn.GELU())
        self.combined_proj = nn.Sequential(
            nn.Linear(token_dim + width, model_dim), nn.GELU(), nn.Dropout(dropout)
        )
        self.pos_encoder = nn.Module()
        self.pos_encoder.register_buffer("pe", sinusoids(2000, model_dim))
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(
                model_dim, n_heads, 4 * model_dim, dropout, activation="gelu", batch_first=True
            ),
            n_layers,
            enable_nested_tensor=False,
        )
        self.to_mu = nn.Linear(model_dim, n_components)
        self.to_logvar = nn.Linear(model_dim, n_components)
        self.id_embed = nn.Embedding(n_identities, embedding_dim)
        self.id_to_affine = nn.Linear(embedding_dim, 2)
        self.dec_time = nn.Sequential(
            nn.Linear(n_components + n_behaviors, hidden), nn.GELU(),
            nn.Linear(hidden, hidden), nn.GELU(),
        )  # fmt: skip
        self.neuron_head = nn.Sequential(
            nn.Linear(hidden + embedding_dim, hidden), nn.GELU(), nn.Linear(hidden, 1)
        )

    def encode(self, traces, behavior):
        tokens = self.neuron_scalar_mlp(traces[..., None]).mean(2)
        features = self.combined_proj(torch.cat([tokens, self.beh_proj(behavior)], -1))
        features = self.encoder(features + self.pos_encoder.pe[:, : traces.shape[1]])
        return self.to_mu(features), self.to_logvar(features)

    def decode(self, latents, behavior, identities):
        n_timesteps, n_neurons = latents.shape[1], identities.shape[1]
        dynamics = self.dec_time(torch.cat([latents, behavior], -1))
        embedding = self.id_embed(identities)
        both = torch.cat(
            [
                dynamics[:, :, None].expand(-1, -1, n_neurons, -1),
                embedding[:, None].expand(-1, n_timesteps, -1, -1),
            ],
            -1,
        )
        gain, bias = self.id_to_affine(embedding)[:, None].unbind(-1)
        return self.neuron_head(both)[..., 0] * gain + bias

    def loss(self, traces, behavior, identities):
        """Mean squared error plus the mean KL, at one draw of the latents."""
        mean, log_variance = self.encode(traces, behavior)
        latents = mean + torch.randn_like(mean) * torch.exp(log_variance / 2)
        error = (traces - self.decode(latents, behavior, identities)).square().mean()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return error + 0.2 * kl


def sinusoids(n_timesteps, dim):
    table = torch.zeros(1, n_timesteps, dim)
    for t in range(n_timesteps):
        for k in range(dim // 2):
            angle = t / 10000 ** (2 * k / dim)
            table[0, t, 2 * k], table[0, t, 2 * k + 1] = math.sin(angle), math.cos(angle)
    return table
