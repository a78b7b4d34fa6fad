"""The selective scan along routes: every backend of this machine, and how far from its limits the fused one is.

Axes: B batch, K scan routes, D inner channels, L tokens, N state size, R rank of the step sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mambaad.benchmarks.timing import interleaved, peak_rates
from mambaad.model.routes import hybrid_routes
from mambaad.ops.routed_scan import backends, pick_backend, routed_scan, unavailable
from mambaad.ops.routed_scan.gathered import in_route_order
from mambaad.ops.selective_scan import selective_scan

AGREEMENT = 1e-4  # float32, relative to the largest value of each array; a wrong kernel is off by far more
LOOP = "per-step loop"  # the scan alone, on tensors that lie in route order already, as (B, K, D, L)
GRAPHS = ("exportable", "onnx", "onnx_native")  # there to be exported
STAGES = ((64, 1024), (256, 512), (1024, 256), (4096, 128))  # (L, D) of the decoder's stages for a 256-pixel image
K, N = 8, 16


def scan_benchmark(
    repeats: int = 5, device: str = "cpu", batch: int = 1, length: int = 4096, width: int = 128
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Time forward, and forward with backward, of the scan of the decoder's last stage, float32.

    Every backend that runs here gets image-order tokens and brings them through the routes; the row `per-step loop` is
    the loop alone, without that way.  A backend is timed only after its output and gradients agree with the definition.

    Returns: rows (form, pass, axes, times, how many times faster than the loop and than the chunked backend), facts.
    Raises: ArithmeticError if a backend disagrees; nothing is timed then.
    """
    inputs = routed_inputs(batch, length, width, device)
    names = [name for name in backends() if unavailable(name) is None and name not in GRAPHS]
    if not device.startswith("cuda"):
        names = [name for name in names if name not in ("triton", "mamba_ssm")]
    else:
        names = [name for name in names if name != "native"]
    check_agreement(inputs, names)
    loop = loop_inputs(inputs)
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    for kind in ("forward", "forward+backward"):
        calls[LOOP, kind] = call(lambda *t: selective_scan(*t, backend="reference"), loop, kind)
        for name in names:
            calls[name, kind] = call(lambda *t, name=name: routed_scan(*t, backend=name), inputs, kind)
    times = interleaved(calls, repeats, device)
    rows = []
    for (name, kind), found in times.items():
        row = {"form": name, "pass": kind, "B": batch, "K": K, "D": width, "L": length, "N": N, **found}
        row["times_faster_than_loop"] = times[LOOP, kind]["median_ms"] / found["median_ms"]
        row["times_faster_than_chunked"] = times["chunked", kind]["median_ms"] / found["median_ms"]
        rows.append(row)
    return rows, {"repeats": repeats, "dtype": "float32", "routes": "hilbert, 8 directions"}


