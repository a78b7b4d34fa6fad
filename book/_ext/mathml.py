"""Equations as MathML, made when the book is built: browsers and screen readers need no script to read them."""

import re
from typing import Any

import math_core
from docutils import nodes
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
CONVERTER = math_core.LatexToMathML()


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(writer: Any, node: nodes.Element) -> None:
    writer.body.append(_converted(node, displaystyle=False))
    raise nodes.SkipNode


def _display(writer: Any, node: nodes.Element) -> None:
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    identifier = f' id="{node["ids"][0]}"' if node.get("ids") else ""
    writer.body.append(
        f'<div class="math" tabindex="0"{identifier}>{number}{_converted(node, displaystyle=True)}</div>'
    )
    raise nodes.SkipNode


def _converted(node: nodes.Element, displaystyle: bool) -> str:
    try:
        return _with_bars(CONVERTER.convert_with_local_state(node.astext(), displaystyle=displaystyle))
    except math_core.LatexError as error:
        LOGGER.warning("no MathML for %s: %s", node.astext(), error, location=node)
        return f"<code>{node.astext()}</code>"


def _with_bars(converted: str) -> str:
    """Without a font for mathematics a browser loses the bar over a letter, and with it the meaning: it is a line."""
    barred = r'<mover accent="true">(<mi>\w</mi>)<mo[^>]*>¯</mo></mover>'
    return re.sub(barred, r'<mrow class="bar">\1</mrow>', converted)
