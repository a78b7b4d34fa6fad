"""The whole network: against itself on the readable scan, and how time and memory grow with the image."""

from __future__ import annotations

import ctypes
import json
import os
import tempfile
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

    Returns: rows (axis, value, times, memory of the pass without weights and input), facts with the exponent of the
        time and the memory in the number of pixels, fitted by least squares in logarithms: 1 is linear.
    """
    start = config or ModelConfig()
    middle, threads = sorted(sides)[min(1, len(sides) - 1)], torch.get_num_threads()

    def forward(batch: int, side: int, directions: int = start.directions, count: int = threads) -> Callable[[], None]:
        model = _model(ModelConfig(**{**vars(start), "directions": directions}), device)
        call = _call(model, torch.randn(batch, 3, side, side).to(device), "forward", "auto")

        def bound() -> None:
            with cpu_threads(count):
                call()

        return bound

    axes = {
        "side": {side: forward(1, side) for side in sides},
        "batch": {batch: forward(batch, middle) for batch in (1, 2, 4, 8)},
        "K": {directions: forward(1, middle, directions) for directions in (2, 4, 8)},
    }
    if not device.startswith("cuda"):
        counts = sorted({1, 2, os.cpu_count() or 1})
        axes["threads"] = {count: forward(1, middle, count=count) for count in counts}
    rows = [
        {"axis": axis, "value": value, **times, "peak_mb": peak_allocation(axes[axis][value], device)}
        for axis, calls in axes.items()
        for value, times in interleaved(calls, repeats, device).items()
    ]
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


def peak_allocation(call: Callable[[], Any], device: str) -> float:
    """MB of tensors that a call holds at most, beyond those held before, as torch's allocator counts them."""
    if device.startswith("cuda"):
        return float(peak_memory(call, device))
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    return float(np.cumsum([0, *(size for _, size in changes)]).max() / 1e6)


def peak_memory(call: Callable[[], Any], device: str) -> float | str:
    """MB that a call holds at most beyond what was held before; empty where the system does not tell (CPU: Linux).

    Of a CPU it is the process's resident memory, with all that the call loads; the allocator's reserves make it too
    large for a call that needs little.
    """
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
