"""Selective scan of Mamba over K routes: one function, several backends with one signature.  Theory: README.md.

Axes: B batch, K scan routes, D inner channels, N state size, L sequence length.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mambaad.ops.selective_scan import mamba
from mambaad.ops.selective_scan.chunked import selective_scan_chunked
from mambaad.ops.selective_scan.exportable import selective_scan_exportable
from mambaad.ops.selective_scan.naive import selective_scan_reference

BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "reference": selective_scan_reference,  # the definition
    "chunked": selective_scan_chunked,  # pure PyTorch, any device
    "exportable": selective_scan_exportable,  # no loop in its graph: for torch.export
    "mamba_ssm": mamba.selective_scan_mamba,  # the CUDA kernel of another package, where that is installed
}

__all__ = ["BACKENDS", "pick_backend", "selective_scan", "unavailable"]


def unavailable(backend: str) -> str | None:
    """Why a backend cannot run here and what to do about it, in one sentence; None if it can."""
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {sorted(BACKENDS)} or 'auto', got {backend!r}")
    return mamba.unavailable() if backend == "mamba_ssm" else None


def pick_backend(device: torch.device | str) -> str:
    """Name of the backend that `backend="auto"` takes for tensors on `device`."""
    torch.device(device)  # an unknown device is an error here, too
    return "chunked"


def selective_scan(
    u: Float[Tensor, "B K D L"],
    delta: Float[Tensor, "B K D L"],
    A: Float[Tensor, "K D N"],
    B: Float[Tensor, "B K N L"],
    C: Float[Tensor, "B K N L"],
    D: Float[Tensor, "K D"],
    delta_bias: Float[Tensor, "K D"],
    *,
    backend: str = "auto",
) -> Float[Tensor, "B K D L"]:
    """Selective scan of each of K routes with the route's own A, B, C and D.  Paper: section 3.1, equations 1 to 3.

    h_t = exp(δ_t A) h_{t-1} + δ_t B_t u_t,  y_t = <C_t, h_t> + D u_t,  δ = softplus(delta + delta_bias),   h_0 = 0.

    Args:
        u: the tokens of each route in visiting order.
        delta: step sizes before bias and softplus.
        A: decay rates, negative for a stable scan.
        B, C: what enters the state, and how it is read.
        D: weight of the skip path.
        delta_bias: added to delta before the softplus.
        backend: a name in BACKENDS, or "auto" for `pick_backend(u.device)`.

    Returns:
        y, in u's dtype; the computation is in float64 if u is float64, else in float32.  Differentiable (once) with
        respect to all seven tensors.

    Raises:
        ValueError: unknown backend; shapes, devices or dtypes that do not fit.
        RuntimeError: a named backend that cannot run here, with the reason and the remedy.

    Example:
        >>> ones = torch.ones(1, 1, 1, 4)
        >>> never_forgets = torch.zeros(1, 1, 1)
        >>> step = torch.full((1, 1), 0.5413)  # softplus(0.5413) = 1
        >>> y = selective_scan(ones, 0 * ones, never_forgets, ones, ones, torch.zeros(1, 1), step)
        >>> [round(float(value), 2) for value in y.flatten()]  # a running sum
        [1.0, 2.0, 3.0, 4.0]
    """
    if backend != "auto" and (reason := unavailable(backend)) is not None:
        raise RuntimeError(reason)
    _check(u, delta, A, B, C, D, delta_bias)
    return BACKENDS[pick_backend(u.device) if backend == "auto" else backend](u, delta, A, B, C, D, delta_bias)


def _check(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor) -> None:
    if u.dim() != 4 or u.numel() == 0:
        raise ValueError(f"u must have shape (B, K, D, L) with no axis empty, got {tuple(u.shape)}")
    if A.dim() != 3 or A.numel() == 0:
        raise ValueError(f"A must have shape (K, D, N) with no axis empty, got {tuple(A.shape)}")
    (batch, routes, width, length), size = u.shape, A.shape[-1]
    expected = {
        "delta": (delta, "(B, K, D, L)", (batch, routes, width, length)),
        "A": (A, "(K, D, N)", (routes, width, size)),
        "B": (B, "(B, K, N, L)", (batch, routes, size, length)),
        "C": (C, "(B, K, N, L)", (batch, routes, size, length)),
        "D": (D, "(K, D)", (routes, width)),
        "delta_bias": (delta_bias, "(K, D)", (routes, width)),
    }
    if not u.is_floating_point():
        raise ValueError(f"u must be a floating point tensor, got {u.dtype}")
    for name, (x, axes, shape) in expected.items():
        if x.shape != shape:
            raise ValueError(
                f"{name} must have shape {axes} = {shape} to go with u of shape {tuple(u.shape)}, got {tuple(x.shape)}"
            )
        if x.device != u.device:
            raise ValueError(f"{name} is on {x.device}, but u is on {u.device}; move all arguments to one device")
        if not x.is_floating_point():
            raise ValueError(f"{name} must be a floating point tensor, got {x.dtype}")
