"""The loader of real_v1, and every error."""

from pathlib import Path

import pytest
from layouts import picture

from mambaad.data import DatasetError, counts, load_dataset
from mambaad.data.datasets import real_v1


def test_real_v1_has_five_categories_of_two_folders_in_the_protocols_order(tmp_path: Path) -> None:
    for name, folder in real_v1.FOLDERS.items():
        for part in ("train/good", "test/good"):
            picture(tmp_path / folder / name / part / "000.png")
    found = load_dataset("real_v1", tmp_path)
    assert list(counts(found)) == ["bottle", "screw", "metal_plate", "glassfiber", "pcb"]
    assert [sample.category for sample in load_dataset("real_v1", tmp_path, ["pcb"])] == ["pcb", "pcb"]
    with pytest.raises(DatasetError, match="no category grid"):
        load_dataset("real_v1", tmp_path, ["grid"])
    with pytest.raises(DatasetError, match="expected mvtec/ and other/"):
        load_dataset("real_v1", tmp_path / "mvtec")
