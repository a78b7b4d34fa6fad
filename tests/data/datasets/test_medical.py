"""The loader of Uni-Medical: what it makes of its authors' layout, and every error."""

import shutil
from pathlib import Path

import layouts
import numpy as np
import pytest
from layouts import save

from mambaad.data import DatasetError, counts, load_dataset


def test_medical_reads_its_three_folders_only(tmp_path: Path) -> None:
    root = layouts.write_medical(tmp_path)
    layouts.write_category(root / "bolt")
    save(root / "liver/ground_truth/hole/000_mask.png", np.eye(5) * 255)  # the authors' files are taken as they are
    assert list(counts(load_dataset("medical", root))) == ["brain", "liver", "retinal"]
    shutil.rmtree(root / "brain")
    assert list(counts(load_dataset("medical", root))) == ["liver", "retinal"]
    (root / "liver/ground_truth/hole/001_mask.png").unlink()
    with pytest.raises(DatasetError, match="without a mask"):
        load_dataset("medical", root)
    with pytest.raises(DatasetError, match="expected the folders brain, liver, retinal"):
        load_dataset("medical", root / "liver")


def test_masks_of_other_names_are_paired_by_position(tmp_path: Path) -> None:
    root = layouts.write_medical(tmp_path)
    truth = root / "liver" / "ground_truth" / "hole"
    masks = sorted(truth.iterdir())
    for k, mask in enumerate(masks):
        mask.rename(truth / f"label_{k}.png")
    found = [s for s in load_dataset("medical", root, ["liver"]) if s.defect == "hole"]
    assert [s.mask.name for s in found if s.mask is not None] == [f"label_{k}.png" for k in range(len(masks))]
    double = truth / "label_0.bmp"
    double.write_bytes((truth / "label_0.png").read_bytes())
    with pytest.raises(DatasetError, match="2 masks are called label_0, so their masks cannot be told; rename them"):
        load_dataset("medical", root)
    double.unlink()
    (truth / "label_0.png").unlink()
    with pytest.raises(DatasetError, match="without a mask"):
        load_dataset("medical", root)
