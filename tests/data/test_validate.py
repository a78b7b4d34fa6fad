"""Validating a data set: every fault is found at once, none is made up."""

import dataclasses
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
from layouts import SIZE, mask, picture, save

from mambaad.data import DATASETS, counts, load_dataset
from mambaad.data.datasets import catalog
from mambaad.data.validate import Report, check_dataset
from mambaad.data.validate_text import render


def check(root: Path, name: str | None = None, **options: Any) -> Report:
    return check_dataset(name, root, progress=False, **options)


# The drawn trees have few images, so that differences to the published counts are all they may be blamed for.
COUNTS = ("published are", "categories are missing")


def faults(report: Report) -> list[str]:
    return [problem for problem in report.problems if not any(text in problem for text in COUNTS)]


@pytest.mark.parametrize("name", layouts.TREES)
def test_a_whole_tree_has_no_fault_and_its_layout_is_recognised(tmp_path: Path, name: str) -> None:
    if name == "coco0":
        pytest.importorskip("pycocotools", reason="needs pycocotools (the extra coco): masks are drawn with it")
        pytest.importorskip("cv2", reason="needs OpenCV (the extra coco): masks are drawn with it")
    root = layouts.TREES[name](tmp_path / "data")
    report = check(root)
    assert report.dataset == name
    assert faults(report) == []
    assert report.counts == counts(load_dataset(name, root))
    samples = load_dataset(name, root)
    assert report.opened == len({path for s in samples for path in (s.image, s.mask) if path})
    assert not [note for note in report.notes if "not used" in note]
    assert faults(check(root, quick=True)) == []
    assert report.ok == (DATASETS[name].total is None or name == "mvtec_ad"), "bolt and nut are not of MVTec AD"


