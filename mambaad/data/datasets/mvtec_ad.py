"""The layout of MVTec AD: one folder per category.

    <root>/<category>/train/good/000.png
    <root>/<category>/test/good/000.png
    <root>/<category>/test/<defect>/000.png
    <root>/<category>/ground_truth/<defect>/000_mask.png

The synthetic set is written in it too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mambaad.data.pixels import image_size
from mambaad.data.sample import DatasetError, OnFault, Sample, raise_fault, select_categories

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


OTHER_FORMATS = (".heic", ".heif", ".avif", ".jxl", ".gif", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".psd")
"""Photographs and pictures that are not read."""


def of_other_formats(folder: Path) -> str:
    """What to say of photographs below a folder whose formats are not read; nothing if there are none."""
    found = Counter(p.suffix.lower() for p in folder.rglob("*") if p.suffix.lower() in OTHER_FORMATS)
    if not found:
        return ""
    kinds = ", ".join(f"{suffix} ({number})" for suffix, number in sorted(found.items()))
    return f"left out, since their formats are not read: {kinds}; save them as PNG or JPEG"


def images_in(folder: Path) -> list[Path]:
    """The image files directly in `folder`, by name; hidden files are not images."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


def folders_in(folder: Path) -> list[Path]:
    """The folders directly in `folder`, by name, without hidden ones, which programs put there; none without it."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def kinds_in(folder: Path, on_fault: OnFault) -> list[str]:
    """Names of the folders in `folder`, "good" first; none if it does not exist.

    Of a "Good" `on_fault` is told, and it is left out: its images would count as defective.
    """
    kinds = [path.name for path in folders_in(folder)]
    for kind in kinds:
        if kind.lower() == "good" != kind:
            on_fault(f"{folder / kind}: rename it to good, the name of the folder of good images")
    return sorted((k for k in kinds if k == "good" or k.lower() != "good"), key=lambda kind: (kind != "good", kind))


def load_category(
    folder: Path,
    category: str,
    *,
    masks: bool = True,
    sizes: bool = True,
    by_position: bool = False,
    on_fault: OnFault = raise_fault,
) -> list[Sample]:
    """The samples of one category: train, test/good, then the defects by name.

    Args:
        masks: every defective image must have one; otherwise masks are taken where they are.
        sizes: a mask must have its image's size.
        by_position: pair images and masks of a defect whose names do not match as they stand in the order of their
            names, if there are as many of both.
        on_fault: is told of faults, with the folder or file and what was expected.
    """
    train = images_in(folder / "train" / "good")
    if not train:
        on_fault(
            f"{folder / 'train' / 'good'}: expected good training images ({', '.join(IMAGE_SUFFIXES)}), found none"
        )
    samples = [Sample(path, category, "train") for path in train]
    for kind in kinds_in(folder / "test", on_fault):
        drawn = images_in(folder / "ground_truth" / kind) if kind != "good" else []
        images = images_in(folder / "test" / kind)
        truth = {path.stem: path for path in drawn}
        found = [truth.get(f"{path.stem}_mask", truth.get(path.stem)) for path in images]
        if by_position and None in found and len(drawn) == len(images):
            found = list(drawn)
        elif truth:
            refuse_doubles(images, "images", on_fault)
            refuse_doubles(drawn, "masks", on_fault)
        for path, mask in zip(images, found, strict=True):
            if kind != "good" and masks and mask is None:
                expected = folder / "ground_truth" / kind / f"{path.stem}_mask.png"
                on_fault(f"{path}: a defective image without a mask, expected {expected}")
            if mask is not None and sizes:
                _compare_sizes(path, mask, on_fault)
            samples.append(Sample(path, category, "test", kind, mask))
    return samples


def refuse_doubles(paths: Sequence[Path], what: str, on_fault: OnFault) -> None:
    """Tell `on_fault` of files in one folder whose names differ in their suffix alone: images and masks find each other
    by their names without it."""
    for stem, number in Counter(path.stem for path in paths).items():
        if number > 1:
            where = paths[0].parent
            on_fault(f"{where}: {number} {what} are called {stem}, so their masks cannot be told; rename them")


def _compare_sizes(image: Path, mask: Path, on_fault: OnFault) -> None:
    try:
        expected, got = image_size(image), image_size(mask, "a mask")
    except DatasetError as error:
        on_fault(str(error))
        return
    if got != expected:
        on_fault(f"{mask}: expected a mask of its image's size {expected} (width, height), got {got}")


def load_mvtec_ad(
    root: str | Path, categories: Sequence[str] = (), on_fault: OnFault = raise_fault, /, *, sizes: bool = True
) -> list[Sample]:
    """The samples of the named categories, in the order given; of all, by name, if none is named.

    Where no category has a folder ground_truth, defective images count for the metrics of whole images only.

    Raises DatasetError if the root does not exist or holds no category, if a category is unknown (the message
    lists those there), has no training images, or a defective image has no mask of its size.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder, expected one folder per category (MVTec AD layout)")
    available = [p.name for p in folders_in(root) if (p / "train").is_dir()]
    if not available:
        hint = "; it looks like a single category: name the folder above it" if (root / "train").is_dir() else ""
        raise DatasetError(f"{root}: expected folders <category>/train/good (MVTec AD layout), found none{hint}")
    chosen = select_categories(root, available, categories)
    masks = any((root / name / "ground_truth").is_dir() for name in available)
    return [
        sample
        for name in chosen
        for sample in load_category(root / name, name, masks=masks, sizes=sizes, on_fault=on_fault)
    ]
