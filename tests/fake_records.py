"""Made-up run records: all numbers differ, so that a value in the wrong place shows."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mambaad.config import RunConfig, method_of
from mambaad.engine import records
from mambaad.study import plan, published_numbers

SYNTHETIC = ("fabric", "gear")


def values(start: float, names: Sequence[str]) -> dict[str, Any]:
    """Seven metrics and their mean, for the mean and each category; all numbers differ."""
    numbers = itertools.count(start, 0.25)

    def one() -> dict[str, float]:
        seven = dict(zip(published_numbers.SEVEN, numbers, strict=False))
        return {**seven, "mad": sum(seven.values()) / 7}

    return {"mean": one(), "categories": {name: one() for name in names}}


def write_fake(
    results: Path, profile: str, run: RunConfig, start: float = 70.0, names: Sequence[str] = SYNTHETIC
) -> None:
    metrics = {"paper": values(start, names), "exact": values(start + 1, names)}
    record = {name: {} for name in records.REQUIRED} | {
        "schema": records.SCHEMA_VERSION,
        "profile": profile,
        "hash": run.hash,
        "metrics": metrics,
        # a memory bank is fitted in one pass, without a loss
        "train": {"loss": [] if method_of(run.model) == "memory_bank" else [[1, 3.0], [2, 2.5], [3, 1.0]]},
    }
    records.write_record(records.record_path(results, profile, run.hash), record)


def write_all_quick(results: Path) -> None:
    """A record for every run of the quick profile."""
    for number, run in enumerate(plan.runs("quick").values()):
        write_fake(results, "quick", run, start=60 + number / 2)
