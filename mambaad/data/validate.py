"""Validate a data set: every file opened, counts beside the published ones, and what to do about each fault.

A check never stops at the first fault: the loaders hand theirs over, and every image and mask is opened besides.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mambaad.data.datasets.catalog import dataset_named
from mambaad.data.datasets.mvtec_ad import IMAGE_SUFFIXES
from mambaad.data.datasets.spec import Counts, DatasetSpec
from mambaad.data.detect import explain, guess_layout
from mambaad.data.pixels import image_size, read_mask, read_rgb
from mambaad.data.sample import INDEX_FOLDER, DatasetError, Sample, counts
from mambaad.progress import tracked

SPLITS = ("train", "test_good", "test_defect")
NAMES = ("training", "good test", "defective test")


@dataclass(frozen=True)
class Report:
    """What a check found."""

    dataset: str
    """Its name; empty if the layout was not recognised."""
    root: str
    counts: dict[str, dict[str, int]]
    """Images found: `{category: {"train": n, "test_good": n, "test_defect": n}}`."""
    published: dict[str, dict[str, int] | None]
    """The same as published, by category; None where it is not known. Empty for one's own images."""
    published_total: dict[str, int] | None
    """Published sums; None where only some categories were to be checked, or there is only one."""
    opened: int
    """Files opened."""
    quick: bool
    """Only headers were read."""
    problems: tuple[str, ...]
    """Faults, each with what to do; none: the data set is whole."""
    notes: tuple[str, ...]
    """What is worth knowing but no fault."""

    @property
    def ok(self) -> bool:
        return not self.problems


