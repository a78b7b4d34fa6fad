"""Tables for readers: the long tables of `mambaad.study.tables` turned wide, with captions and notes."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from IPython.display import HTML

from mambaad.config import SCAN_METHODS
from mambaad.study.profiles import NOTES
from mambaad.study.published_numbers import DATASET_NAMES, METRIC_NAMES
from mambaad.study.tables import AS_PUBLISHED, COUNT_EQUAL, NOT_YET

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

TITLES = {
    "table_1_main_results": "Table 1. Multi-class results on six data sets",
    "table_2_incremental": "Table 2. From a plain Mamba decoder to the full one",
    "table_3_lss_branches": "Table 3. Branches of the LSS module",
    "table_4_backbone_depth": "Table 4. Encoder and depth of the decoder",
    "table_5_scan_methods": "Table 5. Scan methods and directions",
    "table_6_efficiency": "Table 6. Parameters, FLOPs and mAD",
    "table_7_lss_designs": "Table 7. Designs of the LSS module",
}
CELLS = [
    {"selector": "th, td", "props": "padding: 0.2em 0.6em; text-align: right; border: none"},
    {"selector": "th.row_heading", "props": "text-align: left; font-weight: normal; min-width: 11em"},
    {"selector": "thead th", "props": "vertical-align: bottom"},
    {"selector": "th.level0.col_heading[colspan]", "props": "text-align: center"},
    {"selector": "tbody tr", "props": "border-top: 1px solid rgba(128, 128, 128, 0.3)"},
]
TEXT = {"text-align": "left !important", "white-space": "nowrap"}
_STEPS = {"100": "Mamba decoder", "110": "+ LSS", "111": "+ LSS + HSS"}
_BRANCHES = {"local": "local", "global": "global", "local_global": "local + global"}
_CONVOLUTIONS = {"dwconv": "DW", "dwconv_1x1": "1×1-DW-1×1"}


def row_name(table: str, labels: Mapping[str, str]) -> str:
    """A row's labels as a reader would say them, such as "zorder 4 + hilbert 4"."""
    dataset = DATASET_NAMES.get(labels.get("dataset", ""), labels.get("dataset", ""))
    if table == "table_1_main_results":
        category = "" if labels["category"] == "mean" else f", {labels['category'].replace('_', ' ')}"
        return f"{dataset}{category}: {labels['method']}"
    if table == "table_2_incremental":
        return f"{_STEPS[labels['basic_mamba'] + labels['lss'] + labels['hss']]} ({dataset})"
    if table == "table_3_lss_branches":
        return f"{_BRANCHES[labels['method']]} ({dataset})"
    if table == "table_4_backbone_depth":
        return f"{labels['backbone']} [{labels['decoder_depth'].replace('-', ',')}]"
    if table == "table_5_scan_methods":
        return " + ".join(f"{m} {labels[m]}" for m in SCAN_METHODS if labels[m] != "0")
    if table == "table_6_efficiency":
        return labels["method"]
    blocks = {"1": "M 1", "2_and_3": "M 2, 3"}[labels["hss_blocks"]]
    skip = "" if labels["skip"] == "yes" else ", no skip"
    return f"{blocks}, {_CONVOLUTIONS[labels['local_conv']]} {{{labels['kernel_sizes'].replace('-', ',')}}}{skip}"


def with_names(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """A long table with the column `row`, the name of each line's row."""
    labels = list(frame.columns[: frame.columns.get_loc("metric")])
    return frame.assign(row=[row_name(table, line) for line in frame[labels].to_dict("records")])


def wide(table: str, frame: pd.DataFrame, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """One line per row; columns (metric, paper | ours | difference) and (run, "").

    Args:
        metrics: metrics to show, in this order; empty: all. Columns without any value are left out.
    """
    named = with_names(table, frame)
    order = list(dict.fromkeys(named["row"]))
    shown = [m for m in metrics or METRIC_NAMES if m in set(named["metric"])]
    columns = {}
    for metric in shown:
        lines = named[named["metric"] == metric].set_index("row")
        for column in ("paper", "ours", "difference"):
            values = lines[column].reindex(order)
            if values.notna().any():
                columns[METRIC_NAMES[metric], column] = values
    result = pd.DataFrame(columns, index=pd.Index(order))
    result.columns = pd.MultiIndex.from_tuples(list(columns))
    result["run", ""] = [_state(named[named["row"] == name]) for name in order]
    return result


def _state(lines: pd.DataFrame) -> str:
    """The run's hash, or why there is none."""
    hashes = [h for h in lines["run_hash"] if h]
    if hashes:
        return hashes[0]
    states = [s for note in lines["note"] for s in note.split("; ") if s.startswith(("not run", AS_PUBLISHED))]
    return states[0] if states else ""


def caption(table: str, profile: str) -> str:
    """The table's title and what its numbers are."""
    return f"{TITLES[table]}. Ours: {NOTES[profile]}."


def styled(table: str, profile: str, frame: pd.DataFrame, metrics: Sequence[str] = (), title: str = "") -> HTML:
    """`wide` as an HTML table that scrolls sideways where the screen is narrow, under its caption or another title."""
    view = wide(table, frame, metrics)
    formats = {c: {"paper": "{:.1f}", "ours": "{:.2f}", "difference": "{:+.2f}"}.get(c[1], "{}") for c in view.columns}
    styler = view.style.format(formats, na_rep="–").set_properties(subset=[("run", "")], **TEXT)
    return _page(styler, title or caption(table, profile))


def notes(table: str, frame: pd.DataFrame) -> str:
    """What the notes of single lines say, as a Markdown list; lines with the same words together."""
    generic = {*NOTES.values(), AS_PUBLISHED, NOT_YET, COUNT_EQUAL, ""}
    found: dict[str, list[str]] = {}
    for line in with_names(table, frame).itertuples():
        for note in str(line.note).split("; "):
            if note not in generic:
                name = METRIC_NAMES.get(str(line.metric), str(line.metric))
                where = str(line.row) if note.startswith("not run") else f"{line.row}, {name}"
                found.setdefault(note, []).append(where)
    unique = {note: list(dict.fromkeys(where)) for note, where in found.items()}
    return "\n".join(
        f"- {'; '.join(where) if len(where) <= 3 else f'{len(where)} lines'}: {note}" for note, where in unique.items()
    )


def means_and_categories(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table 1 in two parts: the means (all lines, if there are none), and our measured categories.

    Means of data that the paper does not have come first, so that they are not lost below the paper's.
    """
    mean = frame["category"].str.startswith("mean")
    if not mean.any():
        return frame, frame.iloc[:0]
    added = mean & (frame["paper_data"] == "")
    return pd.concat([frame[added], frame[mean & ~added]]), frame[~mean & frame["ours"].notna()]


def plain(frame: pd.DataFrame, decimals: int = 2) -> HTML:
    """Any small table for a page: rounded, without line numbers, scrolling sideways on a narrow screen."""
    text = [c for c in frame if not pd.api.types.is_numeric_dtype(frame[c])]
    styler = frame.style.format(precision=decimals).hide(axis="index")
    return _page(styler.set_properties(subset=text, **TEXT))


def _page(styler: Styler, title: str = "") -> HTML:
    """The caption stays in view while the table scrolls sideways."""
    heading = f"<p><em>{html.escape(title)}</em></p>" if title else ""
    table = styler.set_table_styles(CELLS, overwrite=False).to_html()
    return HTML(f'{heading}<div style="overflow-x: auto; max-width: 100%">{table}</div>')
