"""The loader of MVTec 3D-AD: what it makes of its authors' layout, and every error."""

import shutil
from collections.abc import Callable
from pathlib import Path

import layouts
import pytest

from mambaad.data import DatasetError, counts, load_dataset


def test_mvtec3d_trains_on_train_and_validation(tmp_path: Path) -> None:
    root = layouts.write_mvtec3d(tmp_path)
    samples = load_dataset("mvtec3d", root)
    assert counts(samples) == {c: {"train": 3, "test_good": 1, "test_defect": 1} for c in ("bagel", "foam")}
    assert {s.image.parent.name for s in samples} == {"rgb"}
    assert root / "bagel/validation/good/rgb/000.png" in {s.image for s in samples if s.split == "train"}
    assert next(s.mask for s in samples if s.is_defect) == root / "bagel/test/cut/gt/000.png"


def test_hidden_folders_are_neither_categories_nor_defects(tmp_path: Path) -> None:
    root = layouts.write_mvtec3d(tmp_path, ("bagel",))
    layouts.picture(root / "bagel/test/.cache/rgb/9.png")
    layouts.picture(root / ".trash/train/good/rgb/0.png")
    assert counts(load_dataset("mvtec3d", root)) == {"bagel": {"train": 3, "test_good": 1, "test_defect": 1}}


def _another_layout(root: Path) -> None:
    for category in ("bagel", "foam"):
        shutil.rmtree(root / category)
    layouts.write_mvtec_ad(root)


MVTEC3D_ERRORS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no validation": (
        lambda root: shutil.rmtree(root / "foam/validation"),
        r"validation.good.rgb: expected good images \(train and validation are both used\), found none",
    ),
    "no mask": (
        lambda root: (root / "foam/test/cut/gt/000.png").unlink(),
        "rgb.000.png: a defective image without a mask",
    ),
    "images of one name": (
        lambda root: layouts.picture(root / "foam/test/cut/rgb/000.jpg"),
        r"foam.test.cut.rgb: 2 images are called 000, so their masks cannot be told; rename them",
    ),
    "masks of one name": (
        lambda root: layouts.mask(root / "foam/test/cut/gt/000.bmp"),
        r"foam.test.cut.gt: 2 masks are called 000",
    ),
    "good of another case": (
        lambda root: (root / "foam/test/good").rename(root / "foam/test/GOOD"),
        r"foam.test.GOOD: rename it to good",
    ),
    "another layout": (
        _another_layout,
        r"<category>/train/good/rgb \(MVTec 3D-AD layout\), found none",
    ),
}


@pytest.mark.parametrize("what", MVTEC3D_ERRORS)
def test_mvtec3d_errors(tmp_path: Path, what: str) -> None:
    root = layouts.write_mvtec3d(tmp_path)
    MVTEC3D_ERRORS[what][0](root)
    with pytest.raises(DatasetError, match=MVTEC3D_ERRORS[what][1]):
        load_dataset("mvtec3d", root)


def test_one_category_of_mvtec3d_is_too_deep(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="looks like a single category: name the folder above it"):
        load_dataset("mvtec3d", layouts.write_mvtec3d(tmp_path) / "bagel")