def check_dataset(
    name: str | None,
    root: str | Path,
    categories: Sequence[str] = (),
    *,
    quick: bool = False,
    progress: bool = True,
) -> Report:
    """Read a data set's index and open all its images and masks.

    Args:
        name: the data set; None: recognised from the files.
        categories: those to check; none named: all, and then every published one has to be there.
        quick: read the files' headers only, without decoding them.

    Raises:
        DatasetError: unknown `name`. Faults of the data set itself are in the report.
    """
    named = name is not None
    spec = dataset_named(name) if name is not None else None
    root = Path(root)
    problems: list[str] = []
    notes: list[str] = []
    samples: list[Sample] = []
    try:
        spec = spec or dataset_named(guess_layout(root))
        samples = spec.load(root, categories, problems.append)
    except DatasetError as error:
        problems.append(str(error) + (explain(root, spec.name) if spec else ""))
    name = spec.name if spec else ""
    found = counts(samples)
    published: dict[str, dict[str, int] | None] = {}
    total = None
    if spec is not None and _is_published(spec, found, named):
        published, total = _compare(spec, found, categories, problems)
    opened = _open_all(samples, quick, progress, problems, notes)
    if name and samples and not categories and not name.startswith("coco"):
        _unused(name, root, samples, problems, notes)
    if samples and not any(sample.split == "test" for sample in samples):
        notes.append("there are no test images: a model can be trained, but nothing measured")
    return Report(
        dataset=name,
        root=str(root),
        counts=found,
        published=published,
        published_total=total,
        opened=opened,
        quick=quick,
        problems=tuple(dict.fromkeys(problems)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _is_published(spec: DatasetSpec, found: dict[str, dict[str, int]], named: bool) -> bool:
    """Whether there are counts to compare with: not for one's own images in the layout of MVTec AD.

    Other people have screws and bottles, too: a set that was recognised and not named is MVTec AD if half of its
    categories are there, or one of them with the published counts.
    """
    if spec.total is None or spec.name != "mvtec_ad":
        return spec.total is not None
    known = found.keys() & spec.categories.keys()
    same = any(found[category] == _as_dict(spec.categories[category]) for category in known)
    return 2 * len(known) > len(found) and (named or same or 2 * len(known) >= len(spec.categories))


def _compare(
    spec: DatasetSpec, found: dict[str, dict[str, int]], wanted: Sequence[str], problems: list[str]
) -> tuple[dict[str, dict[str, int] | None], dict[str, int] | None]:
    """Published counts of the categories that are or should be here; differences go to `problems`."""
    theirs = spec.categories
    missing = [category for category in theirs if category not in found and category in (wanted or theirs)]
    if missing and found:
        problems.append(
            f"{len(missing)} of {len(theirs)} categories are missing: {', '.join(missing)}; unpack them, or name the "
            "categories that are wanted with --categories"
        )
    extra = [category for category in found if category not in theirs]
    if extra:
        problems.append(f"not categories of {spec.title}: {', '.join(extra)}; move them elsewhere")
    published = {k: _as_dict(v) for k, v in theirs.items() if k in found or k in missing}
    for category, row in found.items():
        _differences(category, row, published.get(category), problems)
    total = _as_dict(spec.total) if len(theirs) > 1 and not wanted else None
    if None in theirs.values() and found.keys() == theirs.keys():
        _differences("all categories", {k: sum(row[k] for row in found.values()) for k in SPLITS}, total, problems)
    return published, total


def _as_dict(values: Counts | None) -> dict[str, int] | None:
    return None if values is None else dict(zip(SPLITS, values, strict=True))


def _differences(what: str, row: dict[str, int], published: dict[str, int] | None, problems: list[str]) -> None:
    for key, name in zip(SPLITS, NAMES, strict=True):
        if published and row[key] != published[key]:
            problems.append(f"{what}: {row[key]:,} {name} images, published are {published[key]:,}; unpack it again")


def _open_all(samples: Sequence[Sample], quick: bool, progress: bool, problems: list[str], notes: list[str]) -> int:
    """Open every image and mask; returns their number."""
    test = _headers if quick else _decoded
    empty, lossy = [], []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            results = tracked(pool.map(test, samples), len(samples), "check", progress, unit="image")
            for sample, (faults, has_defect) in zip(samples, results, strict=True):
                problems += faults
                if sample.mask is not None and not has_defect:
                    empty.append(sample.mask)
                if sample.mask is not None and sample.mask.suffix.lower() in (".jpg", ".jpeg"):
                    lossy.append(sample.mask)
        except BaseException:  # Ctrl-C must not wait for the images that are still in the queue
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if empty:
        notes.append(f"{len(empty)} masks mark nothing: {_some(empty)}")
    if lossy:
        problems.append(
            f"{len(lossy)} masks are JPEG files, whose compression marks pixels around each defect: {_some(lossy)}; "
            "save masks as PNG"
        )
    bare = sum(sample.is_defect and sample.mask is None for sample in samples)
    if bare and not any("without a mask" in problem for problem in problems):
        notes.append(f"{bare} defective images have no ground truth: only the metrics of whole images count them")
    return len(samples) + sum(sample.mask is not None for sample in samples)


def check_readable(samples: Sequence[Sample], progress: bool = True) -> None:
    """Decode every image and mask.  Raises DatasetError, naming files, if any cannot be read."""

    def fault(sample: Sample) -> str | None:
        try:
            read_rgb(sample.image, sample.upright)
            if sample.mask is not None:
                read_mask(sample.mask, sample.upright)
        except DatasetError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            results = tracked(pool.map(fault, samples), len(samples), "check", progress, unit="image")
            faults = [found for found in results if found is not None]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if faults:
        more = f"; so are {len(faults) - 1} more files" if len(faults) > 1 else ""
        raise DatasetError(f"{faults[0]}{more}")


def _headers(sample: Sample) -> tuple[list[str], bool]:
    def size(path: Path, what: str = "an image") -> tuple[int, int]:
        return image_size(path, what, sample.upright)

    return _sizes(sample, size, lambda path: size(path, "a mask")), True


def _decoded(sample: Sample) -> tuple[list[str], bool]:
    seen = True

    def mask_size(path: Path) -> tuple[int, int]:
        nonlocal seen
        defect = read_mask(path, sample.upright)
        seen = bool(np.any(defect))
        return defect.shape[1], defect.shape[0]

    return _sizes(sample, lambda path: read_rgb(path, sample.upright).size, mask_size), seen


def _sizes(
    sample: Sample, image: Callable[[Path], tuple[int, int]], mask: Callable[[Path], tuple[int, int]]
) -> list[str]:
    """Faults of one image and its mask."""
    faults, sizes = [], []
    for path, read in ((sample.image, image), (sample.mask, mask)):
        if path is not None:
            try:
                sizes.append(read(path))
            except DatasetError as error:
                faults.append(str(error))
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        faults.append(f"{sample.mask}: expected a mask of its image's size {sizes[0]} (width, height), got {sizes[1]}")
    return faults


def _unused(name: str, root: Path, samples: Sequence[Sample], problems: list[str], notes: list[str]) -> None:
    """Files that lie where images belong but belong to no sample."""
    used = {os.path.abspath(p) for sample in samples for p in (sample.image, sample.mask) if p is not None}
    places = ("train", "validation", "test", "ground_truth") if name not in ("visa", "realiad", "meta_json") else ()
    masks, files = [], []
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(d for d in inner if not d.startswith(".") and d != INDEX_FOLDER)
        parts = Path(folder).relative_to(root).parts
        if name == "mvtec3d" and (parts[-1:] == ("xyz",) or parts[-2:] == ("good", "gt")):
            continue
        for file in sorted(names):
            path = Path(folder, file)
            if file.startswith(".") or os.path.abspath(path) in used:
                continue
            if "ground_truth" in parts and parts[-1] != "good":
                masks.append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES or set(parts) & set(places):
                files.append(path)
    if masks:
        problems.append(f"{len(masks)} masks have no image of their name: {_some(masks)}; restore the images")
    if files:
        notes.append(f"{len(files)} files are not used: {_some(files)}")


def _some(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - 3:,} more" if len(paths) > 3 else ""
    return ", ".join(str(path) for path in paths[:3]) + more
