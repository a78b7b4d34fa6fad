"""The page of one table in three blocks that never mix: what is printed, what we measured on real images, and, folded
at the end, the run at reduced scale on synthetic images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, Markdown, display
from matplotlib.figure import Figure

from mambaad.efficiency import count_method
from mambaad.metrics import METRICS
from mambaad.study import figures, table_view
from mambaad.study.evidence import protocol, report
from mambaad.study.evidence.carry_out import recorded
from mambaad.study.evidence.statistics import Estimate
from mambaad.study.published_numbers import METRIC_NAMES
from mambaad.study.tables_spec import Table

COUNTS = ("params_m", "flops_g")
ACCURACIES = ("mad", *METRICS)
FEW = ("image_auroc", "pixel_auroc", "pixel_aupro")
"""Metrics that a page shows beside mAD; all of them are in the CSV."""
FILES = "../results"
"""Where the built book keeps the records, seen from a notebook's page."""


def printed(table: Table, profile: str, frame: pd.DataFrame, metrics: Sequence[str] = ()) -> HTML:
    """The paper's values; parameters and FLOPs, which depend on no images, with ours beside them.

    In the profiles subset and paper, about the paper's images or the caller's choice, ours stand beside them too.

    Args:
        frame: the table of the profile's runs (`notebook.table_from`).
        metrics: metrics to show, in this order; empty: all.
    """
    if profile != "quick":
        return table_view.styled(table, profile, frame, metrics)
    shown = frame[frame["paper"].notna() | frame["metric"].isin(COUNTS)].copy()
    shown.loc[~shown["metric"].isin(COUNTS), ["ours", "difference"]] = float("nan")
    view = table_view.wide(table, shown, metrics).drop(columns=[("run", "")])
    title = f"Table {table.number}. {table.title}. As printed" + (", counts beside ours." if table.counted else ".")
    return table_view.styled_view(view[view.notna().any(axis=1)], title)


def measured(table: Table, evidence: str | Path, group: str = "") -> None:
    """Our rows on real images with intervals, differences and records, or the sentence that there are none yet.

    Args:
        group: of the protocol's rows; empty: the table's own.

    Raises:
        ValueError: the protocol has no such group.
    """
    group = group or table.name
    lines = report.row_means(group, evidence)
    if lines.empty:
        display(Markdown("No run of this table is recorded yet; [Evidence](evidence.html) says how far the queue is."))
        return
    reference = protocol.REFERENCES.get(group, "")
    display(
        Markdown(
            f"Protocol {protocol.NAME}: one model for five real categories at {protocol.SIDE} pixels, mean over *n* "
            "paired seeds, exact metrics, percent. These numbers answer which row is better; they are not comparable "
            "with the printed ones, whose images, encoder and length of training are others."
        )
    )
    display(_with_records(table, group, lines, evidence))
    if reference and (found := report.differences(group, reference, evidence)):
        display(forest(found, reference))
        display(table_view.plain(report.claims(evidence, group).drop(columns=["table", "detectable"])))


def reduced(table: Table, profile: str, frame: pd.DataFrame) -> HTML:
    """Our runs at reduced scale on synthetic images in whole percent, closed until a reader opens it; nothing in the
    other profiles."""
    if profile != "quick":
        return HTML("")
    shown = frame[frame["metric"].isin(ACCURACIES)].copy()
    shown["paper"] = shown["difference"] = float("nan")
    shown = shown[shown["ours"].notna()]
    if shown.empty:
        return HTML("")
    # Rows of two data sets share one run on synthetic images.
    view = table_view.wide(table, shown).drop_duplicates(subset=[("run", "")])
    without_data_set = view.index.str.partition(" (").get_level_values(0)
    if without_data_set.is_unique:
        view.index = without_data_set
    body = table_view.styled_view(
        view, f"Synthetic images, profile {profile}: shows that every row's pipeline runs.", {"ours": "{:.0f}"}
    )
    return HTML(
        "<details><summary>The same rows at reduced scale on synthetic images: a test of the pipeline, "
        f"no evidence about the paper</summary>{body.data}</details>"
    )


def parts(method: str) -> HTML:
    """Parameters and FLOPs of a method's parts as published: of one call, and of all that one image needs."""
    counted = count_method(method)
    rows = [
        {
            "part": name.replace("_", ", "),
            METRIC_NAMES["params_m"]: box["params_m"],
            "calls": int(box.get("calls", 1)),
            f"{METRIC_NAMES['flops_g']} per call": box["flops_g"] / box.get("calls", 1),
            METRIC_NAMES["flops_g"]: box["flops_g"],
        }
        for name, box in counted.boxes.items()
    ]
    return table_view.plain(pd.DataFrame(rows), 3)


def _with_records(table: Table, group: str, lines: pd.DataFrame, evidence: str | Path) -> HTML:
    rows = {row.name: row for row in protocol.rows(group)}
    lines = lines.assign(
        records=[
            " ".join(
                f'<a href="{FILES}/{protocol.NAME}/runs/{protocol.NAME}_{record["hash"]}.json">{seed}</a>'
                for seed, record in recorded(rows[name], evidence).items()
            )
            for name in lines["row"]
        ]
    )
    shown = ["row", "n", "mAD", "95 % interval", *(METRIC_NAMES[name] for name in FEW), "records"]
    body = table_view.plain(lines[shown].rename(columns={"records": "records by seed"}))
    files = (
        f'<a href="{FILES}/{protocol.NAME}/tables/{group}.csv">every value as CSV</a>, '
        f'<a href="{FILES}/tables/{table.name}.csv">printed and synthetic values as CSV</a>; again: '
        f"<code>mambaad evidence --data FOLDER --run HASH</code>"
    )
    return HTML(f"{body.data}<p>Files: {files}.</p>")


def forest(found: Sequence[tuple[str, Estimate]], reference: str) -> Figure:
    """Differences to one row with 95 % intervals, in points of mAD."""
    with plt.rc_context(figures.STYLE):
        figure, ax = plt.subplots(figsize=(figures.WIDTH, 1.1 + 0.32 * len(found)), layout="constrained")
    for place, (_, e) in enumerate(found):
        ax.plot([e.low, e.high], [-place, -place], color=figures.OURS, linewidth=2, solid_capstyle="butt")
        ax.plot(e.value, -place, "o", color=figures.OURS, markersize=6)
    ax.axvline(0, color="black", linewidth=1)
    ax.set_yticks([-i for i in range(len(found))], [f"{name} (n = {e.n})" for name, e in found])
    ax.set_ylim(-len(found) + 0.4, 0.6)
    ax.set_xlabel(f"mAD minus that of {reference}, points")
    ax.grid(axis="x", color="#DDDDDD")
    plt.close(figure)
    return figure
