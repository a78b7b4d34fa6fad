"""The layout of MVTec AD and the plain folder, the hash of a tree's files, and what is said of a broken tree."""

from pathlib import Path

import numpy as np
import pytest
from layouts import picture, save, write_category

from mambaad.data import DATASETS, DatasetError, Sample, counts, index_hash, load_dataset
from mambaad.data.transforms import load_image, load_mask


def test_mvtec_layout(tmp_path: Path) -> None:
    for name in ("nut", "bolt"):
        write_category(tmp_path / name)
    (tmp_path / "license.txt").touch()
    (tmp_path / "bolt/train/good/notes.txt").touch()
    (tmp_path / "bolt/train/good/._000.png").touch()
    samples = load_dataset("mvtec_ad", tmp_path)
    assert counts(samples) == {c: {"train": 2, "test_good": 1, "test_defect": 2} for c in ("bolt", "nut")}
    assert list(counts(load_dataset("mvtec_ad", tmp_path, ("nut", "bolt")))) == ["nut", "bolt"]
    defect = next(s for s in samples if s.is_defect)
    assert defect == Sample(
        tmp_path / "bolt/test/hole/000.png", "bolt", "test", "hole", tmp_path / "bolt/ground_truth/hole/000_mask.png"
    )
    assert all((s.mask is not None) == s.is_defect for s in samples)


def test_plain_folder_with_and_without_ground_truth(tmp_path: Path) -> None:
    with_masks = load_dataset("folder", write_category(tmp_path / "mine"))
    without = load_dataset("folder", write_category(tmp_path / "yours", masks=False), ("yours",))
    assert counts(with_masks) == {"mine": {"train": 2, "test_good": 1, "test_defect": 2}}
    assert [s.mask is not None for s in with_masks if s.is_defect] == [True, True]
    assert [s.mask for s in without if s.is_defect] == [None, None]


def test_hidden_folders_are_neither_categories_nor_defects(tmp_path: Path) -> None:
    write_category(tmp_path / "nut")
    picture(tmp_path / "nut/test/.ipynb_checkpoints/000-checkpoint.png")
    write_category(tmp_path / ".trash")
    assert counts(load_dataset("mvtec_ad", tmp_path)) == {"nut": {"train": 2, "test_good": 1, "test_defect": 2}}
    assert counts(load_dataset("folder", tmp_path / "nut")) == {"nut": {"train": 2, "test_good": 1, "test_defect": 2}}


@pytest.mark.parametrize("layout", ["mvtec_ad", "folder"])
def test_good_images_in_a_folder_good_of_another_case_are_not_taken_for_defects(tmp_path: Path, layout: str) -> None:
    folder = write_category(tmp_path / "nut", masks=False)
    (folder / "test/good").rename(folder / "test/kept")
    (folder / "test/kept").rename(folder / "test/Good")  # in two steps, where names are the same in either case
    root = tmp_path if layout == "mvtec_ad" else folder
    with pytest.raises(DatasetError, match=r"nut.test.Good: rename it to good"):
        load_dataset(layout, root)


def test_masks_may_bear_their_image_s_name(tmp_path: Path) -> None:
    folder = write_category(tmp_path / "nut")
    for path in (folder / "ground_truth/hole").iterdir():
        path.rename(path.with_name(path.name.replace("_mask", "")))
    assert all(s.mask is not None for s in load_dataset("mvtec_ad", tmp_path) if s.is_defect)


def test_index_hash_follows_the_files_not_the_place(tmp_path: Path) -> None:
    def digest(root: Path) -> str:
        return index_hash(load_dataset("mvtec_ad", root), root)

    for root in ("a", "b"):
        write_category(tmp_path / root / "nut")
    before = digest(tmp_path / "a")
    assert before == digest(tmp_path / "b")
    assert len(before) == 12
    assert before == index_hash(load_dataset("mvtec_ad", tmp_path / "a")[::-1], tmp_path / "a")
    save(tmp_path / "b/nut/ground_truth/hole/000_mask.png", np.zeros((12, 12)) + np.arange(12))
    assert digest(tmp_path / "b") != before
    write_category(tmp_path / "b/nut")
    (tmp_path / "b/nut/train/good/001.png").rename(tmp_path / "b/nut/train/good/002.png")
    assert digest(tmp_path / "b") != before


