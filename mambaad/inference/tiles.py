"""Photographs larger than the network's input: predicted tile by tile, with one map of the photograph's size.

Axes: H, W height and width of the photograph, T side of a tile in its pixels, S side of the network's input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from mambaad.data.pixels import resize_rgb
from mambaad.data.tiles import Tiling, mirrored, starts

ASPECT_TOLERANCE = 0.01

Predict = Callable[[np.ndarray], np.ndarray]
"""RGB images uint8 (B, S, S, 3) -> float32 maps (B, S, S)."""


def tiled_map(pixels: np.ndarray, side: int, tiling: Tiling, predict: Predict, batch_size: int = 8) -> np.ndarray:
    """The map of a photograph, float32 (H, W), from those of its tiles.

    Where tiles overlap, the map is a mean of theirs with weights that fall to the tiles' edges, so that no seam shows.
    A photograph smaller than a tile is mirrored at its edges up to a tile's size.

    Args:
        pixels: RGB, uint8 (H, W, 3).
        side: S.
        predict: of tiles that are resized to S.
        batch_size: tiles predicted at once.
    """
    height, width = pixels.shape[:2]
    tile = tiling.tile
    padded = mirrored(pixels, tile)
    corners = [(y, x) for y in starts(height, tiling) for x in starts(width, tiling)]
    if len(corners) == 1:
        (only,) = _tile_maps(padded, corners, side, tile, predict, 1)
        return only[:height, :width]
    weights = np.outer(_window(tile), _window(tile))
    total = np.zeros(padded.shape[:2])
    norm = np.zeros(padded.shape[:2])
    for (y, x), own in zip(corners, _tile_maps(padded, corners, side, tile, predict, batch_size), strict=True):
        total[y : y + tile, x : x + tile] += weights * own
        norm[y : y + tile, x : x + tile] += weights
    return (total / norm).astype(np.float32)[:height, :width]


def _tile_maps(
    pixels: np.ndarray, corners: list[tuple[int, int]], side: int, tile: int, predict: Predict, batch_size: int
) -> Iterator[np.ndarray]:
    """float32 (T, T) of each tile."""
    for first in range(0, len(corners), batch_size):
        tiles = [pixels[y : y + tile, x : x + tile] for y, x in corners[first : first + batch_size]]
        if tile != side:
            tiles = [resize_rgb(Image.fromarray(cut), side) for cut in tiles]
        for found in predict(np.stack(tiles)):
            if tile == side:
                yield found
            else:
                yield np.asarray(Image.fromarray(found).resize((tile, tile), Image.Resampling.BILINEAR))


def _window(tile: int) -> np.ndarray:
    """Weights (T,) along one axis: a triangle, positive at the edges, too."""
    rise = np.arange(1, tile + 1)
    return np.minimum(rise, rise[::-1]) / tile


def region_hash(region: np.ndarray | None) -> str:
    """First 16 hex digits of the SHA-256 of a region's size and pixels; "" for none."""
    if region is None:
        return ""
    return hashlib.sha256(repr(region.shape).encode() + np.packbits(region).tobytes()).hexdigest()[:16]


def check_shape(region: np.ndarray, width: int, height: int, name: str) -> None:
    """Raise ValueError if a region (H, W) would be stretched by more than a percent to fit an image of this size."""
    rows, columns = region.shape
    if abs(columns * height - rows * width) > ASPECT_TOLERANCE * rows * width:
        raise ValueError(
            f"{name} has {width} x {height} pixels and the region mask {columns} x {rows}, which is another shape: "
            "draw the mask over such an image, and predict images of one shape at a time"
        )


def inside(region: np.ndarray, anomaly_map: np.ndarray) -> np.ndarray:
    """The map (h, w) where the region lies, elsewhere its smallest value there, so that nothing outside counts.

    Args:
        region: bool (H, W), True where an image counts; resized to the map's size.

    Raises:
        ValueError: a region without a pixel at the map's size.
    """
    height, width = anomaly_map.shape
    image = Image.fromarray(region.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    counts = np.asarray(image) > 127.5
    if not counts.any():
        raise ValueError(
            "the region has no pixel: its mask must be above 0 where images count, over an area that remains at the "
            "map's size"
        )
    return np.where(counts, anomaly_map, anomaly_map[counts].min())
