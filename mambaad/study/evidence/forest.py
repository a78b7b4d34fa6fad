"""Paired differences to one row as a forest plot: intervals, means, and a dot for each seed that leads to its record.

Drawn as SVG by hand: dots are links, labels stand above their lines, so that the plot fits a phone, and its ink is the
page's.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from IPython.display import HTML

from mambaad.study.evidence import protocol
from mambaad.study.evidence.carry_out import recorded
from mambaad.study.evidence.statistics import Estimate, paired_difference, verdict
from mambaad.study.page_figures import captioned
from mambaad.study.table_html import attribute, signed, signed_end

WIDTH, LEFT, RIGHT, TOP, LINE, FOOT = 352, 12, 12, 8, 38, 40
"""Units of the drawing; one is about a pixel on a phone."""


@dataclass(frozen=True)
class Line:
    """One row against the reference."""

    name: str
    estimate: Estimate
    seeds: tuple[tuple[int, float, str], ...]
    """Seed, difference in points of percent, hash of the row's record."""


def lines(group: str, reference: str, results: str | Path, metric: str = protocol.PRIMARY) -> list[Line]:
    """Every row of a group that has the reference's encoder and shares a recorded seed with it, in the protocol's
    order.

    Raises:
        ValueError: the group has no such row.
    """
    compared = protocol.compared_with(group, reference)
    base = recorded(next(row for row in protocol.rows(group) if row.name == reference), results)
    found = []
    for row in compared:
        own = recorded(row, results)
        if shared := sorted(set(own) & set(base)):
            ours, theirs = _values(own, metric), _values(base, metric)
            differences = tuple((seed, float(ours[seed][0] - theirs[seed][0]), own[seed]["hash"]) for seed in shared)
            found.append(Line(row.name, paired_difference(ours, theirs), differences))
    return found


def _values(records: dict[int, dict[str, Any]], metric: str) -> dict[int, list[float]]:
    return {seed: record["replicates"][metric] for seed, record in records.items()}


def forest(found: Sequence[Line], reference: str, records: str) -> HTML:
    """The plot with its caption.

    Args:
        records: the folder of the records, as the page links to it.

    Raises:
        ValueError: there is no line to draw.
    """
    return captioned(
        drawing(found, reference, records),
        f"Paired differences to {reference} in points of mAD. Diamond: mean over seeds; bar: 95 % interval; "
        "small dots: single seeds, each a link to its record.",
    )


def drawing(found: Sequence[Line], reference: str, records: str) -> str:
    """The plot alone, as an SVG element; arguments and errors as `forest`."""
    if not found:
        raise ValueError(f"no row shares a recorded seed with {reference}: there is nothing to draw")
    low, high, ticks = _axis(found)

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low), 1)

    bottom = TOP + LINE * len(found)
    parts = [
        f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="{TOP}" y2="{bottom}"/>'
        f'<text x="{x(tick)}" y="{bottom + 15}" text-anchor="middle">{signed(tick, int(tick % 1 > 0))}</text>'
        for tick in ticks
    ]
    parts.append(f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="{TOP}" y2="{bottom}"/>')
    for place, line in enumerate(found):
        parts += _row(line, TOP + LINE * place, x, records)
    parts.append(
        f'<text x="{WIDTH / 2}" y="{bottom + 33}" text-anchor="middle">'
        f"mAD minus that of {html.escape(reference)}</text>"
    )
    label = f"Forest plot: differences of mAD to {reference}. " + "; ".join(_in_words(line) for line in found)
    return (
        f'<svg class="forest" viewBox="0 0 {WIDTH} {bottom + FOOT}" role="group" '
        f'aria-label="{attribute(label)}">{"".join(parts)}</svg>'
    )


def _row(line: Line, top: float, x: Any, records: str) -> list[str]:
    e, y = line.estimate, top + 27
    state = " sure" if verdict(e, +1) in ("supported", "contradicted") else ""
    parts = [
        f'<text x="{LEFT}" y="{top + 13}">{html.escape(line.name)}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{top + 13}" text-anchor="end" class="value">{signed(e.value, 1)}</text>'
    ]
    if not math.isnan(e.low):
        parts.append(f'<line class="interval{state}" x1="{x(e.low)}" x2="{x(e.high)}" y1="{y}" y2="{y}"/>')
    for seed, difference, run in line.seeds:
        words = f"{line.name}, seed {seed}: {signed(difference, 1)}; its record"
        parts.append(
            f'<a href="{records}/{protocol.NAME}_{run}.json" tabindex="-1" aria-label="{attribute(words)}">'
            f'<circle cx="{x(difference)}" cy="{y}" r="4"><title>{html.escape(words)}</title></circle></a>'
        )
    c = x(e.value)
    parts.append(f'<path class="mean{state}" d="M{c - 6} {y} {c} {y - 6} {c + 6} {y} {c} {y + 6}z"/>')
    return parts


def _in_words(line: Line) -> str:
    e = line.estimate
    interval = "" if math.isnan(e.low) else f" ({signed_end(e.low)} to {signed_end(e.high)})"
    return f"{line.name} {signed(e.value, 1)}{interval}, {e.n} seed{'s' if e.n > 1 else ''}"


def _axis(found: Sequence[Line]) -> tuple[float, float, list[float]]:
    """Ends of the axis and its ticks, zero among them."""
    values = [0.0]
    for line in found:
        ends = (line.estimate.low, line.estimate.high, line.estimate.value, *(value for _, value, _ in line.seeds))
        values += [end for end in ends if not math.isnan(end)]
    span = max(max(values) - min(values), 0.5)
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if span / step <= 6)
    low, high = min(values) - 0.05 * span, max(values) + 0.05 * span
    ticks = [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return low, high, ticks
