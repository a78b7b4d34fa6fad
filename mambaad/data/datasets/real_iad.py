"""The layout of Real-IAD as its authors distribute it: one JSON file per category beside the folder of that category.

    <root>/<category>.json             also found in realiad_jsons/, below the root or beside it
    <root>/<category>/<image_path>     also found in realiad_256/, realiad_512/ or realiad_1024/ below the root

A file holds the lists "train" and "test" of {image_path, mask_path, anomaly_class}; class "OK" is good. Every part was
photographed from five views, each a sample of its own. Images of any size are read.

Source: Wang et al., "Real-IAD: A Real-World Multi-View Dataset for Benchmarking Versatile Industrial Anomaly
Detection", 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mambaad.config.parse import parse
from mambaad.data.sample import (
    DatasetError,
    OnFault,
    Sample,
    checked_sample,
    listed_file,
    raise_fault,
    read_json,
    report_repeats,
    select_categories,
)


@dataclass(frozen=True)
class Entry:
    """What is read of an index's entry; it may have more."""

    image_path: str
    anomaly_class: str
    mask_path: str | None = None


JSON_FOLDERS = (
    "",
    "realiad_jsons",
    "realiad_jsons/realiad_jsons",
    "../realiad_jsons",
    "../realiad_jsons/realiad_jsons",
)


def json_files(root: Path) -> dict[str, Path]:
    """The index files by category; the first of the known folders that has some."""
    for name in JSON_FOLDERS:
        found = sorted(p for p in (root / name).glob("*.json") if not p.name.startswith("."))
        if found:
            return {path.stem: path for path in found}
    return {}


def load_real_iad(root: str | Path, categories: Sequence[str] = (), on_fault: OnFault = raise_fault, /) -> list[Sample]:
    """The samples of the named categories, or of all that have an index file and a folder, by name.

    Raises DatasetError if there is no index file or no folder of images, several sizes lie side by side, a category
    is unknown, an index is not of this form, a listed file is missing, or a defective image has no mask. Sizes of
    masks are left to `mambaad data check`.
    """
    root = Path(root)
    indexes = json_files(root)
    if not indexes:
        raise DatasetError(f"{root}: expected Real-IAD's index files <category>.json, found none; unpack them there")
    images = image_folder(root, indexes)
    available = [name for name in indexes if (images / name).is_dir()]
    samples = []
    for category in select_categories(root, available, categories):
        index = indexes[category]
        content = read_json(index)
        mine = []
        for split in ("train", "test"):
            entries = content.get(split) if isinstance(content, dict) else None
            if not isinstance(entries, list):
                raise DatasetError(f"{index}: expected lists 'train' and 'test' of images, found no list {split!r}")
            for entry in entries:
                sample = _sample(entry, images / category, category, split, index, on_fault)
                if sample is not None:
                    mine.append(sample)
        samples += report_repeats(mine, index, on_fault)
    return samples


def image_folder(root: Path, indexes: dict[str, Path]) -> Path:
    """The folder that holds one folder of images per category: the root, or its only realiad_<size>."""
    if any((root / name).is_dir() for name in indexes):
        return root
    sizes = sorted(p for p in root.glob("realiad_*") if any((p / name).is_dir() for name in indexes))
    if len(sizes) == 1:
        return sizes[0]
    if sizes:
        names = ", ".join(p.name for p in sizes)
        raise DatasetError(f"{root}: expected images of one size, found {names}; name one of these folders as the root")
    raise DatasetError(
        f"{root}: expected a folder of images beside <category>.json, found none; unpack the images there"
    )


def _sample(entry: object, folder: Path, category: str, split: str, index: Path, on_fault: OnFault) -> Sample | None:
    try:
        fields = parse(Entry, entry, others=True)
    except ValueError as error:
        on_fault(f"{index}: expected entries with image_path and anomaly_class: {error}; download it again")
        return None
    image = listed_file(folder, fields.image_path, index, on_fault)
    if image is None:
        return None
    kind = fields.anomaly_class
    bad = kind != "OK"
    mask = listed_file(folder, fields.mask_path, index, on_fault) if bad and fields.mask_path else None
    sample = Sample(image, category, "train" if split == "train" else "test", kind if bad else "good", mask)
    return checked_sample(sample, index, needs_mask=not fields.mask_path, on_fault=on_fault)
