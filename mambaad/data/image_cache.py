"""Decoded and resized images, kept once per data set and side as a memory map of 8-bit pixels.

Decoding and resizing a photograph costs many times what reading its small version back costs, so training and
evaluation on large data sets wait for it in every epoch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mambaad.data.pixels import read_mask, read_rgb, resize_mask, resize_rgb
from mambaad.data.row_store import Fill, RowStore, open_rows
from mambaad.data.sample import DatasetError, Sample
from mambaad.progress import progress as show_progress

PIXEL_RULE = 1
"""Counts up whenever the same file gives other pixels (see `pixels`); every cache is then built again."""

_CHUNK = 64  # images decoded side by side
_THREADS = 8


def default_cache_dir() -> Path:
    """Folder of the caches: the environment variable MAMBAAD_CACHE, else ~/.cache/mambaad/images."""
    named = os.environ.get("MAMBAAD_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "mambaad" / "images"


@dataclass(frozen=True)
class ImageCache:
    """The images and masks of a list of samples at one side."""

    images: RowStore
    masks: RowStore | None
    mask_rows: dict[int, int]
    """Row in `masks` of each sample that has a mask."""

    def image(self, index: int) -> np.ndarray:
        """Pixels of a sample, uint8 (side, side, 3), read-only."""
        return self.images.arrays["pixels"][index]

    def mask(self, index: int) -> np.ndarray | None:
        """Mask of a sample, bool (side, side), read-only; None if it has none."""
        row = self.mask_rows.get(index)
        return None if row is None or self.masks is None else self.masks.arrays["defect"][row]


def open_image_cache(
    samples: Sequence[Sample], side: int, cache_dir: str | Path | None = None, *, progress: bool = True
) -> ImageCache:
    """The cache of these samples; images that are not in it, or changed since, are decoded first.

    A file has changed if its size or its modification time is another.  Takes side * side * 3 bytes per image and
    side * side per mask in a folder of its own below `cache_dir` (default: `default_cache_dir()`), which may be
    deleted at any time.  Several processes may open the same cache at once: one builds it.

    Raises:
        DatasetError: no samples, or a file that is missing or unreadable (named); what was decoded is kept.
        CacheError: a folder that cannot be written or has too little room.
    """
    if not samples:
        raise DatasetError("expected at least one sample, got an empty list")
    if len({sample.upright for sample in samples}) > 1:
        raise DatasetError("expected images that are all turned as EXIF says, or none; open a cache for each kind")
    folder = default_cache_dir() if cache_dir is None else Path(cache_dir)
    upright = all(sample.upright for sample in samples)
    about = {"pixel rule": PIXEL_RULE, "side": side} | ({} if upright else {"upright": False})
    images = [sample.image for sample in samples]
    pixels = open_rows(
        folder,
        f"images_{side}px",
        about,
        images,
        {"pixels": ((side, side, 3), "uint8")},
        _decoder(images, lambda path: resize_rgb(read_rgb(path, upright), side), "decode images", progress),
    )
    with_mask = [(index, sample.mask) for index, sample in enumerate(samples) if sample.mask is not None]
    if not with_mask:
        return ImageCache(pixels, None, {})
    masks = [mask for _, mask in with_mask]
    defects = open_rows(
        folder,
        f"masks_{side}px",
        about,
        masks,
        {"defect": ((side, side), "bool")},
        _decoder(masks, lambda path: resize_mask(read_mask(path, upright), side), "decode masks", progress),
    )
    return ImageCache(pixels, defects, {index: row for row, (index, _) in enumerate(with_mask)})


def _decoder(paths: Sequence[Path], read: Callable[[Path], np.ndarray], label: str, progress: bool) -> Fill:
    """Reads rows in threads: Pillow decodes and resizes without Python's lock."""

    def fill(rows: list[int]) -> Iterator[tuple[Sequence[int], Sequence[np.ndarray]]]:
        threads = min(_THREADS, os.cpu_count() or 1)
        with (
            ThreadPoolExecutor(threads) as pool,
            show_progress(len(rows), label, progress, unit="file") as bar,
        ):
            for start in range(0, len(rows), _CHUNK):
                chunk = rows[start : start + _CHUNK]
                yield chunk, [np.stack(list(pool.map(read, [paths[row] for row in chunk])))]
                bar.update(len(chunk))

    return fill
