"""Tables for readers: the long tables of `mambaad.study.tables` turned wide, with captions and notes."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from IPython.display import HTML

from mambaad.study.profiles import NOTES
from mambaad.study.published_numbers import METRIC_NAMES
from mambaad.study.tables import AS_PUBLISHED, COUNT_EQUAL, NOT_YET
from mambaad.study.tables_spec import Table

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

CELLS = [
    {"selector": "th, td", "props": "padding: 0.2em 0.6em; text-align: right; border: none"},
    {"selector": "th.row_heading", "props": "text-align: left; font-weight: normal; min-width: 11em"},
    {"selector": "thead th", "props": "vertical-align: bottom"},
    {"selector": "th.level0.col_heading[colspan]", "props": "text-align: center"},
    {"selector": "tbody tr", "props": "border-top: 1px solid rgba(128, 128, 128, 0.3)"},
]
TEXT = {"text-align": "left !important", "white-space": "nowrap"}


def signed(value: float, decimals: int = 2) -> str:
    """A difference with its sign: "+0.40", "−1.20", and "0.00" for what rounds to nothing; "–" for none."""
    if math.isnan(value):
        return "–"
    rounded = round(value, decimals) + 0.0  # never −0.0
    return f"{rounded:{'+' if rounded else ''}.{decimals}f}".replace("-", "−")


Format = str | Callable[[float], str]
FORMATS: Mapping[str, Format] = {"paper": "{:.1f}", "ours": "{:.2f}", "difference": signed}


def with_names(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """A long table with the column `row`, the name of each line's row."""
    labels = list(frame.columns[: frame.columns.get_loc("metric")])
    return frame.assign(row=[table.row_name(line) for line in frame[labels].to_dict("records")])


def wide(table: Table, frame: pd.DataFrame, metrics: Sequence[str] = ()) -> pd.DataFrame:
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


def caption(table: Table, profile: str) -> str:
    """The table's title and what its numbers are."""
    return f"Table {table.number}. {table.title}. Ours: {NOTES[profile]}."


def styled(table: Table, profile: str, frame: pd.DataFrame, metrics: Sequence[str] = (), title: str = "") -> HTML:
    """`wide` as an HTML table that scrolls sideways where the screen is narrow, under its caption or another title."""
    return styled_view(wide(table, frame, metrics), title or caption(table, profile))


def styled_view(view: pd.DataFrame, title: str, formats: Mapping[str, Format] = FORMATS) -> HTML:
    """A wide table (`wide`) under its title; `formats` by what a column holds."""
    by_column = {column: formats.get(column[1], "{}") for column in view.columns}
    styler = view.style.format(by_column, na_rep="–")
    if ("run", "") in view:
        styler = styler.set_properties(subset=[("run", "")], **TEXT)
    return _page(styler, title)


def notes(table: Table, frame: pd.DataFrame) -> str:
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
    own = ~mean & frame["ours"].notna() & frame["method"].eq("MambaAD")
    return pd.concat([frame[added], frame[mean & ~added]]), frame[own]


def plain(frame: pd.DataFrame, decimals: int = 2) -> HTML:
    """Any small table for a page: rounded, without line numbers, scrolling sideways on a narrow screen."""
    text = [c for c in frame if not pd.api.types.is_numeric_dtype(frame[c])]
    styler = frame.style.format(precision=decimals).hide(axis="index")
    heads = [{"selector": f"th.col{frame.columns.get_loc(c)}", "props": "text-align: left"} for c in text]
    return _page(styler.set_properties(subset=text, **TEXT).set_table_styles(heads, overwrite=False))


def _page(styler: Styler, title: str = "") -> HTML:
    """The caption stays in view while the table scrolls sideways."""
    heading = f"<p><em>{html.escape(title)}</em></p>" if title else ""
    table = styler.set_table_styles(CELLS, overwrite=False).to_html()
    return HTML(f'{heading}<div style="overflow-x: auto; max-width: 100%">{table}</div>')
