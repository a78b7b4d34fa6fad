"""Tables as HTML for the book's pages: a caption, heads with scopes, a tint for each source of numbers, and further
columns that a button shows.  `book/_static/tables.js` makes them sortable; without it they are plain tables.
"""

from __future__ import annotations

import html
import itertools
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from IPython.display import HTML

Format = str | Callable[[float], str]
NONE = "–"
MINUS = "−"


class Markup(str):
    """A cell that is HTML already."""


@dataclass(frozen=True)
class Column:
    """One column; its cells are numbers, text or `Markup`."""

    head: str
    cells: Sequence[Any]
    source: str = ""
    """What its numbers come from, such as "reported": the head above it; columns of one source stand together."""
    form: Format = "{:.1f}"
    """Of the numbers among its cells."""
    ours: bool = False
    """Whether it is tinted as ours; other columns with a source are tinted as print."""
    more: bool = False
    """Whether it is shown by the button only."""


def attribute(text: str) -> str:
    """A text as the value of an attribute."""
    return html.escape(text, quote=True)


def signed(value: float, decimals: int = 2) -> str:
    """A difference with its sign: "+0.40", "−1.20", and "0.00" for what rounds to nothing; "–" for none."""
    if math.isnan(value):
        return NONE
    rounded = round(value, decimals) + 0.0  # never −0.0
    return f"{rounded:{'+' if rounded else ''}.{decimals}f}".replace("-", MINUS)


def signed_end(value: float, decimals: int = 1) -> str:
    """An end of a difference's interval: as `signed`, with more decimals where these would hide on which side of zero
    it lies: "−0.04", not "0.0"."""
    places = decimals
    while value and round(value, places) == 0 and places < decimals + 4:
        places += 1
    return signed(value, places)


def number(value: float, form: Format = "{:.1f}") -> str:
    """A number as a reader sees it: no negative zero, a true minus sign, "–" where there is none."""
    if math.isnan(value):
        return NONE
    if isinstance(value, numbers.Integral):
        return str(value).replace("-", MINUS)
    text = form(value) if callable(form) else form.format(value)
    return text.lstrip("-") if text.startswith("-") and not text.strip("-0.") else text.replace("-", MINUS)


def table(
    names: Sequence[Any],
    columns: Sequence[Column],
    caption: str,
    *,
    head: str = "",
    more: str = "",
    search: bool = False,
    stacked: bool = False,
) -> HTML:
    """A table with one line per name.

    Args:
        names: the row heads.
        columns: those of one source one after the other.
        caption: a sentence that says what the numbers are.
        head: over the names.
        more: what the button shows, such as "all seven metrics".
        search: whether a field above it narrows its lines.
        stacked: whether on a phone each line becomes a card, its cells under each other with their heads: for tables
            of text.

    Raises:
        ValueError: a column has another number of cells than there are names.
    """
    for column in columns:
        if len(column.cells) != len(names):
            raise ValueError(f"the column {column.head!r} has {len(column.cells)} cells for {len(names)} rows")
    lines = [_head(columns, head)]
    if stacked:
        for tag, role in (("tr", "row"), ("td", "cell"), ("th", "columnheader")):
            lines[0] = lines[0].replace(f"<{tag}", f'<{tag} role="{role}"')
    for place, name in enumerate(names):
        cells = "".join(_cell(column, column.cells[place], stacked) for column in columns)
        role = ' role="rowheader"' if stacked else ""
        lines.append(f'<tr{_role("row", stacked)}><th scope="row"{role}>{_text(name)}</th>{cells}</tr>')
    body = f"<thead>{lines[0]}</thead><tbody>{''.join(lines[1:])}</tbody>"
    folds = any(column.more for column in columns)
    button = f'<button type="button" class="more" hidden>Show {html.escape(more)}</button>' if folds else ""
    field = '<label hidden>Search <input type="search" autocomplete="off"> <output></output></label>' if search else ""
    label = attribute(caption or "table")
    title = f"<caption><span>{html.escape(caption)}</span></caption>" if caption else ""
    group = _role("rowgroup", stacked)
    body = body.replace("<thead>", f"<thead{group}>").replace("<tbody>", f"<tbody{group}>")
    kind = "numbers stacked" if stacked else "numbers"
    return HTML(
        f'<div class="{kind}">{field}{button}<div class="scroll" role="region" tabindex="0" aria-label="{label}">'
        f"<table{_role('table', stacked)}>{title}{body}</table></div></div>"
    )


def _head(columns: Sequence[Column], head: str) -> str:
    first = f'<th scope="col">{html.escape(head)}</th>' if head else "<td></td>"
    single = "".join(
        f'<th scope="col"{_classes(column, text=_is_text(column))}>{html.escape(column.head)}</th>'
        for column in columns
    )
    if not any(column.source for column in columns):
        return f"<tr>{first}{single}</tr>"
    above = ""
    for source, group in itertools.groupby(columns, key=lambda column: column.source):
        members = list(group)
        tint = f' class="{_tint(members[0])}"' if _tint(members[0]) else ""
        above += (
            f'<th scope="colgroup" colspan="{len(members)}"{tint}>{html.escape(source)}</th>'
            if source
            else (f'<td colspan="{len(members)}"{tint}></td>')
        )
    return f"<tr><td></td>{above}</tr><tr>{first}{single}</tr>"


def _is_text(column: Column) -> bool:
    """Whether it holds no number: its head then stands to the left, above its text."""
    return not any(isinstance(cell, numbers.Real) for cell in column.cells)


def _tint(column: Column) -> str:
    return "ours" if column.ours else "print" if column.source else ""


def _classes(column: Column, text: bool = False) -> str:
    names = [*filter(None, [_tint(column)]), *(["more"] if column.more else []), *(["text"] if text else [])]
    return f' class="{" ".join(names)}"' if names else ""


def _cell(column: Column, value: Any, stacked: bool = False) -> str:
    label = f' role="cell" data-label="{attribute(column.head)}"' if stacked else ""
    if isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_)):
        return f"<td{_classes(column)}{label}>{number(cast(float, value), column.form)}</td>"
    return f"<td{_classes(column, text=True)}{label}>{_text(value)}</td>"


def _role(name: str, stacked: bool) -> str:
    """A table whose parts are laid out as blocks is one for a screen reader only if its roles are written down."""
    return f' role="{name}"' if stacked else ""


def _text(value: Any) -> str:
    if isinstance(value, Markup):
        return value
    return html.escape(number(value) if isinstance(value, float) else str(value))
