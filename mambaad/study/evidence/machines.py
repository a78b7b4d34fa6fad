"""On which processors the protocol's runs were made, and what its main row gives when it is made again on another."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mambaad.study.evidence import protocol
from mambaad.study.evidence.carry_out import recorded
from mambaad.study.evidence.report import in_points


def processors(results: str | Path) -> Counter[str]:
    """How many of the protocol's recorded runs were made on each processor, as the records name it."""
    found = {
        record["hash"]: record
        for group in protocol.GROUPS
        for row in protocol.rows(group)
        for record in recorded(row, results).values()
    }
    return Counter(_processor(record) for record in found.values())


def sentences(results: str | Path, again: str | Path) -> str:
    """Which processors made the runs, and by how much the main row's mAD moves from one to the other, seed by seed.

    Args:
        results: folder of the protocol's records.
        again: folder of the runs made again.
    """
    made = processors(results)
    if not made:
        return ""
    words = [f"Of the protocol's runs, {' and '.join(f'{count} were made on {name}' for name, count in made.items())}."]
    if len(made) > 1:
        words.append(
            "Two rows that met different processors share seeds and images, but not the rounding; what that adds is "
            "part of the spread behind their interval."
        )
    first, second = recorded(protocol.base_row(), results), recorded(protocol.base_row(), again)
    if both := sorted(set(first) & set(second)):
        shifts = [_mad(second[seed]) - _mad(first[seed]) for seed in both]
        on = " and ".join(sorted({_processor(second[seed]) for seed in both}))
        words.append(
            f"The main row, made again on {on} with the library as it is now, moves by "
            f"{', '.join(map(in_points, shifts))} points of mAD (seeds {', '.join(map(str, both))}); its seeds differ "
            f"by {max(map(_mad, first.values())) - min(map(_mad, first.values())):.1f}."
        )
    return " ".join(words)


def _processor(record: dict[str, Any]) -> str:
    return str(record["environment"]["device"]).removeprefix("CPU ").partition(",")[0].replace("(R)", "").strip()


def _mad(record: dict[str, Any]) -> float:
    return float(record["metrics"]["exact"]["mean"]["mad"])
