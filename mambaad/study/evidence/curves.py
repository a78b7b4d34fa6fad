"""Amendment to the protocol real_v1: length, size, and the shape of the paper's network.

The text with the reasons is results/protocols/real_v1_curves.md.  Each run is measured every so many steps, which says
how far its last step is from its best one on the test images, and by how much choosing that one would flatter it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from mambaad.config import ModelConfig, RunConfig
from mambaad.engine import records
from mambaad.study.evidence import protocol

EVERY = 250
LENGTH = 2400
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
        model=dataclasses.replace(cast(ModelConfig, main.model), depths=depths),
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


def best_step(curve: Mapping[int, float]) -> int:
    """The step with the highest value."""
    return max(curve, key=lambda step: curve[step])


def mad(record: Mapping[str, Any]) -> dict[int, float]:
    """mAD in percent, exact protocol, by step."""
    return {point["step"]: point["exact"]["mad"] for point in record["curve"]["points"]}
