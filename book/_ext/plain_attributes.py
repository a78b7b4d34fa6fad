"""Keeps napoleon from reading "Scan routes K: 2, 4 or 8" below an attribute as a type and a description.

Napoleon looks for the type in an attribute's first line only; here that line is always empty.
"""

from typing import Any


def setup(app: Any) -> dict[str, bool]:
    """Runs before napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", _empty_first_line, priority=400)
    return {"parallel_read_safe": True}


def _empty_first_line(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    if what == "attribute" and lines:
        lines.insert(0, "")
