"""What the paper profile would cost: optimiser steps, and hours from a measured step.

A step was measured on one machine, for one network (`results/benchmarks/model_cpu`); another network's step is taken
to last longer in proportion to its FLOPs.  Nothing was ever timed on a GPU: hours on cards follow from a step time
that the reader measures there.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mambaad.config import MethodConfig, ModelConfig, RunConfig, config_hash
from mambaad.data.datasets.catalog import DATASETS
from mambaad.efficiency import count
from mambaad.engine.optim import total_steps
from mambaad.study.published_numbers import repository_root

CARDS = (1, 8, 64)


@dataclass(frozen=True)
class Measured:
    """A training step of the main model at 256 pixels."""

    seconds_per_image: float
    device: str
    commit: str


@dataclass(frozen=True)
class Cost:
    """Of one run."""

    steps: int
    images: int
    """Images that pass through the network in training."""
    relative: float
    """FLOPs of its network over those of the main model."""

    def hours(self, seconds_per_image: float) -> float:
        """Training alone, from the main model's seconds per image; evaluation adds a few percent."""
        return self.images * self.relative * seconds_per_image / 3600


def costs(runs: Iterable[RunConfig], main: RunConfig) -> list[Cost]:
    """Of each run on its published data set; networks that several runs share are counted once.

    Raises:
        ValueError: a data set whose published counts are not known.
    """
    flops: dict[tuple[str, int], float] = {}

    def flops_of(model: ModelConfig | MethodConfig, side: int) -> float:
        key = config_hash(model), side
        if key not in flops:
            flops[key] = count(model, side=side).flops_g
        return flops[key]

    found = []
    for run in runs:
        total = DATASETS[run.data.dataset].total
        if total is None:
            raise ValueError(f"the data set {run.data.dataset!r} has no published counts, so its steps are not known")
        steps = total_steps(run.train, total[0])
        relative = flops_of(run.model, run.data.side) / flops_of(main.model, main.data.side)
        found.append(Cost(steps, steps * run.train.batch_size, relative))
    return found


def measured_step(benchmarks: Path | None = None) -> Measured:
    """The committed measurement of a training step, with the scan that was quickest on its machine.

    Raises:
        FileNotFoundError: no such record.
        ValueError: a record without a training step.
    """
    folder = benchmarks or repository_root() / "results" / "benchmarks"
    lines = pd.read_csv(folder / "model_cpu.csv")
    steps = lines[lines["pass"] == "training step"]
    if steps.empty:
        raise ValueError(
            f"{folder / 'model_cpu.csv'} has no training step: measure it again, `mambaad benchmark model`"
        )
    line = steps.iloc[-1]  # with the quickest scan of that machine
    environment = json.loads((folder / "model_cpu.json").read_text(encoding="utf-8"))["environment"]
    seconds = float(line["median_ms"]) / 1e3 / int(line["batch"])
    return Measured(seconds, environment["device"], environment["code"]["commit"])


def makespan(hours: Iterable[float], machines: int) -> float:
    """Hours until the last run ends when the longest are started first; one run takes one machine.

    Raises ValueError for less than one machine.
    """
    if machines < 1:
        raise ValueError(f"machines must be at least 1, got {machines}")
    ends = [0.0] * machines
    for own in sorted(hours, reverse=True):
        heapq.heapreplace(ends, ends[0] + own)
    return max(ends)


def totals(costs: Sequence[Cost], images_per_second: Sequence[float], cards: Sequence[int] = CARDS) -> pd.DataFrame:
    """Days until all runs are trained, by the main model's training speed on one card and the number of cards."""
    lines = []
    for speed in images_per_second:
        hours = [one.hours(1 / speed) for one in costs]
        line: dict[str, float] = {"images per second and card": speed, "card days": round(sum(hours) / 24, 1)}
        line |= {f"days on {number}": round(makespan(hours, number) / 24, 1) for number in cards}
        lines.append(line)
    return pd.DataFrame(lines)
