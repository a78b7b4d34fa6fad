"""A plain folder of one's own images.

<root>/train/good/...            good images to learn from
<root>/test/<anything>/...       optional; "good" for good ones, any other name is a kind of defect
<root>/ground_truth/<anything>/  optional masks, <name>_mask.png or <name>.png for test image <name>
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mambaad.data.datasets.mvtec_ad import folders_in, load_category
from mambaad.data.sample import DatasetError, OnFault, Sample, raise_fault


def load_folder(root: str | Path, categories: Sequence[str] = (), on_fault: OnFault = raise_fault, /) -> list[Sample]:
    """The samples of one folder; the category is the folder's name.

    Without a folder ground_truth, defective images count for the metrics of whole images only.

    Raises DatasetError if the folder or its training images are missing, if another category is asked for, or if
    only some of a folder's defective images have masks (then the rest would silently count as good pixels).
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder, expected one with train/good")
    name = root.resolve().name
    unknown = [category for category in categories if category != name]
    if unknown:
        raise DatasetError(f"{root}: no category {', '.join(unknown)}; available: {name} (a plain folder is one)")
    if not (root / "train").is_dir():
        inner = [p.name for p in folders_in(root) if (p / "train").is_dir()]
        hint = f"; {', '.join(inner)} look like categories: load the folder as mvtec_ad" if inner else ""
        raise DatasetError(f"{root}: expected a folder train/good with good images, found none{hint}")
    return load_category(root, name, masks=(root / "ground_truth").is_dir(), on_fault=on_fault)
