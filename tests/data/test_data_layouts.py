"""The loaders of the published data sets: what each makes of its authors' layout, and every error."""

import csv
import json
import shutil

import layouts
import numpy as np
import pytest
from layouts import SIZE, mask, picture, save

from mambaad.data import DATASETS, DatasetError, counts, index_hash, load_dataset
from mambaad.data.datasets import real_v1
from mambaad.data.image_set import ImageSet
from mambaad.data.pixels import read_mask

WRITERS = {
    "mvtec_ad": layouts.write_mvtec_ad,
    "visa": layouts.write_visa,
    "realiad": layouts.write_real_iad,
    "medical": layouts.write_medical,
    "mvtec3d": layouts.write_mvtec3d,
    "meta_json": layouts.write_meta_json,
}


def by_kind(samples):
    return {(s.category, s.split, s.defect) for s in samples}


@pytest.mark.parametrize("name", WRITERS)
def test_samples_are_readable_and_consistent(tmp_path, name):
    samples = load_dataset(name, WRITERS[name](tmp_path / "data"))
    assert len({s.image for s in samples}) == len(samples)
    assert all(s.split == "test" for s in samples if s.is_defect)
    assert all(s.mask is None for s in samples if not s.is_defect)
    data = ImageSet(samples, 64, (0, 0, 0), (1, 1, 1))
    for k, sample in enumerate(samples):
        assert bool(data[k][1].any()) == (sample.mask is not None)
    assert len(index_hash(samples, tmp_path / "data")) == 12


@pytest.mark.parametrize("name", WRITERS)
def test_categories_come_in_the_order_asked_for(tmp_path, name):
    root = WRITERS[name](tmp_path / "data")
    every = list(counts(load_dataset(name, root)))
    assert len(every) > 1
    assert list(counts(load_dataset(name, root, every[::-1]))) == every[::-1]
    assert list(counts(load_dataset(name, root, every[:1]))) == every[:1]
    with pytest.raises(DatasetError, match=f"no category nothing; available: .*{every[0]}"):
        load_dataset(name, root, ("nothing",))


