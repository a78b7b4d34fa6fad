"""The layout of MVTec 3D-AD, of which the colour images are used.

    <root>/<category>/{train,validation}/good/rgb/000.png
    <root>/<category>/test/<defect>/rgb/000.png
    <root>/<category>/test/<defect>/gt/000.png

The good images of train and validation are both used for training. Depth (xyz) is not read.

Source: Bergmann et al., "The MVTec 3D-AD Dataset for Unsupervised 3D Anomaly Detection and Localization", 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mambaad.data.datasets.mvtec_ad import folders_in, images_in, kinds_in, refuse_doubles
from mambaad.data.sample import DatasetError, OnFault, Sample, raise_fault, select_categories


def load_mvtec3d(root: str | Path, categories: Sequence[str] = (), on_fault: OnFault = raise_fault, /) -> list[Sample]:
    """The samples of the named categories, or of all, by name: train, validation, test/good, the defects by name.

    Raises DatasetError if the root holds no category, a category is unknown, it has no training or validation images,
    a defective image has no mask, or two images or masks of a folder have one name. Sizes of masks are
    left to `mambaad data check`.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder, expected one folder per category (MVTec 3D-AD layout)")
    available = [p.name for p in folders_in(root) if (p / "train" / "good" / "rgb").is_dir()]
    if not available:
        hint = "; it looks like a single category: name the folder above it" if (root / "train").is_dir() else ""
        raise DatasetError(f"{root}: expected folders <category>/train/good/rgb (MVTec 3D-AD layout), found none{hint}")
    samples = []
    for category in select_categories(root, available, categories):
        for split in ("train", "validation"):
            folder = root / category / split / "good" / "rgb"
            images = images_in(folder)
            if not images:
                on_fault(f"{folder}: expected good images (train and validation are both used), found none")
            samples += [Sample(path, category, "train") for path in images]
        for kind in kinds_in(root / category / "test", on_fault):
            folder = root / category / "test" / kind
            images = images_in(folder / "rgb")
            drawn = images_in(folder / "gt") if kind != "good" else []
            truth = {path.stem: path for path in drawn}
            if truth:
                refuse_doubles(images, "images", on_fault)
                refuse_doubles(drawn, "masks", on_fault)
            for path in images:
                mask = truth.get(path.stem)
                if kind != "good" and mask is None:
                    on_fault(f"{path}: a defective image without a mask, expected {folder / 'gt' / path.name}")
                samples.append(Sample(path, category, "test", kind, mask))
    return samples
