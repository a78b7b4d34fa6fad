"""Selective scan in chunks of time, with a hand-written backward.  Derivation and measurements: README.md.

Axes: B batch, K scan routes, D inner channels, N state size, L sequence length, T steps in a chunk.  Inside, time comes
first and channels come last, (T, B, K, N, D): a step is one contiguous block, and every operation runs along channels.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

LOG2_E = math.log2(math.e)
CHUNK_ELEMENTS = 1 << 19  # wanted size of a (T, B, K, N, D) buffer: three of them, 2 MB each, stay in the cache
MIN_CHUNK = 8  # steps, if there are as many: bounds the states kept for the backward to 1/8 of all states


def selective_scan_chunked(
    u: Float[Tensor, "B K D L"],
    delta: Float[Tensor, "B K D L"],
    A: Float[Tensor, "K D N"],
    B: Float[Tensor, "B K N L"],
    C: Float[Tensor, "B K N L"],
    D: Float[Tensor, "K D"],
    delta_bias: Float[Tensor, "K D"],
) -> Float[Tensor, "B K D L"]:
    """The function of `selective_scan_reference`, equal up to rounding and several times faster.

    Computes in float64 if u is float64, else in float32.  The output lies in memory as (L, B, K, D); inputs with D
    (for B and C: N) as the fastest axis in memory need no transposition.
    """
    output_dtype = u.dtype
    dtype = torch.float64 if output_dtype == torch.float64 else torch.float32
    uT, deltaT, BT, CT = (x.permute(3, 0, 1, 2).to(dtype) for x in (u, delta, B, C))
    AT, D, delta_bias = A.mT.to(dtype), D.to(dtype), delta_bias.to(dtype)
    rows = rows_per_block(u.shape, AT.numel())
    if rows == len(u):  # the common case, kept free of copies
        y = _SelectiveScan.apply(uT, deltaT, AT, BT, CT, D, delta_bias)
    else:
        blocks = zip(*(x.split(rows, dim=1) for x in (uT, deltaT, BT, CT)), strict=True)
        y = torch.cat([_SelectiveScan.apply(u, d, AT, b, c, D, delta_bias) for u, d, b, c in blocks], dim=1)
    return y.permute(1, 2, 3, 0).to(output_dtype)


def rows_per_block(shape: torch.Size, state: int) -> int:
    """Batch rows scanned side by side, for u of `shape` (B, K, D, L) and a state of K*N*D elements per row.

    As many as let a chunk of MIN_CHUNK steps (or all L) take at most twice CHUNK_ELEMENTS; at least one.
    """
    batch, length = shape[0], shape[-1]
    rows = max(1, 2 * CHUNK_ELEMENTS // (min(length, MIN_CHUNK) * state))
    return math.ceil(batch / math.ceil(batch / rows))  # blocks of nearly equal size


def chunk_length(length: int, state: int) -> int:
    """Steps T per chunk, for `length` steps of `state` = B*K*N*D elements each."""
    steps = min(length, max(MIN_CHUNK, CHUNK_ELEMENTS // state))
    return math.ceil(length / math.ceil(length / steps))  # chunks of nearly equal length


class _SelectiveScan(Function):
    """The scan, time first: u, delta (L, B, K, D), A (K, N, D), B, C (L, B, K, N), D, bias (K, D) -> y (L, B, K, D)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
        u, A, B, C = u.contiguous(), A.contiguous(), B.contiguous(), C.contiguous()
        z = (delta + bias).contiguous()
        delta = F.softplus(z)
        state = (u.shape[1], *A.shape)
        T = chunk_length(len(u), math.prod(state))
        boundaries = u.new_zeros(math.ceil(len(u) / T), *state)  # the state before each chunk
        y, A2, buffers = torch.empty_like(u), A * LOG2_E, _buffers(u, T, state)
        chunks = zip(*(x.unsqueeze(-2).split(T) for x in (u, delta, B, C, y)), strict=True)
        for i, (u_, delta_, B_, C_, y_) in enumerate(chunks):
            if i > 0:
                boundaries[i] = buffers.h_t[T]
            h = _scan_chunk(buffers, boundaries[i], delta_, delta_ * u_, A2, B_)
            _bmm(C_, h, out=y_)
        y.addcmul_(D, u)
        ctx.save_for_backward(u, z, delta, A, B, C, D, boundaries)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        u, z, delta, A, B, C, D, boundaries = ctx.saved_tensors
        dy, state, A2 = dy.contiguous(), boundaries.shape[1:], A * LOG2_E
        T = chunk_length(len(u), math.prod(state))
        dx, ddelta, dB, dC = (torch.empty_like(x) for x in (u, u, B, C))  # of x = delta u
        dA, g_decayed, ones = torch.zeros_like(A), torch.zeros_like(boundaries[0]), u.new_ones(T * state[0])
        buffers = _buffers(u, T, state)
        decay, h, g = buffers.decay, buffers.h, buffers.g
        rows = (x.unsqueeze(-2).split(T) for x in (u, delta, B, C, dy, dx, dB, dC))  # row vectors of each step
        chunks = list(zip(*rows, ddelta.split(T), strict=True))
        for i in reversed(range(len(chunks))):
            u_, delta_, B_, C_, dy_, dx_, dB_, dC_, ddelta_ = chunks[i]
            n, x_ = len(u_), delta_ * u_
            states = _scan_chunk(buffers, boundaries[i], delta_, x_, A2, B_)
            _bmm(dy_, states.mT, out=dC_)

            # g_t = dloss/dh_t = C_t dy_t + decay_{t+1} g_{t+1}, backwards in time and in place
            torch.mul(C_.mT, dy_, out=g[:n])
            after = buffers.g_t[n - 1].add_(g_decayed)
            for t in range(n - 2, -1, -1):
                after = buffers.g_t[t].addcmul_(buffers.decay_t[t + 1], after)
            _bmm(x_, g[:n].mT, out=dB_)
            _bmm(B_, g[:n], out=dx_)

            # dloss/d(delta_t A) = g_t decay_t h_{t-1}, which delta and A share
            exponent = decay[:n].mul_(g[:n])
            g_decayed.copy_(decay[0])
            exponent.mul_(h[:n])
            by_delta = torch.mul(exponent, delta_, out=g[:n]).view(-1, A.numel())
            dA.view(-1).addmv_(by_delta.t(), ones[: len(by_delta)])
            torch.sum(exponent.mul_(A), dim=-2, out=ddelta_)
        dz = ddelta.addcmul_(dx, u).mul_(torch.sigmoid(z))
        du = dx.mul_(delta).addcmul_(D, dy)
        return du, dz, dA, dB, dC, (dy * u).sum((0, 1)), dz.sum((0, 1))


