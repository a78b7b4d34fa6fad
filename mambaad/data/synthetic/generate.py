"""The synthetic set: four categories that need no download, drawn at any side, with exact masks.

It shows that the pipeline runs; its numbers are not the paper's.  Written in the layout of MVTec AD.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mambaad.data.sample import DatasetError
from mambaad.data.synthetic.drawing import Array, Canvas, canvas
from mambaad.data.synthetic.scenes import fabric, gear, perforated, resistor

VERSION = 1
"""Counts up whenever the same parameters draw other images."""

MANIFEST = "synthetic.json"

_SCENES: dict[str, Callable[[Canvas, np.random.Generator, str, np.random.Generator], Array]] = {
    "fabric": fabric,
    "perforated": perforated,
    "gear": gear,
    "resistor": resistor,
}

SYNTHETIC_DEFECTS: dict[str, tuple[str, ...]] = {
    "fabric": ("scratch", "spot", "missing", "colour"),
    "perforated": ("scratch", "missing", "bent", "contamination"),
    "gear": ("scratch", "spot", "missing", "colour"),
    "resistor": ("missing", "bent", "colour", "contamination"),
}
"""Kinds of defect of each category."""

SYNTHETIC_CATEGORIES: tuple[str, ...] = tuple(_SCENES)

_CHANGE = 18
"""A pixel is defective if the defect moved one of its channels by at least this many of 255 grey levels."""
_AREA = (0.005, 0.08)
"""Smallest and largest share of defective pixels; a defect outside is drawn again elsewhere."""
_SPLITS = {"train": 0, "test": 1}


def draw(
    category: str, side: int, *, seed: int = 0, split: str = "train", index: int = 0, defect: str = "good"
) -> tuple[Array, Array]:
    """One image uint8 (side, side, 3) and its mask bool (side, side).

    The mask is where the defect changed the picture: outside it the image equals, bit for bit, the good one that
    the same arguments draw with `defect="good"`; inside it differs visibly everywhere.
    Raises DatasetError for an unknown category or defect.
    """
    if category not in _SCENES:
        raise DatasetError(f"no synthetic category {category!r}; available: {', '.join(SYNTHETIC_CATEGORIES)}")
    if defect != "good" and defect not in SYNTHETIC_DEFECTS[category]:
        raise DatasetError(f"{category} has no defect {defect!r}; available: {', '.join(SYNTHETIC_DEFECTS[category])}")
    if side < 16:
        raise DatasetError(f"side must be at least 16 pixels, got {side}")
    drawing = canvas(side)
    key = (seed, zlib.crc32(category.encode()), _SPLITS[split], index)

    def scene(kind: str, attempt: int) -> Array:
        flaw = np.random.default_rng((*key, zlib.crc32(kind.encode()), attempt))
        return drawing.pixels(_SCENES[category](drawing, np.random.default_rng(key), kind, flaw))

    good = scene("good", 0)
    mask = np.zeros((side, side), dtype=bool)
    if defect == "good":
        return good, mask
    # Placed at random, a defect may fall mostly on nothing (a hole, the belt): try again, in a fixed order.
    for attempt in range(50):
        image = scene(defect, attempt)
        mask = np.abs(image.astype(np.int16) - good).max(axis=-1) >= _CHANGE
        if _AREA[0] <= mask.mean() <= _AREA[1]:
            return np.where(mask[..., None], image, good), mask
    raise RuntimeError(f"could not place a {defect} on {category} {index} (seed {seed}, side {side})")


def write_synthetic(
    root: str | Path,
    side: int,
    seed: int = 0,
    train: int = 40,
    test: int = 24,
    categories: Sequence[str] = (),
) -> Path:
    """The set in MVTec AD layout under `root`; returns `root`.

    Per category `train` good training images and `test` test images: a third good, the others shared evenly by its
    kinds of defect.  A finished set of the same parameters is reused; one of other parameters, or any other folder
    with something in it, raises DatasetError rather than being replaced.  Safe with several processes at once.
    """
    root = Path(root)
    names = tuple(categories) or SYNTHETIC_CATEGORIES
    unknown = [name for name in names if name not in _SCENES]
    if unknown:
        raise DatasetError(f"no synthetic category {', '.join(unknown)}; available: {', '.join(SYNTHETIC_CATEGORIES)}")
    if train < 1 or test < 0:
        raise DatasetError(f"expected train of at least 1 and test of at least 0 images, got {train} and {test}")
    manifest = {"version": VERSION, "side": side, "seed": seed, "train": train, "test": test, "categories": list(names)}
    if _finished(root, manifest):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        jobs = [job for name in names for job in _plan(name, train, test)]
        with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:  # numpy and Pillow free the lock
            list(pool.map(lambda job: _write(beside, side, seed, *job), jobs))
        (beside / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        beside.chmod(0o755)  # mkdtemp makes it private
        try:
            os.replace(beside, root)
        except OSError:
            # Somebody else was quicker, and a folder with content is not replaced: use theirs.
            if not _finished(root, manifest):
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return root


def _finished(root: Path, manifest: dict[str, Any]) -> bool:
    """Whether `root` holds this set; raises if it holds something else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    path = root / MANIFEST
    there = json.loads(path.read_text()) if path.is_file() else None
    if there != manifest:
        raise DatasetError(
            f"{root}: expected an empty folder or the synthetic set {manifest}, found "
            f"{there or 'other files'}; name another folder or delete it"
        )
    return True


def _plan(category: str, train: int, test: int) -> list[tuple[str, str, str, int, int]]:
    """(category, split, defect, number of the file in its folder, index of the drawing) of every image."""
    jobs = [(category, "train", "good", n, n) for n in range(train)]
    good, kinds = test // 3, SYNTHETIC_DEFECTS[category]
    jobs += [(category, "test", "good", n, n) for n in range(good)]
    jobs += [(category, "test", kinds[n % len(kinds)], n // len(kinds), good + n) for n in range(test - good)]
    return jobs


def _write(root: Path, side: int, seed: int, category: str, split: str, defect: str, number: int, index: int) -> None:
    image, mask = draw(category, side, seed=seed, split=split, index=index, defect=defect)
    path = root / category / split / defect / f"{number:03d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    if defect != "good":
        path = root / category / "ground_truth" / defect / f"{number:03d}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
