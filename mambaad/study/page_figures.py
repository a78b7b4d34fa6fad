"""Figures in the pages of the book: plots as SVG that follow light and dark, and interactive figures.

Both come as HTML with a caption and a text for those who do not see them, so that a notebook's last expression shows
them.  The colours are set in `book/_static/book.css`, the interactive figures lie in `book/extra/live`.
"""

from __future__ import annotations

import html
import io
import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatterMathtext, LogFormatterSciNotation
from matplotlib.transforms import Bbox
from PIL import Image

from mambaad.inference.pages import data_uri, thumbnail

INK, LINE = "#111213", "#d0d1d2"  # stand for the page's own text and line colours
# Okabe and Ito's colours, which colour-blind readers tell apart
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
GREY = "#7f7f7f"
PAPER, OURS = BLUE, ORANGE
METHODS: Mapping[str, str] = {
    "MambaAD": ORANGE,
    "RD4AD": BLUE,
    "UniAD": GREEN,
    "SimpleNet": PINK,
    "DeSTSeg": YELLOW,
    "DiAD": SKY,
    "memory bank": GREY,
}
"""The colour of each method, by its name in the tables: the same in every figure."""
_VARIABLES = {
    INK: "currentColor",
    LINE: f"var(--figure-line, {LINE})",
    BLUE: f"var(--figure-blue, {BLUE})",
    ORANGE: f"var(--figure-orange, {ORANGE})",
    GREEN: f"var(--figure-green, {GREEN})",
    PINK: f"var(--figure-pink, {PINK})",
    YELLOW: f"var(--figure-yellow, {YELLOW})",
    SKY: f"var(--figure-sky, {SKY})",
}
WIDTH = 5.2  # inches: with 11 points, text is at least 10 pixels high on a telephone of 390
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.grid": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "mambaad",
    "grid.color": LINE,
    "image.cmap": "cividis",
    "lines.linewidth": 1.8,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


def style() -> AbstractContextManager[None]:
    """The style of the plots, as a context: `with style(): figure, ax = plt.subplots()`."""
    return plt.rc_context(STYLE)


def plot(figure: Figure, *, alt: str, caption: str) -> HTML:
    """A plot as SVG in the colours of the page.

    Args:
        alt: what the plot shows, for those who do not see it.
        caption: plain text below it; `**bold**` and `*italic*` are understood.
    """
    return captioned(inline_svg(figure, alt), caption)


def captioned(body: str, caption: str) -> HTML:
    """Any figure, given as HTML, with its caption."""
    return HTML(f'<figure class="plot">{body}{_caption(caption)}</figure>')


def pictures(
    shown: Sequence[tuple[str, Sequence[Image.Image]]], *, alt: str | Sequence[str], caption: str, side: int = 160
) -> HTML:
    """Pictures in a row that breaks on a narrow screen, each with its name below.

    Args:
        shown: the name, and the picture or pictures that belong together, RGB.
        alt: what one picture shows, with `{name}`; a text for each where several belong to a name.
        side: the long side of a stored picture, in pixels.
    """
    cells = []
    for name, images in shown:
        drawn = ""
        for image, text in zip(images, [alt] * len(images) if isinstance(alt, str) else alt, strict=True):
            small = thumbnail(image, side)
            words = html.escape(text.format(name=name), quote=True)
            drawn += f'<img src="{data_uri(small)}" width="{small.width}" height="{small.height}" alt="{words}">'
        cells.append(f"<div><div>{drawn}</div>{html.escape(name)}</div>")
    several = max(len(images) for _, images in shown)
    return captioned(f'<div class="pictures" style="--together: {several}">{"".join(cells)}</div>', caption)


