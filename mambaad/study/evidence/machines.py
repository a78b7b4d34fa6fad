"""On which processors the protocol's runs were made, and what its main row gives when it is made again on another."""

from __future__ import annotations

import html
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from mambaad.study.evidence import protocol
from mambaad.study.evidence.carry_out import recorded, replicates
from mambaad.study.evidence.protocol import Row
from mambaad.study.evidence.report import TITLES, in_points, interval, listed
from mambaad.study.evidence.statistics import Estimate, paired_difference


def processors(results: str | Path) -> Counter[str]:
    """How many of the protocol's recorded runs were made on each processor, as the records name it."""
    found = {
        record["hash"]: record
        for group in protocol.GROUPS
        for row in protocol.rows(group)
        for record in recorded(row, results).values()
    }
    return Counter(_processor(record) for record in found.values())


def apart(results: str | Path) -> list[tuple[str, Row]]:
    """(group, row) wherever no seed of the row was run on the processor of its reference's run: what the processor and
    other code shift in all seeds is then part of the difference, and not of its interval."""
    found = []
    for group in protocol.GROUPS:
        for reference in protocol.references_of(group):
            own = next(row for row in protocol.rows(group) if row.name == reference)
            theirs = {seed: _processor(record) for seed, record in recorded(own, results).items()}
            for row in protocol.compared_with(group, reference):
                ours = {seed: _processor(record) for seed, record in recorded(row, results).items()}
                both = ours.keys() & theirs.keys()
                if both and not any(ours[seed] == theirs[seed] for seed in both):
                    found.append((group, row))
    return found


def sentences(results: str | Path, again: str | Path) -> str:
    """Which processors made the runs, which rows met another one than their reference, and by how much the main row's
    mAD moves from one to the other, seed by seed.

    Args:
        results: folder of the protocol's records.
        again: folder of the runs made again.
    """
    made = processors(results)
    if not made:
        return ""
    words = [f"Of the protocol's runs, {listed(f'{count} were made on {name}' for name, count in made.items())}."]
    if alone := Counter(group for group, _ in apart(results)):
        rows = ", ".join(f"{TITLES[group]} ({count} row{'s' * (count > 1)})" for group, count in alone.items())
        words.append(
            f"In some comparisons row and reference never met the same processor{_other_code(results)}: {rows}. "
            "A shift that this causes in all seeds is part of the difference, and not of its interval."
        )
    first, second = recorded(protocol.base_row(), results), recorded(protocol.base_row(), again)
    if both := sorted(set(first) & set(second)):
        shifts = [_mad(second[seed]) - _mad(first[seed]) for seed in both]
        on = " and ".join(sorted({_processor(second[seed]) for seed in both}))
        moved = paired_difference(replicates(protocol.base_row(), again), replicates(protocol.base_row(), results))
        words.append(
            f"The main row, made again on {on} with later code, moves by "
            f"{', '.join(map(in_points, shifts))} points of mAD (seeds {', '.join(map(str, both))}), on average by "
            f"{_said(moved)}; its seeds differ "
            f"by {max(map(_mad, first.values())) - min(map(_mad, first.values())):.1f}."
        )
    return " ".join(words)


def against_again(results: str | Path, again: str | Path) -> pd.DataFrame:
    """The rows of `apart` whose reference is the main row, minus that row as it was run first and as it was made again.

    Empty where nothing was made again; a row is left out if it shares no seed with the runs made again.
    """
    main = protocol.base_row()
    first, second = replicates(main, results), replicates(main, again)
    lines = []
    for group, row in apart(results):
        own = replicates(row, results)
        if row.base.encoder_weights == main.base.encoder_weights and set(own) & set(second):
            as_run, on_one = paired_difference(own, first), paired_difference(own, second)
            lines.append(
                {
                    "row": row.name,
                    "of": TITLES[group].partition(":")[0],
                    "minus the main row": f"{_said(as_run)}, n {as_run.n}",
                    "minus the main row made again": f"{_said(on_one)}, n {on_one.n}",
                }
            )
    return pd.DataFrame(lines)


def note(group: str, results: str | Path) -> str:
    """What the page of a group has to say of processors, as HTML; empty where rows met their reference's."""
    alone = [row for name, row in apart(results) if name == group]
    if not alone:
        return ""
    every = len(alone) == len(protocol.rows(group)) - 1
    which = "All other rows" if every else listed(f"<em>{html.escape(row.name)}</em>" for row in alone)
    return (
        f"{which} {'were' if len(alone) > 1 else 'was'} run on another processor than the reference"
        f"{_other_code(results, group)}. A shift that this causes in all seeds is part of the differences"
    )


def _other_code(results: str | Path, group: str = "") -> str:
    """Whether the rows of `apart`, all or a group's, were run with other code than their references, in words."""
    differ = []
    for name, row in apart(results):
        if group in ("", name):
            base = next(own for own in protocol.references_of(name) if row in protocol.compared_with(name, own))
            reference = next(other for other in protocol.rows(name) if other.name == base)
            ours, theirs = recorded(row, results), recorded(reference, results)
            differ += [_code(ours[seed]) != _code(theirs[seed]) for seed in ours.keys() & theirs.keys()]
    if not any(differ):
        return ""
    return ", and with other code" if all(differ) else ", and some with other code"


def _said(found: Estimate) -> str:
    return f"{in_points(found.value)} ({interval(found, difference=True)})"


def _processor(record: dict[str, Any]) -> str:
    return str(record["environment"]["device"]).removeprefix("CPU ").partition(",")[0].replace("(R)", "").strip()


def _code(record: dict[str, Any]) -> object:
    return record["environment"].get("code", {}).get("commit")


def _mad(record: dict[str, Any]) -> float:
    return float(record["metrics"]["exact"]["mean"]["mad"])
