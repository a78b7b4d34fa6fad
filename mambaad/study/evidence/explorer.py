"""The forest-plot explorer of the evidence page: every group's differences to its reference, in every metric.

Means, intervals and the rest are computed here from records; `book/extra/live/forest-explorer.js` draws them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from IPython.display import HTML

from mambaad.metrics import METRICS
from mambaad.study.evidence import protocol, report
from mambaad.study.evidence.forest import Line, drawing, lines
from mambaad.study.evidence.statistics import verdict
from mambaad.study.page_figures import live
from mambaad.study.published_numbers import METRIC_NAMES

SHOWN = {protocol.PRIMARY: "mAD", **{name: METRIC_NAMES[name] for name in METRICS}}


def explorer(results: str | Path, records: str) -> HTML:
    """The interactive figure, with the first group's plot for where no script runs.

    Args:
        results: folder of the protocol's records.
        records: the folder of the same records, as the page links to it.

    Raises:
        ValueError: no row shares a recorded seed with its reference.
    """
    data = explored(results, records)
    groups = data["groups"]
    if not groups:
        raise ValueError(f"no two rows in {results} share a recorded seed: there is nothing to explore")
    first = next(name for name in protocol.REFERENCES if report.TITLES[name] == groups[0]["title"])
    reference = protocol.REFERENCES[first]
    compared = sum(len(group["rows"]) for group in groups)
    return live(
        "forest-explorer",
        still=drawing(lines(first, reference, results), reference, records),
        alt="",
        caption=f"**Explore {compared} comparisons in {len(groups)} groups.** Diamond: mean of the paired differences "
        "over seeds; bar: its 95 % interval, coloured where it excludes zero and at least three seeds stand behind it; "
        "small circles: single seeds, which link to their records. Verdicts in this book are about mAD alone: among so "
        "many intervals in eight metrics, some exclude zero by chance. Without scripts you see the first group.",
        data=data,
    )


def explored(results: str | Path, records: str) -> dict[str, Any]:
    """What the script reads; groups without a comparison are left out, rows without one are named in `missing`."""
    groups = []
    for name, reference in protocol.REFERENCES.items():
        found = {metric: lines(name, reference, results, metric) for metric in SHOWN}
        first = found[protocol.PRIMARY]
        if first:
            have = {line.name for line in first}
            groups.append(
                {
                    "title": report.TITLES[name],
                    "reference": reference,
                    "missing": [row.name for row in protocol.compared_with(name, reference) if row.name not in have],
                    "rows": [_row(place, first[place], found) for place in range(len(first))],
                }
            )
    return {"records": f"{records}/{protocol.NAME}_", "metrics": list(map(list, SHOWN.items())), "groups": groups}


def _row(place: int, line: Line, found: Mapping[str, Sequence[Line]]) -> dict[str, Any]:
    return {
        "name": line.name,
        "n": line.estimate.n,
        "runs": [[seed, run] for seed, _, run in line.seeds],
        "values": {metric: _values(several[place]) for metric, several in found.items()},
    }


def _values(line: Line) -> dict[str, Any]:
    e = line.estimate
    return {
        "mean": _rounded(e.value),
        "low": _rounded(e.low),
        "high": _rounded(e.high),
        "detectable": _rounded(e.detectable),
        "improvement": _rounded(e.improvement),
        "sure": verdict(e, +1) in ("supported", "contradicted"),
        "differences": [_rounded(difference) for _, difference, _ in line.seeds],
    }


def _rounded(value: float) -> float | None:
    """To digits that rounding to one or two decimals on the page cannot tell from the value itself."""
    return None if math.isnan(value) else round(value, 6)