def stages_benchmark(
    repeats: int = 10, device: str = "cpu", batch: int = 1
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The fused backend at each stage of the decoder beside its floor on this machine.

    The floor is the larger of two times: the multiply-adds the scan needs at the rate of a large matrix product, and
    the bytes of its arguments and results, each moved once, at the rate of a large copy.  What else a scan does (the
    other half of an exponential, sums over channels, addresses, gathers) comes on top, so 1 is out of reach.
    """
    rates, fused = peak_rates(device), pick_backend(device)
    rows = []
    for length, width in STAGES:
        inputs = routed_inputs(batch, length, width, device)
        kinds = ("forward", "forward+backward")
        calls = {kind: call(lambda *t: routed_scan(*t, backend=fused), inputs, kind) for kind in kinds}
        for kind, found in interleaved(calls, repeats, device).items():
            multiply_adds, size = needed(batch, length, width, math.ceil(width / 32), kind)
            floors = {
                "arithmetic_floor_ms": 1e3 * multiply_adds / rates["multiply_adds_per_s"],
                "memory_floor_ms": 1e3 * size / rates["bytes_per_s"],
            }
            row = {"form": fused, "pass": kind, "B": batch, "K": K, "D": width, "L": length, "N": N, **found}
            row |= {"multiply_adds": multiply_adds, "bytes": size, **floors}
            row["achieved_fraction"] = max(floors.values()) / found["median_ms"]
            rows.append(row)
    return rows, {"repeats": repeats, "dtype": "float32", **rates}


def needed(batch: int, length: int, width: int, rank: int, kind: str) -> tuple[int, int]:
    """Multiply-adds and bytes of a routed scan, at the least.

    A state costs 8 forward: 5 for an exponential from a table, 1 for x B, 1 for the recurrence, 1 for y; and in the
    backward 7 to compute it again and 8 for its adjoint and its part in five gradients.  A step of a channel adds R for
    the step size and some 20 for softplus; in the backward 3 R and some 30.
    """
    channels = batch * K * length * width
    values = batch * length * (2 * width + K * (rank + 2 * N))  # x, y, projected
    parameters = K * width * (rank + N + 2)
    forward = channels * (8 * N + rank + 20), 4 * (values + parameters) + 8 * K * length
    if kind == "forward":
        return forward
    # the backward reads dy and the arguments, and writes a gradient for each of them
    backward = channels * (15 * N + 3 * rank + 30), 4 * (2 * values + 2 * parameters) + 8 * K * length
    return forward[0] + backward[0], forward[1] + backward[1]


def routed_inputs(batch: int, length: int, width: int, device: str) -> list[Tensor]:
    """Arguments of routed_scan at Mamba's initial values."""
    generator, rank = torch.Generator().manual_seed(0), math.ceil(width / 32)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    arguments = [
        normal(batch, length, width),
        normal(batch, length, K, rank + 2 * N),
        hybrid_routes((("hilbert", K),), math.isqrt(length)),
        normal(K, width, rank) * 0.1,
        torch.log(torch.expm1(torch.logspace(-3, -1, width))).expand(K, width).contiguous(),
        -torch.arange(1.0, N + 1).expand(K, width, N).contiguous(),
        torch.ones(K, width),
    ]
    moved = (v.to(device) for v in arguments)
    return [v.requires_grad_() if v.is_floating_point() else v for v in moved]


def loop_inputs(inputs: list[Tensor]) -> list[Tensor]:
    """The same scan's arguments in route order, (B, K, D, L) and (B, K, N, L), for `selective_scan`."""
    x, projected, routes, dt_proj, dt_bias, A, D = (v.detach() for v in inputs)
    u, delta, B, C = in_route_order(x, projected, routes, dt_proj)
    return [v.contiguous().requires_grad_() for v in (u, delta, A, B, C, D, dt_bias)]


def call(function: Callable[..., Tensor], arguments: list[Tensor], kind: str) -> Callable[[], tuple[Tensor, ...]]:
    """A call without arguments: forward alone, or with the gradients of everything."""
    leaves = [v for v in arguments if v.requires_grad]

    def forward() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (function(*arguments),)

    def both() -> tuple[Tensor, ...]:
        y = function(*arguments)
        return (y.detach(), *torch.autograd.grad(y, leaves, torch.ones_like(y)))

    return forward if kind == "forward" else both


def check_agreement(inputs: list[Tensor], names: list[str]) -> None:
    """Raise ArithmeticError if a backend's output or one of its gradients is not the definition's."""
    expected, *others = (
        call(lambda *t, name=name: routed_scan(*t, backend=name), inputs, "both")() for name in ("reference", *names)
    )
    for name, found in zip(names, others, strict=True):
        error = max(float((f - e).abs().max() / e.abs().max()) for f, e in zip(found, expected, strict=True))
        if not error <= AGREEMENT:
            raise ArithmeticError(f"backend {name} is off by {error:.2g} of the largest value; it is not worth timing")
