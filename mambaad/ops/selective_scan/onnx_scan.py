"""Selective scan as ONNX's operator Scan, for export.  Derivation of the recurrence: README.md.

Axes: B batch, K scan routes, D inner channels, N state size, L sequence length.

A runtime carries out one operation after the other and writes every result to memory.  So a scan whose steps are
taken side by side (`exportable`) moves arrays that no cache holds; one step of one image is some tens of kilobytes and
stays where it is used.  In onnxruntime that is faster, and the graph is small.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mambaad.device import is_exporting
from mambaad.ops.selective_scan.exportable import softplus

OPERATOR = "mambaad::SelectiveScan"
"""Takes the place of the recurrence in a traced graph: (start, rate, delta, drive, B, C) -> y, see `recurrence`."""


def selective_scan_onnx(
    u: Float[Tensor, "B K D L"],
    delta: Float[Tensor, "B K D L"],
    A: Float[Tensor, "K D N"],
    B: Float[Tensor, "B K N L"],
    C: Float[Tensor, "B K N L"],
    D: Float[Tensor, "K D"],
    delta_bias: Float[Tensor, "K D"],
) -> Float[Tensor, "B K D L"]:
    """The function of `selective_scan_reference`; its recurrence is one placeholder while a graph is being traced.

    Computes in float64 if u is float64, else in float32.
    """
    output_dtype = u.dtype
    dtype = torch.float64 if output_dtype == torch.float64 else torch.float32
    u, delta, A, B, C, D, delta_bias = (x.to(dtype) for x in (u, delta, A, B, C, D, delta_bias))
    delta = softplus(delta + delta_bias[..., None])
    batch, routes, channels, length = u.shape
    start = u.new_zeros(batch, routes, A.shape[-1], channels)
    sizes, drive, reads = (x.permute(3, 0, 1, 2)[..., None, :] for x in (delta, delta * u, C))
    writes = B.permute(3, 0, 1, 2)[..., None]
    arguments = (start, A.mT, sizes, drive, writes, reads)
    if is_exporting():
        shape = (length, batch, routes, 1, channels)
        y = torch.onnx.ops.symbolic(OPERATOR, arguments, dtype=u.dtype, shape=shape, version=1)
    else:
        y = recurrence(*arguments)
    return (y[..., 0, :].permute(1, 2, 3, 0) + D[..., None] * u).to(output_dtype)


def recurrence(
    start: Float[Tensor, "B K N D"],
    rate: Float[Tensor, "K N D"],
    delta: Float[Tensor, "L B K 1 D"],
    drive: Float[Tensor, "L B K 1 D"],
    B: Float[Tensor, "L B K N 1"],
    C: Float[Tensor, "L B K 1 N"],
) -> Float[Tensor, "L B K 1 D"]:
    """h_t = exp(rate δ_t) h_{t-1} + B_t drive_t,  y_t = C_t h_t,  with `start` as h_0: what the operator stands for."""
    h, y = start, []
    for delta_t, drive_t, B_t, C_t in zip(delta, drive, B, C, strict=True):
        h = torch.exp(delta_t * rate) * h + drive_t * B_t
        y.append(C_t @ h)
    return torch.stack(y)
