"""What several commands share: options of data and device, the table of metrics, how a command is added."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from mambaad.data.datasets.catalog import DATASETS

Run = Callable[[argparse.Namespace], int]

WEIGHTS = (
    "checkpoint file, the --out folder of a training with one run, or the name of published weights (mambaad weights "
    "list)"
)
SIDE = "side of the network input in pixels (not given: the checkpoint's)"


class AddCommand(Protocol):
    """`command(name, run, text)` makes the parser of one command; `run(arguments)` returns the exit code."""

    def __call__(self, name: str, run: Run, text: str) -> argparse.ArgumentParser: ...


def data_options(sub: argparse.ArgumentParser, required: bool = True, *, side: str) -> None:
    """Where the images lie and how they are read; `side` says what holds if no side is given."""
    sub.add_argument("--data", type=Path, required=required, help="root folder of the images")
    sub.add_argument(
        "--dataset",
        choices=sorted(DATASETS),
        help="layout: folder (train/good, test/..., one category), or that of a published set (`mambaad data where`) "
        "(not given: it is recognised)",
    )
    sub.add_argument("--categories", nargs="*", default=[], help="categories, all in one model (none named: all)")
    sub.add_argument("--side", type=int, help=f"side of the input in pixels (not given: {side})")


def device_options(sub: argparse.ArgumentParser, threads: int | None = None) -> None:
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    choice = "CPU threads (not given: torch's choice)"
    if threads is not None:
        choice = "CPU threads; another number than that of the committed records gives other digits"
    sub.add_argument("--threads", type=int, default=threads, help=choice)


def set_threads(arguments: argparse.Namespace) -> None:
    """Give torch the number of threads asked for.  Raises ValueError for one that no machine has."""
    if arguments.threads is not None:
        import torch

        from mambaad.engine.execution import Execution

        Execution(threads=arguments.threads)
        torch.set_num_threads(arguments.threads)


def print_metrics(results: dict[str, Any]) -> None:
    if not results:
        print("no test images: nothing to measure")
    for protocol, result in results.items():
        names = list(result["mean"])
        width = max(map(len, (*result["categories"], "mean")))
        print(f"\nprotocol {protocol}, percent\n{'':{width}}  " + "  ".join(f"{n:>12}" for n in names))
        for category, values in (*result["categories"].items(), ("mean", result["mean"])):
            cells = ("-" if values[n] is None else f"{values[n]:.2f}" for n in names)
            print(f"{category:{width}}  " + "  ".join(f"{cell:>12}" for cell in cells))