@dataclass(frozen=True)
class _Buffers:
    """Working memory that all chunks of a call share; *_t is the same memory by steps, so that loops need not index."""

    decay: Tensor  # (T, B, K, N, D), exp(delta_t A)
    h: Tensor  # (T + 1, B, K, N, D), h[t + 1] is the state after step t of the chunk, h[0] the one before it
    g: Tensor  # (T, B, K, N, D), dloss/dh_t
    decay_t: tuple[Tensor, ...]
    h_t: tuple[Tensor, ...]
    g_t: tuple[Tensor, ...]


def _buffers(like: Tensor, T: int, state: tuple[int, ...]) -> _Buffers:
    decay, h, g = like.new_empty(T, *state), like.new_empty(T + 1, *state), like.new_empty(T, *state)
    return _Buffers(decay, h, g, decay.unbind(0), h.unbind(0), g.unbind(0))


def _scan_chunk(buffers: _Buffers, before: Tensor, delta: Tensor, x: Tensor, A2: Tensor, B: Tensor) -> Tensor:
    """Fill the buffers' decay and h from the state `before`; returns the new states, (T, B, K, N, D).

    delta and x = delta u are (T, B, K, 1, D), B is (T, B, K, 1, N).  A2 = A log2(e): exp2 is the faster exponential of
    torch's CPU kernels (README.md).
    """
    T = len(delta)
    torch.mul(delta, A2, out=buffers.decay[:T]).exp2_()
    states = torch.mul(B.mT, x, out=buffers.h[1 : T + 1])
    h = buffers.h_t[0].copy_(before)
    for decay, h_t in zip(buffers.decay_t[:T], buffers.h_t[1 : T + 1], strict=True):
        h = h_t.addcmul_(decay, h)  # h_t holds B_t x_t until here
    return states


def _bmm(a: Tensor, b: Tensor, out: Tensor) -> None:
    """out = a b, matrices in the last two axes, batched over (T, B, K)."""
    torch.bmm(a.flatten(0, 2), b.flatten(0, 2), out=out.flatten(0, 2))
