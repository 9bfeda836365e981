"""Priors of latents that are learned: diagonal normal, recurrent, and hierarchical.

Like the chains of `skneurovae.objectives.priors` each has one method `kl`, in nats and by
component, and `sample`. Every divergence conditions on the *posterior's* past: see there why.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skneurovae.common.randomness import randn, randn_like

__all__ = ["DiagonalNormal", "HierarchicalNormal", "RecurrentPrior", "normal_kl"]

_START = 0.01  # standard deviation of the vectors of sequences before training


def normal_kl(
    mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor
) -> Tensor:
    """``KL(N(mean, exp(log_variance)) || N(prior_mean, exp(prior_log_variance)))``, entry by entry.

    Parameters
    ----------
    mean, log_variance, prior_mean, prior_log_variance : Tensor
        Of shapes that broadcast.

    Returns
    -------
    Tensor
        In nats, of the broadcast shape.
    """
    difference = log_variance - prior_log_variance
    square = (mean - prior_mean).square() * torch.exp(-prior_log_variance)
    return 0.5 * (torch.exp(difference) - 1 - difference + square)


class DiagonalNormal(nn.Module):
    """Static latents N(m, s ** 2), m trained, s trained or fixed.

    Parameters
    ----------
    n_components : int
        Number of latents.
    variance : float, default=1.0
        At the start, positive.
    train_mean, train_variance : bool, default=True
        False keeps 0, or `variance`.

    Raises
    ------
    ValueError
        If the variance is not positive and finite.

    References
    ----------
    Li & Mandt (2018), Disentangled sequential autoencoder (variance 1; fixed, or learned as in its
    later implementations). Sussillo et al. (2016), LFADS: the prior of the initial condition has a
    trained mean and a fixed *variance* of 0.1, not a standard deviation of 0.1.
    """

    def __init__(
        self, n_components: int, variance: float = 1.0, train_mean: bool = True,
        train_variance: bool = True,
    ):  # fmt: skip
        super().__init__()
        if not 0 < variance < math.inf:
            raise ValueError(f"variance must be positive and finite, got {variance!r}")
        log_variance = torch.full((n_components,), math.log(variance))
        self.mean = nn.Parameter(torch.zeros(n_components), requires_grad=train_mean)
        self.log_variance = nn.Parameter(log_variance, requires_grad=train_variance)

    def kl(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """``KL(q || p)``, in closed form.

        Parameters
        ----------
        mean, log_variance : Tensor of shape (n_windows, n_components)
            Of q.

        Returns
        -------
        Tensor of shape (n_windows, n_components)
        """
        return normal_kl(mean, log_variance, self.mean, self.log_variance)

    @torch.no_grad()
    def sample(self, n_windows: int) -> Tensor:
        """Draw with the random numbers of `skneurovae.common.randomness`.

        Parameters
        ----------
        n_windows : int
            How many.

        Returns
        -------
        Tensor of shape (n_windows, n_components)
        """
        noise = randn(n_windows, len(self.mean), device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + torch.exp(0.5 * self.log_variance) * noise


class RecurrentPrior(nn.Module):
    """``p(z_t | z_{<t})`` is a normal whose moments an LSTM reads off the past.

    Scored along samples of the posterior ("teacher forcing"), which is one fused call. Scoring
    posterior samples under a roll-out of the prior's own samples is not a bound: it charges for
    dynamics that both share.

    Parameters
    ----------
    n_components : int
        Number of latents.
    hidden_dim : int
        Units of the LSTM.

    References
    ----------
    Li & Mandt (2018), Disentangled sequential autoencoder, eq. 1.
    """

    def __init__(self, n_components: int, hidden_dim: int):
        super().__init__()
        self.rnn = nn.LSTM(n_components, hidden_dim, batch_first=True)
        self.to_moments = nn.Linear(hidden_dim, 2 * n_components)

    def moments(self, sample: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of every step given the steps of `sample` before it.

        Parameters
        ----------
        sample : Tensor of shape (n_windows, n_timesteps, n_components)
            Finite everywhere; what stands at a step reaches later steps only.

        Returns
        -------
        mean, log_variance : Tensor of shape (n_windows, n_timesteps, n_components)
        """
        hidden, _ = self.rnn(F.pad(sample[:, :-1], (0, 0, 1, 0)))
        return self._split(hidden)

    def kl(self, mean: Tensor, log_variance: Tensor, valid: Tensor, sample: Tensor) -> Tensor:
        """Sum over time of ``KL(q(z_t) || p(z_t | z_{<t}))`` along one sample of q.

        Only the past is sampled: every step's own divergence is exact.

        Parameters
        ----------
        mean, log_variance : Tensor of shape (n_windows, n_timesteps, n_components)
            Of q.
        valid : Tensor of bool, of shape (n_windows, n_timesteps)
            Real time steps, followed by padding.
        sample : Tensor of shape (n_windows, n_timesteps, n_components)
            The draw of q that the decoder consumed.

        Returns
        -------
        Tensor of shape (n_windows, n_components)
        """
        steps = valid[..., None]
        mean, log_variance, sample = (
            torch.where(steps, values, 0.0) for values in (mean, log_variance, sample)
        )
        return torch.where(steps, normal_kl(mean, log_variance, *self.moments(sample)), 0.0).sum(
            dim=1
        )

    @torch.no_grad()
    def sample(self, n_windows: int, n_timesteps: int) -> Tensor:
        """Draw paths, with the random numbers of `skneurovae.common.randomness`.

        Parameters
        ----------
        n_windows, n_timesteps : int
            How many, and how long.

        Returns
        -------
        Tensor of shape (n_windows, n_timesteps, n_components)
        """
        weight = self.to_moments.weight
        step = weight.new_zeros(n_windows, 1, weight.shape[0] // 2)
        state, path = None, []
        for _ in range(n_timesteps):
            hidden, state = self.rnn(step, state)
            mean, log_variance = self._split(hidden)
            step = mean + torch.exp(0.5 * log_variance) * randn_like(mean)
            path.append(step)
        return torch.cat(path, dim=1)

    def _split(self, hidden):
        mean, log_variance = self.to_moments(hidden).chunk(2, -1)
        return mean, 8 * torch.tanh(log_variance / 8)  # as posteriors are bounded


class HierarchicalNormal(nn.Module):
    """Static latents of segments around a vector of their sequence: N(mu_i, 0.25), mu_i ~ N(0, 1).

    The vectors of training sequences are point estimates in a table; of other sequences nothing is
    known, and their segments have the marginal prior N(0, 1.25).

    Parameters
    ----------
    n_components : int
        Number of latents.
    n_sequences : int
        Rows of the table.
    variance : float, default=0.25
        Of segments around the vector of their sequence, positive.

    Raises
    ------
    ValueError
        If the variance is not positive and finite.

    References
    ----------
    Hsu, Zhang & Glass (2017), Unsupervised learning of disentangled and interpretable
    representations from sequential data, section 3 and eq. 6; Hsu & Glass (2018), Scalable
    factorized hierarchical variational autoencoder training.
    """

    def __init__(self, n_components: int, n_sequences: int, variance: float = 0.25):
        super().__init__()
        if not 0 < variance < math.inf:
            raise ValueError(f"variance must be positive and finite, got {variance!r}")
        self.variance = variance
        # All close together: vectors drawn from N(0, 1) would be a random code of the sequences,
        # from which the decoder first would have to learn each one by heart.
        self.table = nn.Parameter(_START * randn(n_sequences, n_components))

    def kl(self, mean: Tensor, log_variance: Tensor, sequence: Tensor | None = None) -> Tensor:
        """``KL(q || p)``, in closed form.

        Parameters
        ----------
        mean, log_variance : Tensor of shape (n_windows, n_components)
            Of q.
        sequence : Tensor of int64, shape (n_windows,), default=None
            Row of each window's sequence; -1, or None for all, = not in the table.

        Returns
        -------
        Tensor of shape (n_windows, n_components)
        """
        unknown = mean.new_tensor(math.log(1 + self.variance))
        if sequence is None:
            return normal_kl(mean, log_variance, torch.zeros_like(mean), unknown)
        known = (sequence >= 0)[:, None]
        center = torch.where(known, self.table[sequence.clamp(min=0)], 0.0)
        spread = torch.where(known, math.log(self.variance), unknown)
        return normal_kl(mean, log_variance, center, spread)

    def log_density(self, sequence: Tensor) -> Tensor:
        """``log N(mu_i; 0, 1)`` of the vectors of known sequences, 0 for others; (n_windows,)."""
        vectors = self.table[sequence.clamp(min=0)]
        log_density = -0.5 * (vectors.square() + math.log(2 * math.pi)).sum(-1)
        return torch.where(sequence >= 0, log_density, 0.0)

    def log_posterior(self, mean: Tensor, rows: Tensor) -> Tensor:
        """``log q(i | z)``: which sequence a segment belongs to, all equally likely before.

        Parameters
        ----------
        mean : Tensor of shape (n_windows, n_components)
            Of q.
        rows : Tensor of int64, shape (n_rows,)
            Rows of the table that are in question.

        Returns
        -------
        Tensor of shape (n_windows, n_rows)
        """
        distance = torch.cdist(mean[None], self.table[rows][None]).squeeze(0).square()
        return F.log_softmax(-0.5 * distance / self.variance, dim=-1)

    def vectors(self, mean: Tensor, sequence: Tensor, n_sequences: int) -> Tensor:
        """Most probable vectors of sequences given the posterior means of their segments.

        Parameters
        ----------
        mean : Tensor of shape (n_windows, n_components)
            ``E_q[z]`` of each segment.
        sequence : Tensor of int64, shape (n_windows,)
            Which sequence each segment belongs to.
        n_sequences : int
            Number of sequences.

        Returns
        -------
        Tensor of shape (n_sequences, n_components)
            ``sum_n E[z_n] / (n + variance)``; 0 for a sequence without segments.
        """
        total = mean.new_zeros(n_sequences, mean.shape[1]).index_add_(0, sequence, mean)
        count = mean.new_zeros(n_sequences).index_add_(0, sequence, torch.ones_like(mean[:, 0]))
        return total / (count + self.variance)[:, None]

    @torch.no_grad()
    def sample(self, n_sequences: int, n_segments: int) -> Tensor:
        """Draw segments of new sequences.

        With the random numbers of `skneurovae.common.randomness`.

        Parameters
        ----------
        n_sequences, n_segments : int
            How many sequences, and segments of each.

        Returns
        -------
        Tensor of shape (n_sequences, n_segments, n_components)
        """
        like = {"device": self.table.device, "dtype": self.table.dtype}
        n_components = self.table.shape[1]
        vectors = randn(n_sequences, 1, n_components, **like)
        noise = randn(n_sequences, n_segments, n_components, **like)
        return vectors + math.sqrt(self.variance) * noise
