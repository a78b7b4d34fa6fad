"""Routed scan as an operator in a graph, for export: ONNX's Scan, or the compiled kernel as an operator of its own.

Derivation of the recurrence: ../selective_scan/README.md.

Axes: B batch, L tokens in image order, D channels, K scan routes, N state size, R rank of the step sizes, P = R + 2N.

Without the kernel, a runtime carries out one operation after the other and writes every result to memory.  So a scan
whose steps are taken side by side (`exportable`) moves arrays that no cache holds; one step of one image is some tens
of kilobytes and stays where it is used.  In onnxruntime that is faster, and the graph is small.  For the same reason
whole rows of channels go into route order and back, and axes are only swapped where one of them is the batch, which
costs one image nothing.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from mambaad.device import is_exporting
from mambaad.ops.routed_scan.gathered import inverse_of
from mambaad.ops.routed_scan.native import routed_scan_native
from mambaad.ops.selective_scan.exportable import softplus

RECURRENCE = "mambaad::SelectiveScan"
"""Takes the place of the recurrence in a traced graph: (start, rate, delta, drive, B, C) -> y, see `recurrence`."""
KERNEL = "mambaad::RoutedScan"
"""The whole scan as one operator, that of native/onnxruntime.c: the seven tensors of `routed_scan` -> y."""


def routed_scan_onnx_native(
    x: Float[Tensor, "B L D"],
    projected: Float[Tensor, "B L K P"],
    routes: Int64[Tensor, "K L"],
    dt_proj: Float[Tensor, "K D R"],
    dt_bias: Float[Tensor, "K D"],
    A: Float[Tensor, "K D N"],
    D: Float[Tensor, "K D"],
) -> Float[Tensor, "B L D"]:
    """`routed_scan_native`; one operator while a graph is being traced, which runs where the library is registered.

    Raises:
        ValueError: float64.
        RuntimeError: outside of a graph, where the library is not there.
    """
    tensors = (x, projected, routes, dt_proj, dt_bias, A, D)
    if not is_exporting():
        return routed_scan_native(*tensors)
    if x.dtype == torch.float64:
        raise ValueError("the operator computes in float32, got x in float64; convert the model")
    y: Tensor = torch.onnx.ops.symbolic(
        KERNEL,
        tuple(v.float() if v.is_floating_point() else v for v in tensors),
        dtype=torch.float32,
        shape=x.shape,
        version=1,
    )
    return y.to(x.dtype)


def routed_scan_onnx(
    x: Float[Tensor, "B L D"],
    projected: Float[Tensor, "B L K P"],
    routes: Int64[Tensor, "K L"],
    dt_proj: Float[Tensor, "K D R"],
    dt_bias: Float[Tensor, "K D"],
    A: Float[Tensor, "K D N"],
    D: Float[Tensor, "K D"],
) -> Float[Tensor, "B L D"]:
    """The function of `routed_scan_reference`; its recurrence is one placeholder while a graph is being traced.

    Computes in float64 if x is float64, else in float32.
    """
    output_dtype = x.dtype
    dtype = torch.float64 if output_dtype == torch.float64 else torch.float32
    x, projected, dt_proj, dt_bias, A, D = (v.to(dtype) for v in (x, projected, dt_proj, dt_bias, A, D))
    (batch, _, channels), (K, length) = x.shape, routes.shape
    rank, size = dt_proj.shape[2], A.shape[2]
    dt, B, C = projected.split((rank, size, size), dim=-1)
    delta = softplus(dt.transpose(1, 2) @ dt_proj.mT + dt_bias[:, None])  # (B, K, L, D)
    drive = delta * x[:, None]

    # rows of (B, K, L, .) and of (B, L, K, .) in the order of steps and, within a step, of routes
    route = torch.arange(K, device=routes.device)[:, None]
    by_route, by_token = (rows.mT.flatten() for rows in (length * route + routes, K * routes + route))

    def steps(values: Tensor, rows: Tensor) -> Tensor:
        return values.flatten(1, 2).index_select(1, rows).unflatten(1, (length, K)).transpose(0, 1)

    sizes, drive = (steps(v, by_route)[..., None, :] for v in (delta, drive))
    writes, reads = steps(B, by_token)[..., None], steps(C, by_token)[..., None, :]
    start = x.new_zeros(batch, K, size, channels)
    arguments = (start, A.mT, sizes, drive, writes, reads)
    if is_exporting():
        shape = (length, batch, K, 1, channels)
        y = torch.onnx.ops.symbolic(RECURRENCE, arguments, dtype=x.dtype, shape=shape, version=1)
    else:
        y = recurrence(*arguments)
    back = (K * inverse_of(routes) + route).flatten()
    y = y.flatten(2, 3).transpose(0, 1).flatten(1, 2).index_select(1, back)  # (B, K L, D)
    # the sum over the routes as a product, which runtimes carry out faster
    y = (y.new_ones(1, K) @ y.unflatten(1, (K, length)).flatten(2)).unflatten(2, (length, channels))[:, 0]
    return (y + D.sum(0) * x).to(output_dtype)


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
