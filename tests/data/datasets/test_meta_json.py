"""The loader of meta.json, and every error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import pytest

from mambaad.data import DatasetError, counts, load_dataset


def test_meta_json(tmp_path: Path) -> None:
    samples = load_dataset("meta_json", layouts.write_meta_json(tmp_path))
    assert counts(samples) == {c: {"train": 1, "test_good": 1, "test_defect": 2} for c in ("coat", "bolt")}
    bolt = [s for s in samples if s.category == "bolt" and s.is_defect]
    assert [s.defect for s in bolt] == ["tear", "anomaly"], "a defect without a name is one nevertheless"
    assert all(s.mask is not None for s in bolt)
    assert {s.mask for s in samples if s.category == "coat"} == {None}


def test_validation_images_are_trained_on_and_unknown_splits_refused(tmp_path: Path) -> None:
    root = layouts.write_meta_json(tmp_path)
    index = json.loads((root / "meta.json").read_text())
    before = counts(load_dataset("meta_json", root))["coat"]["train"]
    index["validation"] = {"coat": index["train"].pop("coat"), "bolt": []}
    (root / "meta.json").write_text(json.dumps(index))
    assert counts(load_dataset("meta_json", root))["coat"]["train"] == before
    index["holdout"] = {}
    (root / "meta.json").write_text(json.dumps(index))
    with pytest.raises(DatasetError, match="expected the splits train, validation, test, found also 'holdout'"):
        load_dataset("meta_json", root)
    del index["holdout"]
    index["test"]["coat"] = None
    (root / "meta.json").write_text(json.dumps(index))
    with pytest.raises(DatasetError, match="expected a list of images for every category of 'test'"):
        load_dataset("meta_json", root)


def _meta_entry(category: str, k: int, **values: Any) -> Callable[[Path], None]:
    def breakage(root: Path) -> None:
        lists = json.loads((root / "meta.json").read_text())
        lists["test"][category][k] |= values
        (root / "meta.json").write_text(json.dumps(lists))

    return breakage


META_ERRORS = {
    "no index": (lambda root: (root / "meta.json").unlink(), r"meta\.json: no such file, expected the index"),
    "broken": (lambda root: (root / "meta.json").write_text("]"), r"meta\.json: cannot be read as JSON"),
    "no split": (lambda root: (root / "meta.json").write_text('{"train": {}}'), "found no 'test'"),
    "no object": (lambda root: (root / "meta.json").write_text("[]"), "found no 'train'"),
    "entry": (_meta_entry("bolt", 0, anomaly="no"), "entries with img_path and anomaly 0 or 1: "),
    "image gone": (_meta_entry("bolt", 0, img_path="none.png"), r"none\.png: no such file, but .*meta\.json"),
    "only some masks": (_meta_entry("bolt", 1, mask_path=""), "is a defective image without a mask"),
}


@pytest.mark.parametrize("what", META_ERRORS)
def test_meta_json_errors(tmp_path: Path, what: str) -> None:
    root = layouts.write_meta_json(tmp_path)
    load_dataset("meta_json", root)
    META_ERRORS[what][0](root)
    with pytest.raises(DatasetError, match=META_ERRORS[what][1]):
        load_dataset("meta_json", root)


def test_the_anomaly_flag_decides_not_the_name(tmp_path: Path) -> None:
    root = layouts.write_meta_json(tmp_path)
    _meta_entry("bolt", 1, specie_name="good")(root)
    kinds = [s.defect for s in load_dataset("meta_json", root, ("bolt",))]
    assert kinds == ["good", "good", "anomaly", "anomaly"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"specie_name": 3}, "specie_name: Input should be a valid string, got 3"),
        ({"mask_path": ["a"]}, "mask_path"),
        ({"anomaly": "1"}, "anomaly: Input should be 0 or 1"),
        ({"img_path": {"a": 1}}, "img_path"),
        ({"img_path": "a\0b"}, "no such file"),
    ],
)
def test_values_of_another_type_are_named(tmp_path: Path, entry: dict[str, Any], said: str) -> None:
    root = layouts.write_meta_json(tmp_path)
    index = json.loads((root / "meta.json").read_text())
    index["test"]["bolt"][0] |= entry
    (root / "meta.json").write_text(json.dumps(index))
    with pytest.raises(DatasetError, match=said):
        load_dataset("meta_json", root)


def test_an_index_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    root = layouts.write_meta_json(tmp_path)
    (root / "meta.json").write_text("[" * 100_000)
    with pytest.raises(DatasetError, match=r"nested too deeply|cannot be read as JSON"):
        load_dataset("meta_json", root)
