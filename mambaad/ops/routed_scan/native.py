"""Routed scan by the compiled library of this package: native/routed_scan.c, called through ctypes.

The library is an optional part of the installation: it is built where there is a C compiler, and knows neither Python
nor torch.  Axes: B batch, L tokens, D channels, K scan routes, N state size, R rank of the step sizes, P = R + 2N.
"""

import ctypes
import importlib.util
import math
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mambaad.ops.compiling import constant_when_compiled

_SIZES = ("B", "L", "K", "D", "N", "R", "threads", "stretches")
_INPUTS = ("x", "projected", "table", "dt_proj", "dt_bias", "A", "skip")
_OUTPUTS = ("y", "states", "dy", "dx", "dprojected", "ddt_proj", "ddt_bias", "dA", "dskip")


class _Scan(ctypes.Structure):
    """`Scan` of native/routed_scan.h."""

    _fields_ = [(name, ctypes.c_int64) for name in _SIZES] + [(name, ctypes.c_void_p) for name in _INPUTS + _OUTPUTS]


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | str:
    """The compiled library, or why there is none."""
    spec = importlib.util.find_spec("mambaad.ops.routed_scan._native")
    if spec is None or spec.origin is None:
        return (
            "the native backend was not built, because there was no C compiler (GCC or Clang) at installation; "
            "install one and reinstall mambaad, or take another backend"
        )
    try:
        library = ctypes.CDLL(spec.origin)
        library.routed_scan_set.restype = ctypes.c_char_p
        library.routed_scan_lanes.restype = library.routed_scan_state_floats.restype = ctypes.c_int64
    except (OSError, AttributeError) as error:
        return f"the native backend does not load ({error}); reinstall mambaad, or take another backend"
    return library


def _loaded() -> ctypes.CDLL:
    library = _library()
    if isinstance(library, str):
        raise RuntimeError(library)
    return library


@lru_cache(maxsize=1)
def _parallel() -> ctypes.c_void_p | None:
    """GOMP_parallel of the OpenMP runtime that torch has loaded, if it has one: a second pool of threads would compete
    with torch's, which stay awake for a while after each of its operations."""
    try:
        runtime = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD)
        return ctypes.cast(runtime.GOMP_parallel, ctypes.c_void_p)
    except (OSError, AttributeError):
        return None


def unavailable() -> str | None:
    """Why `routed_scan_native` cannot run here and what to do about it, in one sentence; None if it can."""
    library = _library()
    return library if isinstance(library, str) else None


def library_path() -> Path:
    """The library's file: all of it, for programs that have no Python, too.

    Raises:
        RuntimeError: there is none (`unavailable` says so beforehand).
    """
    return Path(_loaded()._name)


def instruction_sets() -> list[str]:
    """Names of the library's instruction sets that this processor has, best first; empty without the library."""
    return [name for _, name in _sets()]


@lru_cache(maxsize=1)
def _sets() -> list[tuple[int, str]]:
    library, found = _library(), []
    if not isinstance(library, str):
        i = 0
        while (name := library.routed_scan_set(i)) is not None:
            if library.routed_scan_runs(i):
                found.append((i, name.decode()))
            i += 1
    return found


def routed_scan_native(
    x: Float[Tensor, "B L D"],
    projected: Float[Tensor, "B L K P"],
    routes: Int64[Tensor, "K L"],
    dt_proj: Float[Tensor, "K D R"],
    dt_bias: Float[Tensor, "K D"],
    A: Float[Tensor, "K D N"],
    D: Float[Tensor, "K D"],
    instruction_set: str | None = None,
) -> Float[Tensor, "B L D"]:
    """`routed_scan` on the CPU, fused: nothing is brought into route order, no array of all states or steps exists.

    Computes in float32 with as many threads as torch has (`torch.get_num_threads()`) and returns x's dtype.  The same
    input with the same number of threads gives the same bits.  Differentiable once.

    Args:
        instruction_set: one of `instruction_sets()`; None takes the best.

    Raises:
        ValueError: float64, or tensors that are not on the CPU; an instruction set that is not there.
        RuntimeError: the library is not there (`unavailable` tells beforehand).
    """
    if x.dtype == torch.float64:
        raise ValueError("the native backend computes in float32, got x in float64; convert it or take another backend")
    if x.device.type != "cpu":
        raise ValueError(
            f"the native backend runs on CPU tensors, got x on {x.device}; move it or take another backend"
        )
    index = _index(instruction_set)
    tensors = (x, projected, routes, dt_proj, dt_bias, A, D)
    inputs = [v.float().contiguous() if v.is_floating_point() else v.contiguous() for v in tensors]
    keep = torch.is_grad_enabled() and any(v.requires_grad for v in inputs)
    y, _ = _forward(*inputs, index, keep)
    return y.to(x.dtype)


