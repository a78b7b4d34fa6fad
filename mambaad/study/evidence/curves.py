"""Amendment to the protocol real_v1: length, size, and the shape of the paper's network.

The text with the reasons is results/protocols/real_v1_curves.md.  Each run is measured every so many steps, which says
how far its last step is from its best one on the test images, and by how much choosing that one would flatter it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, cast

from mambaad.config import ModelConfig, RunConfig
from mambaad.study.evidence import protocol
from mambaad.study.evidence.protocol import Row

GROUP = "curves"
EVERY = 250
LENGTH = 2400
LENGTH_SEEDS = (0, 1, 2)
PAPER_DEPTHS = (3, 4, 6, 3)
PAPER_SIDE = 256
RESNET18_METHODS = ("MambaAD", "RD4AD")
RESNET18_SEEDS = (0, 1, 2)


def _form(steps: int, side: int = protocol.SIDE, depths: tuple[int, ...] = protocol.DEPTHS) -> RunConfig:
    main = protocol.base()
    return dataclasses.replace(
        main,
        model=dataclasses.replace(cast(ModelConfig, main.model), depths=depths),
        data=dataclasses.replace(main.data, side=side),
        train=dataclasses.replace(main.train, steps=steps),
    )


def _row(name: str, base: RunConfig, seeds: tuple[int, ...] = (0,)) -> Row:
    return Row(GROUP, name, base, seeds=seeds)


def with_resnet18(method: str) -> Row:
    """A method with ResNet18, four times as long as in the comparison."""
    base = next(row.base for row in protocol.rows(protocol.METHODS_RESNET18) if row.name == method)
    longer = dataclasses.replace(base, train=dataclasses.replace(base.train, steps=LENGTH))
    return _row(f"{method} with ResNet18, {protocol.SIDE} px, {LENGTH} steps", longer, RESNET18_SEEDS)


CURVES = (
    _row(f"{protocol.SIDE} px, {LENGTH} steps", _form(LENGTH), LENGTH_SEEDS),
    _row("64 px, 600 steps", _form(600, side=64)),
    _row("256 px, 300 steps", _form(300, side=256)),
    _row("256 px, depths 3, 4, 6, 3, 1500 steps", _form(1500, side=PAPER_SIDE, depths=PAPER_DEPTHS)),
    *map(with_resnet18, RESNET18_METHODS),
)


def queue() -> Iterator[tuple[Row, int, RunConfig]]:
    """Every run, in the order in which they are made."""
    for row in CURVES:
        for seed in row.seeds:
            yield row, seed, row.run(seed)


def best_step(curve: Mapping[int, float]) -> int:
    """The step with the highest value."""
    return max(curve, key=lambda step: curve[step])


def mad(record: Mapping[str, Any]) -> dict[int, float]:
    """mAD in percent, exact protocol, by step."""
    return {point["step"]: point["exact"]["mad"] for point in record["curve"]["points"]}
