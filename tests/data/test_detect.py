"""Which data set a folder holds, or why it holds none."""

from pathlib import Path
from typing import Any

import layouts
import pytest
from layouts import picture

from mambaad.data import DatasetError
from mambaad.data.detect import guess_layout
from mambaad.data.validate import Report, check_dataset
from mambaad.data.validate_text import render


def check(root: Path, name: str | None = None, **options: Any) -> Report:
    return check_dataset(name, root, progress=False, **options)


def test_a_wrong_folder_is_explained(tmp_path: Path) -> None:
    root = layouts.write_mvtec_ad(tmp_path / "data")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/visa.tar").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/.hidden").touch()
    picture(tmp_path / "heap/a.png")
    (tmp_path / "odd/things").mkdir(parents=True)
    (tmp_path / "set.zip").touch()
    (tmp_path / "note.txt").touch()
    for folder, text in {
        "none": "there is no such folder",
        "empty": "the folder is empty",
        "packed": "visa.tar still has to be unpacked",
        "set.zip": "it is an archive: unpack it",
        "note.txt": "it is a file: name a folder",
        "heap": "put good ones into train/good",
        "odd": "its folders fit no layout",
        "data/nut/test": f"the root is too deep: name {root.resolve() / 'nut'}",
        "data/nut/test/hole": f"the root is too deep: name {root.resolve() / 'nut'}",
        ".": f"the root is one level too high: name {root}",
    }.items():
        with pytest.raises(DatasetError, match="not a data set") as caught:
            guess_layout(tmp_path / folder)
        assert text in str(caught.value), folder
        report = check(tmp_path / folder)
        assert report.problems == (str(caught.value),)
        assert not report.counts
        assert "layout not recognised" in render(report)


def test_a_folder_beside_another_part_is_not_taken_for_part_of_it(tmp_path: Path) -> None:
    picture(tmp_path / "side/train/good/a.png")
    picture(tmp_path / "photographs/a.png")
    (tmp_path / "part/train/good").mkdir(parents=True)
    (tmp_path / "other/Train/Good").mkdir(parents=True)
    for folder in ("part", "other"):
        picture(tmp_path / folder / "preview.png")
    for folder, text in {
        "photographs": "put good ones into train/good",
        "part": "train/good holds no images",
        "other": "rename Train to train",
        "side/train/good": f"the root is too deep: name {tmp_path.resolve() / 'side'}",
    }.items():
        with pytest.raises(DatasetError, match="not a data set") as caught:
            guess_layout(tmp_path / folder)
        assert str(caught.value).count(";") == 1
        assert text in str(caught.value)


def test_a_wrong_layout_is_explained(tmp_path: Path) -> None:
    root = layouts.write_visa(tmp_path / "visa")
    report = check(root, "mvtec_ad")
    assert len(report.problems) == 1
    assert report.problems[0].endswith("; the folder looks like visa: check it with --dataset visa")
    high = check(tmp_path, "visa")
    assert high.problems[0].endswith(f"; the root is one level too high: name {root}")
    bolt = layouts.write_mvtec_ad(tmp_path / "nuts") / "bolt"
    assert check(bolt).dataset == "folder", "one category is a plain folder"
    assert "check it with --dataset folder" in check(bolt, "mvtec_ad").problems[0]
    with pytest.raises(DatasetError, match="no data set 'imagenet'; there are mvtec_ad, visa"):
        check(root, "imagenet")
