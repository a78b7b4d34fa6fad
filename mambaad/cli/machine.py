"""`mambaad doctor` and `mambaad benchmark`: what this machine has, and how fast it is."""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec
from pathlib import Path

from mambaad.cli.options import AddCommand

SUITES = ("scan", "stages", "model", "scaling", "methods", "metrics", "exports", "training")
"""Those of mambaad.benchmarks, which is slow to import."""


def add(command: AddCommand) -> None:
    """Add both commands."""
    doctor = command("doctor", _doctor, "what this machine has: device, backends, versions, caches")
    doctor.add_argument("--json", action="store_true", help="print JSON")

    benchmark = command("benchmark", _benchmark, "time this library on this machine and write the records")
    benchmark.add_argument(
        "suites",
        nargs="*",
        metavar="suite",
        help=f"{', '.join(SUITES)} (none named: all of them, some fifteen minutes on two cores)",
    )
    benchmark.add_argument("--out", type=Path, default=Path("results/benchmarks"), help="folder for the records")
    benchmark.add_argument("--device", default="cpu", help="cpu or cuda")
    benchmark.add_argument("--threads", type=int, default=2, help="CPU threads")
    benchmark.add_argument("--repeats", type=int, help="timed calls of each side (not given: the suite's own number)")


def _doctor(arguments: argparse.Namespace) -> int:
    from mambaad.cli.doctor import diagnose, report

    facts = diagnose()
    print(json.dumps(facts, indent=1) if arguments.json else report(facts))
    return 0


def _benchmark(arguments: argparse.Namespace) -> int:
    from mambaad.benchmarks import run_suite
    from mambaad.device import resolve_device
    from mambaad.files import check_output

    device = str(resolve_device(arguments.device))
    check_output(arguments.out, folder=True)
    unknown = [name for name in arguments.suites if name not in SUITES]
    if unknown:
        raise ValueError(f"benchmark must be one of {sorted(SUITES)}, got {unknown[0]!r}")
    # exported graphs are timed on the CPU alone
    every = [name for name in SUITES if name != "exports" or device == "cpu"]
    chosen = arguments.suites or every
    if "metrics" in chosen and find_spec("sklearn") is None:  # before the long ones
        raise ValueError(
            "the suite metrics compares with scikit-learn, which is not installed: pip install scikit-learn, or name "
            f"the others: {' '.join(name for name in every if name != 'metrics')}"
        )
    for name in chosen:
        print(f"benchmark {name} ...", flush=True)
        path = run_suite(name, arguments.out, arguments.repeats, arguments.threads, device)
        print(f"{path.read_text(encoding='utf-8')}written: {path}", flush=True)
    return 0
