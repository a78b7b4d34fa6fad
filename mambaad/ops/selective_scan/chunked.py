"""Selective scan in chunks of time, with a hand-written backward.  Derivation and measurements: README.md.

Axes: B batch, K scan routes, D inner channels, N state size, L sequence length, T steps in a chunk, and G = B*K, the
sequences that run side by side.  Inside, time comes first and channels last: (L, G, D), (L, G, N) and (T, G, N, D).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = 1 << 18  # of one (T, G, N, D) buffer
MIN_CHUNK = 8  # so that the states kept between chunks are at most 1/8 of all states


def selective_scan_chunked(
    u: Float[Tensor, "B K D L"],
    delta: Float[Tensor, "B K D L"],
    A: Float[Tensor, "K D N"],
    B: Float[Tensor, "B K N L"],
    C: Float[Tensor, "B K N L"],
    D: Float[Tensor, "K D"],
    delta_bias: Float[Tensor, "K D"],
) -> Float[Tensor, "B K D L"]:
    """The same function as `selective_scan_reference`, exact up to rounding, several times faster."""
    return _SelectiveScan.apply(u, delta, A, B, C, D, delta_bias)


def chunk_length(length: int, state: int) -> int:
    """Steps per chunk for `length` steps of `state` = G*N*D elements each."""
    steps = min(length, max(MIN_CHUNK, CHUNK_ELEMENTS // max(state, 1)))
    return math.ceil(length / math.ceil(length / steps))  # chunks of nearly equal length


def _time_major(x: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, K, X, L) -> contiguous (L, G, X)."""
    return x.detach().permute(3, 0, 1, 2).to(dtype).contiguous().flatten(1, 2)


class _SelectiveScan(Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
        batch, routes, width, length = u.shape
        dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
        groups, size = batch * routes, A.shape[-1]
        uT, BT, CT = _time_major(u, dtype), _time_major(B, dtype), _time_major(C, dtype)
        deltaT = F.softplus(_time_major(delta, dtype).view(length, batch, routes, width) + bias.to(dtype)).view_as(uT)
        AT = A.to(dtype).mT.expand(batch, routes, size, width).reshape(groups, size, width)
        xT = deltaT * uT

        T = chunk_length(length, AT.numel())
        y = torch.empty_like(uT)
        boundaries = uT.new_zeros(math.ceil(length / T), groups, size, width)
        decay, states = uT.new_empty(T, groups, size, width), uT.new_zeros(T + 1, groups, size, width)
        A2 = AT * math.log2(math.e)
        for i, start in enumerate(range(0, length, T)):
            steps = slice(start, min(start + T, length))
            boundaries[i] = states[0]
            h = _scan_chunk(deltaT[steps], xT[steps], A2, BT[steps], decay, states)
            torch.bmm(CT[steps].view(-1, 1, size), h.view(-1, size, width), out=y[steps].view(-1, 1, width))
            states[0] = h[-1]
        y.view(length, batch, routes, width).addcmul_(D.to(dtype), uT.view(length, batch, routes, width))
        ctx.save_for_backward(uT, deltaT, xT, AT, BT, CT, D, boundaries)
        ctx.dtypes = [t.dtype for t in (u, delta, A, B, C, D, bias)]
        return y.view(length, batch, routes, width).permute(1, 2, 3, 0).to(u.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        uT, deltaT, xT, AT, BT, CT, D, boundaries = ctx.saved_tensors
        length, groups, width = uT.shape
        batch, routes = dy.shape[:2]
        size = AT.shape[1]
        T = math.ceil(length / len(boundaries))
        dyT = _time_major(dy, uT.dtype)
        A2 = AT * math.log2(math.e)
        dA, carry = torch.zeros_like(AT), torch.zeros_like(AT)
        dx, ddelta, dB, dC = (torch.empty_like(t) for t in (uT, uT, BT, BT))
        decay_all, states = uT.new_empty(T, groups, size, width), uT.new_empty(T + 1, groups, size, width)
        g_all = torch.empty_like(decay_all)
        for i in reversed(range(len(boundaries))):
            steps = slice(i * T, min((i + 1) * T, length))
            count = steps.stop - steps.start
            states[0] = boundaries[i]
            h = _scan_chunk(deltaT[steps], xT[steps], A2, BT[steps], decay_all, states)
            decay, g = decay_all[:count], g_all[:count]
            dy_rows = dyT[steps].view(-1, 1, width)
            torch.bmm(dy_rows, h.view(-1, size, width).mT, out=dC[steps].view(-1, 1, size))
            # Adjoint of the recurrence, in place: g_t = C_t dy_t + decay_{t+1} g_{t+1}.
            torch.mul(CT[steps].unsqueeze(-1), dyT[steps].unsqueeze(-2), out=g)
            g[-1] += carry
            gs, decays = g.unbind(0), decay.unbind(0)
            for t in range(count - 2, -1, -1):
                gs[t].addcmul_(decays[t + 1], gs[t + 1])
            g_rows = g.view(-1, size, width)
            torch.bmm(xT[steps].view(-1, 1, width), g_rows.mT, out=dB[steps].view(-1, 1, size))
            torch.bmm(BT[steps].view(-1, 1, size), g_rows, out=dx[steps].view(-1, 1, width))
            decay.mul_(g)
            carry.copy_(decay[0])
            # E = dloss/d(delta A), shared by delta and A.
            E = decay.mul_(states[:count])
            dA += torch.mul(E, deltaT[steps].unsqueeze(-2), out=g).sum(0)
            torch.sum(E.mul_(AT), dim=-2, out=ddelta[steps])
        ddelta.addcmul_(dx, uT)
        ddelta.mul_(torch.expm1(-deltaT).neg_())  # softplus'(z) = sigmoid(z) = 1 - exp(-softplus(z))
        du = (
            dx.mul_(deltaT)
            .view(length, batch, routes, width)
            .addcmul_(D.to(uT.dtype), dyT.view(length, batch, routes, width))
        )

        def public(x: Tensor) -> Tensor:
            return x.view(length, batch, routes, -1).permute(1, 2, 3, 0)

        grads = (
            public(du),
            public(ddelta),
            dA.view(batch, routes, size, width).sum(0).mT,
            public(dB),
            public(dC),
            (dyT * uT).view(-1, routes, width).sum(0),
            ddelta.view(-1, routes, width).sum(0),
        )
        return tuple(
            g.to(t) if needed else None for g, t, needed in zip(grads, ctx.dtypes, ctx.needs_input_grad, strict=True)
        )


def _scan_chunk(delta: Tensor, x: Tensor, A2: Tensor, B: Tensor, decay: Tensor, states: Tensor) -> Tensor:
    """Fill decay[:T] and states[1:T+1], in place, from the state states[0]; returns states[1:T+1]."""
    count = len(delta)
    decay, h = decay[:count], states[1 : count + 1]
    torch.mul(delta.unsqueeze(-2), A2, out=decay).exp2_()
    torch.mul(B.unsqueeze(-1), x.unsqueeze(-2), out=h)
    for h_t, decay_t, h_before in zip(h.unbind(0), decay.unbind(0), states[:count].unbind(0), strict=True):
        h_t.addcmul_(decay_t, h_before)
    return h
