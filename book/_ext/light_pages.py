"""What a page does not need is left out, and what the theme leaves unsaid for screen readers is said.

Jupyter Book always loads sphinx-thebe, which would run code on another host and fails where its settings are missing.
The theme loads its icons twice, as a font and as 1.5 MB of script, and reports an error where no mode was chosen yet.
"""

import re
from pathlib import Path
from typing import Any

from docutils import nodes

UNUSED = ("thebe", "mathjax", "require.js")


def setup(app: Any) -> dict[str, bool]:
    """After every extension that adds files to a page."""
    app.connect("doctree-read", _without_injected_parameters)
    app.connect("html-page-context", _lighten, priority=900)
    app.connect("build-finished", _mend_theme)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _without_injected_parameters(app: Any, doctree: nodes.document) -> None:
    """papermill writes the values it was given into a cell of their own; the folded cell above it explains them."""
    for cell in list(doctree.findall(nodes.container)):
        if "tag_injected-parameters" in cell.get("classes", []):
            cell.parent.remove(cell)


def _lighten(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    for kind in ("script_files", "css_files"):
        context[kind] = [f for f in context.get(kind, []) if not any(name in _path(f) for name in UNUSED)]
    if body := context.get("body"):
        body = re.sub(r"<thead>.*?</thead>", _with_scopes, body, flags=re.DOTALL)
        body = re.sub(r"<dl>\s*((?:<dd>(?:(?!<dd>).)*?</dd>\s*)+)</dl>", _lines, body, flags=re.DOTALL)
        # a list whose children are no list items for a screen reader
        context["body"] = body.replace('<div role="list" class="citation-list">', '<div class="citation-list">')


def _path(file: Any) -> str:
    return str(getattr(file, "filename", None) or file)


def _with_scopes(head: re.Match[str]) -> str:
    """Tables written in Markdown have heads of columns only."""
    return re.sub(r"<th(?![^>]*scope=)(?=[ >])", '<th scope="col"', head.group())


def _lines(signature: re.Match[str]) -> str:
    """A long signature is broken into lines, which Sphinx writes as a list of definitions without terms."""
    return signature.group(1).replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")


def _mend_theme(app: Any, exception: Exception | None) -> None:
    """The theme writes these lines into its own templates, out of reach of the page's context."""
    if exception is not None or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        mended = re.sub(r'<script defer src="[^"]*/fontawesome\.js[^"]*"></script>\s*', "", text)
        mended = mended.replace('localStorage.getItem("mode") || ""', 'localStorage.getItem("mode") || "auto"')
        if mended != text:
            page.write_text(mended, encoding="utf-8")
