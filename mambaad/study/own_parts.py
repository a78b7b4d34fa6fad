"""The evidence behind the preset `laptop` as a table, computed from records: `python -m mambaad.study.own_parts`.

The records are written by `scripts/own_parts_ablation.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mambaad.study.published_numbers import repository_root

FOLDER = "own_parts"
METRICS = {"mad": "mAD", "pixel_aupro": "AU-PRO"}
COLUMNS = ["category", "seed", "reading", *METRICS]


def measured(folder: str | Path) -> pd.DataFrame:
    """One line per record and reading: category, seed, reading, metrics in percent.  Empty without records."""
    lines: list[dict[str, Any]] = []
    for path in sorted(Path(folder).glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        for reading, values in record["metrics"].items():
            own = {metric: values[metric] for metric in METRICS}
            lines.append({"category": record["category"], "seed": record["seed"], "reading": reading, **own})
    return pd.DataFrame(lines, columns=COLUMNS)


def page(folder: str | Path) -> str:
    """The table in Markdown: a row per reading, a column per category, mAD / AU-PRO, means over seeds."""
    frame = measured(folder)
    if frame.empty:
        return "No records yet: `python scripts/own_parts_ablation.py --help`.\n"
    categories = list(dict.fromkeys(frame["category"]))
    seeds = frame.groupby("category")["seed"].nunique()
    head = ["map", *(f"{name} (seeds: {seeds[name]})" for name in categories)]
    if len(categories) > 1:
        head.append("mean")
    rows = [
        _row(frame[frame["reading"] == reading], reading, categories) for reading in dict.fromkeys(frame["reading"])
    ]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))
    return f"mAD / AU-PRO in percent, protocol `exact`:\n\n{table}\n"


def _row(frame: pd.DataFrame, reading: str, categories: Sequence[str]) -> list[str]:
    means = frame.groupby("category")[list(METRICS)].mean()
    cells = [" / ".join(f"{means.loc[name, metric]:.1f}" for metric in METRICS) for name in categories]
    if len(categories) > 1:
        cells.append(" / ".join(f"{means[metric].mean():.1f}" for metric in METRICS))
    return [reading, *cells]


if __name__ == "__main__":
    print(page(repository_root() / "results" / FOLDER), end="")
