"""Timings of the selective scan backends on one machine, written as CSV with the environment in a JSON beside it.

`python -m mambaad.benchmark scan` or `mambaad benchmark`.  All backends run in one process on one input; their timed
calls alternate, so that a change of the machine's clock or load meets all of them.  A backend is timed only after its
output and gradients agree with the reference.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from mambaad.ops.selective_scan import selective_scan

SCAN_SHAPE = (1, 8, 128, 4096, 16)  # B, K, D, L, N: the last decoder stage of MambaAD, one 256-pixel image
SCAN_BACKENDS = ("reference", "chunked")
SCAN_LAYOUTS = ("BKDL", "BKLD")  # order of the axes of u in memory: as its shape says; as the model passes it
SCAN_OUT = Path("results/benchmarks/selective_scan_cpu.csv")
Key = tuple[str, str, str]  # layout, backend, pass
AGREEMENT = 1e-4  # float32, relative to the largest value of each array; a wrong kernel is off by far more


def scan(
    repeats: int = 5,
    threads: int = 2,
    out: Path = SCAN_OUT,
    shape: tuple[int, int, int, int, int] = SCAN_SHAPE,
) -> list[dict[str, Any]]:
    """Time forward, and forward with backward, of the reference and the chunked scan on the CPU, in float32.

    Args:
        repeats: timed calls of each backend, after one call that is not timed.
        threads: CPU threads of torch during the timing.
        out: CSV file; the environment goes to the same name with the suffix .json.
        shape: (B, K, D, L, N).

    Returns:
        The rows of the CSV: layout (one of SCAN_LAYOUTS), backend, pass, axes, threads, median, minimum and maximum
        in milliseconds, and how many times faster than the median of the reference.

    Raises:
        ValueError: repeats or threads below 1.
        ArithmeticError: a backend disagrees with the reference; nothing is written.
    """
    from mambaad.records import environment, write_json

    if repeats < 1 or threads < 1:
        raise ValueError(f"repeats and threads must be at least 1, got {repeats} and {threads}")
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        inputs = {layout: _scan_inputs(shape, layout) for layout in SCAN_LAYOUTS}
        for arguments, weight in inputs.values():
            _check_agreement(arguments, weight)
        calls = {
            (layout, name, kind): _scan_call(name, kind, *inputs[layout])
            for layout in SCAN_LAYOUTS
            for kind in ("forward", "forward+backward")
            for name in SCAN_BACKENDS
        }
        times = _interleaved(calls, repeats)
        facts = {"environment": environment(), "repeats": repeats, "dtype": "float32", "unit": "ms"}
    finally:
        torch.set_num_threads(threads_before)

    rows = []
    for (layout, name, kind), values in times.items():
        row: dict[str, Any] = {
            "layout": layout,
            "backend": name,
            "pass": kind,
            **dict(zip("BKDLN", shape, strict=True)),
        }
        row |= {"threads": threads, "median_ms": median(values), "min_ms": min(values), "max_ms": max(values)}
        row["speedup"] = median(times[layout, "reference", kind]) / row["median_ms"]
        rows.append(row)
        print(f"{layout} {name:10} {kind:17} {row['median_ms']:9.1f} ms   {row['speedup']:5.2f} x the reference")
    _write_csv(out, rows)
    write_json(out.with_suffix(".json"), facts)
    return rows


def _scan_inputs(shape: tuple[int, int, int, int, int], layout: str) -> tuple[list[Tensor], Tensor]:
    """Arguments of selective_scan at Mamba's initial values, and a gradient of the output."""
    B, K, D, L, N = shape
    generator = torch.Generator().manual_seed(0)

    def tokens(width: int) -> Tensor:
        x = torch.randn(B, K, width, L, generator=generator)
        return x if layout == "BKDL" else x.mT.contiguous().mT

    A = -torch.arange(1.0, N + 1).expand(K, D, N).contiguous()
    bias = torch.log(torch.expm1(torch.logspace(-3, -1, D))).expand(K, D).contiguous()
    arguments = [tokens(D), tokens(D), A, tokens(N), tokens(N), torch.ones(K, D), bias]
    return [x.requires_grad_() for x in arguments], tokens(D)


def _scan_call(backend: str, kind: str, arguments: list[Tensor], weight: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    def forward() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (selective_scan(*arguments, backend=backend),)

    def both() -> tuple[Tensor, ...]:
        y = selective_scan(*arguments, backend=backend)
        return (y.detach(), *torch.autograd.grad(y, arguments, weight))

    return forward if kind == "forward" else both


def _check_agreement(arguments: list[Tensor], weight: Tensor) -> None:
    expected, *others = (_scan_call(name, "forward+backward", arguments, weight)() for name in SCAN_BACKENDS)
    for name, found in zip(SCAN_BACKENDS[1:], others, strict=True):
        error = max(float((f - e).abs().max() / e.abs().max()) for f, e in zip(found, expected, strict=True))
        if not error <= AGREEMENT:
            raise ArithmeticError(f"backend {name} is off by {error:.2g} of the largest value; it is not worth timing")


def _interleaved(calls: dict[Key, Callable[[], Any]], repeats: int) -> dict[Key, list[float]]:
    """Milliseconds of `repeats` rounds, each of which makes every call once, after one round that does not count."""
    times: dict[Key, list[float]] = {key: [] for key in calls}
    for i in range(repeats + 1):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            if i > 0:
                times[key].append(1e3 * (time.perf_counter() - start))
    return times


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text.getvalue(), encoding="utf-8")
    os.replace(temporary, path)


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m mambaad.benchmark scan [--repeats 5] [--threads 2] [--out FILE]`; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mambaad.benchmark", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("what", choices=["scan"], help="what to time")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each backend")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--out", type=Path, default=SCAN_OUT, help="CSV file; the environment goes beside it")
    arguments = parser.parse_args(argv)
    try:
        scan(arguments.repeats, arguments.threads, arguments.out)
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
