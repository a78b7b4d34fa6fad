"""What every loader keeps to, whatever the layout."""

import shutil
from pathlib import Path

import layouts
import pytest
from layouts import mask, picture

from mambaad.data import DATASETS, DatasetError, counts, index_hash, load_dataset
from mambaad.data.image_set import ImageSet


@pytest.mark.parametrize("name", layouts.WRITERS)
def test_samples_are_readable_and_consistent(tmp_path: Path, name: str) -> None:
    samples = load_dataset(name, layouts.WRITERS[name](tmp_path / "data"))
    assert len({s.image for s in samples}) == len(samples)
    assert all(s.split == "test" for s in samples if s.is_defect)
    assert all(s.mask is None for s in samples if not s.is_defect)
    data = ImageSet(samples, 64, (0, 0, 0), (1, 1, 1))
    for k, sample in enumerate(samples):
        assert bool(data[k][1].any()) == (sample.mask is not None)
    assert len(index_hash(samples, tmp_path / "data")) == 12


@pytest.mark.parametrize("name", layouts.WRITERS)
def test_categories_come_in_the_order_asked_for(tmp_path: Path, name: str) -> None:
    root = layouts.WRITERS[name](tmp_path / "data")
    every = list(counts(load_dataset(name, root)))
    assert len(every) > 1
    assert list(counts(load_dataset(name, root, every[::-1]))) == every[::-1]
    assert list(counts(load_dataset(name, root, every[:1]))) == every[:1]
    with pytest.raises(DatasetError, match=f"no category nothing; available: .*{every[0]}"):
        load_dataset(name, root, ("nothing",))


@pytest.mark.parametrize("name", layouts.WRITERS)
def test_the_hash_follows_the_tree_wherever_it_lies(tmp_path: Path, name: str) -> None:
    first, second = layouts.WRITERS[name](tmp_path / "data"), layouts.WRITERS[name](tmp_path / "moved" / "data")
    hashes = [index_hash(load_dataset(name, root), root) for root in (first, second)]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("name", layouts.WRITERS)
def test_a_missing_folder_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="none"):
        load_dataset(name, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty"):
        load_dataset(name, tmp_path / "empty")


def test_a_loader_can_hand_its_faults_over(tmp_path: Path) -> None:
    """With a second function in place of `raise_fault` a loader goes on, and lists what is there."""
    root = layouts.write_mvtec_ad(tmp_path)
    (root / "nut/ground_truth/hole/000_mask.png").unlink()
    mask(root / "nut/ground_truth/hole/001_mask.png", size=5)
    shutil.rmtree(root / "bolt/train/good")
    picture(root / "bolt/test/hole/002.png")
    faults: list[str] = []
    samples = DATASETS["mvtec_ad"].find_loader()(root, (), faults.append)
    assert [text.partition(": ")[2].split(",")[0] for text in faults] == [
        "expected good training images (.png",
        "a defective image without a mask",
        "a defective image without a mask",
        "expected a mask of its image's size (12",
    ]
    assert counts(samples)["bolt"] == {"train": 0, "test_good": 1, "test_defect": 3}