@constant_when_compiled
def _index(name: str | None) -> int:
    _loaded()  # raises where there is no library
    for i, found in _sets():
        if name in (None, found):
            return i
    raise ValueError(f"instruction_set must be one of {instruction_sets()}, got {name!r}")


def _call(sizes: dict[str, int], tensors: dict[str, Tensor], index: int, backward: bool) -> None:
    arguments = _Scan(**sizes)
    for name, tensor in tensors.items():
        setattr(arguments, name, tensor.data_ptr() if tensor.numel() else None)
    if _loaded().routed_scan_run(ctypes.byref(arguments), index, int(backward), _parallel()):
        raise MemoryError("the native scan found no memory for its buffers")


def _sizes(x: Tensor, dt_proj: Tensor, A: Tensor, index: int) -> dict[str, int]:
    """Sizes of the problem, and how it is shared out: a task is a batch row and a stretch of its channels."""
    (batch, length, width), (routes, _, rank), size = x.shape, dt_proj.shape, A.shape[2]
    threads, lanes = torch.get_num_threads(), _loaded().routed_scan_lanes(index)
    stretches = max(1, min(threads // math.gcd(batch, threads), -(-width // lanes)))
    values = (batch, length, routes, width, size, rank, threads, stretches)
    return dict(zip(_SIZES, values, strict=True))


@torch.library.custom_op("mambaad::routed_scan", mutates_args=(), device_types="cpu")
def _forward(
    x: Tensor,
    projected: Tensor,
    routes: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    skip: Tensor,
    index: int,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """y, and the states that the backward starts from (empty unless `keep`)."""
    sizes = _sizes(x, dt_proj, A, index)
    y, states = torch.empty_like(x), x.new_empty(_state_floats(sizes, index) if keep else 0)
    inputs = (x, projected, routes, dt_proj, dt_bias, A, skip)
    _call(sizes, dict(zip(_INPUTS, inputs, strict=True)) | {"y": y, "states": states}, index, backward=False)
    return y, states


@torch.library.custom_op("mambaad::routed_scan_backward", mutates_args=(), device_types="cpu")
def _backward(
    dy: Tensor,
    states: Tensor,
    x: Tensor,
    projected: Tensor,
    routes: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    skip: Tensor,
    index: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    sizes = _sizes(x, dt_proj, A, index)
    batch = len(x)
    outputs = {
        "dx": torch.empty_like(x),
        "dprojected": projected.new_empty(sizes["stretches"], *projected.shape),
        **{
            f"d{name}": value.new_empty(batch, *value.shape)
            for name, value in (("dt_proj", dt_proj), ("dt_bias", dt_bias), ("A", A), ("skip", skip))
        },
    }
    inputs = dict(zip(_INPUTS, (x, projected, routes, dt_proj, dt_bias, A, skip), strict=True))
    _call(sizes, {**inputs, "states": states, "dy": dy, **outputs}, index, backward=True)
    dx, *others = outputs.values()
    dprojected, ddt_proj, ddt_bias, dA, dskip = (v[0] if len(v) == 1 else v.sum(0) for v in others)
    return dx, dprojected, ddt_proj, ddt_bias, dA, dskip


def _state_floats(sizes: dict[str, int], index: int) -> int:
    return _loaded().routed_scan_state_floats(ctypes.byref(_Scan(**sizes)), index)


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.index, _ = inputs
    ctx.set_materialize_grads(False)  # or the backward gets zeros for `states`, the largest array of all
    ctx.save_for_backward(output[1], *tensors)


def _gradients(ctx: Any, dy: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    dx, dprojected, *others = _backward(dy.contiguous(), *ctx.saved_tensors, ctx.index)
    return dx, dprojected, None, *others, None, None


_forward.register_autograd(_gradients, setup_context=_keep_for_backward)


@_forward.register_fake
def _forward_shapes(x: Tensor, projected: Tensor, routes: Tensor, *parameters: Any) -> tuple[Tensor, Tensor]:
    dt_proj, _, A, _, index, keep = parameters
    return torch.empty_like(x), x.new_empty(_state_floats(_sizes(x, dt_proj, A, index), index) if keep else 0)


@_backward.register_fake
def _backward_shapes(
    dy: Tensor, states: Tensor, x: Tensor, projected: Tensor, routes: Tensor, *parameters: Any
) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(v) for v in (x, projected, *parameters[:-1]))
