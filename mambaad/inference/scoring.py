"""Maps and scores of image files, one after the other: whole or in tiles, everywhere or in a region."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from mambaad.baselines import Method
from mambaad.baselines.method import scores_of
from mambaad.data import DatasetError
from mambaad.data.pixels import image_size, read_mask, read_rgb
from mambaad.data.tiles import Tiling
from mambaad.data.transforms import load_image, normalise
from mambaad.device import resolve_device
from mambaad.inference.tiles import check_shape, inside, tiled_map
from mambaad.model import check_side
from mambaad.progress import Bar
from mambaad.progress import progress as show_progress


def score_files(
    model: Method,
    images: Sequence[Path],
    side: int,
    *,
    tiling: Tiling | None = None,
    region: str | Path | None = None,
    batch_size: int = 8,
    device: str = "auto",
    progress: bool = True,
) -> tuple[dict[Path, float], dict[Path, str]]:
    """Scores of image files, and the reasons for those that cannot be read.  Writes nothing.  Raises ValueError as
    `predict_files`."""
    check_side(model.config, side, side)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    failed: dict[Path, str] = {}
    with show_progress(len(images), "scores", progress, unit="image") as bar:
        target, counts = resolve_device(device), None if region is None else read_mask(region)
        maps = predicted(model, images, side, batch_size, target, failed, bar, tiling, counts)
        return {path: score_of(model, anomaly_map) for path, anomaly_map in maps}, failed


def score_of(model: Method, anomaly_map: np.ndarray) -> float:
    """The score of an image, from its map (H, W): whole, joined from tiles, or in a region."""
    return float(scores_of(model, torch.from_numpy(anomaly_map)[None]))


def predicted(
    model: Method,
    images: Sequence[Path],
    side: int,
    batch_size: int,
    device: torch.device,
    failed: dict[Path, str],
    bar: Bar,
    tiling: Tiling | None,
    region: np.ndarray | None,
) -> Iterator[tuple[Path, np.ndarray]]:
    """Images and their maps, in order; what cannot be read goes to `failed` with its reason instead.

    Args:
        tiling: None: maps are (side, side); else of the images' own size.
        region: bool (H, W), True where an image counts.

    Raises:
        ValueError: a region without a pixel, or of another shape than an image.
    """
    if region is not None:  # before the first image: one of another shape must not cost the work done until it comes
        for path in images:
            with suppress(DatasetError):  # told when the image is read
                check_shape(region, *image_size(path), str(path))
    model.to(device).eval()
    whole = _whole(model, images, side, batch_size, device, failed, bar)
    found = whole if tiling is None else _tiled(model, images, side, batch_size, device, failed, bar, tiling)
    for path, anomaly_map in found:
        yield path, anomaly_map if region is None else inside(region, anomaly_map)


def _whole(
    model: Method,
    images: Sequence[Path],
    side: int,
    batch_size: int,
    device: torch.device,
    failed: dict[Path, str],
    bar: Bar,
) -> Iterator[tuple[Path, np.ndarray]]:
    for start in range(0, len(images), batch_size):
        batch = {}
        for path in images[start : start + batch_size]:
            try:
                batch[path] = load_image(path, side, model.config.mean, model.config.std)
            except DatasetError as error:
                failed[path] = str(error)
        if batch:
            prediction = model.predict(torch.stack(list(batch.values())).to(device))
            yield from zip(batch, prediction.anomaly_map.float().cpu().numpy(), strict=True)
        bar.update(min(batch_size, len(images) - start))


def _tiled(
    model: Method,
    images: Sequence[Path],
    side: int,
    batch_size: int,
    device: torch.device,
    failed: dict[Path, str],
    bar: Bar,
    tiling: Tiling,
) -> Iterator[tuple[Path, np.ndarray]]:
    def predict(tiles: np.ndarray) -> np.ndarray:
        batch = torch.stack([normalise(tile, model.config.mean, model.config.std) for tile in tiles])
        return model.predict(batch.to(device)).anomaly_map.float().cpu().numpy()

    for path in images:
        try:
            pixels = np.asarray(read_rgb(path))
        except DatasetError as error:
            failed[path] = str(error)
        else:
            yield path, tiled_map(pixels, side, tiling, predict, batch_size)
        bar.update(1)
