"""The per-category tables A1 to A16 as published, for a reader who looks one category up; and ours by category."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML

from mambaad.metrics import METRICS
from mambaad.study import table_html
from mambaad.study.audit import checks
from mambaad.study.evidence import protocol
from mambaad.study.evidence.carry_out import recorded
from mambaad.study.published_numbers import METRIC_NAMES, load, mean_of_seven
from mambaad.study.table_html import Column
from mambaad.study.tables_spec import dataset_title

KEYS = ["dataset", "category", "method"]
HARD = 20
"""A category is called hard if no method reaches this pixel AP, in percent."""


def _wide(frame: pd.DataFrame) -> pd.DataFrame:
    """One line per data set, category and method; a column per metric, mAD first."""
    whole = pd.concat([mean_of_seven(frame, KEYS), frame[[*KEYS, "metric", "value"]]])
    order = frame[KEYS].drop_duplicates()
    values = whole.pivot(index=KEYS, columns="metric", values="value")[["mad", *METRICS]]
    return values.loc[pd.MultiIndex.from_frame(order)].reset_index()


def published(name: str, caption: str, root: str | Path | None = None) -> HTML:
    """All printed values of one file as a table to search and sort.

    Args:
        name: `per_category` (A1 to A12, as the NeurIPS text has them) or `single_class` (A13 to A16).
    """
    lines = _wide(checks.per_category("neurips", root) if name == "per_category" else load(name, root))
    names = [f"{dataset_title(line.dataset)}, {line.category.replace('_', ' ')}" for line in lines.itertuples()]
    columns = [
        Column("method", lines["method"].tolist(), source="reported"),
        *(Column(METRIC_NAMES[m], lines[m].tolist(), source="reported, %") for m in ("mad", *METRICS)),
    ]
    return table_html.table(names, columns, caption, head="data set, category", search=True)


def hardest(below: float = HARD, metric: str = "pixel_ap", root: str | Path | None = None) -> HTML:
    """The categories in which the best printed value of a metric lies below a limit: no method finds the defects."""
    frame = checks.per_category("neurips", root).query("metric == @metric and category != 'mean'")
    best = frame.loc[frame.groupby(["dataset", "category"], sort=False)["value"].idxmax()].query("value < @below")
    ours = frame.query("method == 'MambaAD'").set_index(["dataset", "category"])["value"]
    best = best.sort_values("value")
    columns = [
        Column("best", best["value"].tolist(), source="reported, %"),
        Column("whose", best["method"].tolist(), source="reported, %"),
        Column("MambaAD", [ours[line.dataset, line.category] for line in best.itertuples()], source="reported, %"),
    ]
    names = [f"{dataset_title(line.dataset)}, {line.category.replace('_', ' ')}" for line in best.itertuples()]
    return table_html.table(names, columns, f"Categories whose best printed {METRIC_NAMES[metric]} is below {below:g}.")


def methods_by_category(evidence: str | Path, metrics: Sequence[str] = ("image_auroc", "pixel_ap")) -> HTML | None:
    """Every method on every real category, mean over seeds; None where nothing is recorded."""
    found = {row.name: recorded(row, evidence) for row in protocol.rows(protocol.METHODS)}
    found = {name: records for name, records in found.items() if records}
    if not found:
        return None
    categories = list(next(iter(next(iter(found.values())).values()))["metrics"]["exact"]["categories"])
    columns = []
    for metric in metrics:
        for category in categories:
            values = [_mean(records.values(), category, metric) for records in found.values()]
            columns.append(Column(category.replace("_", " "), values, source=METRIC_NAMES[metric] + ", %", ours=True))
    seeds = [len(records) for records in found.values()]
    hard = []
    for category in categories:
        best = max(_mean(records.values(), category, "pixel_ap") for records in found.values())
        if best < HARD:
            hard.append(f"{category.replace('_', ' ')} ({best:.0f})")
    several = f"{min(seeds)} to {max(seeds)}" if min(seeds) < max(seeds) else f"{seeds[0]}"
    caption = (
        f"Ours on real images, protocol {protocol.NAME}, mean over {several} seeds. "
        "Chance is 50 for AU-ROC; for AP it is the share of defective pixels."
        + (f" No method reaches a pixel AP of {HARD} on {' and '.join(hard)}; in brackets the best." if hard else "")
    )
    return table_html.table(list(found), columns, caption, head="method")


def _mean(records: Iterable[dict[str, Any]], category: str, metric: str) -> float:
    values = [record["metrics"]["exact"]["categories"][category][metric] for record in records]
    return float(np.mean([np.nan if value is None else value for value in values]))
