"""Routed scan on a GPU: the launches of `triton_kernels.py` as one differentiable function.

Axes: B batch, K scan routes, L tokens, D channels, N state size, R rank of the step sizes, P = R + 2N.
"""

import contextlib
import importlib.util
import os
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

MIN_BLOCK, MAX_BLOCK = 32, 128  # channels of a block: 1 to 4 in each of the 32 threads of a program
STEPS = 8  # of a tile: the backward keeps about seven tiles, and 7 * 8 * 4 values are what a thread has registers for
TILES = 8  # tiles of a stretch; the state before each stretch is kept for the backward
PROGRAMS = 1024  # wanted at least: 8 programs of one warp on each multiprocessor of an H100
# One warp: blocks of channels do not wait for each other.  One stage: nothing here gains from copies ahead of time.
OPTIONS = {"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def unavailable() -> str | None:
    """Why `routed_scan_triton` cannot run here and what to do about it, in one sentence; None if it can."""
    if importlib.util.find_spec("triton") is None:
        return "the triton backend needs the package triton; install it (pip install triton) or take another backend"
    if _interpreted():
        return None
    if not torch.cuda.is_available():
        return "the triton backend needs a CUDA device and torch sees none; take another backend"
    capability = torch.cuda.get_device_capability()
    if capability < (8, 0):
        found = ".".join(map(str, capability))
        return (
            f"the triton backend needs compute capability 8.0 or newer, this device has {found}; take another backend"
        )
    return None


def routed_scan_triton(
    x: Float[Tensor, "B L D"],
    projected: Float[Tensor, "B L K P"],
    routes: Int[Tensor, "K L"],
    dt_proj: Float[Tensor, "K D R"],
    dt_bias: Float[Tensor, "K D"],
    A: Float[Tensor, "K D N"],
    D: Float[Tensor, "K D"],
) -> Float[Tensor, "B L D"]:
    """The scans of all K routes and the sum of their outputs in image order, fused.  Paper: sections 3.1 and 3.2.

    Nothing is brought into route order: the kernels read and write through the routes.  States, exponentials and sums
    are in float32.  Deterministic: the same input on the same device gives the same bits, gradients included.

    Args:
        x: tokens in image order, float32, bfloat16 or float16.
        projected: (dt, B, C) of each token and route along the last axis, sizes (R, N, N), in image order, likewise.
        routes: the token visited at each step of each route; each row is a permutation of 0 .. L-1.
        dt_proj, dt_bias: δ = softplus(dt_proj dt + dt_bias).
        A: decay rates, negative.
        D: weight of the skip path.

    Returns:
        y in x's dtype.  Differentiable (once) with respect to all floating point arguments.

    Raises:
        ValueError: a dtype that is not listed above; tensors that are not on a GPU.
    """
    for name, value in (("x", x), ("projected", projected)):
        if value.dtype not in DTYPES:
            raise ValueError(
                f"{name} must be float32, bfloat16 or float16 for the triton backend, got {value.dtype}; "
                "convert it or take another backend"
            )
    if not (x.is_cuda or _interpreted()):
        raise ValueError(
            f"the triton backend runs on CUDA tensors, got x on {x.device}; move it or take another backend"
        )
    # channels last, so that a row of channels is contiguous for each state and each column of dt_proj
    tensors = (x, projected, routes.long(), dt_proj.mT.float(), dt_bias.float(), A.mT.float(), D.float())
    save = torch.is_grad_enabled() and any(v.requires_grad for v in tensors)
    return _RoutedScan.apply(save, *tensors)


@dataclass(frozen=True)
class Plan:
    """Sizes of the launches.  A segment is a run of stretches, a stretch a run of TILES tiles, a tile STEPS steps."""

    BD: int
    blocks: int  # of channels
    stretches: int
    stretches_per_segment: int
    segments: int


def make_plan(batch: int, routes: int, length: int, width: int) -> Plan:
    """As few segments as give PROGRAMS programs: a second segment costs a pass that finds the states between them."""
    BD = max(MIN_BLOCK, min(MAX_BLOCK, 1 << (width - 1).bit_length()))  # a power of two
    blocks, stretches = -(-width // BD), -(-length // (STEPS * TILES))
    per_segment = -(-stretches // min(stretches, -(-PROGRAMS // (batch * routes * blocks))))
    return Plan(BD, blocks, stretches, per_segment, -(-stretches // per_segment))


class _RoutedScan(Function):
    """As `routed_scan_triton`, with dt_proj as (K, R, D) and A as (K, N, D), parameters in float32.

    save: whether a backward may follow.
    """

    @staticmethod
    def forward(ctx: Any, save: bool, *tensors: Tensor) -> Tensor:
        from mambaad.ops.routed_scan import triton_kernels

        inputs = tuple(v.contiguous() for v in tensors)
        x, _, _, dt_proj, _, A, _ = inputs
        (batch, length, width), (routes, size, _) = x.shape, A.shape
        plan = make_plan(batch, routes, length, width)
        sizes = _sizes(plan, x, A, dt_proj)
        grid = (batch * routes * plan.segments * plan.blocks,)
        state = _float32(x, batch, routes, plan.segments, size, width, zero=True)
        time = _float32(x, batch, routes, plan.segments, width)
        starts = _float32(x, batch, routes, plan.stretches if save else 0, size, width)
        y = _float32(x, batch, routes, length, width)
        arguments = (*inputs, state, starts, time, y, *sizes)
        with _device(x):
            if plan.segments > 1:
                triton_kernels.scan_kernel[grid](*arguments, OUTPUT=False, SAVE=False, **_tile(plan))
                _carry(plan, state, time, A, reverse=False)
            triton_kernels.scan_kernel[grid](*arguments, OUTPUT=True, SAVE=save, **_tile(plan))
        if save:
            ctx.save_for_backward(*inputs, starts, time)
        return y.sum(1).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        from mambaad.ops.routed_scan import triton_kernels

        *inputs, starts, time = ctx.saved_tensors
        x, projected, _, dt_proj, _, A, _ = inputs
        (batch, length, width), (routes, size, _), rank = x.shape, A.shape, dt_proj.shape[1]
        plan = make_plan(batch, routes, length, width)
        sizes = _sizes(plan, x, A, dt_proj)
        grid = (batch * routes * plan.segments * plan.blocks,)
        adjoint = _float32(x, batch, routes, plan.segments, size, width, zero=True)
        scratch = _float32(x, batch, routes, plan.segments, TILES, size, width)
        # Several programs contribute to each of these; each writes its own part, and sum() adds them in a fixed order.
        dx = _float32(x, batch, routes, length, width)
        dprojected = _float32(x, plan.blocks, *projected.shape)
        dparameters = _float32(x, batch, routes, plan.segments, size + rank + 2, width, zero=True)
        arguments = (*inputs, dy.contiguous(), starts, scratch, adjoint, dx, dprojected, dparameters, *sizes)
        with _device(x):
            if plan.segments > 1:
                triton_kernels.adjoint_kernel[grid](*arguments, GRADIENTS=False, **_tile(plan))
                _carry(plan, adjoint, time, A, reverse=True)
            triton_kernels.adjoint_kernel[grid](*arguments, GRADIENTS=True, **_tile(plan))
        dA, ddt_proj, ddt_bias, dD = dparameters.sum((0, 2)).split((size, rank, 1, 1), dim=1)
        dprojected = dprojected[0] if plan.blocks == 1 else dprojected.sum(0)
        tokens = (dx.sum(1).to(x.dtype), dprojected.to(projected.dtype))
        return None, *tokens, None, ddt_proj, ddt_bias.squeeze(1), dA, dD.squeeze(1)


def _carry(plan: Plan, state: Tensor, time: Tensor, A: Tensor, *, reverse: bool) -> None:
    """Replace what each segment yields by what comes into it."""
    from mambaad.ops.routed_scan import triton_kernels

    batch, routes, segments, size, width = state.shape
    grid = (batch * routes * size * plan.blocks,)
    sizes = (routes, width, size, plan.blocks, segments)
    triton_kernels.carry_kernel[grid](state, time, A, *sizes, REVERSE=reverse, BD=plan.BD, **OPTIONS)


def _sizes(plan: Plan, x: Tensor, A: Tensor, dt_proj: Tensor) -> tuple[int, ...]:
    """The arguments L to stretches_per_segment of the kernels."""
    (_, length, width), (routes, size, _) = x.shape, A.shape
    spans = (plan.blocks, plan.segments, plan.stretches, plan.stretches_per_segment)
    return (length, routes, width, size, dt_proj.shape[1], *spans)


def _tile(plan: Plan) -> dict[str, int]:
    return {"T": STEPS, "BD": plan.BD, "TILES": TILES, **OPTIONS}


def _float32(like: Tensor, *shape: int, zero: bool = False) -> Tensor:
    make = torch.zeros if zero else torch.empty
    return make(shape, dtype=torch.float32, device=like.device)


def _device(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be x's."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def _interpreted() -> bool:
    """Whether Triton runs its kernels in Python (TRITON_INTERPRET=1), on any tensor: slow, for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"
