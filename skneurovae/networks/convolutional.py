"""Encoders of short windows: convolutions over time, time first, with one table of neurons.

Features are of shape (length, M, C): windows (or whole recordings) along the second axis, so that a
shift in time is a slice of contiguous memory and a convolution a few matrix products.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from skneurovae.common.randomness import uniform
from skneurovae.networks.attention import TemporalTransformer

__all__ = ["NETWORKS", "NeuronTable", "make_core", "receptive_field"]

# Name: time steps before t and from t on, length of the input kernel, blocks in the middle.
NETWORKS = {
    "linear": (0, 1, 1, None),
    "offset1": (0, 1, 1, None),
    "offset5": (2, 3, 2, 1),
    "offset10": (5, 5, 2, 3),
    "offset36": (18, 18, 2, 16),
    "attention": (5, 5, 1, None),
}
LAST_KERNEL = {"offset5": 2, "offset10": 3, "offset36": 3}


def receptive_field(name):
    """Time steps before t, and from t on, that the embedding of t depends on."""
    return NETWORKS[name][:2]


def _forward(features, weight, bias):
    """Sum over lags of shifted features times the weights of the lag, plus the bias; 2-D."""
    length, width = len(features) - len(weight) + 1, features.shape[-1]
    n_lags, _, n_out = weight.shape
    if n_lags > 1 and width > n_lags * n_out:  # wide input is read once, for all lags together
        products = features.reshape(-1, width) @ weight.transpose(0, 1).reshape(width, -1)
        products = products.view(*features.shape[:2], n_lags, n_out)
        total = products[:length, :, 0] + bias
        for lag in range(1, n_lags):
            total += products[lag : lag + length, :, lag]
        return total.view(-1, n_out)
    total = torch.addmm(bias, features[:length].reshape(-1, width), weight[0])
    for lag in range(1, n_lags):
        total.addmm_(features[lag : lag + length].reshape(-1, width), weight[lag])
    return total


def _backward(gradient, features, weight, needed):
    """Gradients of `_forward` by its arguments; differentiable where that is asked for."""
    length, width = len(features) - len(weight) + 1, features.shape[-1]
    back = of_weight = of_bias = None
    if needed[0]:
        rows = length * features.shape[1]
        if torch.is_grad_enabled():
            back = features.new_zeros(features.numel() // width, width)
            back[:rows].addmm_(gradient, weight[0].T)
        else:  # the same without writing zeros first
            back = features.new_empty(features.numel() // width, width)
            torch.mm(gradient, weight[0].T, out=back[:rows])
            back[rows:].zero_()
        for lag in range(1, len(weight)):
            first = lag * features.shape[1]
            back[first : first + rows].addmm_(gradient, weight[lag].T)
        back = back.view(features.shape)
    if needed[1]:
        shifted = (features[lag : lag + length] for lag in range(len(weight)))
        of_weight = torch.stack([gradient.T @ part.reshape(-1, width) for part in shifted]).mT
    if needed[2]:
        of_bias = gradient.sum(0)
    return back, of_weight, of_bias


class _Convolve(torch.autograd.Function):
    """`convolve`: autograd alone would pad every shifted gradient with zeros."""

    @staticmethod
    def forward(ctx, features, weight, bias):
        ctx.save_for_backward(features, weight)
        total = _forward(features, weight, bias)
        return total.view(-1, features.shape[1], total.shape[-1])

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.reshape(-1, gradient.shape[-1])
        return _backward(gradient, *ctx.saved_tensors, ctx.needs_input_grad)


class _Skip(torch.autograd.Function):
    """The middle of three time steps plus the GELU of their convolution."""

    @staticmethod
    def forward(ctx, features, weight, bias):
        hidden = _forward(features, weight, bias)
        ctx.save_for_backward(features, weight, bias, hidden)
        middle = features[1:-1]
        return F.gelu(hidden).view(middle.shape).add_(middle)

    @staticmethod
    def backward(ctx, gradient):
        features, weight, bias, hidden = ctx.saved_tensors
        flat = gradient.reshape(hidden.shape)
        if torch.is_grad_enabled():  # what is saved does not know that it came from the input
            hidden = _forward(features, weight, bias)
        flat = torch.ops.aten.gelu_backward(flat, hidden)
        back, *others = _backward(flat, features, weight, ctx.needs_input_grad)
        if back is not None:
            back[1:-1] += gradient
        return back, *others


def convolve(features, weight, bias, skip=False):
    """Convolve over time without padding.

    Parameters
    ----------
    features : Tensor of shape (length, M, C)
    weight : Tensor of shape (kernel, C, D)
    bias : Tensor of shape (D,)
    skip : bool, default=False
        With a kernel of three, add the GELU of the result to the middle time steps of the features.

    Returns
    -------
    Tensor of shape (length - kernel + 1, M, D)
    """
    kind = features.device.type
    arguments = features, weight, bias
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        arguments = tuple(tensor.to(dtype) for tensor in arguments)
    return (_Skip if skip else _Convolve).apply(*arguments)


class NeuronTable(nn.Module):
    """First layer: each neuron of the vocabulary has a kernel of its own.

    Neurons of one identity share it in every recording; a recording uses the rows of its neurons,
    so any number of sessions and subsets of neurons is one layer. What is not observed is 0 in
    standardized traces, the mean of the neuron, and adds a learned vector that starts at 0.

    Parameters
    ----------
    n_neurons, kernel, width : int
        Rows, time steps and features.
    n_alike : int
        Neurons of a typical recording; sets the scale of the start as in `torch.nn.Linear`.

    Attributes
    ----------
    offset, scale : Tensor of shape (n_neurons,)
        What traces are standardized by.
    n_frozen : int
        The first rows, which are not trained.
    """

    def __init__(self, n_neurons, kernel, width, n_alike):
        super().__init__()
        self.register_buffer("offset", torch.zeros(n_neurons))
        self.register_buffer("scale", torch.ones(n_neurons))
        self.kernel, self.width, self.n_frozen = kernel, width, 0
        bound = (n_alike * kernel) ** -0.5
        self.weight = nn.Parameter(uniform(n_neurons, kernel * width, low=-bound, high=bound))
        self.bias = nn.Parameter(uniform(width, low=-bound, high=bound))
        self.missing = nn.Parameter(torch.zeros(n_neurons, kernel * width))

    def standardize(self, traces, observed, rows):
        """Traces of neurons `rows` in units of their spread, 0 where not observed."""
        standard = (traces - self.offset[rows]).div_(self.scale[rows])
        return standard if bool(observed.all()) else torch.where(observed, standard, 0.0)

    def forward(self, traces, missing, rows):
        """Features of standardized traces.

        Parameters
        ----------
        traces : Tensor of shape (length, M, N)
        missing : Tensor of shape (length, M, N), or None
            1 where not observed.
        rows : Tensor of int64, shape (N,)
            Rows of the neurons.

        Returns
        -------
        Tensor of shape (length - kernel + 1, M, width)
        """
        total = convolve(traces, self._kernels(self.weight, rows), self.bias)
        if missing is None:
            return total
        nothing = torch.zeros_like(self.bias)
        return total + convolve(missing, self._kernels(self.missing, rows), nothing)

    def along(self, traces, observed, rows, index):
        """Features of whole windows of traces as they were recorded.

        Sums over neurons come first, so that only these are laid out along `index`.

        Parameters
        ----------
        traces, observed : Tensor of shape (M, n_timesteps, N)
        rows : Tensor of int64, shape (N,)
        index : Tensor of int64, shape (length, M)
            Time step of each window at each place; edges are repeated by it.

        Returns
        -------
        Tensor of shape (length - kernel + 1, M, width)
        """
        if not bool(observed.all()):
            centered = self.standardize(traces, observed, rows)
            products = self._products(centered, self.weight, rows)
            products = products + self._products((~observed).to(traces.dtype), self.missing, rows)
        else:  # kernels are scaled in the place of traces, of which there are more
            centered, scale = traces - self.offset[rows], self.scale[rows]
            products = self._products(centered, self.weight, rows, scale)
        # Whole rows by one index: far faster than an index per axis.
        n_timesteps = traces.shape[1]
        index = index + n_timesteps * torch.arange(len(traces), device=index.device)
        laid = products.view(-1, self.kernel * self.width).index_select(0, index.reshape(-1))
        laid = laid.view(*index.shape, self.kernel, self.width)
        n = len(index) - self.kernel + 1
        total = laid[:n, :, 0] + self.bias
        for lag in range(1, self.kernel):
            total += laid[lag : lag + n, :, lag]
        return total

    def _products(self, traces, table, rows, scale=None):
        """Sums over neurons for each lag of the kernel, (M, n_timesteps, kernel, width)."""
        kernels = table[rows] if scale is None else table[rows] / scale[:, None]
        flat = traces.reshape(-1, len(rows)) @ kernels
        return flat.view(*traces.shape[:2], self.kernel, self.width)

    def _kernels(self, table, rows):
        if self.n_frozen:
            table = torch.cat([table[: self.n_frozen].detach(), table[self.n_frozen :]])
        return table[rows].view(len(rows), self.kernel, self.width).transpose(0, 1)


class Convolution(nn.Module):
    """Convolution over time without padding, started as `torch.nn.Conv1d` is."""

    def __init__(self, kernel, n_in, n_out):
        super().__init__()
        self.shrink = kernel - 1
        bound = (kernel * n_in) ** -0.5
        self.weight = nn.Parameter(uniform(kernel, n_in, n_out, low=-bound, high=bound))
        self.bias = nn.Parameter(uniform(n_out, low=-bound, high=bound))

    def forward(self, features):
        """Features of shape (length - kernel + 1, M, n_out)."""
        return convolve(features, self.weight, self.bias)


class Skip(nn.Module):
    """What was in the middle of three time steps, plus a nonlinear function of the three."""

    def __init__(self, width):
        super().__init__()
        self.shrink = 2
        self.convolution = Convolution(3, width, width)

    def forward(self, features):
        """Features of shape (length - 2, M, width)."""
        return convolve(features, self.convolution.weight, self.convolution.bias, skip=True)


class Gelu(nn.Module):
    """Pointwise; the input layer has no nonlinearity of its own."""

    shrink = 0

    def forward(self, features):
        """Features of the same shape."""
        return F.gelu(features)


class WindowAttention(nn.Module):
    """Attention among the time steps of each window, read out at the step it belongs to.

    A window never sees another one: neither of the batch, nor of the recording.
    """

    def __init__(self, left, right, width, n_layers, n_heads, dropout):
        super().__init__()
        self.left, self.length, self.shrink = left, left + right, left + right - 1
        self.transformer = TemporalTransformer(width, n_layers, n_heads, dropout, causal=False)

    def forward(self, features):
        """Features of shape (length - window + 1, M, width)."""
        windows = features.unfold(0, self.length, 1)  # (n, M, C, window)
        n, m, width, length = windows.shape
        windows = windows.permute(0, 1, 3, 2).reshape(n * m, length, width)
        valid = torch.ones(windows.shape[:2], dtype=torch.bool, device=windows.device)
        return self.transformer(windows, valid)[:, self.left].view(n, m, width)


def make_core(name, width, n_components, *, n_layers=1, n_heads=4, dropout=0.0):
    """Layers between the table of neurons and the embedding, shared by all sessions.

    Parameters
    ----------
    name : str
        Key of `NETWORKS`. "offset..." are CEBRA's models of that receptive field (Schneider, Lee &
        Mathis 2023, methods).
    width, n_components : int
    n_layers, n_heads, dropout
        Of the attention network.

    Returns
    -------
    ModuleList
        Each layer takes (length, M, C) to (length - layer.shrink, M, D).
    """
    left, right, _, n_skips = NETWORKS[name]
    if name == "linear":
        return nn.ModuleList()
    if name == "offset1":
        half = max(1, width // 2)
        sizes = [(width, width), (width, half)]
        layers = [part for size in sizes for part in (Gelu(), Convolution(1, *size))]
        return nn.ModuleList([*layers, Gelu(), Convolution(1, half, n_components)])
    if name == "attention":
        middle = WindowAttention(left, right, width, n_layers, n_heads, dropout)
        return nn.ModuleList([Gelu(), middle, Convolution(1, width, n_components)])
    skips = [Skip(width) for _ in range(n_skips)]
    return nn.ModuleList([Gelu(), *skips, Convolution(LAST_KERNEL[name], width, n_components)])
