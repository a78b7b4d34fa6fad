"""How everything here is timed: all sides in one process on one input, their calls alternating."""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch

from mambaad.engine.environment import environment
from mambaad.engine.execution import MOST
from mambaad.files import write_json, write_text

Key = TypeVar("Key", bound=Hashable)


def interleaved(
    calls: Mapping[Key, Callable[[], Any]], repeats: int, device: str = "cpu"
) -> dict[Key, dict[str, float]]:
    """Median, minimum and maximum in milliseconds of each call, over `repeats` rounds after one that does not count.

    A round makes every call once, so that a change of the machine's clock or load meets all of them.
    """
    times: dict[Key, list[float]] = {key: [] for key in calls}
    for i in range(repeats + 1):
        for key, call in calls.items():
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            if i > 0:
                times[key].append(1e3 * (time.perf_counter() - start))
    return {
        key: {"median_ms": median(values), "min_ms": min(values), "max_ms": max(values)}
        for key, values in times.items()
    }


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """torch on `count` CPU threads.  Raises ValueError for less than one or more than `MOST`."""
    if not 1 <= count <= MOST:
        raise ValueError(f"threads must be from 1 to {MOST}, got {count}")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def peak_rates(device: str = "cpu") -> dict[str, float]:
    """What this machine can do at best, with the present threads, as measured: multiply-adds and bytes per second.

    A large product of float32 matrices for the former, a copy far larger than the caches for the latter.
    """
    a, big = torch.randn(1536, 1536, device=device), torch.randn(1 << 25, device=device)
    target = torch.empty_like(big)
    best = interleaved({"product": lambda: a @ a, "copy": lambda: target.copy_(big)}, 5, device)
    return {
        "multiply_adds_per_s": len(a) ** 3 / best["product"]["min_ms"] * 1e3,
        "bytes_per_s": 2 * big.numel() * 4 / best["copy"]["min_ms"] * 1e3,
    }


def write_benchmark(path: Path, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], device: str) -> Path:
    """The rows as CSV, and the facts with the environment as JSON beside it; both written atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    write_json(path.with_suffix(".json"), {"environment": machine(device), **facts})
    return write_text(path, text.getvalue())


def machine(device: str) -> dict[str, Any]:
    """The environment of a record, whether threads were bound to cores, and driver, CUDA and Triton of a GPU."""
    found = environment(device) | {"threads_bound": os.environ.get("OMP_PROC_BIND", "not set")}
    return found | cuda_versions(device) if device.startswith("cuda") else found


def cuda_versions(device: str) -> dict[str, str]:
    """What a GPU's times depend on beside torch."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"cuda": str(torch.version.cuda), "capability": str(torch.cuda.get_device_capability(device))}
    for package in ("triton", "mamba-ssm"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    driver = Path("/proc/driver/nvidia/version")
    return found | ({"driver": driver.read_text().splitlines()[0]} if driver.is_file() else {})
