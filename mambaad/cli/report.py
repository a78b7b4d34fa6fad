"""`mambaad report` and `mambaad serve`: a run and its checkpoint to look at in a browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from mambaad.cli.options import AddCommand, device_options


def add(command: AddCommand) -> None:
    """Add both commands."""
    report = command("report", _report, "one HTML page of a run: curves, thresholds, worst misses and false alarms")
    report.add_argument("out", type=Path, help="folder that was --out of mambaad train")
    report.add_argument(
        "--run", dest="run_hash", help="first digits of the run's hash (needed where the folder holds several runs)"
    )
    report.add_argument("--data", type=Path, help="root folder of the images (not given: where they lay in training)")
    report.add_argument("--page", type=Path, help="HTML file to write (not given: report.html beside the checkpoint)")
    report.add_argument("--pictures", type=int, default=8, help="misses and false alarms to show, so many of each")
    device_options(report)


def _report(arguments: argparse.Namespace) -> int:
    from mambaad.engine.execution import Execution
    from mambaad.inference.report import find_run, make_report
    from mambaad.inference.report_page import write_page

    if arguments.pictures < 0:
        raise ValueError(f"--pictures must be 0 or more, got {arguments.pictures}")
    record = find_run(arguments.out, arguments.run_hash)
    found = make_report(
        record,
        arguments.data,
        pictures=arguments.pictures,
        execution=Execution(device=arguments.device, threads=arguments.threads),
    )
    page = write_page(found, arguments.page or record.parent / record.stem / "report.html")
    print(f"report: {page} ({page.stat().st_size / 1e6:.1f} MB)")
    return 0
