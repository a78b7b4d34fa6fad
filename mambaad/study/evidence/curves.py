"""Amendment to the protocol real_v1: length, size, and the shape of the paper's network.

The text with the reasons is results/protocols/real_v1_curves.md.  Each run is measured every so many steps, which says
how far its last step is from its best one on the test images, and by how much choosing that one would flatter it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from mambaad.config import RunConfig
from mambaad.engine import records
from mambaad.study.evidence import protocol

EVERY = 250
LENGTH = 4 * protocol.TRAIN.steps
LENGTH_SEEDS = (0, 1, 2)
PAPER_DEPTHS = (3, 4, 6, 3)
PAPER_SIDE = 256


@dataclass(frozen=True)
class Watched:
    """A network, its length, and the seeds that it is run with."""

    name: str
    base: RunConfig
    seeds: tuple[int, ...] = (0,)
    group: ClassVar[str] = "curves"

    def run(self, seed: int) -> RunConfig:
        """The run of one seed."""
        return dataclasses.replace(self.base, train=dataclasses.replace(self.base.train, seed=seed))


def _form(steps: int, side: int = protocol.SIDE, depths: tuple[int, ...] = protocol.DEPTHS) -> RunConfig:
    main = protocol.base()
    return dataclasses.replace(
        main,
        model=dataclasses.replace(main.model, depths=depths),
        data=dataclasses.replace(main.data, side=side),
        train=dataclasses.replace(main.train, steps=steps),
    )


CURVES = (
    Watched(f"{protocol.SIDE} px, {LENGTH} steps", _form(LENGTH), LENGTH_SEEDS),
    Watched("64 px, 600 steps", _form(600, side=64)),
    Watched("256 px, 300 steps", _form(300, side=256)),
    Watched("256 px, depths 3, 4, 6, 3, 1500 steps", _form(1500, side=PAPER_SIDE, depths=PAPER_DEPTHS)),
)


def queue() -> Iterator[tuple[Watched, int, RunConfig]]:
    """Every run, in the order in which they are made."""
    for watched in CURVES:
        for seed in watched.seeds:
            yield watched, seed, watched.run(seed)


def recorded(watched: Watched, results: str | Path) -> dict[int, dict[str, Any]]:
    """The records that exist, by seed."""
    found = {}
    for seed in watched.seeds:
        path = records.record_path(results, protocol.NAME, watched.run(seed).hash)
        if path.is_file():
            found[seed] = records.read_record(path)
    return found


def mad(record: Mapping[str, Any]) -> dict[int, float]:
    """mAD in percent, exact protocol, by step."""
    return {point["step"]: point["exact"]["mad"] for point in record["curve"]["points"]}


def table(results: str | Path) -> pd.DataFrame:
    """One line per network: mAD of its last step and of its best one on the test images, mean over seeds."""
    lines = []
    for watched in CURVES:
        curves = [mad(record) for record in recorded(watched, results).values()]
        if not curves:
            continue
        last = [curve[max(curve)] for curve in curves]
        best = [max(curve.values()) for curve in curves]
        flattery = np.subtract(best, last)
        lines.append(
            {
                "network": watched.name,
                "n": len(curves),
                "last": f"{np.mean(last):.1f}",
                "best on test": f"{np.mean(best):.1f}",
                "flattered by": f"{np.mean(flattery):.1f}",
                "by seed": ", ".join(f"{value:.1f}" for value in flattery),
                "best step": ", ".join(str(max(curve, key=lambda k, c=curve: c[k])) for curve in curves),
            }
        )
    return pd.DataFrame(lines)
