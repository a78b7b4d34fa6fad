"""The page of one table, in blocks that never mix: what is reported and what we measured on real images, each tinted in
its own way, then everything behind them, and at the end, folded, the run at reduced scale on synthetic images."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML, display

from mambaad.efficiency import count_method
from mambaad.metrics import METRICS
from mambaad.study import table_html, table_view
from mambaad.study.evidence import machines, protocol, report
from mambaad.study.evidence.carry_out import recorded
from mambaad.study.evidence.forest import forest, lines
from mambaad.study.published_numbers import DATASET_NAMES, METRIC_NAMES
from mambaad.study.table_html import Column, Markup
from mambaad.study.tables_spec import Table, dataset_title

ACCURACIES = ("mad", *METRICS)
FILES = "../results"
"""Where the built book keeps the records, seen from a notebook's page."""
SIDE_BY_SIDE = {"paper": "reported", "ours": "computed here", "difference": "computed − reported"}


def overview(table: Table, frame: pd.DataFrame, evidence: str | Path, groups: Sequence[str] = ()) -> HTML:
    """mAD of every row as reported, and beside it ours on real images with its interval and the difference to the row
    that the paper proposes.

    Args:
        frame: the table of the profile's runs (`notebook.table_from`).
        evidence: folder of the records on real images.
        groups: of the protocol's rows, a block of columns for each; empty: the table's own.

    Raises:
        ValueError: the protocol has no such group.
    """
    groups = groups or (table.name,)
    reported = _printed_mad(table, frame)
    rows = (row.name for group in groups for row in protocol.rows(group))
    names = list(dict.fromkeys([*reported.index, *rows]))
    columns = [
        Column(str(data), reported[data].reindex(names).tolist(), source="reported: mAD, %")
        for data in reported.columns
    ]
    for group in groups:
        columns += _measured_columns(group, names, evidence, narrow=len(groups) > 1)
    return table_html.table(
        names,
        columns,
        f"Table {table.number}. {table.title}. Compare rows within a block, not across: the images differ.",
        head="row",
    )


def _measured_columns(group: str, names: Sequence[str], evidence: str | Path, narrow: bool) -> list[Column]:
    """mAD of a group's rows, and their difference to the row that the paper proposes.

    Args:
        narrow: among several groups: without the intervals, which stand further down on the page.
    """
    ours = {line["row"]: line for line in report.row_means(group, evidence).to_dict("records")}
    against = protocol.references_of(group)
    differences = {line.name: line.estimate for base in against for line in lines(group, base, evidence)}
    found = [ours.get(name) for name in names]
    measured: dict[str, list[object]] = {}
    if narrow:
        measured["mAD"] = [math.nan if line is None else float(line["mAD"]) for line in found]
    else:
        measured["mAD (95 % interval)"] = [_with_interval(line) for line in found]
        measured["seeds"] = [math.nan if line is None else line["n"] for line in found]
    if differences and narrow:
        measured[f"minus {against[0]}"] = [
            _unbroken(f"{report.in_points(differences[name].value)} (n {differences[name].n})")
            if name in differences
            else ("reference" if name in against else table_html.NONE)
            for name in names
        ]
    elif differences:
        head = f"difference to {against[0]}" if len(against) == 1 else "difference to the encoder's reference"
        measured[head] = [_difference(name, ours.get(name), against, differences) for name in names]
    encoder = f" with {protocol.COMPARISONS[group]}" if group in protocol.COMPARISONS else ""
    what = "mAD, %" if narrow else "mAD, exact metrics, five real categories, %"
    source = f"measured here{encoder}: {what}"
    return [Column(head, cells, source=source, ours=True) for head, cells in measured.items()]


