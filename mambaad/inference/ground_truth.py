"""What is known about predicted images: good or defective, their masks, and the metrics that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mambaad.data import DatasetError, Sample
from mambaad.data.datasets.mvtec_ad import images_in
from mambaad.data.transforms import load_mask
from mambaad.inference.threshold import Threshold, category_for
from mambaad.metrics import per_category
from mambaad.metrics.per_category import CategoryMetrics, Piece, measure_category

EXACT_BYTES = 2 * 2**30  # float32 maps of one category in memory; beyond it metrics come from histograms
BATCH = 32


def find_truth(images: Sequence[Path], root: str | Path, ground_truth: str | Path | None = None) -> list[Sample] | None:
    """What the images' folders tell about them, as samples; None if they tell nothing.

    An image is good if the folder it lies in is called "good", otherwise defective, and its mask is the image file
    called <stem>_mask or <stem> in the folder of the same name below the ground truth. Without `ground_truth` the
    images must lie in test/<kind>, with ground_truth/<kind> beside test.

    Args:
        root: the folder predicted.
        ground_truth: folder of masks, with the same folders as `root`.

    Raises:
        DatasetError: no such folder; a defective image without a mask; two images or two masks that differ in their
            suffixes alone.
    """
    if ground_truth is not None and not Path(ground_truth).is_dir():
        raise DatasetError(f"{ground_truth} does not exist: a folder of masks was expected as ground truth")
    samples = []
    drawn: dict[Path, dict[str, Path]] = {}
    """Masks by folder and stem."""
    for image in images:
        kind = image.parent.absolute().name  # absolute: "." has no name
        if ground_truth is not None:
            relative = image.parent.relative_to(root) if image.parent.is_relative_to(root) else Path()
            folder, category = Path(ground_truth) / relative, relative.parts[0] if len(relative.parts) > 1 else "all"
        else:
            test = image.parent.resolve().parent  # an image may be a link to a file elsewhere
            folder, category = test.parent / "ground_truth" / kind, test.parent.name
            if test.name != "test" or not (test.parent / "ground_truth").is_dir():
                return None
        if kind == "good":
            samples.append(Sample(image, category, "test"))
            continue
        if folder not in drawn:
            drawn[folder] = _by_stem(images_in(folder), "masks")
            if drawn[folder]:
                _by_stem(images_in(image.parent), "images")
        mask = drawn[folder].get(f"{image.stem}_mask", drawn[folder].get(image.stem))
        if mask is None:
            raise DatasetError(
                f"{image}: no mask {image.stem}_mask.png in {folder}; add it, or put good images into folders named "
                "good"
            )
        samples.append(Sample(image, category, "test", kind, mask))
    return samples


def _by_stem(paths: Sequence[Path], what: str) -> dict[str, Path]:
    """Files by their names without suffix, by which images and masks find each other.  Raises DatasetError if two of
    them have one name."""
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise DatasetError(
                f"{path.parent}: {what} {found[path.stem].name} and {path.name} have one name, so it cannot be told "
                "which mask belongs to which image; rename one of them"
            )
        found[path.stem] = path
    return found


def measure(
    samples: Sequence[Sample],
    side: int,
    load_map: Callable[[Path], np.ndarray],
    score: Callable[[Path], float],
    threshold: Threshold | None = None,
    by_category: Mapping[str, Threshold] | None = None,
    exact_bytes: int = EXACT_BYTES,
) -> dict[str, Any]:
    """Metrics in percent as `mambaad.engine.evaluate.evaluate_samples` gives them, from maps that are there already.

    With a threshold also "threshold": the share (0..1) of good images called anomalous and of defective ones, the
    number of both, and the "value" that all were compared with, or where there were several, "values": those by
    category, under "" that of other images.

    Args:
        side: of the maps, in pixels.
        load_map: the float32 map (side, side) of an image.
        score: the score of an image.
        threshold: of images that none of their category is known for.
        by_category: thresholds of single categories, as `mambaad.inference.threshold.threshold_for` takes them.
        exact_bytes: maps of a category larger than this are measured from histograms, not exactly.

    Raises:
        DatasetError: a mask cannot be read.
    """
    limits = {**(by_category or {}), **({} if threshold is None else {"": threshold})}
    used: dict[str, float] = {}
    called: dict[bool, list[bool]] = {False: [], True: []}

    def pieces(own: list[Sample]) -> Iterator[Piece]:
        for start in range(0, len(own), BATCH):
            some = own[start : start + BATCH]
            maps = np.stack([load_map(sample.image) for sample in some])
            scores = [score(sample.image) for sample in some]
            for sample, own_score in zip(some, scores, strict=True):
                name = category_for(sample.image.absolute(), by_category or {})
                if name in limits:
                    used[name] = limits[name].value
                    called[sample.is_defect].append(limits[name].exceeded_by(own_score))
            masks = np.stack([_mask(sample, side) for sample in some])
            yield maps, masks, [sample.is_defect for sample in some], scores

    found: dict[str, CategoryMetrics] = {}
    for category in dict.fromkeys(sample.category for sample in samples):
        own = [sample for sample in samples if sample.category == category]
        found[category] = measure_category(pieces(own), len(own), side, exact_bytes)
    report: dict[str, Any] = per_category.report(found)
    if used:
        one = len(set(used.values())) == 1
        report["threshold"] = {"value": next(iter(used.values()))} if one else {"values": used}
        for kind, rate, number in (
            (False, "false_positive_rate", "good_images"),
            (True, "true_positive_rate", "defective_images"),
        ):
            over = called[kind]
            report["threshold"] |= {rate: sum(over) / len(over) if over else None, number: len(over)}
    return report


def _mask(sample: Sample, side: int) -> np.ndarray:
    return np.zeros((side, side), dtype=bool) if sample.mask is None else load_mask(sample.mask, side).numpy()
