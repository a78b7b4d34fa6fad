"""Tables for readers: the long tables of `mambaad.study.tables` turned wide, with captions and notes."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import HTML

from mambaad.study import table_html
from mambaad.study.profiles import NOTES
from mambaad.study.published_numbers import DATASET_NAMES, METRIC_NAMES
from mambaad.study.table_html import Column, Format, signed
from mambaad.study.tables import AS_PUBLISHED, COUNT_EQUAL, NOT_YET
from mambaad.study.tables_spec import Table

SOURCES = {"paper": "reported", "ours": "ours", "difference": "ours − reported"}
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
    """`wide` as an HTML table under its caption or another title, the paper's values and ours each in a block."""
    return styled_view(wide(table, frame, metrics), title or caption(table, profile))


def styled_view(
    view: pd.DataFrame, title: str, formats: Mapping[str, Format] = FORMATS, sources: Mapping[str, str] = SOURCES
) -> HTML:
    """A wide table (`wide`) under its title, one block of columns for each source of numbers.

    Where there are more than three metrics, mAD stands alone until a reader asks for the others.

    Args:
        formats: by what a column holds.
        sources: the heads of the blocks.
    """
    metrics = list(dict.fromkeys(metric for metric, source in view.columns if source))
    few = len(metrics) <= 3 or METRIC_NAMES["mad"] not in metrics
    columns = [
        Column(
            metric,
            view[metric, source].tolist(),
            source=title_,
            form=formats.get(source, "{:.2f}"),
            ours=source != "paper",
            more=not few and metric != METRIC_NAMES["mad"],
        )
        for source, title_ in sources.items()
        for metric in metrics
        if (metric, source) in view
    ]
    if ("run", "") in view:
        columns.append(Column("run", view["run", ""].tolist(), ours=True))
    return table_html.table(list(view.index), columns, title, more="every metric")


def notes(table: Table, frame: pd.DataFrame) -> str:
    """What the notes of single lines say, as an HTML list; lines with the same words together."""
    generic = {*NOTES.values(), AS_PUBLISHED, NOT_YET, COUNT_EQUAL, ""}
    found: dict[str, list[str]] = {}
    for line in with_names(table, frame).itertuples():
        for note in str(line.note).split("; "):
            if note not in generic:
                name = METRIC_NAMES.get(str(line.metric), str(line.metric))
                where = str(line.row) if note.startswith("not run") else f"{line.row}, {name}"
                found.setdefault(note, []).append(where)
    unique = {note: list(dict.fromkeys(where)) for note, where in found.items()}
    items = (
        f"<li>{html.escape('; '.join(where) if len(where) <= 3 else f'{len(where)} rows')}: {html.escape(note)}</li>"
        for note, where in unique.items()
    )
    # HTML and not Markdown, in which a row named "+ LSS" would open a list of its own
    return f"<ul>{''.join(items)}</ul>" if unique else ""


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


def plain(frame: pd.DataFrame, decimals: int | None = 2, caption: str = "", *, stacked: bool = False) -> HTML:
    """Any small table for a page: rounded, its first column the row heads, scrolling sideways on a narrow screen.

    With `decimals` None the numbers keep the digits they have; `stacked` as for `table_html.table`.

    Names of the files, such as `image_ap` and `mvtec`, are shown as the pages write them.
    """
    form = "{:g}" if decimals is None else f"{{:.{decimals}f}}"
    first, *others = frame.columns
    heads = [table_html.number(c, form) if isinstance(c, float) else _as_written(c) for c in frame[first].tolist()]
    columns = [Column(_head(name), [_as_written(c) for c in frame[name].tolist()], form=form) for name in others]
    return table_html.table(heads, columns, caption, head=_head(first), stacked=stacked)


_WORDS = {"dataset": "data set", "ap": "AP", "f1max": "F1max", "diad": "DiAD", "mb": "MB", **DATASET_NAMES}
"""Words of a column's name in the files, as the pages write them."""


def _head(name: Any) -> str:
    words = str(name).replace("_", " ").split(" ")
    return METRIC_NAMES.get(str(name), " ".join(_WORDS.get(word, word) for word in words))


def _as_written(cell: Any) -> Any:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return METRIC_NAMES.get(cell, DATASET_NAMES.get(cell, cell)) if isinstance(cell, str) else cell