def _printed_mad(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """Printed mAD: one line per row, one column per data set."""
    shown = frame[(frame["metric"] == "mad") & frame["paper"].notna()]
    if "category" in shown:
        shown = shown[shown["category"] == "mean"]
    entries: dict[str, dict[str, float]] = {}
    for labels, value in zip(shown.to_dict("records"), shown["paper"], strict=True):
        name = labels["method"] if table.rows_are_datasets else _without_data_set(table.row_name(labels))
        entries.setdefault(name, {})[dataset_title(labels.get("dataset", table.dataset))] = value
    order = [name for name in DATASET_NAMES.values() if any(name in values for values in entries.values())]
    return pd.DataFrame.from_dict(entries, orient="index", columns=None).reindex(columns=order)


def _without_data_set(name: str) -> str:
    """`name` without the brackets at its end."""
    return re.sub(r" \([^()]*\)$", "", name)


def _with_interval(line: dict[str, str] | None) -> str:
    if line is None:
        return table_html.NONE
    return _unbroken(f"{line['mAD']} ({line['95 % interval']})" if line["95 % interval"] else line["mAD"])


def _unbroken(text: str) -> Markup:
    """Numbers that belong together, on one line."""
    return Markup(f'<span class="unbroken">{text}</span>')


def _difference(
    name: str, line: dict[str, Any] | None, against: Sequence[str], differences: dict[str, report.Estimate]
) -> str:
    if name in against:
        return "reference"
    if name not in differences:
        return table_html.NONE
    found = differences[name]
    parts = [report.interval(found, difference=True)]
    if line is None or line["n"] != found.n:  # the reference has not all of the row's seeds
        parts.append(f"{found.n} seed{'s' if found.n > 1 else ''}")
    behind = ", ".join(filter(None, parts))
    return _unbroken(report.in_points(found.value) + (f" ({behind})" if behind else ""))


def printed(table: Table, profile: str, frame: pd.DataFrame, metrics: Sequence[str] = ()) -> HTML:
    """The paper's values; parameters and FLOPs, which depend on no images, with ours in a block beside them.

    In the profiles subset and paper, about the paper's images or the caller's choice, ours stand beside them too.
    Nothing where the paper prints mAD alone, which the overview has.

    Args:
        metrics: metrics to show, in this order; empty: all.
    """
    if profile != "quick":
        return table_view.styled(table, profile, frame, metrics)
    counts = frame["metric"].isin(["params_m", "flops_g"])
    shown = frame[frame["paper"].notna() | counts].copy()
    shown.loc[~counts, ["ours", "difference"]] = float("nan")
    if set(shown["metric"]) == {"mad"}:
        return HTML("")
    view = table_view.wide(table, shown, metrics).drop(columns=[("run", "")])
    counted = (
        "; parameters (millions) and FLOPs (10⁹, 256×256 pixels) computed for our networks" if table.counted else ""
    )
    title = f"Table {table.number}. {table.title}: every metric as reported, %{counted}."
    return table_view.styled_view(view[view.notna().any(axis=1)], title, sources=SIDE_BY_SIDE)


def measured(table: Table, evidence: str | Path, group: str = "") -> None:
    """Our rows on real images: differences as a plot, the paper's claims with verdicts, and every metric with its
    records; or the sentence that there are none yet.

    Args:
        group: of the protocol's rows; empty: the table's own.

    Raises:
        ValueError: the protocol has no such group.
    """
    group = group or table.name
    means = report.row_means(group, evidence)
    if means.empty:
        display(
            HTML('<p>No run of this table is recorded yet; <a href="evidence.html">Evidence</a> says how many are.</p>')
        )
        return
    if sentence := report.finding(group, evidence):
        judged = report.verdicts(evidence, [group]).total()
        none = f"These runs test no claim yet: a verdict needs {report.FEWEST_SEEDS} seeds of both rows."
        display(HTML(f"<p>{f'On these images, {sentence}' if judged else none}</p>"))
    if note := machines.note(group, evidence):
        display(HTML(f'<p>{note}; <a href="evidence.html#noise-floor">Evidence</a> measures it.</p>'))
    for reference in protocol.references_of(group):
        if found := lines(group, reference, evidence):
            display(forest(found, reference, f"{FILES}/{protocol.NAME}/runs"))
    claims = report.claims(evidence, group).drop(columns=["table", "detectable"], errors="ignore")
    if len(claims):
        display(
            table_view.plain(
                claims,
                caption="The claims, and what these runs say: first row minus second, points of mAD."
                + (" The memory bank is not in the paper." if group in protocol.COMPARISONS else ""),
                stacked=True,
            )
        )
    display(measured_rows(group, evidence), _files(table, group))


def measured_rows(group: str, evidence: str | Path, files: str = FILES) -> HTML:
    """Every metric of a group's rows, mean over the seeds, with a link to each record."""
    means = report.row_means(group, evidence)
    rows = {row.name: row for row in protocol.rows(group)}
    links = [
        Markup(
            " ".join(
                f'<a href="{files}/{protocol.NAME}/runs/{protocol.NAME}_{record["hash"]}.json"'
                f' aria-label="record of {table_html.attribute(name)}, seed {seed}">{seed}</a>'
                for seed, record in recorded(rows[name], evidence).items()
            )
        )
        for name in means["row"]
    ]
    columns = [
        Column("mAD (95 % interval)", [_with_interval(line) for line in means.to_dict("records")]),
        Column("seeds", means["n"].tolist()),
        *(Column(METRIC_NAMES[name], means[METRIC_NAMES[name]].astype(float).tolist(), more=True) for name in METRICS),
        Column("record of seed", links),
    ]
    title = (
        f"{report.TITLES[group]}, measured on five real categories at {protocol.SIDE} pixels, exact metrics, mean over "
        "seeds, %."
    )
    return table_html.table(means["row"].tolist(), columns, title, head="row", more="all seven metrics")


def _files(table: Table, group: str) -> HTML:
    return HTML(
        f'<p>Files: <a href="{FILES}/{protocol.NAME}/tables/{group}.csv">every measured value</a> and '
        f'<a href="{FILES}/tables/{table.name}.csv">reported and synthetic values</a>, both as CSV. One run again: '
        "<code>mambaad evidence --data FOLDER --run HASH</code>; all: <code>make evidence DATA=FOLDER</code>.</p>"
    )


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
    # Rows of two data sets share one run on synthetic images, and none is about the data set in its name.
    view = table_view.wide(table, shown).drop_duplicates(subset=[("run", "")])
    view.index = [f"{_without_data_set(name)}, synthetic".removeprefix("synthetic: ") for name in view.index]
    view["run", ""] = [Markup(f'<a href="{FILES}/runs/{profile}_{run}.json">{run}</a>') for run in view["run", ""]]
    body = table_view.styled_view(
        view,
        f"Synthetic images, profile {profile}, metrics of the published code, %: shows that every row's pipeline runs.",
        {"ours": "{:.0f}"},
        {"ours": "synthetic images"},
    )
    return HTML(
        '<details class="reduced"><summary>The same rows at reduced scale on synthetic images: a test of the pipeline, '
        f"no evidence about the paper</summary>{body.data}</details>"
    )


def parts(method: str) -> HTML:
    """Parameters and FLOPs of a method's parts as published: of one call, and of all that one image needs."""
    counted = count_method(method)
    rows = [
        {
            "part": name.replace("_", ", "),
            "parameters, million": box["params_m"],
            "calls": int(box.get("calls", 1)),
            "FLOPs of a call, 10⁹": box["flops_g"] / box.get("calls", 1),
            "FLOPs of an image, 10⁹": box["flops_g"],
        }
        for name, box in counted.boxes.items()
    ]
    caption = "The parts as published: parameters in millions, FLOPs in 10⁹."
    return table_view.plain(pd.DataFrame(rows), 3, caption=caption)


def again(table: Table) -> HTML:
    """How to execute the page's notebook, as commands."""
    work = f"build/{table.name}"
    return HTML(
        "<p>This page alone, with parameters of your own (<code>-p mode run</code> trains what has no record):</p>"
        '<div class="highlight"><pre tabindex="0">mkdir -p build\n'
        f".venv/bin/jupytext --to ipynb \\\n    -o {work}.in.ipynb notebooks/{table.name}.py\n"
        f".venv/bin/papermill -k python3 -p mode report \\\n    {work}.in.ipynb {work}.ipynb</pre></div>"
    )
