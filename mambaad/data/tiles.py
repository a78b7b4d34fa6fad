"""Square tiles of photographs that are larger than a network's input: where they lie, and as files to train on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mambaad.data.contents import content_hashes
from mambaad.data.datasets.mvtec_ad import images_in
from mambaad.data.pixels import read_rgb
from mambaad.data.sample import DatasetError
from mambaad.files import atomic_path, write_text
from mambaad.progress import tracked

SOURCES = ".photographs"
"""File beside tiles with the hashes of the photographs: a threshold must not be calibrated on them."""
LARGEST_TILE = 16384  # pixels; a smaller photograph is mirrored up to a whole tile, which has to fit into memory


@dataclass(frozen=True)
class Tiling:
    """Square tiles that overlap."""

    tile: int
    """Side of a tile in the photograph's pixels. Tiles are resized to the network's side; where both are equal, the
    network sees the photograph's own pixels."""
    overlap: float = 0.25
    """Share of a tile that it has in common with the next one, at least."""

    def __post_init__(self) -> None:
        if not 8 <= self.tile <= LARGEST_TILE:
            raise ValueError(f"a tile must have a side of 8 to {LARGEST_TILE} pixels, got {self.tile}")
        if not 0 <= self.overlap <= 0.9:
            raise ValueError(f"tiles must overlap by a share of 0 to 0.9 of their side, got {self.overlap:g}")


def starts(length: int, tiling: Tiling) -> list[int]:
    """First pixels of the tiles along one axis: spread evenly, the first at 0, the last one ending at `length`.

    Example:
        >>> starts(1000, Tiling(400, 0.25))
        [0, 300, 600]
        >>> starts(300, Tiling(400))
        [0]
    """
    rest = length - tiling.tile
    if rest <= 0:
        return [0]
    steps = math.ceil(rest / max(1, math.floor(tiling.tile * (1 - tiling.overlap))))
    return [round(step * rest / steps) for step in range(steps + 1)]


def mirrored(pixels: np.ndarray, tile: int) -> np.ndarray:
    """A photograph (H, W, 3), mirrored at its lower and right edge up to a tile's side where it is smaller."""
    missing = [(0, max(0, tile - length)) for length in pixels.shape[:2]]
    return np.pad(pixels, [*missing, (0, 0)], mode="symmetric") if any(after for _, after in missing) else pixels


def write_tiles(root: str | Path, out: str | Path, tiling: Tiling, progress: bool = True) -> int:
    """Write the tiles of good photographs as PNG files to `<out>/train/good`, to train on; return their number.

    Args:
        root: a folder with train/good, or of photographs alone.

    Raises:
        DatasetError: no photographs, or one that cannot be read; a folder that holds images already, which could be
            tiles of another size.
    """
    root, out = Path(root), Path(out) / "train" / "good"
    good = root / "train" / "good"
    photographs = images_in(good if good.is_dir() else root)
    if not photographs:
        raise DatasetError(f"{root}: expected photographs of good parts, in it or in train/good below it, found none")
    if out.is_dir() and images_in(out):
        raise DatasetError(f"{out} holds images already: name another folder for the tiles, or empty this one")
    # first: tiles of a call that was interrupted can be trained on, too
    write_text(out / SOURCES, "\n".join(content_hashes(photographs)) + "\n")
    count = 0
    for path in tracked(photographs, len(photographs), "tiles", progress, unit="image"):
        pixels = np.asarray(read_rgb(path))
        padded = mirrored(pixels, tiling.tile)
        for y in starts(pixels.shape[0], tiling):
            for x in starts(pixels.shape[1], tiling):
                cut = padded[y : y + tiling.tile, x : x + tiling.tile]
                with atomic_path(out / f"{path.name}_{y}_{x}.png", sync=False) as temporary:
                    Image.fromarray(cut).save(temporary, "PNG")
                count += 1
    return count


def files_behind(images: Iterable[Path], cache: str | Path | None = None) -> list[str]:
    """Hashes of images and of the photographs that they were cut from, each once, in order: what was trained on.

    Args:
        cache: of `content_hashes`.

    Raises DatasetError for a file that cannot be read.
    """
    images = list(images)
    cut_from = [found for folder in {image.parent for image in images} for found in sources(folder)]
    return sorted({*content_hashes(images, cache), *cut_from})


def sources(folder: str | Path) -> list[str]:
    """Hashes of the photographs that the tiles of a folder were cut from; none if it holds no tiles."""
    path = Path(folder) / SOURCES
    return path.read_text(encoding="utf-8").split() if path.is_file() else []
