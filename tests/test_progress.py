"""Progress on stderr: a bar on a terminal, a line per tenth in a log, nothing where nobody asked."""

import ast
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import mambaad.progress
from mambaad.progress import progress, tracked

PACKAGE = Path(mambaad.progress.__file__).parent


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock finds it three seconds on."""
    ticks = itertools.count(0, 3)
    monkeypatch.setattr(mambaad.progress, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))


@pytest.mark.usefixtures("clock")
def test_a_log_gets_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(300, "train", unit="step") as bar:
        for step in range(300):
            bar.note(f"loss {step}")
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "train: 30 of 300 steps, 3 s, loss 29"
    assert lines[-1] == "train: 300 of 300 steps, 30 s, loss 299"
    assert not any("\r" in line for line in lines)


@pytest.mark.usefixtures("clock")
def test_resumed_work_goes_on_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(20, "train", unit="step", start=15) as bar:
        bar.update(2)
        bar.update(3)
    assert capsys.readouterr().err.splitlines() == ["train: 17 of 20 steps, 3 s", "train: 20 of 20 steps, 6 s"]


@pytest.mark.parametrize(("total", "lines"), [(0, 0), (1, 1), (3, 3), (7, 7), (11, 10)])
def test_few_items(total: int, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tracked(range(total), total, "check", unit="image")) == list(range(total))
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_nothing_is_shown_unless_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tracked("abc", 3, "check", show=False)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress(3, "train", unit="step") as bar:
        bar.note("loss 1")
        bar.update(3)
    shown = capsys.readouterr().err
    assert "\rtrain: 100%" in shown
    assert "loss 1" in shown


def test_all_long_work_is_shown_this_way() -> None:
    for path in PACKAGE.rglob("*.py"):
        imported = {
            node.module
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
        }
        assert "tqdm" not in imported or path == PACKAGE / "progress.py", path
