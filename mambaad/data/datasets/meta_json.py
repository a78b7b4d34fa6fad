"""Any data set with the index of the later benchmark repository: one `meta.json` names every image.

    <root>/meta.json    {"train": {<category>: [entry, ...]}, "test": {<category>: [entry, ...]}}
    entry               {"img_path": ..., "mask_path": ..., "cls_name": ..., "specie_name": ..., "anomaly": 0 or 1}

Paths are below the root. The mask's is empty for good images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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

    img_path: str
    anomaly: Literal[0, 1]
    mask_path: str | None = None
    specie_name: str | None = None


SPLITS: dict[str, Literal["train", "test"]] = {"train": "train", "validation": "train", "test": "test"}
"""What each split of an index is used for: that of MVTec 3D-AD has good images for validation, which are trained on."""


def load_meta_json(
    root: str | Path, categories: Sequence[str] = (), on_fault: OnFault = raise_fault, /
) -> list[Sample]:
    """The samples of the named categories, or of all, in the index's order; good validation images are for training.

    A category whose index names no mask at all counts for the metrics of whole images only.

    Raises DatasetError if the index is missing or not of this form, a category is unknown, a listed file is missing,
    or only some of a category's defective images have masks. Sizes of masks are left to `mambaad data check`.
    """
    root = Path(root)
    index = root / "meta.json"
    if not index.is_file():
        raise DatasetError(f"{index}: no such file, expected the index of all images; name the folder that holds it")
    content = read_json(index)
    for split in ("train", "test"):
        if not isinstance(content, dict) or not isinstance(content.get(split), dict):
            raise DatasetError(f"{index}: expected 'train' and 'test' with a list per category, found no {split!r}")
    if unknown := sorted(set(content) - set(SPLITS)):
        raise DatasetError(
            f"{index}: expected the splits {', '.join(SPLITS)}, found also {', '.join(map(repr, unknown))}; "
            "remove them from the index, or move their images into one of the others"
        )
    lists = {name: content.get(name, {}) for name in SPLITS}
    for name, by_category in lists.items():
        wrong = not isinstance(by_category, dict) or not all(isinstance(v, list) for v in by_category.values())
        if wrong:
            raise DatasetError(f"{index}: expected a list of images for every category of {name!r}; correct the index")
    samples = []
    known = list(dict.fromkeys(category for by_category in lists.values() for category in by_category))
    for category in select_categories(root, known, categories):
        entries = [(SPLITS[name], e) for name in SPLITS for e in lists[name].get(category, [])]
        has_masks = any(isinstance(e, dict) and e.get("anomaly") and e.get("mask_path") for _, e in entries)
        for split, entry in entries:
            sample = _sample(entry, root, category, split, index, has_masks, on_fault)
            if sample is not None:
                samples.append(sample)
    return report_repeats(samples, index, on_fault)


def _sample(
    entry: object,
    root: Path,
    category: str,
    split: Literal["train", "test"],
    index: Path,
    has_masks: bool,
    on_fault: OnFault,
) -> Sample | None:
    try:
        fields = parse(Entry, entry, others=True)
    except ValueError as error:
        on_fault(f"{index}: expected entries with img_path and anomaly 0 or 1: {error}; correct the index")
        return None
    image = listed_file(root, fields.img_path, index, on_fault)
    if image is None:
        return None
    kind = "good"
    if fields.anomaly:
        kind = fields.specie_name or "anomaly"
        kind = "anomaly" if kind == "good" else kind  # the flag decides, the name only groups
    mask = listed_file(root, fields.mask_path, index, on_fault) if fields.anomaly and fields.mask_path else None
    sample = Sample(image, category, "train" if split == "train" else "test", kind, mask)
    return checked_sample(sample, index, needs_mask=has_masks and not fields.mask_path, on_fault=on_fault)
