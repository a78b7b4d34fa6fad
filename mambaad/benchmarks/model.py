"""The whole network: against itself on the readable scan, and how time and memory grow with the image."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambaad.benchmarks.timing import cpu_threads, interleaved
from mambaad.config import ModelConfig
from mambaad.model import MambaAD, reconstruction_loss
from mambaad.ops.routed_scan import pick_backend

SIDES = (128, 256, 512, 1024)
SCAN_OPERATIONS = "routed_scan"  # part of the names of the fused scan's operations in a profile


def model_benchmark(
    repeats: int = 3, device: str = "cpu", side: int = 256, config: ModelConfig | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Forward of one image and a training step of two, by the paper's network on each scan.

    Random weights: times do not depend on them.  The step is forward, loss and backward; the optimiser is the same for
    all and left out.

    Returns: rows (pass, scan, times, how many times faster than on the per-step loop, share of the scan in the time for
        the fused backend), facts.
    """
    fused = pick_backend(device)
    scans = list(dict.fromkeys(("reference", "chunked", fused)))
    model = _model(config, device)
    images = {"forward": torch.randn(1, 3, side, side), "training step": torch.randn(2, 3, side, side)}
    calls: dict[tuple[str, str], Callable[[], Any]] = {
        (kind, scan): _call(model, batch.to(device), kind, scan) for kind, batch in images.items() for scan in scans
    }
    times = interleaved(calls, repeats, device)
    rows = []
    for (kind, scan), found in times.items():
        row = {"pass": kind, "scan": scan, "batch": len(images[kind]), "side": side, **found}
        row["times_faster_than_loop"] = times[kind, "reference"]["median_ms"] / found["median_ms"]
        row["scan_share"] = scan_share(calls[kind, scan], device) if scan == fused and fused != "chunked" else ""
        rows.append(row)
    return rows, {"repeats": repeats, "precision": "float32", "encoder": model.config.backbone}


def scaling_benchmark(
    repeats: int = 3, device: str = "cpu", sides: tuple[int, ...] = SIDES, config: ModelConfig | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Forward with the fused scan for growing image side, batch, number of routes and threads, one at a time.

    Returns: rows (axis, value, times, highest memory beyond what was held before), facts with the exponent of the time
        and the memory in the number of pixels, fitted by least squares in logarithms: 1 is linear.
    """
    rows: list[dict[str, Any]] = []
    start = config or ModelConfig()
    middle, threads = sorted(sides)[min(1, len(sides) - 1)], torch.get_num_threads()

    def measure(axis: str, value: int, batch: int, side: int, directions: int, count: int) -> None:
        changed = ModelConfig(**{**vars(start), "directions": directions})
        model = _model(changed, device)
        forward = _call(model, torch.randn(batch, 3, side, side).to(device), "forward", "auto")
        with cpu_threads(count):
            forward()
            memory = peak_memory(forward, device)
            found = interleaved({axis: forward}, repeats, device)[axis]
        rows.append({"axis": axis, "value": value, **found, "peak_mb": memory})

    for side in sides:
        measure("side", side, 1, side, start.directions, threads)
    for batch in (1, 2, 4, 8):
        measure("batch", batch, batch, middle, start.directions, threads)
    for directions in (2, 4, 8):
        measure("K", directions, 1, middle, directions, threads)
    if not device.startswith("cuda"):
        for count in sorted({1, 2, os.cpu_count() or 1}):
            measure("threads", count, 1, middle, start.directions, count)
    facts = {"encoder": start.backbone, "scan": pick_backend(device), "side_of_the_other_axes": middle}
    return rows, {"repeats": repeats, "precision": "float32", **facts, "exponents_in_pixels": exponents(rows)}


def exponents(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Slopes of log time and log memory over log pixels, for the rows of the axis `side`."""
    chosen = [row for row in rows if row["axis"] == "side"]
    pixels = 2 * np.log([row["value"] for row in chosen])
    found = {}
    for name in ("median_ms", "peak_mb"):
        values = [row[name] for row in chosen]
        if len(values) > 1 and all(isinstance(v, float) and v > 0 for v in values):
            found[name] = float(np.polyfit(pixels, np.log(values), 1)[0])
    return found


def _model(config: ModelConfig | None, device: str) -> MambaAD:
    torch.manual_seed(0)
    return MambaAD(config, weights="random").to(device)


def _call(model: MambaAD, images: Tensor, kind: str, scan: str) -> Callable[[], None]:
    def forward() -> None:
        model.set_scan_backend(scan)
        model.eval()
        with torch.no_grad():
            model(images)

    def step() -> None:
        model.set_scan_backend(scan)
        model.train()
        reconstruction_loss(*model(images)).backward()
        model.zero_grad()

    return forward if kind == "forward" else step


def scan_share(call: Callable[[], Any], device: str) -> float:
    """Share of a call's time on its device that is spent in the fused scan, by torch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    on_card = device.startswith("cuda")
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_card else [])
    with profile(activities=activities) as profiler:
        call()
    events = profiler.key_averages()
    time = "self_device_time_total" if on_card else "self_cpu_time_total"
    whole = sum(getattr(event, time) for event in events)
    names = (SCAN_OPERATIONS, "scan_kernel", "carry_kernel", "adjoint_kernel")
    return sum(getattr(e, time) for e in events if any(n in e.key for n in names)) / whole


def peak_memory(call: Callable[[], Any], device: str) -> float | str:
    """MB that a call holds at most beyond what was held before; empty where the system does not tell (CPU: Linux)."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not serve this call unseen
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    except (OSError, AttributeError):
        return ""
    resident = _status("VmRSS")
    call()
    return (_status("VmHWM") - resident) / 1e3


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(name)))
