"""The selective scan along K routes through an image: one function, several backends.  Theory: README.md.

Reading order: naive (the definition), then what is fast: native (C, for the CPU) and triton (for GPUs), which read and
write the tokens where they are; gathered and permute, which bring them into route order for `selective_scan`.

Axes: B batch, L tokens in image order, D channels, K scan routes, N state size, R rank of the step sizes, P = R + 2N.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mambaad.ops import selective_scan as sequences
from mambaad.ops.compiling import constant_when_compiled
from mambaad.ops.routed_scan import native
from mambaad.ops.routed_scan import triton as triton_scan
from mambaad.ops.routed_scan.gathered import routed_scan_gathered
from mambaad.ops.routed_scan.naive import routed_scan_reference
from mambaad.ops.routed_scan.onnx_scan import routed_scan_onnx, routed_scan_onnx_native
from mambaad.ops.routed_scan.permute import hs_decode, hs_encode

FUSED = {"native": native.routed_scan_native, "triton": triton_scan.routed_scan_triton}
OWN = {
    "reference": routed_scan_reference,
    "onnx": routed_scan_onnx,
    "onnx_native": routed_scan_onnx_native,
    **FUSED,
}
"""Backends that take the routes; every other one is a backend of `selective_scan` between a gather and a scatter."""

Backend = str | Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""The name of a backend, or a function with the seven tensors of `routed_scan` that stands in for one."""

__all__ = [
    "FUSED",
    "Backend",
    "backends",
    "check_backend",
    "describe",
    "hs_decode",
    "hs_encode",
    "pick_backend",
    "routed_scan",
    "unavailable",
]


def backends() -> list[str]:
    """Names of all backends, runnable here or not."""
    return list(dict.fromkeys((*sequences.BACKENDS, *OWN)))


@constant_when_compiled
def unavailable(backend: str) -> str | None:
    """Why a backend cannot run here and what to do about it, in one sentence; None if it can."""
    if backend not in backends():
        raise ValueError(f"backend must be one of {sorted(backends())} or 'auto', got {backend!r}")
    if backend in ("native", "onnx_native"):
        return native.unavailable()
    if backend == "triton":
        return triton_scan.unavailable()
    return sequences.unavailable(backend) if backend in sequences.BACKENDS else None


def check_backend(backend: Backend) -> None:
    """Accept "auto", a function, and a name that can run here.

    Raises:
        ValueError: unknown name.
        RuntimeError: a backend that cannot run here, with the reason and the remedy.
    """
    if isinstance(backend, str) and backend != "auto" and (reason := unavailable(backend)) is not None:
        raise RuntimeError(reason)


def describe(backend: str) -> str:
    """Name of a backend for records and reports, with the instruction set where that is chosen at run time."""
    return f"native ({native.instruction_sets()[0]})" if backend == "native" else backend


@constant_when_compiled
def pick_backend(device: torch.device | str, dtype: torch.dtype = torch.float32) -> str:
    """Name of the backend that `backend="auto"` takes for tensors on `device`: the fused one where it runs, else
    "chunked".  float64 always takes "chunked", since the fused backends have a float32 state."""
    fused = {"cpu": "native", "cuda": "triton"}.get(torch.device(device).type)
    if fused is None or dtype == torch.float64 or unavailable(fused) is not None:
        return "chunked"
    return fused


def routed_scan(
    x: Float[Tensor, "B L D"],
    projected: Float[Tensor, "B L K P"],
    routes: Int64[Tensor, "K L"],
    dt_proj: Float[Tensor, "K D R"],
    dt_bias: Float[Tensor, "K D"],
    A: Float[Tensor, "K D N"],
    D: Float[Tensor, "K D"],
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "B L D"]:
    """Selective scan of an image along K routes, and the sum over the routes.  Paper: sections 3.1 and 3.3, figure 2.

    Route k visits token p = routes[k, t] at step t; with (dt, B, C) = projected[:, p, k]:

    δ_t = softplus(dt_proj dt + dt_bias),  h_t = exp(δ_t A) h_{t-1} + δ_t B x_p,  y_p += <C, h_t> + D x_p,  h_0 = 0.

    Args:
        x: tokens in image order.
        projected: step size, input and output of the state for each token and route, sizes (R, N, N) along P.
        routes: tokens in visiting order; each row is a permutation of 0 .. L-1 (trusted, not checked).
        dt_proj, dt_bias: from the R numbers of a token to the step sizes of its D channels.
        A: decay rates, below 0.
        D: weight of the skip path.
        backend: a name in `backends()`, "auto" for `pick_backend(x.device, x.dtype)`, or a function that is called
            with the seven tensors in its place.

    Returns:
        y in x's dtype; the state is in float64 if x is float64, else in float32.  Differentiable (once) with respect
        to all arguments but the routes.

    Raises:
        ValueError: unknown backend; shapes or devices that do not fit; a dtype the backend does not have.
        RuntimeError: a named backend that cannot run here, with the reason and the remedy.
    """
    check_backend(backend)
    _check(x, projected, routes, dt_proj, dt_bias, A, D)
    tensors = (x, projected, routes, dt_proj, dt_bias, A, D)
    if not isinstance(backend, str):
        return backend(*tensors)
    name = pick_backend(x.device, x.dtype) if backend == "auto" else backend
    return OWN[name](*tensors) if name in OWN else routed_scan_gathered(*tensors, backend=name)


def _check(
    x: Tensor, projected: Tensor, routes: Tensor, dt_proj: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor
) -> None:
    if x.dim() != 3 or x.numel() == 0:
        raise ValueError(f"x must have shape (B, L, D) with no axis empty, got {tuple(x.shape)}")
    if A.dim() != 3 or A.numel() == 0:
        raise ValueError(f"A must have shape (K, D, N) with no axis empty, got {tuple(A.shape)}")
    if dt_proj.dim() != 3 or dt_proj.numel() == 0:
        raise ValueError(f"dt_proj must have shape (K, D, R) with no axis empty, got {tuple(dt_proj.shape)}")
    (batch, length, width), (K, _, size), rank = x.shape, A.shape, dt_proj.shape[2]
    expected = {
        "projected": (projected, "(B, L, K, R + 2N)", (batch, length, K, rank + 2 * size)),
        "routes": (routes, "(K, L)", (K, length)),
        "dt_proj": (dt_proj, "(K, D, R)", (K, width, rank)),
        "dt_bias": (dt_bias, "(K, D)", (K, width)),
        "A": (A, "(K, D, N)", (K, width, size)),
        "D": (D, "(K, D)", (K, width)),
    }
    if not x.is_floating_point():
        raise ValueError(f"x must be a floating point tensor, got {x.dtype}")
    for name, (value, axes, shape) in expected.items():
        if value.shape != shape:
            raise ValueError(
                f"{name} must have shape {axes} = {shape} to go with x of shape {tuple(x.shape)}, A of shape "
                f"{tuple(A.shape)} and rank {rank}, got {tuple(value.shape)}"
            )
        if value.device != x.device:
            raise ValueError(f"{name} is on {value.device}, but x is on {x.device}; move all arguments to one device")
        if value.dtype != torch.int64 if name == "routes" else not value.is_floating_point():
            kind = "an int64" if name == "routes" else "a floating point"
            raise ValueError(f"{name} must be {kind} tensor, got {value.dtype}")