@pytest.mark.parametrize("name", WRITERS)
def test_the_hash_follows_the_tree_wherever_it_lies(tmp_path, name):
    first, second = WRITERS[name](tmp_path / "data"), WRITERS[name](tmp_path / "moved" / "data")
    hashes = [index_hash(load_dataset(name, root), root) for root in (first, second)]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_folder_is_named(tmp_path, name):
    with pytest.raises(DatasetError, match="none"):
        load_dataset(name, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty"):
        load_dataset(name, tmp_path / "empty")


# -- VisA -------------------------------------------------------------------------------------------------------------


def test_visa(tmp_path):
    root = layouts.write_visa(tmp_path)
    samples = load_dataset("visa", root)
    assert counts(samples) == {c: {"train": 2, "test_good": 1, "test_defect": 2} for c in ("candle", "pcb1")}
    bad = next(s for s in samples if s.is_defect)
    assert bad.defect == "anomaly"
    assert bad.mask == root / "candle/Data/Masks/Anomaly/003.png"
    assert np.array_equal(read_mask(bad.mask), np.eye(SIZE, dtype=bool)), "classes of defects count in full"


def _visa_row(change):
    def breakage(root):
        rows = list(csv.DictReader((root / "split_csv/1cls.csv").read_text().splitlines()))
        layouts.write_table(root, change(rows))

    return breakage


def _edit(rows, k, **values):
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
def test_visa_errors(tmp_path, what):
    root = layouts.write_visa(tmp_path)
    load_dataset("visa", root)
    VISA_ERRORS[what][0](root)
    with pytest.raises(DatasetError, match=VISA_ERRORS[what][1]):
        load_dataset("visa", root)


def test_visa_converted_to_another_layout_is_recognised(tmp_path):
    with pytest.raises(DatasetError, match="in MVTec AD layout: load them as mvtec_ad"):
        load_dataset("visa", layouts.write_mvtec_ad(tmp_path))


def test_an_index_written_on_windows_is_read(tmp_path):
    root = layouts.write_visa(tmp_path)
    before = load_dataset("visa", root)
    table = root / "split_csv/1cls.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"/", b"\\"))  # with a byte order mark
    assert load_dataset("visa", root) == before


# -- Real-IAD ---------------------------------------------------------------------------------------------------------


def test_real_iad_goes_by_the_index_not_by_folders(tmp_path):
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
def test_real_iad_as_unpacked(tmp_path, json_folder, image_folder, root):
    layouts.write_real_iad(tmp_path, json_folder=json_folder, image_folder=image_folder)
    samples = load_dataset("realiad", tmp_path / root)
    assert len(samples) == 12
    assert all(s.image.is_relative_to(tmp_path / root) for s in samples)


def _real_iad_entry(**values):
    def breakage(root):
        path = root / "usb.json"
        lists = json.loads(path.read_text())
        lists["test"][1] |= values
        path.write_text(json.dumps(lists))

    return breakage


REAL_IAD_ERRORS = {
    "no index": (lambda root: [p.unlink() for p in root.glob("*.json")], "expected Real-IAD's index files"),
    "no images": (
        lambda root: [shutil.rmtree(root / c) for c in ("mint", "usb")],
        "folder of images beside <category>.json",
    ),
    "broken index": (lambda root: (root / "usb.json").write_text("{"), r"usb\.json: cannot be read as JSON"),
    "no list": (lambda root: (root / "usb.json").write_text('{"train": []}'), "found no list 'test'"),
    "list of lists": (lambda root: (root / "usb.json").write_text("[]"), "found no list 'train'"),
    "entry": (_real_iad_entry(image_path=3), "entries with image_path and anomaly_class, got"),
    "image gone": (_real_iad_entry(image_path="NG/none.jpg"), r"none\.jpg: no such file, but .*usb\.json lists it"),
    "mask gone": (_real_iad_entry(mask_path="NG/none.png"), r"none\.png: no such file, but .*usb\.json lists it"),
    "no mask": (_real_iad_entry(mask_path=None), "is a defective image without a mask"),
    "absolute": (_real_iad_entry(image_path="/etc/none.jpg"), "expected paths below"),
}


@pytest.mark.parametrize("what", REAL_IAD_ERRORS)
def test_real_iad_errors(tmp_path, what):
    root = layouts.write_real_iad(tmp_path)
    load_dataset("realiad", root)
    REAL_IAD_ERRORS[what][0](root)
    with pytest.raises(DatasetError, match=REAL_IAD_ERRORS[what][1]):
        load_dataset("realiad", root)


def test_real_iad_takes_one_size_of_images(tmp_path):
    for size in (256, 512):
        layouts.write_real_iad(tmp_path, json_folder="realiad_jsons", image_folder=f"realiad_{size}")
    with pytest.raises(DatasetError, match="images of one size, found realiad_256, realiad_512"):
        load_dataset("realiad", tmp_path)
    assert len(load_dataset("realiad", tmp_path / "realiad_512")) == 12


def test_real_iad_s_noisy_setting_is_refused(tmp_path):
    root = layouts.write_real_iad(tmp_path)
    lists = json.loads((root / "usb.json").read_text())
    lists["train"].append(lists["test"].pop(1))
    (root / "usb.json").write_text(json.dumps(lists))
    with pytest.raises(DatasetError, match="a training image marked as defective"):
        load_dataset("realiad", root)


# -- MVTec 3D-AD ------------------------------------------------------------------------------------------------------


def test_mvtec3d_trains_on_train_and_validation(tmp_path):
    root = layouts.write_mvtec3d(tmp_path)
    samples = load_dataset("mvtec3d", root)
    assert counts(samples) == {c: {"train": 3, "test_good": 1, "test_defect": 1} for c in ("bagel", "foam")}
    assert {s.image.parent.name for s in samples} == {"rgb"}
    assert root / "bagel/validation/good/rgb/000.png" in {s.image for s in samples if s.split == "train"}
    assert next(s.mask for s in samples if s.is_defect) == root / "bagel/test/cut/gt/000.png"


MVTEC3D_ERRORS = {
    "no validation": (
        lambda root: shutil.rmtree(root / "foam/validation"),
        r"validation.good.rgb: expected good images \(train and validation are both used\), found none",
    ),
    "no mask": (
        lambda root: (root / "foam/test/cut/gt/000.png").unlink(),
        "rgb.000.png: a defective image without a mask",
    ),
    "another layout": (
        lambda root: [shutil.rmtree(root / c) for c in ("bagel", "foam")] and layouts.write_mvtec_ad(root),
        r"<category>/train/good/rgb \(MVTec 3D-AD layout\), found none",
    ),
}


@pytest.mark.parametrize("what", MVTEC3D_ERRORS)
def test_mvtec3d_errors(tmp_path, what):
    root = layouts.write_mvtec3d(tmp_path)
    MVTEC3D_ERRORS[what][0](root)
    with pytest.raises(DatasetError, match=MVTEC3D_ERRORS[what][1]):
        load_dataset("mvtec3d", root)


def test_one_category_of_mvtec3d_is_too_deep(tmp_path):
    with pytest.raises(DatasetError, match="looks like a single category: name the folder above it"):
        load_dataset("mvtec3d", layouts.write_mvtec3d(tmp_path) / "bagel")


# -- Uni-Medical ------------------------------------------------------------------------------------------------------


def test_medical_reads_its_three_folders_only(tmp_path):
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


# -- meta.json --------------------------------------------------------------------------------------------------------


def test_meta_json(tmp_path):
    samples = load_dataset("meta_json", layouts.write_meta_json(tmp_path))
    assert counts(samples) == {c: {"train": 1, "test_good": 1, "test_defect": 2} for c in ("coat", "bolt")}
    bolt = [s for s in samples if s.category == "bolt" and s.is_defect]
    assert [s.defect for s in bolt] == ["tear", "anomaly"], "a defect without a name is one nevertheless"
    assert all(s.mask is not None for s in bolt)
    assert {s.mask for s in samples if s.category == "coat"} == {None}


def _meta_entry(category, k, **values):
    def breakage(root):
        lists = json.loads((root / "meta.json").read_text())
        lists["test"][category][k] |= values
        (root / "meta.json").write_text(json.dumps(lists))

    return breakage


META_ERRORS = {
    "no index": (lambda root: (root / "meta.json").unlink(), r"meta\.json: no such file, expected the index"),
    "broken": (lambda root: (root / "meta.json").write_text("]"), r"meta\.json: cannot be read as JSON"),
    "no split": (lambda root: (root / "meta.json").write_text('{"train": {}}'), "found no 'test'"),
    "no object": (lambda root: (root / "meta.json").write_text("[]"), "found no 'train'"),
    "entry": (_meta_entry("bolt", 0, anomaly="no"), "entries with img_path and anomaly 0 or 1, got"),
    "image gone": (_meta_entry("bolt", 0, img_path="none.png"), r"none\.png: no such file, but .*meta\.json"),
    "only some masks": (_meta_entry("bolt", 1, mask_path=""), "is a defective image without a mask"),
}


@pytest.mark.parametrize("what", META_ERRORS)
def test_meta_json_errors(tmp_path, what):
    root = layouts.write_meta_json(tmp_path)
    load_dataset("meta_json", root)
    META_ERRORS[what][0](root)
    with pytest.raises(DatasetError, match=META_ERRORS[what][1]):
        load_dataset("meta_json", root)


def test_the_anomaly_flag_decides_not_the_name(tmp_path):
    root = layouts.write_meta_json(tmp_path)
    _meta_entry("bolt", 1, specie_name="good")(root)
    kinds = [s.defect for s in load_dataset("meta_json", root, ("bolt",))]
    assert kinds == ["good", "good", "anomaly", "anomaly"]


def test_a_loader_can_hand_its_faults_over(tmp_path):
    """With a second function in place of `raise_fault` a loader goes on, and lists what is there."""
    root = layouts.write_mvtec_ad(tmp_path)
    (root / "nut/ground_truth/hole/000_mask.png").unlink()
    mask(root / "nut/ground_truth/hole/001_mask.png", size=5)
    shutil.rmtree(root / "bolt/train/good")
    picture(root / "bolt/test/hole/002.png")
    faults = []
    samples = DATASETS["mvtec_ad"].find_loader()(root, (), faults.append)
    assert [text.partition(": ")[2].split(",")[0] for text in faults] == [
        "expected good training images (.png",
        "a defective image without a mask",
        "a defective image without a mask",
        "expected a mask of its image's size (12",
    ]
    assert counts(samples)["bolt"] == {"train": 0, "test_good": 1, "test_defect": 3}


# -- real_v1
def test_real_v1_has_five_categories_of_two_folders_in_the_protocols_order(tmp_path):
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
