"""The book's table of messages and the code say the same: every message has its row, every row its message."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOADERS = ("mvtec_ad", "folder", "visa", "real_iad", "mvtec3d", "medical", "coco_ad", "meta_json")
FILES = [f"data/{name}.py" for name in ("__init__", "sample", "transforms", *LOADERS, "check", "where")]
CALLS = ("complain", "problems.append", "faults.append")  # and everything that ends in Error
PAGE = ROOT / "book" / "your_own_data.md"


def template(node: ast.expr) -> list[str]:
    """The texts that an expression may give, with "…" for what is filled in."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)]
    if isinstance(node, ast.BinOp):
        return [f"{text}…" for text in template(node.left)]
    if isinstance(node, ast.IfExp):
        return template(node.body) + template(node.orelse)
    return []


def messages(path: Path) -> list[str]:
    """What a file raises or hands over as a fault, and what `explain` adds."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func)
            if called in CALLS or (called.endswith("Error") and called[0].isupper()):
                found += template(node.args[0])
        if isinstance(node, ast.FunctionDef) and node.name == "explain":
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    found += template(inner.value)
    return [text for text in found if text]


def rows() -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    tables = text.partition("### Images and folders")[2]
    return re.findall(r"^\| `([^`]+)` \|", tables, flags=re.MULTILINE)


TOOLS = ["predict.py", "threshold.py", "ground_truth.py", "export.py", "weights_hub.py", "published_weights.py"]
TOOLS.append("model/checkpoint.py")
TOOLS += [f"cli/{name}.py" for name in ("predict", "weights")]
MESSAGES = {(name, text) for name in [*FILES, *TOOLS] for text in messages(ROOT / "mambaad" / name)}


@pytest.mark.parametrize("row", rows())
def test_every_row_is_a_message_of_the_code(row: str) -> None:
    assert len(row.replace("…", "").strip()) >= 10, "too short to tell messages apart"
    assert any(row in text for _, text in MESSAGES)


@pytest.mark.parametrize(("name", "text"), sorted(MESSAGES))
def test_every_message_has_its_row(name: str, text: str) -> None:
    assert any(row in text for row in rows()), f"book/your_own_data.md has no row for a message of {name}"


def test_the_reader_of_messages_sees_every_form(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        'def f(x):\n    complain(f"{x}: one, " f"got {x!r}")\n    raise DatasetError("two")\n'
        'def explain(x):\n    return "; three" if x else f"; four {x}"\n'
    )
    assert set(messages(path)) == {"…: one, got …", "two", "; three", "; four …"}
    assert len(rows()) > 40