def inline_svg(figure: Figure, alt: str) -> str:
    """The SVG element of a plot, with its text as text and its colours as variables; closes the figure."""
    file = io.StringIO()
    with style():
        _plain_powers(figure)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches=_without_blank(figure))
    plt.close(figure)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        text = re.sub(re.escape(colour), variable, text, flags=re.IGNORECASE)
    prefix = f"p{zlib.crc32(text.encode()):08x}-"  # ids must differ between the plots of a page
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font(?:-size)?: ([\d.]+)px(?:; font-family:)? [^;\"]*", _legible, text)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    head = f'<svg role="img" aria-label="{html.escape(alt, quote=True)}"'
    return re.sub(r"\n\s*", " ", text.replace("<svg", head, 1))


def _plain_powers(figure: Figure) -> None:
    """Powers of ten on logarithmic axes as plain text: as formulas their exponents are too small for a telephone."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if type(axis.get_major_formatter()) in (LogFormatterMathtext, LogFormatterSciNotation):
                axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))


def power_of_ten(value: float) -> str:
    """ "10³" for 1000; nothing for what is no power of ten."""
    exponent = round(math.log10(value)) if value > 0 else 0
    if value <= 0 or not math.isclose(value, 10.0**exponent):
        return ""
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _without_blank(figure: Figure) -> Bbox:
    """The whole width of a figure, and of its height what is drawn on."""
    figure.draw_without_rendering()  # the layout decides where things lie
    drawn = figure.get_tightbbox()
    return Bbox.from_extents(0, drawn.y0 - 0.03, figure.get_figwidth(), drawn.y1 + 0.03)


def _legible(font: re.Match[str]) -> str:
    """Text set outside of `style` may be smaller than a telephone can show."""
    return f"font-size: {max(float(font.group(1)), STYLE['font.size']):g}px; font-family: inherit"


def live(name: str, *, still: Figure | str, alt: str, caption: str, data: Any = None) -> HTML:
    """An interactive figure of `book/extra/live`; where scripts do not run, a still picture and the same caption.

    Args:
        name: of its script.
        still: the picture, as a plot or as an SVG element.
        data: what the script reads, as JSON values.
    """
    picture = inline_svg(still, alt) if isinstance(still, Figure) else still
    values = ""
    if data is not None:
        text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
        values = f'<script type="application/json">{text}</script>'
    return HTML(
        f'<link rel="stylesheet" href="../live/live.css"><figure class="live" data-live="{name}">'
        f'<div class="live-still">{picture}</div>{values}{_caption(caption)}</figure>'
        f'<script defer src="../live/live.js"></script><script defer src="../live/{name}.js"></script>'
    )


def table(frame: pd.DataFrame, caption: str, *, decimals: int | Mapping[str, int] = 2) -> HTML:
    """A small table with a caption, its first column the heads of the rows; numbers right, text left."""

    def cell(column: str, value: Any) -> str:
        places = decimals if isinstance(decimals, int) else decimals.get(column, 2)
        text = f"{value:,.{places}f}" if isinstance(value, float) else str(value)
        # shapes such as 8 × 8 × 512 stay on one line
        return html.escape(text.replace("-", "−") if isinstance(value, float) else text.replace(" × ", "\u00a0×\u00a0"))

    numeric = {c: pd.api.types.is_numeric_dtype(frame[c]) for c in frame}
    side = {c: "number" if numeric[c] else "text" for c in frame}
    head = "".join(f'<th scope="col" class="{side[c]}">{html.escape(str(c))}</th>' for c in frame)
    rows = []
    for values in frame.to_dict("records"):
        first, *others = frame.columns
        cells = "".join(f'<td class="{side[c]}">{cell(c, values[c])}</td>' for c in others)
        rows.append(f'<tr><th scope="row" class="{side[first]}">{cell(first, values[first])}</th>{cells}</tr>')
    return HTML(
        f'<div class="small-table" tabindex="0" role="region" aria-label="{html.escape(_plain(caption), quote=True)}">'
        f"<table><caption><span>{_marked(caption)}</span></caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _caption(text: str) -> str:
    return f"<figcaption>{_marked(text)}</figcaption>"


def _marked(text: str) -> str:
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text, quote=False))
    return re.sub(r"\*(.+?)\*", r"<em>\1</em>", text)


def _plain(text: str) -> str:
    return text.replace("*", "")
