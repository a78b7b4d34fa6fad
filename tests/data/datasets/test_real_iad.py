"""The loader of Real-IAD: what it makes of its authors' layout, and every error."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import pytest

from mambaad.data import DatasetError, counts, load_dataset


def test_real_iad_goes_by_the_index_not_by_folders(tmp_path: Path) -> None:
    samples = load_dataset("realiad", layouts.write_real_iad(tmp_path))
    assert counts(samples) == {c: {"train": 2, "test_good": 2, "test_defect": 2} for c in ("mint", "usb")}
    assert {s.defect for s in samples} == {"good", "AK"}
    in_bad_folder = [s for s in samples if "NG" in s.image.parts]
    assert len([s for s in in_bad_folder if not s.is_defect]) == 2, "a view that does not show the defect is good"


@pytest.mark.parametrize(
    ("json_folder", "image_folder", "root"),
    [
        ("realiad_jsons", "realiad_256", "."),
        ("realiad_jsons/realiad_jsons", "realiad_512", "."),
        ("realiad_jsons", "realiad_1024", "realiad_1024"),
        ("realiad_jsons/realiad_jsons", "realiad_256", "realiad_256"),
        ("", "", "."),
    ],
)
def test_real_iad_as_unpacked(tmp_path: Path, json_folder: str, image_folder: str, root: Path) -> None:
    layouts.write_real_iad(tmp_path, json_folder=json_folder, image_folder=image_folder)
    samples = load_dataset("realiad", tmp_path / root)
    assert len(samples) == 12
    assert all(s.image.is_relative_to(tmp_path / root) for s in samples)


def _real_iad_entry(**values: Any) -> Callable[[Path], None]:
    def breakage(root: Path) -> None:
        path = root / "usb.json"
        lists = json.loads(path.read_text())
        lists["test"][1] |= values
        path.write_text(json.dumps(lists))

    return breakage


def _no_index(root: Path) -> None:
    for path in root.glob("*.json"):
        path.unlink()


def _no_images(root: Path) -> None:
    for category in ("mint", "usb"):
        shutil.rmtree(root / category)


REAL_IAD_ERRORS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (_no_index, "expected Real-IAD's index files"),
    "no images": (
        _no_images,
        "folder of images beside <category>.json",
    ),
    "broken index": (lambda root: (root / "usb.json").write_text("{"), r"usb\.json: cannot be read as JSON"),
    "no list": (lambda root: (root / "usb.json").write_text('{"train": []}'), "found no list 'test'"),
    "list of lists": (lambda root: (root / "usb.json").write_text("[]"), "found no list 'train'"),
    "entry": (_real_iad_entry(image_path=3), "entries with image_path and anomaly_class: "),
    "image gone": (_real_iad_entry(image_path="NG/none.jpg"), r"none\.jpg: no such file, but .*usb\.json lists it"),
    "mask gone": (_real_iad_entry(mask_path="NG/none.png"), r"none\.png: no such file, but .*usb\.json lists it"),
    "no mask": (_real_iad_entry(mask_path=None), "is a defective image without a mask"),
    "absolute": (_real_iad_entry(image_path="/etc/none.jpg"), "expected paths below"),
}


@pytest.mark.parametrize("what", REAL_IAD_ERRORS)
def test_real_iad_errors(tmp_path: Path, what: str) -> None:
    root = layouts.write_real_iad(tmp_path)
    load_dataset("realiad", root)
    REAL_IAD_ERRORS[what][0](root)
    with pytest.raises(DatasetError, match=REAL_IAD_ERRORS[what][1]):
        load_dataset("realiad", root)


def test_real_iad_takes_one_size_of_images(tmp_path: Path) -> None:
    for size in (256, 512):
        layouts.write_real_iad(tmp_path, json_folder="realiad_jsons", image_folder=f"realiad_{size}")
    with pytest.raises(DatasetError, match="images of one size, found realiad_256, realiad_512"):
        load_dataset("realiad", tmp_path)
    assert len(load_dataset("realiad", tmp_path / "realiad_512")) == 12


def test_real_iad_s_noisy_setting_is_refused(tmp_path: Path) -> None:
    root = layouts.write_real_iad(tmp_path)
    lists = json.loads((root / "usb.json").read_text())
    lists["train"].append(lists["test"].pop(1))
    (root / "usb.json").write_text(json.dumps(lists))
    with pytest.raises(DatasetError, match="a training image marked as defective"):
        load_dataset("realiad", root)