def _remove(path: Path) -> None:
    for inner in sorted(path.rglob("*"), reverse=True):
        inner.rmdir() if inner.is_dir() else inner.unlink()
    path.rmdir()


BREAKAGES = {
    "no folder": (lambda root: _remove(root), (), r"data: no such folder, expected one folder per category"),
    "empty folder": (lambda root: _remove(root / "nut"), (), r"data: expected folders <category>/train/good"),
    "one level too deep": (
        lambda root: [p.rename(root / p.name) for p in (root / "nut").iterdir()] and (root / "nut").rmdir(),
        (),
        r"single category: name the folder above",
    ),
    "unknown category": (lambda root: None, ("nut", "bolt"), r"no category bolt; available: nut"),
    "no training images": (
        lambda root: _remove(root / "nut/train/good"),
        (),
        r"nut.train.good: expected good training images .*found none",
    ),
    "no mask": (
        lambda root: (root / "nut/ground_truth/hole/001_mask.png").unlink(),
        (),
        r"hole.001\.png: a defective image without a mask, expected .*ground_truth.hole.001_mask\.png",
    ),
    "mask of another size": (
        lambda root: save(root / "nut/ground_truth/hole/001_mask.png", np.zeros((5, 7))),
        (),
        r"001_mask\.png: expected a mask of its image's size \(12, 12\) \(width, height\), got \(7, 5\)",
    ),
    "broken mask": (
        lambda root: (root / "nut/ground_truth/hole/001_mask.png").write_text("x"),
        (),
        r"001_mask\.png: cannot be read as a mask",
    ),
}


@pytest.mark.parametrize("what", BREAKAGES)
def test_a_broken_tree_is_explained(tmp_path: Path, what: str) -> None:
    root = tmp_path / "data"
    write_category(root / "nut")
    load_dataset("mvtec_ad", root, ("nut",))
    breakage, categories, message = BREAKAGES[what]
    breakage(root)
    with pytest.raises(DatasetError, match=message):
        load_dataset("mvtec_ad", root, categories)


def test_plain_folder_errors(tmp_path: Path) -> None:
    folder = write_category(tmp_path / "mine")
    with pytest.raises(DatasetError, match=r"none: no such folder, expected one with train/good"):
        load_dataset("folder", tmp_path / "none")
    with pytest.raises(DatasetError, match=r"no category yours; available: mine"):
        load_dataset("folder", folder, ("yours",))
    with pytest.raises(DatasetError, match=r"expected a folder train/good .*mine look like categories"):
        load_dataset("folder", tmp_path)
    (folder / "ground_truth/hole/000_mask.png").unlink()
    with pytest.raises(DatasetError, match="without a mask"):
        load_dataset("folder", folder)


def test_unknown_layout_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"'imagenet'; there are {', '.join(DATASETS)}"):
        load_dataset("imagenet", tmp_path)


def test_real_images_have_the_published_counts(shared: Path) -> None:
    root = shared / "data" / "mvtec"
    samples = load_dataset("mvtec_ad", root)
    assert counts(samples) == {
        "bottle": {"train": 209, "test_good": 20, "test_defect": 63},
        "screw": {"train": 320, "test_good": 41, "test_defect": 119},
    }
    for kind in dict.fromkeys(s.defect for s in samples if s.is_defect):
        sample = next(s for s in samples if s.defect == kind)
        assert load_image(sample.image, 64, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).std() > 0.02
        assert sample.mask is not None
        assert 0 < load_mask(sample.mask, 256).float().mean() < 0.2
