"""Files are written whole or not at all."""

import ast
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from mambaad import files
from mambaad.files import atomic_path, check_output, write_json, write_text
from mambaad.model.checkpoint import write_checkpoint

PACKAGE = Path(files.__file__).parent


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "scores.csv"
    with atomic_path(target) as temporary:
        temporary.write_text("a")
        assert temporary.parent == target.parent
        assert temporary.suffix == ".csv"
        assert not target.exists()
    assert target.read_text() == "a"
    assert os.listdir(target.parent) == ["scores.csv"]


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = write_text(tmp_path / "scores.csv", "old")

    def half_a_write() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(type(error)):
        half_a_write()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["scores.csv"]


def test_a_failure_of_moving_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken" / "by").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"), atomic_path(tmp_path / "taken") as temporary:
        temporary.write_text("a")
    assert os.listdir(tmp_path) == ["taken"]


def test_temporary_names_differ_and_stay_short(tmp_path: Path) -> None:
    name = "x" * 240 + ".png"  # 255 bytes is what most file systems take
    with atomic_path(tmp_path / name) as first, atomic_path(tmp_path / name) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / name).read_text() == "first"


def test_content_reaches_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle: int) -> None:
        events.append("fsync")
        fsync(handle)

    def watched_replace(*paths: Any) -> None:
        events.append("replace")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_text(tmp_path / "a", "a")
    assert events == ["fsync", "replace", "fsync"]
    events.clear()
    with atomic_path(tmp_path / "b", sync=False) as temporary:
        temporary.write_text("b")
    assert events == ["replace"]


def test_json_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", {"a": float("nan")})
    assert path.read_text() == '{\n "a": null\n}\n'
    with pytest.raises(ValueError, match="cannot hold inf"):
        write_json(path, {"a": float("inf")})
    assert path.read_text() == '{\n "a": null\n}\n'


def test_the_same_checkpoint_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.pth", "b.pth"):
        write_checkpoint(tmp_path / name, {"state_dict": {"x": torch.arange(3.0)}})
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_nothing_else_moves_files_into_place() -> None:
    """Only caches and the synthetic set, whose folders take their place as a whole, call os.replace themselves; a lock
    names its process."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.replace", "os.rename", "os.getpid"):
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found <= {"files.py", "data/row_store.py", "data/synthetic/generate.py", "engine/lock.py"}


def test_text_that_was_never_finished_is_found_by_no_search_for_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Path.glob finds hidden files: half a record that a killed process left would be read as one."""
    seen = []
    monkeypatch.setattr("mambaad.files.put_in_place", lambda temporary, *_, **__: seen.append(temporary))
    write_json(tmp_path / "record.json", {"a": 1})
    assert seen[0].parent == tmp_path
    assert not seen[0].match("*.json")


def test_an_output_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    check_output(tmp_path / "new" / "deep" / "scores.csv")
    check_output(tmp_path / "new" / "deep", folder=True)
    check_output(file)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # nothing was made
    with pytest.raises(ValueError, match="is a file: name a folder to write to"):
        check_output(file, folder=True)
    with pytest.raises(ValueError, match="is a folder: name a file to write to"):
        check_output(tmp_path)
    with pytest.raises(ValueError, match=r"below.csv cannot be written: .*file is a file; name another place"):
        check_output(file / "below.csv")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(ValueError, match="may only be read; name another place, or allow writing"):
        check_output(tmp_path / "new" / "scores.csv")
