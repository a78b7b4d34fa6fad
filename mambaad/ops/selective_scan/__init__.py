"""Selective scan of Mamba over K routes: one function, several backends with one signature.  See README.md."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mambaad.ops.selective_scan.chunked import selective_scan_chunked
from mambaad.ops.selective_scan.reference import selective_scan_reference

BACKENDS: dict[str, Callable[..., Tensor]] = {
    "reference": selective_scan_reference,
    "chunked": selective_scan_chunked,
}


def pick_backend(device: torch.device | str) -> str:
    """Name of the backend that `backend="auto"` uses on `device`."""
    del device  # one fast backend so far, and it runs everywhere
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
    name = pick_backend(u.device) if backend == "auto" else backend
    return BACKENDS[name](u, delta, A, B, C, D, delta_bias)
