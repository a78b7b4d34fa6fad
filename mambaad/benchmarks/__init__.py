"""Benchmarks: scripts that write records, `mambaad benchmark`.

Each suite is a function that returns rows and facts; `run_suite` writes them as <out>/<suite>_<device>.csv with the
environment beside it in a .json.  Reading order: timing, scan, model, methods, metrics, exports, training.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mambaad.benchmarks.exports import exports_benchmark
from mambaad.benchmarks.methods import methods_benchmark
from mambaad.benchmarks.metrics import metrics_benchmark
from mambaad.benchmarks.model import model_benchmark, scaling_benchmark
from mambaad.benchmarks.scan import scan_benchmark, stages_benchmark
from mambaad.benchmarks.timing import cpu_threads, write_benchmark
from mambaad.benchmarks.training import training_benchmark

SUITES: dict[str, Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]] = {
    "scan": scan_benchmark,
    "stages": stages_benchmark,
    "model": model_benchmark,
    "scaling": scaling_benchmark,
    "methods": methods_benchmark,
    "metrics": metrics_benchmark,
    "exports": exports_benchmark,
    "training": training_benchmark,
}

__all__ = ["SUITES", "run_suite"]


def run_suite(
    name: str, out: str | Path, repeats: int | None = None, threads: int = 2, device: str = "cpu", **sizes: Any
) -> Path:
    """Run one suite and write its record; returns the CSV's path.

    Args:
        repeats: timed calls of each side after one that does not count; None: the suite's own number.
        device: "cpu" or "cuda"; the metrics are always measured on the CPU.
        sizes: other options of the suite, smaller for a trial.

    Raises:
        ValueError: an unknown suite, repeats or threads below 1.
        ArithmeticError, RuntimeError: as the suite; nothing is written then.
    """
    if name not in SUITES:
        raise ValueError(f"benchmark must be one of {sorted(SUITES)}, got {name!r}")
    if repeats is not None and repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    if repeats is not None:
        sizes["repeats"] = repeats
    if name == "metrics":
        device = "cpu"
    else:
        sizes["device"] = device
    with cpu_threads(threads):
        rows, facts = SUITES[name](**sizes)
        kind = torch.device(device).type
        return write_benchmark(Path(out) / f"{name}_{kind}.csv", rows, facts, device)
