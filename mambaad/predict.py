"""Anomaly scores and maps of image files, written to a folder.

Images are processed in batches and written as they come: memory does not grow with their number.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from mambaad.data import DatasetError, load_image
from mambaad.data.transforms import read_rgb
from mambaad.model import MambaAD, check_side
from mambaad.train import resolve_device

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def find_images(path: str | Path) -> list[Path]:
    """The image itself, or every image below a folder, sorted.  Raises DatasetError if there is none."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetError(f"{path} does not exist: an image or a folder of images was expected")
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not found:
        raise DatasetError(f"there is no image ({', '.join(IMAGE_SUFFIXES)}) below {path}")
    return found


def predict_files(
    model: MambaAD,
    images: Sequence[Path],
    out: str | Path,
    *,
    root: str | Path | None = None,
    side: int = 256,
    batch_size: int = 8,
    device: str = "auto",
    progress: bool = True,
) -> list[Path]:
    """Write scores.csv, maps/NAME.npy (float32, side x side) and overlays/NAME.png; return the files that failed.

    NAME is the path below `root` with "/" as "__"; a file that cannot be read gets its reason in scores.csv instead
    of a score.

    Raises:
        ValueError: two images of one name, a device that is not there, a side the scan order cannot fill.
    """
    check_side(model.config, side, side)
    target = resolve_device(device)
    model.to(target).eval()
    out = Path(out)
    names = [_name(path, root) for path in images]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two images would be written as {twice!r}: rename one of them")
    for folder in ("maps", "overlays"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    failed: list[Path] = []
    temporary = out / f".scores.{os.getpid()}.tmp"
    with (
        temporary.open("w", newline="", encoding="utf-8") as file,
        tqdm(total=len(images), desc="predict", unit="image", disable=not progress) as bar,
    ):
        table = csv.writer(file)
        table.writerow(["image", "score", "error"])
        for chunk in _chunks(list(zip(images, names, strict=True)), batch_size):
            good = []
            for path, name in chunk:
                try:
                    good.append((path, name, load_image(path, side, model.config.mean, model.config.std)))
                except DatasetError as error:
                    failed.append(path)
                    table.writerow([name, "", str(error)])
            if good:
                prediction = model.predict(torch.stack([image for _, _, image in good]).to(target))
                rows = zip(good, prediction.anomaly_map.cpu().numpy(), prediction.score.tolist(), strict=True)
                for (path, name, _), anomaly_map, score in rows:
                    np.save(out / "maps" / f"{name}.npy", anomaly_map)
                    overlay(path, anomaly_map).save(out / "overlays" / f"{name}.png")
                    table.writerow([name, f"{score:.6f}", ""])
            bar.update(len(chunk))
    os.replace(temporary, out / "scores.csv")
    return failed


def overlay(path: str | Path, anomaly_map: np.ndarray, largest: float | None = None) -> Image.Image:
    """The image at the map's size, reddened by the map; `largest` is the value shown in full red (default: its own)."""
    side = anomaly_map.shape[0]
    image = np.asarray(read_rgb(path).resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32)
    low, high = float(anomaly_map.min()), largest or float(anomaly_map.max())
    heat = np.clip((anomaly_map - low) / max(high - low, 1e-12), 0, 1)[..., None]
    mixed = image * (1 - 0.7 * heat) + np.array([255, 30, 0], dtype=np.float32) * 0.7 * heat
    return Image.fromarray(mixed.round().astype(np.uint8))


def _name(path: Path, root: str | Path | None) -> str:
    if root is None or not path.is_relative_to(root) or path == Path(root):
        return path.stem
    return "__".join(path.relative_to(root).with_suffix("").parts)


def _chunks(items: list, size: int) -> Iterator[list]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
