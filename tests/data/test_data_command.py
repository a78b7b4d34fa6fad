"""`mambaad data check` and `mambaad data where`."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import layouts
import pytest

from mambaad.cli import data as command_line
from mambaad.data import DATASETS, DatasetError
from mambaad.data.detect import where


def run(*words: object) -> int:
    """Exit code of `mambaad data ...`."""
    top = argparse.ArgumentParser()
    commands = top.add_subparsers()

    def command(name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, description=text)
        sub.set_defaults(run=run)
        return sub

    command_line.add(command)
    arguments = top.parse_args(["data", *map(str, words)])
    return arguments.run(arguments)


def test_check_prints_and_returns_its_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = layouts.write_mvtec_ad(tmp_path / "data")
    assert run("check", root) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["14 files opened and decoded", "OK"]  # 2 x (5 + 2 masks)
    assert run("check", root, "--quick") == 0
    out = capsys.readouterr().out
    assert "headers read" in out
    assert out.endswith("\nOK\n")
    (root / "nut/test/good/000.png").unlink()
    (root / "nut/test/good/000.png").mkdir()
    assert run("check", root, "--dataset", "mvtec_ad") == 1
    out = capsys.readouterr().out
    assert "faults: 1\n" in out
    assert out.splitlines()[-1].startswith("NOT OK: ")
    assert run("check", root, "--categories", "bolt") == 0
    assert "nut" not in capsys.readouterr().out


def test_long_lists_are_cut_in_text_and_whole_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = layouts.write_category(tmp_path / "mine")
    for k in range(30):
        (root / f"train/good/broken_{k}.png").write_text("x")
    assert run("check", root) == 1
    out = capsys.readouterr().out
    assert "faults: 30" in out
    assert "and 10 more, all with --json" in out
    assert run("check", root, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert len(report["problems"]) == 30
    assert report["ok"] is False
    assert report["dataset"] == "folder"
    assert report["counts"] == {"mine": {"train": 32, "test_good": 1, "test_defect": 2}}


def test_where_knows_every_loader(capsys: pytest.CaptureFixture[str]) -> None:
    for name in (*DATASETS, "coco"):
        assert "licence" in where(name)
        assert run("where", name) == 0
    capsys.readouterr()
    assert run("where") == 0
    everything = capsys.readouterr().out
    for spec in DATASETS.values():
        assert spec.licence in everything
        assert spec.page in everything
        assert spec.access in everything
    with pytest.raises(DatasetError, match="no data set 'imagenet'; there are mvtec_ad, visa"):
        run("where", "imagenet")
