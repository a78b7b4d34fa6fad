"""`mambaad doctor` and `mambaad benchmark`: what this machine has, and how fast it is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mambaad.cli.options import AddCommand


def add(command: AddCommand) -> None:
    """Add both commands."""
    doctor = command("doctor", _doctor, "what this machine has: device, backends, versions, caches")
    doctor.add_argument("--json", action="store_true", help="print JSON")

    benchmark = command("benchmark", _benchmark, "time the scan backends on this machine and write the record")
    benchmark.add_argument("--out", type=Path, default=Path("results/benchmarks"), help="folder for the record")
    benchmark.add_argument("--threads", type=int, default=2, help="CPU threads")
    benchmark.add_argument("--repeats", type=int, default=5, help="timed repeats of each backend")


def _doctor(arguments: argparse.Namespace) -> int:
    from mambaad.doctor import diagnose, report

    facts = diagnose()
    print(json.dumps(facts, indent=1) if arguments.json else report(facts))
    return 0


def _benchmark(arguments: argparse.Namespace) -> int:
    from mambaad.benchmark import scan

    scan(repeats=arguments.repeats, threads=arguments.threads, out=arguments.out / "selective_scan_cpu.csv")
    return 0
