"""Selective scan without loops in its graph, for export to other runtimes.  Derivation of the recurrence: README.md.

Axes: B batch, K scan routes, D inner channels, N state size, L sequence length, M chunks of T steps, L = M * T.

A sequence is cut into M chunks that are scanned side by side, so that T + log2 M steps one after the other do for L.
Every step is written out: the graph holds elementwise operations and small products and no loop, and the batch may be
dynamic.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def selective_scan_exportable(
    u: Float[Tensor, "B K D L"],
    delta: Float[Tensor, "B K D L"],
    A: Float[Tensor, "K D N"],
    B: Float[Tensor, "B K N L"],
    C: Float[Tensor, "B K N L"],
    D: Float[Tensor, "K D"],
    delta_bias: Float[Tensor, "K D"],
) -> Float[Tensor, "B K D L"]:
    """The function of `selective_scan_reference`, equal up to rounding; differentiable, but made for inference.

    A state is the sum of two: what the chunk makes of a first state of 0, step by step; and what is left of the chunk's
    true first state, which has decayed by exp(A times the sum of the steps' sizes). That first state comes from the
    last states of the chunks before. (Running the recurrence twice instead would make runtimes that merge equal
    expressions keep every decay in memory between the two.)

    No quotient of decays is formed: where decays are at most 1, nothing can overflow.
    Computes in float64 if u is float64, else in float32.
    """
    output_dtype = u.dtype
    dtype = torch.float64 if output_dtype == torch.float64 else torch.float32
    u, delta, A, B, C, D, delta_bias = (x.to(dtype) for x in (u, delta, A, B, C, D, delta_bias))
    length = u.shape[-1]
    steps = chunk_steps(length)
    delta = softplus(delta + delta_bias[..., None])
    delta_steps, drive_steps, C_steps = (
        _chunks(x, steps).transpose(3, 4).split(1, dim=3) for x in (delta, delta * u, C)
    )  # (B, K, M, 1, D), for C (B, K, M, 1, N)
    B_steps = _chunks(B, steps).split(1, dim=4)  # (B, K, M, N, 1)
    decay_rate = A.mT[:, None]  # (K, 1, N, D), as the states (B, K, M, N, D)

    h = drive_steps[0] * B_steps[0]
    y = [C_steps[0] @ h]
    for t in range(1, steps):
        h = torch.exp(delta_steps[t] * decay_rate) * h + drive_steps[t] * B_steps[t]
        y.append(C_steps[t] @ h)
    elapsed = [delta_steps[0]]  # step sizes summed up from the start of the chunk
    for size in delta_steps[1:]:
        elapsed.append(elapsed[-1] + size)
    if steps < length:
        first = _first_states(torch.exp(elapsed[-1] * decay_rate), h)
        y = [
            own + C_t @ (torch.exp(size * decay_rate) * first)
            for own, size, C_t in zip(y, elapsed, C_steps, strict=True)
        ]
    joined = torch.cat(y, dim=3).flatten(2, 3)[:, :, :length]  # (B, K, M, T, D) -> (B, K, L, D)
    return (joined.transpose(2, 3) + D[..., None] * u).to(output_dtype)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) without the operator, which onnxruntime computes value by value, some thirty times slower.

    The second term mends what rounding 1 + u loses, so that small steps keep their digits.
    """
    u = torch.exp(x.clamp(max=40))  # above, softplus is x to the last digit, in float64 too
    one_more = 1 + u
    return torch.maximum(x, torch.log(one_more) - ((one_more - 1) - u) / one_more)


def chunk_steps(length: int) -> int:
    """Steps T of a chunk: the square root of the length, rounded up, which needs the fewest steps in sequence."""
    return math.isqrt(length - 1) + 1


def _chunks(x: Tensor, steps: int) -> Tensor:
    """(B, K, X, L) -> (B, K, M, X, T); a step of size 0, with which the last chunk is filled up, changes no state."""
    padding = -x.shape[3] % steps
    return (F.pad(x, (0, padding)) if padding else x).unflatten(3, (-1, steps)).transpose(2, 3)


def _first_states(decay: Tensor, last: Tensor) -> Tensor:
    """State at the start of each chunk, from its decay and the state (B, K, M, N, D) it ends in if it starts at 0.

    Hillis and Steele's scan over the chunks: after the step of `distance`, element m sums up the chunks
    m - 2 * distance + 1 to m.
    """
    chunks = last.shape[2]
    distance = 1
    while distance < chunks:
        earlier = F.pad(last[:, :, :-distance], (0, 0, 0, 0, distance, 0))
        last = last + decay * earlier
        # in front of the first chunk there is nothing to decay
        decay = decay * F.pad(decay[:, :, :-distance], (0, 0, 0, 0, distance, 0))
        distance *= 2
    return F.pad(last[:, :, :-1], (0, 0, 0, 0, 1, 0))
