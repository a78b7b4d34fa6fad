"""Hashes of what files hold, and that a photograph that changed and kept its size is another one."""

import json
import os
import time
from io import BufferedReader
from pathlib import Path
from typing import Any

import pytest

from mambaad.data import DatasetError, Sample, contents
from mambaad.data.contents import content_hashes, contents_hash


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{k}.bmp" for k in range(3)]
    for k, path in enumerate(paths):
        path.write_bytes(bytes([k]) * 100)
    return paths


def test_a_photograph_of_another_content_and_the_same_size_is_another_set(
    photographs: list[Path], tmp_path: Path
) -> None:
    samples = [Sample(path, "parts", "train") for path in photographs]
    before = contents_hash(samples, tmp_path)
    assert before == contents_hash(samples[::-1], tmp_path)
    photographs[1].write_bytes(bytes([9]) * 100)
    assert contents_hash(samples, tmp_path) != before


def test_hashes_are_kept_until_a_file_changes(
    photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "SETTLED_NS", 50 * 10**9)  # a machine that stalls for some seconds is no failure
    cache, long_ago = tmp_path / "kept.json", time.time() - 100
    for path in photographs:
        os.utime(path, (long_ago, long_ago))
    wanted = content_hashes(photographs, cache)
    read = []
    digest = contents.hashlib.file_digest

    def count(file: BufferedReader, name: str) -> Any:
        read.append(Path(file.name))
        return digest(file, name)

    monkeypatch.setattr(contents.hashlib, "file_digest", count)
    assert content_hashes(photographs, cache) == wanted
    assert read == []
    photographs[2].write_bytes(bytes([7]) * 100)
    found = content_hashes(photographs, cache)
    assert read == [photographs[2]]
    assert found[:2] == wanted[:2]
    assert found[2] != wanted[2]
    # changed a moment ago: it may change again within the same tick of the file system's clock
    content_hashes(photographs, cache)
    assert read == [photographs[2]] * 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"a": 1}', "[" * 100000, json.dumps({"x": ["a"] * 4})])
def test_a_damaged_file_of_hashes_is_done_without(photographs: list[Path], tmp_path: Path, content: str) -> None:
    cache = tmp_path / "kept.json"
    cache.write_text(content)
    assert content_hashes(photographs, cache) == content_hashes(photographs)


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.png: cannot be read"):
        content_hashes([tmp_path / "gone.png"])