def faulty(root: Path) -> Path:
    """MVTec layout with one fault of each kind, none of which may hide another."""
    layouts.write_mvtec_ad(root, ("bolt", "nut", "pin"))
    (root / "bolt/train/good/000.png").write_text("not an image")
    whole = (root / "bolt/test/good/000.png").read_bytes()
    (root / "bolt/test/good/000.png").write_bytes(whole[: len(whole) // 2])
    (root / "nut/ground_truth/hole/000_mask.png").unlink()
    mask(root / "nut/ground_truth/hole/001_mask.png", size=7)
    mask(root / "nut/ground_truth/hole/007_mask.png")
    shutil.rmtree(root / "pin/train/good")
    (root / "pin/train").mkdir(exist_ok=True)
    save(root / "pin/ground_truth/hole/000_mask.png", np.zeros((SIZE, SIZE)))
    (root / "pin/ground_truth/hole/001_mask.png").unlink()
    save(root / "pin/ground_truth/hole/001_mask.jpg", np.eye(SIZE) * 255)
    (root / "bolt/test/hole/phone.heic").write_text("of a kind that is not read")
    picture(root / "bolt/train/bad/000.png")
    return root


FOUND = (
    "bolt/train/good/000.png: cannot be read as an image",
    "bolt/test/good/000.png: cannot be read as an image",
    "nut/test/hole/000.png: a defective image without a mask",
    "nut/ground_truth/hole/001_mask.png: expected a mask of its image's size (12, 12) (width, height), got (7, 7)",
    "1 masks have no image of their name: ",
    "pin/train/good: expected good training images",
    "1 masks are JPEG files",
)


def test_every_fault_is_found_in_one_pass(tmp_path: Path) -> None:
    root = faulty(tmp_path)
    report = check(root)
    for text in FOUND:
        assert len([problem for problem in report.problems if text in problem]) == 1, text
    assert len(report.problems) == len(FOUND)
    assert any("1 masks mark nothing" in note and "pin/ground_truth/hole/000_mask.png" in note for note in report.notes)
    unused = next(note for note in report.notes if "not used" in note)
    assert "2 files" in unused
    assert "phone.heic" in unused
    assert "train/bad/000.png" in unused
    assert report.counts["nut"] == {"train": 2, "test_good": 1, "test_defect": 2}


def test_a_quick_check_misses_only_what_needs_decoding(tmp_path: Path) -> None:
    quick, full = check(faulty(tmp_path), quick=True), check(tmp_path)
    assert set(full.problems) - set(quick.problems) == {p for p in full.problems if "bolt/test/good/000.png" in p}
    assert not set(quick.problems) - set(full.problems)


@pytest.mark.parametrize("name", ["visa", "realiad", "mvtec3d", "meta_json", "medical"])
def test_lost_and_broken_files_of_any_layout_are_named(tmp_path: Path, name: str) -> None:
    root = layouts.TREES[name](tmp_path / "data")
    samples = load_dataset(name, root)
    bad = [(s.image, s.mask) for s in samples if s.mask is not None]
    (image, lost_mask), (_, broken_mask) = bad[:2]
    lost_mask.unlink()
    broken_mask.write_text("x")
    good = next(s for s in samples if not s.is_defect)
    good.image.write_bytes(b"")
    lost = next(s for s in samples if s.split == "train" and s.image != good.image).image if name != "mvtec3d" else None
    if lost:
        lost.unlink()
    found = faults(check(root, name))
    assert len([p for p in found if str(lost_mask) in p or (str(image) in p and "without a mask" in p)]) == 1
    assert [p for p in found if str(broken_mask) in p and "cannot be read as a mask" in p]
    assert [p for p in found if str(good.image) in p and "cannot be read as an image" in p]
    if lost and name != "medical":  # a folder cannot tell that one of its files is gone; counts can
        assert [p for p in found if str(lost) in p and "lists it" in p]


def test_sizes_of_indexed_masks_are_compared(tmp_path: Path) -> None:
    root = layouts.write_visa(tmp_path)
    wrong = root / "pcb1/Data/Masks/Anomaly/003.png"
    mask(wrong, size=9)
    assert len(load_dataset("visa", root)) == 10
    assert [p for p in check(root).problems if p.startswith(f"{wrong}: expected a mask of its image's size (12, 12)")]


def test_counts_are_compared_with_the_published_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = layouts.write_visa(tmp_path)
    small = dataclasses.replace(
        catalog.VISA, categories={"candle": (2, 1, 2), "pcb1": None, "fryum": (3, 1, 1)}, total=(7, 3, 6)
    )
    monkeypatch.setitem(DATASETS, "visa", small)
    report = check(root)
    assert report.problems == (
        "1 of 3 categories are missing: fryum; unpack them, or name the categories that are wanted with --categories",
    )
    text = render(report)
    assert [line.split() for line in text.splitlines() if line.startswith(("candle", "pcb1", "fryum", "total"))] == [
        ["candle", "2", "(2)", "1", "(1)", "2", "(2)"],
        ["pcb1", "2", "1", "2"],
        ["fryum", "-", "(3)", "-", "(1)", "-", "(1)"],
        ["total", "4", "(7)", "2", "(3)", "4", "(6)"],
    ]
    assert "published count not known: pcb1" in text
    assert check(root, categories=("candle", "pcb1")).ok

    layouts.write_visa(root, ("candle", "pcb1", "fryum"))
    assert check(root).problems == (
        "fryum: 2 training images, published are 3; unpack it again",
        "fryum: 2 defective test images, published are 1; unpack it again",
        "all categories: 6 training images, published are 7; unpack it again",
    )
    layouts.write_visa(root, ("candle", "pcb1", "fryum", "mine"))
    assert [p for p in check(root).problems if "not categories of VisA" in p and "mine" in p]


def test_own_categories_in_mvtec_layout_are_not_compared(tmp_path: Path) -> None:
    assert check(layouts.write_mvtec_ad(tmp_path / "a", ("screw", "nut"))).ok
    mixed = layouts.write_mvtec_ad(tmp_path / "b", ("screw", "bottle", "nut"))
    assert check(mixed).ok, "other people have screws and bottles, too"
    report = check(mixed, "mvtec_ad")
    assert any("13 of 15 categories are missing" in problem for problem in report.problems)
    assert any("not categories of MVTec AD" in problem for problem in report.problems)


def test_defects_without_any_ground_truth_are_a_note(tmp_path: Path) -> None:
    report = check(layouts.write_category(tmp_path / "mine", masks=False))
    assert report.ok
    assert report.notes == ("2 defective images have no ground truth: only the metrics of whole images count them",)
    shutil.rmtree(tmp_path / "mine/test")
    assert check(tmp_path / "mine").notes == ("there are no test images: a model can be trained, but nothing measured",)


def test_a_check_can_be_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mambaad.data import validate as module

    root = layouts.write_mvtec_ad(tmp_path)
    monkeypatch.setattr(module, "_decoded", lambda sample: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        check(root)


def test_the_real_images_are_whole(shared: Path) -> None:
    report = check(shared / "data" / "mvtec", categories=("bottle", "screw"))
    assert report.ok, report.problems
    assert report.published == report.counts
    assert report.opened == 954
    assert not [note for note in report.notes if "mark nothing" in note]
    assert [p for p in check(shared / "data" / "mvtec", quick=True).problems if "13 of 15 categories" in p]
    five = check(shared / "data", quick=True)
    assert five.dataset == "real_v1"
    assert five.ok, five.problems
    assert five.published == five.counts


def test_the_table_is_aligned(tmp_path: Path) -> None:
    lines = render(check(layouts.write_mvtec_ad(tmp_path))).splitlines()
    table = lines[2 : lines.index("", 2)]
    assert all(len(a) == len(b) for a, b in pairwise(table))
