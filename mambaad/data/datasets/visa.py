"""The layout of VisA as its authors distribute it: one table names every image.

    <root>/split_csv/1cls.csv                          columns object, split, label, image, mask
    <root>/<object>/Data/Images/{Normal,Anomaly}/...
    <root>/<object>/Data/Masks/Anomaly/...

Source: Zou et al., "SPot-the-Difference Self-Supervised Pre-training for Anomaly Detection and Segmentation", 2022.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from mambaad.data.sample import (
    DatasetError,
    OnFault,
    Sample,
    checked_sample,
    listed_file,
    raise_fault,
    report_repeats,
    select_categories,
)

TABLE = "split_csv/1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")


def load_visa(root: str | Path, categories: Sequence[str] = (), on_fault: OnFault = raise_fault, /) -> list[Sample]:
    """The samples of the named categories (`object` in the table), or of all, by name; kind of defect: "anomaly".

    Raises DatasetError if the root or its table is missing or not of this form, a category is unknown, a listed file
    is missing, or a defective image has no mask. Sizes of masks are left to `mambaad data check`.
    """
    root = Path(root)
    index = root / TABLE
    if not index.is_file():
        converted = any((p / "train" / "good").is_dir() for p in root.iterdir()) if root.is_dir() else False
        hint = "; the folders are in MVTec AD layout: load them as mvtec_ad" if converted else ""
        raise DatasetError(f"{index}: no such file, expected VisA's table of all images below its root folder{hint}")
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, restval="")
            missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
            rows = [] if missing else list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{index}: cannot be read as a table ({error}); unpack the data set again") from error
    if missing or not rows:
        lack = f"no column {', '.join(missing)}" if missing else "no row"
        raise DatasetError(f"{index}: expected rows with {', '.join(COLUMNS)}, found {lack}; unpack the data set again")
    chosen = select_categories(root, sorted({row["object"] for row in rows}), categories)
    samples = []
    for category in chosen:
        for row in (row for row in rows if row["object"] == category):
            split, label = row["split"], row["label"]
            if split not in ("train", "test") or label not in ("normal", "anomaly"):
                on_fault(
                    f"{index}: expected split train or test and label normal or anomaly, got {split!r} and {label!r}; "
                    "unpack the data set again"
                )
                continue
            image = listed_file(root, row["image"], index, on_fault)
            if image is None:
                continue
            bad = label == "anomaly"
            mask = listed_file(root, row["mask"], index, on_fault) if bad and row["mask"] else None
            sample = Sample(image, category, "train" if split == "train" else "test", label if bad else "good", mask)
            samples.append(checked_sample(sample, index, needs_mask=not row["mask"], on_fault=on_fault))
    order = {name: k for k, name in enumerate(chosen)}
    samples.sort(key=lambda s: (order[s.category], s.split == "test", s.is_defect))
    return report_repeats(samples, index, on_fault)
