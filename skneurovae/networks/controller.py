"""LFADS's closed loop: a controller that sees what the generator has made of its last output."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from skneurovae.networks.recurrent import initialize

__all__ = ["Controller", "closed_loop"]


class _ClosedLoop(torch.autograd.Function):
    """Controller and generator, bin by bin, with their gradient.

    Recorded step by step, the loop is ruled by the overhead of its many small operations, two
    thirds of them in the backward pass. Here everything that does not depend on the state has been
    multiplied before, states are written where they are kept, and the gradient of each weight is
    one product over all steps at the end. Time is the first axis. Before the first step of
    `control`, which belongs to the last steps, the generator runs alone.
    """

    @staticmethod
    def forward(
        ctx, control, external, state, hidden, noise, factor_keep, state_keep,
        w_factor, w_control, b_control, w_moments, b_moments, w_input, w_state, b_state, to_factors,
    ):  # fmt: skip
        """See `closed_loop`; weights are (outputs, inputs)."""
        T, B, _ = external.shape
        start, U = T - len(control), noise.shape[2]
        states = external.new_empty(T + 1, B, state.shape[1])
        factors = external.new_empty(T + 1, B, to_factors.shape[0])
        hiddens = external.new_empty(len(control) + 1, B, hidden.shape[1])
        moments = external.new_empty(len(control), B, 2 * U)
        inputs = torch.empty_like(noise)
        of_state, of_hidden = _Kept(states[1:]), _Kept(hiddens[1:])
        states[0], hiddens[0] = state, hidden
        torch.mm(states[0] * state_keep[0], to_factors.T, out=factors[0])
        for t in range(T):
            known = external[t]
            if (s := t - start) >= 0:
                seen = torch.addmm(control[s], factors[t] * factor_keep[s], w_factor.T)
                of_hidden.step(s, seen, hiddens[s], w_control, b_control, hiddens[s + 1])
                torch.addmm(b_moments, hiddens[s + 1], w_moments.T, out=moments[s])
                spread = moments[s, :, U:]  # log variances, bounded as everywhere else
                spread.div_(8).tanh_().mul_(8)
                torch.addcmul(moments[s, :, :U], (0.5 * spread).exp_(), noise[s], out=inputs[s])
                known = torch.addmm(known, inputs[s], w_input.T)
            of_state.step(t, known, states[t], w_state, b_state, states[t + 1])
            torch.mm(states[t + 1] * state_keep[t + 1], to_factors.T, out=factors[t + 1])
        ctx.kept = of_state, of_hidden
        ctx.save_for_backward(
            noise, factor_keep, state_keep, w_factor, w_control, w_moments, w_input, w_state,
            to_factors, states, factors, hiddens, moments, inputs,
        )  # fmt: skip
        return moments, inputs, states[1:], factors[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx, d_moments, d_inputs, d_states, d_factors):
        """Gradients of all inputs of `forward` but noise and dropout."""
        (noise, factor_keep, state_keep, w_factor, w_control, w_moments, w_input, w_state,
         to_factors, states, factors, hiddens, moments, inputs) = ctx.saved_tensors  # fmt: skip
        T, U = len(states) - 1, noise.shape[2]
        start = len(states) - len(hiddens)
        at_state, at_hidden = (_Back(kept, path) for kept, path in zip(ctx.kept, (states, hiddens)))
        w_input_turned, w_factor_turned = _turn(w_input), _turn(w_factor)
        at_moments = torch.empty_like(moments)
        at_factors = torch.cat([torch.zeros_like(factors[:1]), d_factors])
        d_state, d_hidden = torch.zeros_like(states[0]), torch.zeros_like(hiddens[0])
        slope = 1 - (moments[..., U:] / 8).square()
        half = 0.5 * noise * torch.exp(0.5 * moments[..., U:])
        for t in range(T - 1, -1, -1):
            d_state += d_states[t]
            d_state.addcmul_(torch.mm(at_factors[t + 1], to_factors), state_keep[t + 1])
            d_state = at_state.step(t, d_state, w_state)
            if (s := t - start) >= 0:
                d_input = torch.addmm(d_inputs[s], at_state.before[t], w_input_turned)
                torch.add(d_moments[s, :, :U], d_input, out=at_moments[s, :, :U])
                spread = torch.addcmul(d_moments[s, :, U:], d_input, half[s])
                torch.mul(spread, slope[s], out=at_moments[s, :, U:])
                d_hidden.addmm_(at_moments[s], w_moments)
                d_hidden = at_hidden.step(s, d_hidden, w_control)
                seen = torch.mm(at_hidden.before[s], w_factor_turned)
                at_factors[t].addcmul_(seen, factor_keep[s])
        d_state.addcmul_(torch.mm(at_factors[0], to_factors), state_keep[0])
        from_input, from_state = at_hidden.gates(), at_state.gates()
        return (
            from_input, from_state, d_state, d_hidden, None, None, None,
            _outer(from_input, factors[start:-1] * factor_keep),
            _outer(at_hidden.within, hiddens[:-1]), at_hidden.within.sum((0, 1)),
            _outer(at_moments, hiddens[1:]), at_moments.sum((0, 1)),
            _outer(from_state[start:], inputs),
            _outer(at_state.within, states[:-1]), at_state.within.sum((0, 1)),
            _outer(at_factors, states * state_keep),
        )  # fmt: skip


class _Kept:
    """Steps of a GRU as in `torch.nn.GRU`, and what their gradient needs; `like` is (T, B, n)."""

    def __init__(self, like):
        T, B, n = like.shape
        self.gates = like.new_empty(T, B, 2 * n)  # reset, update
        self.own = like.new_empty(T, B, 3 * n)  # what the state before contributes
        self.new = like.new_empty(T, B, n)

    def step(self, t, known, state, weight, bias, result):
        """Write the state after step `t` to `result`; `known` is its input, multiplied."""
        n = state.shape[1]
        own, gates, new = self.own[t], self.gates[t], self.new[t]
        torch.addmm(bias, state, weight.T, out=own)
        torch.add(known[:, : 2 * n], own[:, : 2 * n], out=gates).sigmoid_()
        torch.addcmul(known[:, 2 * n :], gates[:, :n], own[:, 2 * n :], out=new).tanh_()
        torch.lerp(new, state, gates[:, n:], out=result)


class _Back:
    """The gradient of `_Kept`: slopes of all steps at once, then one step after the other.

    Of each step it holds four gradients side by side: of the new value before its tanh, of the
    reset and the update gate before their sigmoids, and of what the state adds to the new value.
    The first three are those of the input (`before`), the last three those of the state (`within`),
    so that neither has to be copied together.
    """

    def __init__(self, kept, path):
        n = path.shape[2]
        reset, update = kept.gates[..., :n], kept.gates[..., n:]
        new, own = kept.new, kept.own[..., 2 * n :]
        self.n, self.reset, self.update = n, reset, update
        slopes = kept.gates - kept.gates.square()
        self.to_new = (1 - update) * (1 - new.square())
        self.to_reset = own * slopes[..., :n]
        self.to_update = (path[:-1] - new) * slopes[..., n:]
        self.all = path.new_empty(*new.shape[:2], 4 * n)
        self.before, self.within = self.all[..., : 3 * n], self.all[..., n:]

    def step(self, t, d_result, weight):
        """Gradient of the state before step `t`, from that of the state after it."""
        new, reset, update, own = self.all[t].split(self.n, 1)
        torch.mul(d_result, self.to_new[t], out=new)
        torch.mul(new, self.to_reset[t], out=reset)
        torch.mul(d_result, self.to_update[t], out=update)
        torch.mul(new, self.reset[t], out=own)
        return torch.addmm(d_result * self.update[t], self.within[t], weight)

    def gates(self):
        """Gradients of the inputs, (T, B, 3 n), in the order of the weights."""
        return torch.cat([self.before[..., self.n :], self.before[..., : self.n]], -1)


def _turn(weight):
    """Rows of a weight in the order of `_Back.before`."""
    n = len(weight) // 3
    return torch.cat([weight[2 * n :], weight[: 2 * n]])


def _outer(outputs, inputs):
    """Gradient of a weight: sum of outer products over time and windows."""
    return outputs.flatten(0, 1).T @ inputs.flatten(0, 1)


class Controller(nn.Module):
    """GRU that infers the input of the generator from the data and the last factors.

    Parameters
    ----------
    n_data : int
        Channels of what an encoder read from the data.
    n_factors : int
        Factors of the generator.
    n_units : int
        Units.
    n_inputs : int
        Inferred inputs.
    """

    def __init__(self, n_data: int, n_factors: int, n_units: int, n_inputs: int):
        super().__init__()
        self.n_data = n_data
        self.rnn = initialize(nn.GRU(n_data + n_factors, n_units), apart=True)
        self.start = nn.Parameter(torch.zeros(n_units))
        self.to_moments = nn.Linear(n_units, 2 * n_inputs)
        with torch.no_grad():  # the posterior begins close to a prior of ten time steps
            self.to_moments.weight.mul_(0.1)
            self.to_moments.bias.zero_()
            self.to_moments.bias[n_inputs:] = math.log(-math.expm1(-0.2))


def closed_loop(
    controller: Controller, generator: nn.GRU, to_factors: Tensor, state: Tensor, data: Tensor,
    stimulus: Tensor, noise: Tensor, keep: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Run controller and generator together, bin by bin.

    Parameters
    ----------
    controller : Controller
    generator : nn.GRU
        Its inputs are the inferred ones, then the stimulus.
    to_factors : Tensor of shape (n_factors, n_units)
        From states of the generator to factors.
    state : Tensor of shape (B, n_units)
        First state of the generator.
    data : Tensor of shape (B, T - start, n_data)
        What the encoder read, at the last steps. In the first, `start`, which must leave at least
        one, the generator has no inferred input.
    stimulus : Tensor of shape (B, T, S)
        External input of the generator.
    noise : Tensor of shape (B, T - start, n_inputs)
        Standard normal draws of the posterior; 0 gives its means.
    keep : (Tensor, Tensor)
        Factors of dropout on what the controller sees of the factors, (T - start, B, n_factors),
        and on the states, (T + 1, B, n_units).

    Returns
    -------
    moments : Tensor of shape (B, T - start, 2 * n_inputs)
        Means and log variances of the posterior.
    inputs : Tensor of shape (B, T - start, n_inputs)
        What the generator consumed.
    states, factors : Tensor of shape (B, T, n_units) and (B, T, n_factors)

    References
    ----------
    Sussillo et al. (2016), LFADS: latent factor analysis via dynamical systems, section 1.2.
    """
    n_inputs = noise.shape[-1]
    w_data, w_factor = controller.rnn.weight_ih_l0.split(
        [controller.n_data, to_factors.shape[0]], 1
    )
    w_input, w_stimulus = generator.weight_ih_l0[:, :n_inputs], generator.weight_ih_l0[:, n_inputs:]
    hidden = controller.start.expand(len(state), -1)
    # Small numbers are added up over many steps: half precision is no place for that.
    with torch.autocast(state.device.type, enabled=False):
        state, data = state.to(w_data.dtype), data.to(w_data.dtype)
        control = data.transpose(0, 1) @ w_data.T + controller.rnn.bias_ih_l0
        external = stimulus.transpose(0, 1) @ w_stimulus.T + generator.bias_ih_l0
        pieces = _ClosedLoop.apply(
            control, external, state, hidden, noise.transpose(0, 1), *keep, w_factor,
            controller.rnn.weight_hh_l0, controller.rnn.bias_hh_l0, controller.to_moments.weight,
            controller.to_moments.bias, w_input, generator.weight_hh_l0, generator.bias_hh_l0,
            to_factors,
        )  # fmt: skip
    return tuple(piece.transpose(0, 1) for piece in pieces)
