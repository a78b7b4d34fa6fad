"""The loader of VisA: what it makes of its authors' layout, and every error."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
from layouts import SIZE

from mambaad.data import DatasetError, counts, load_dataset
from mambaad.data.pixels import read_mask


def test_visa(tmp_path: Path) -> None:
    root = layouts.write_visa(tmp_path)
    samples = load_dataset("visa", root)
    assert counts(samples) == {c: {"train": 2, "test_good": 1, "test_defect": 2} for c in ("candle", "pcb1")}
    bad = next(s for s in samples if s.is_defect)
    assert bad.defect == "anomaly"
    assert bad.mask == root / "candle/Data/Masks/Anomaly/003.png"
    assert np.array_equal(read_mask(bad.mask), np.eye(SIZE, dtype=bool)), "classes of defects count in full"


def _visa_row(change: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> Callable[[Path], None]:
    def breakage(root: Path) -> None:
        rows = list(csv.DictReader((root / "split_csv/1cls.csv").read_text().splitlines()))
        layouts.write_table(root, change(rows))

    return breakage


def _edit(rows: list[dict[str, str]], k: int, **values: Any) -> list[dict[str, str]]:
    return [row | values if i == k else row for i, row in enumerate(rows)]


VISA_ERRORS = {
    "columns": (_visa_row(lambda rows: [{"object": "candle", "split": "train"}]), "no column label, image, mask"),
    "no rows": (
        lambda root: (root / "split_csv/1cls.csv").write_text("object,split,label,image,mask\n"),
        "found no row",
    ),
    "not text": (
        lambda root: (root / "split_csv/1cls.csv").write_bytes(b"\xff\xfe\x00\x01"),
        "cannot be read as a table",
    ),
    "label": (_visa_row(lambda rows: _edit(rows, 1, label="odd")), "label normal or anomaly, got 'train' and 'odd'"),
    "image gone": (
        lambda root: (root / "pcb1/Data/Images/Normal/001.JPG").unlink(),
        r"001\.JPG: no such file, but .*1cls",
    ),
    "mask gone": (
        lambda root: (root / "pcb1/Data/Masks/Anomaly/003.png").unlink(),
        r"003\.png: no such file, but .*1cls",
    ),
    "no mask": (_visa_row(lambda rows: _edit(rows, 3, mask="")), r"003\.JPG is a defective image without a mask"),
    "defect in training": (
        _visa_row(lambda rows: _edit(rows, 3, split="train")),
        "003.JPG is a training image marked as",
    ),
    "twice": (_visa_row(lambda rows: [*rows, rows[2]]), r"lists .*002\.JPG twice"),
    "outside": (_visa_row(lambda rows: _edit(rows, 0, image="../x.JPG")), r"expected paths below .*got '\.\./x\.JPG'"),
    "another drive": (_visa_row(lambda rows: _edit(rows, 0, image=r"C:\x.JPG")), "expected paths below"),
    "short row": (
        lambda root: (root / "split_csv/1cls.csv").write_text("object,split,label,image,mask\ncandle,train,normal\n"),
        "no such file, but",
    ),
}


@pytest.mark.parametrize("what", VISA_ERRORS)
def test_visa_errors(tmp_path: Path, what: str) -> None:
    root = layouts.write_visa(tmp_path)
    load_dataset("visa", root)
    VISA_ERRORS[what][0](root)
    with pytest.raises(DatasetError, match=VISA_ERRORS[what][1]):
        load_dataset("visa", root)


def test_visa_converted_to_another_layout_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="in MVTec AD layout: load them as mvtec_ad"):
        load_dataset("visa", layouts.write_mvtec_ad(tmp_path))


def test_an_index_written_on_windows_is_read(tmp_path: Path) -> None:
    root = layouts.write_visa(tmp_path)
    before = load_dataset("visa", root)
    table = root / "split_csv/1cls.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"/", b"\\"))  # with a byte order mark
    assert load_dataset("visa", root) == before
