"""Small data sets on disk, one writer per layout: `write_<layout>(root) -> root`.

Images have 12 x 12 random pixels, the same ones for the same end of a path; masks mark the diagonal.
"""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

SIZE = 12


def save(path: Path, pixels: ArrayLike | Image.Image, **options: Any) -> Path:
    """Write an image or an array of 8-bit values; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    image.save(path, **options)
    return path


def picture(path: Path, size: int = SIZE) -> Path:
    seed = int.from_bytes(path.as_posix()[-12:].encode(), "little") % 2**32
    return save(path, np.random.default_rng(seed).integers(0, 256, (size, size, 3)))


def mask(path: Path, size: int = SIZE) -> Path:
    return save(path, np.eye(size) * 255)


def write_category(folder: Path, *, masks: bool = True, size: int = SIZE) -> Path:
    """Two training images, one good and two defective test images."""
    for name in ("train/good/000", "train/good/001", "test/good/000", "test/hole/000", "test/hole/001"):
        picture(folder / f"{name}.png", size)
    for k in range(2 if masks else 0):
        mask(folder / f"ground_truth/hole/00{k}_mask.png", size)
    return folder


def write_mvtec_ad(root: Path, categories: tuple[str, ...] = ("bolt", "nut")) -> Path:
    for category in categories:
        write_category(root / category)
    return root


def write_medical(root: Path) -> Path:
    return write_mvtec_ad(root, ("brain", "liver", "retinal"))


def write_visa(root: Path, categories: tuple[str, ...] = ("candle", "pcb1")) -> Path:
    rows = []
    for category in categories:
        for k, (split, label) in enumerate(
            [("train", "normal")] * 2 + [("test", "normal")] + [("test", "anomaly")] * 2
        ):
            image = f"{category}/Data/Images/{label.title()}/{k:03}.JPG"
            truth = f"{category}/Data/Masks/Anomaly/{k:03}.png" if label == "anomaly" else ""
            picture(root / image)
            if truth:
                save(root / truth, np.eye(SIZE) * (k + 1))  # classes of defects, not 255
            rows.append({"object": category, "split": split, "label": label, "image": image, "mask": truth})
    write_table(root, rows)
    return root


def write_table(root: Path, rows: list[dict[str, str]]) -> None:
    path = root / "split_csv/1cls.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def write_real_iad(
    root: Path, categories: tuple[str, ...] = ("mint", "usb"), json_folder: str = "", image_folder: str = ""
) -> Path:
    """Two training images, then views of a defective part; one view does not show the defect and is OK."""
    (root / json_folder).mkdir(parents=True, exist_ok=True)
    for category in categories:
        lists: dict[str, Any] = {"meta": {"normal_class": "OK"}, "train": [], "test": []}
        for split, kind, view in [
            *[("train", "OK", 1), ("train", "OK", 2), ("test", "OK", 1)],
            *[("test", "AK", 1), ("test", "AK", 2), ("test", "OK", 3)],
        ]:
            where = "OK/S1" if split == "train" or (view == 1 and kind == "OK") else "NG/AK/S2"
            name = f"{where}/{category}_{split}_{kind}_C{view}"
            picture(root / image_folder / category / f"{name}.jpg")
            truth = f"{name}.png" if kind != "OK" else None
            if truth:
                mask(root / image_folder / category / truth)
            entry = {"category": category, "anomaly_class": kind, "image_path": f"{name}.jpg", "mask_path": truth}
            lists[split].append(entry)
        (root / json_folder / f"{category}.json").write_text(json.dumps(lists))
    return root


def write_mvtec3d(root: Path, categories: tuple[str, ...] = ("bagel", "foam")) -> Path:
    for category in categories:
        for name in ("train/good/000", "train/good/001", "validation/good/000", "test/good/000", "test/cut/000"):
            split, kind, stem = name.split("/")
            folder = root / category / split / kind
            picture(folder / "rgb" / f"{stem}.png")
            (folder / "xyz").mkdir(exist_ok=True)
            (folder / "xyz" / f"{stem}.tiff").write_bytes(b"depth, never read")
            if split == "test":
                save(folder / "gt" / f"{stem}.png", np.eye(SIZE) * (255 if kind == "cut" else 0))
    return root


def write_meta_json(root: Path) -> Path:
    """A tree of its own shape, named by meta.json only; category "coat" has no masks at all."""
    lists: dict[str, dict[str, Any]] = {"train": {}, "test": {}}
    for category in ("coat", "bolt"):
        for k, (split, kind) in enumerate([("train", "good"), ("test", "good"), ("test", "tear"), ("test", "")]):
            image = f"pictures/{category}/{k}.png"
            truth = f"truth/{category}_{k}.png" if kind != "good" and category == "bolt" else ""
            picture(root / image)
            if truth:
                mask(root / truth)
            entry = {"img_path": image, "mask_path": truth, "cls_name": category, "specie_name": kind}
            lists[split].setdefault(category, []).append(entry | {"anomaly": int(kind != "good")})
    (root / "meta.json").write_text(json.dumps(lists))
    return root


def coco_annotations(objects: Sequence[tuple[int, int, Any]], images: Sequence[int]) -> dict[str, Any]:
    """COCO's instance annotations: `objects` is (image id, class position 0..79, segment); ids have gaps as there."""
    ids = [k + 1 + k // 11 for k in range(80)]
    return {
        "categories": [{"id": i, "name": f"class {i}"} for i in reversed(ids)],
        "images": [{"id": i, "file_name": f"{i:012}.jpg", "height": 10, "width": 16} for i in images],
        "annotations": [
            {"id": k, "image_id": i, "category_id": ids[position], "segmentation": segment, "iscrowd": 0}
            for k, (i, position, segment) in enumerate(objects)
        ],
    }


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    return [x0, y0, x1, y0, x1, y1, x0, y1]


RUNS = {"size": [10, 16], "counts": [0, 10, 150]}  # column by column: the first column, whole
COCO_VAL = [
    (1, 0, [rectangle(2, 3, 6, 8), rectangle(10, 0, 12, 2)]),  # a person in two parts
    (1, 19, RUNS),  # and another class of split 0, as run lengths
    (1, 20, [rectangle(0, 0, 16, 10)]),  # a class of split 1, everywhere
    (2, 79, [rectangle(4, 4, 8, 8)]),  # split 3 only
]
COCO_TRAIN = [(11, 0, [rectangle(0, 0, 3, 3)]), (12, 20, [rectangle(0, 0, 3, 3)]), (13, 79, RUNS), (13, 20, RUNS)]


def write_coco(root: Path) -> Path:
    """Image 3 of val2017 and 14 of train2017 have no annotations and belong to no split."""
    for part, objects, images in (("val", COCO_VAL, (1, 2, 3)), ("train", COCO_TRAIN, (11, 12, 13, 14))):
        for i in images:
            path = root / f"{part}2017/{i:012}.jpg"
            save(path, np.random.default_rng(i).integers(0, 256, (10, 16, 3)))
        path = root / f"annotations/instances_{part}2017.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(coco_annotations(objects, images)))
    return root


WRITERS: dict[str, Callable[[Path], Path]] = {
    "mvtec_ad": write_mvtec_ad,
    "visa": write_visa,
    "realiad": write_real_iad,
    "medical": write_medical,
    "mvtec3d": write_mvtec3d,
    "meta_json": write_meta_json,
}
"""Trees of several categories by their data set."""
TREES: dict[str, Callable[[Path], Path]] = WRITERS | {
    "coco0": write_coco,
    "folder": write_category,
    "synthetic": lambda root: write_mvtec_ad(root, ("gear", "resistor")),
}
"""Trees by the data set that has to be recognised."""


def deep_and_turned(folder: Path) -> list[Path]:
    """A 16-bit grey PNG, mostly above 255, and a JPEG that its EXIF orientation turns by a quarter."""
    rng = np.random.default_rng(3)
    deep, turned = folder / "deep.png", folder / "turned.jpg"
    Image.fromarray(rng.integers(0, 2**16, (70, 50), dtype=np.uint16)).save(deep)
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.repeat(np.arange(0, 200, 4, dtype=np.uint8)[:, None], 70, axis=1)
    Image.fromarray(pixels).save(turned, exif=exif)
    return [deep, turned]
