"""Anomaly scores and maps of image files, written to a folder; with ground truth also the metrics.

Two passes: the first runs the network and writes maps and scores, the second paints the maps over the images, all on
one colour scale, which only the scores of the first pass give.  Images and maps stream through both: what stays in
memory is one row per image.  `scores.csv` is written between both: a full disk or a picture that vanished does not
cost the scores.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mambaad.baselines import Method
from mambaad.data import Sample
from mambaad.data.pixels import read_mask, read_rgb
from mambaad.data.tiles import Tiling
from mambaad.device import resolve_device
from mambaad.engine.lock import locked
from mambaad.files import atomic_path, put_in_place, temporary_sibling, write_json
from mambaad.inference.gallery import Gallery, colour_scale, overlay
from mambaad.inference.ground_truth import measure
from mambaad.inference.scoring import predicted, score_of
from mambaad.inference.scoring import score_files as score_files
from mambaad.inference.threshold import Threshold, threshold_for
from mambaad.inference.tiles import region_hash
from mambaad.model import check_side
from mambaad.progress import progress as show_progress
from mambaad.progress import tracked

MAP_FORMATS = ("npy", "tiff", "none")
WATCHED = "watch.json"
"""Beside the scores of a watched folder: what they were made with."""
COLUMNS = ("image", "score", "anomalous", "error")
GALLERY_IMAGES = 1000
LONGEST_NAME = 255  # bytes, on the usual file systems
LONGEST_SUFFIX = len(".tiff")
LARGEST_OVERLAY = 1024  # pixels on the long side


@dataclass(frozen=True)
class Row:
    """One image of scores.csv."""

    path: Path
    name: str
    """Path below the folder predicted, with "/"; in `maps` and `overlays` a file of this name plus a suffix."""
    score: float
    anomalous: bool | None
    """Whether the score is above the threshold; None without one."""


@dataclass(frozen=True)
class Outcome:
    """What was scored, most anomalous first, and what could not be read, each with its reason."""

    rows: tuple[Row, ...]
    failed: Mapping[Path, str]
    metrics: Mapping[str, Any] | None
    """Content of metrics.json; None without ground truth, or if no image of it could be read."""


def predict_files(
    model: Method,
    images: Sequence[Path],
    out: str | Path,
    *,
    root: str | Path | None = None,
    side: int = 256,
    tiling: Tiling | None = None,
    region: str | Path | None = None,
    threshold: Threshold | None = None,
    by_category: Mapping[str, Threshold] | None = None,
    truth: Sequence[Sample] | None = None,
    maps: str = "npy",
    overlays: bool = True,
    gallery: int = GALLERY_IMAGES,
    batch_size: int = 8,
    device: str = "auto",
    progress: bool = True,
) -> Outcome:
    """Write scores.csv, maps/NAME.npy, overlays/NAME.jpg, gallery.html and, with `truth`, metrics.json below `out`.

    NAME is the image's path below `root`, its suffix included. A file that cannot be read, or whose name leaves no room
    for another suffix, gets its reason in scores.csv instead of a score.

    Args:
        tiling: predict tile by tile; maps then have the image's own size. None: every image is resized to `side`.
        region: mask file that is above 0 where an image counts, for every score and map; of the images' shape.
        threshold: as calibrated for this model and this side, with the same tiles and region.
        by_category: thresholds of single categories, for the images that lie in a folder of the category's name.
        truth: the samples of the same images, from `mambaad.inference.ground_truth.find_truth`.
        maps: "npy" or "tiff", float32, side x side pixels, or "none".
        overlays: maps painted over the images at their own size, or 1024 pixels on the long side if that is less.
        gallery: images in the gallery, the most anomalous ones; 0 writes none.

    Raises:
        ValueError: a device that is not there, a side the scan order cannot fill or that the threshold is not of, a
            region of another shape than an image, an output folder that holds the scores of a watched folder or is in
            use by another call, an unknown format of maps, a batch size below 1, two images of one NAME, scores that
            are not finite.
        DatasetError: a mask cannot be read; everything but metrics.json is written then.
    """
    if batch_size < 1 or gallery < 0:
        raise ValueError(f"batch_size must be at least 1 and gallery at least 0, got {batch_size} and {gallery}")
    if maps not in MAP_FORMATS:
        raise ValueError(f"maps must be one of {', '.join(MAP_FORMATS)}, got {maps!r}")
    check_side(model.config, side, side)
    counts = None if region is None else read_mask(region)
    by_category = by_category or {}
    for used in filter(None, (threshold, *by_category.values())):
        used.check_side(side, tiling, region_hash(counts))
    if truth is not None and tiling is not None:
        raise ValueError("metrics compare maps and masks at one side, and maps of tiles have many: leave out the truth")
    target = resolve_device(device)
    names = Counter(name_below(path, root) for path in images)
    if twice := [name for name, number in names.items() if number > 1]:
        raise ValueError(f"two images would be written as {twice[0]}: name the folder above all images as root")
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: name a folder for the scores, maps and pictures")
    if (out / WATCHED).exists():
        raise ValueError(f"{out} holds the scores of a watched folder, which would be lost: name another folder")
    suffix = ".tiff" if maps == "tiff" else ".npy"
    rows: list[Row] = []
    failed: dict[Path, str] = {}
    metrics: dict[str, Any] | None = None
    with locked(out), _scratch_folder(out) as temporary:
        map_folder = temporary if maps == "none" else out / "maps"
        failed |= {path: reason for path in images if (reason := too_long(path))}
        fine = [path for path in images if path not in failed]
        with show_progress(len(fine), "scores", progress, unit="image") as bar:
            for path, anomaly_map in predicted(model, fine, side, batch_size, target, failed, bar, tiling, counts):
                score = score_of(model, anomaly_map)
                if not np.isfinite(score):
                    raise ValueError(f"the score of {path} is {score}: the checkpoint is damaged, take another one")
                own = threshold_for(path.absolute(), by_category, threshold)
                row = Row(path, name_below(path, root), score, None if own is None else own.exceeded_by(score))
                save_map(map_folder / (row.name + suffix), anomaly_map)
                rows.append(row)
        rows.sort(key=lambda row: (-row.score, row.name))
        for name in ("metrics.json", "gallery.html"):  # an earlier call's, of other maps
            (out / name).unlink(missing_ok=True)
        # before the pictures: what fails among them does not cost the scores
        _write_scores(temporary / "scores.csv", rows, failed, root)
        put_in_place(temporary / "scores.csv", out / "scores.csv")
        if rows and (overlays or gallery):
            shown = (overlays, gallery, tuple(by_category))
            drawn = next(iter(by_category.values())) if len(by_category) == 1 else threshold
            _paint(rows, failed, out, drawn, map_folder, suffix, shown, root, progress)
        scored = {row.path: row for row in rows}
        if measured := [sample for sample in truth or () if sample.image in scored]:
            metrics = measure(
                measured,
                side,
                lambda image: _load_map(map_folder / (scored[image].name + suffix)),
                lambda image: scored[image].score,
                threshold,
                by_category,
            )
            write_json(out / "metrics.json", metrics)
    return Outcome(tuple(rows), failed, metrics)


@contextmanager
def _scratch_folder(out: Path) -> Iterator[Path]:
    """A hidden folder below `out` for what is not finished, removed in the end."""
    temporary = temporary_sibling(out / "maps")
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _paint(
    rows: Sequence[Row],
    failed: Mapping[Path, str],
    out: Path,
    threshold: Threshold | None,
    map_folder: Path,
    suffix: str,
    shown: tuple[bool, int, tuple[str, ...]],
    root: str | Path | None,
    progress: bool,
) -> None:
    """Overlays and gallery; `shown` says whether, how many, and which categories have a threshold of their own."""
    overlays, gallery, categories = shown
    scale = colour_scale([row.score for row in rows], None if threshold is None else threshold.value)
    above = sum(bool(row.anomalous) for row in rows)
    scores = [row.score for row in rows]
    page = None
    if gallery:
        page = Gallery(out / "gallery.html", scores, threshold, gallery, categories=categories, anomalous=above)
    painted = rows if overlays else rows[:gallery]
    try:
        for row in tracked(painted, len(painted), "overlays", progress, unit="image"):
            image = read_rgb(row.path)
            image.thumbnail((LARGEST_OVERLAY, LARGEST_OVERLAY), Image.Resampling.BILINEAR)
            mixed = overlay(image, _load_map(map_folder / (row.name + suffix)), *scale)
            link = None
            if overlays:
                link = f"overlays/{row.name}.jpg"
                with atomic_path(out / link, sync=False) as temporary:
                    mixed.save(temporary, "JPEG", quality=90)
            if page is not None and page.room:
                page.add(row.name, row.score, row.anomalous, image, mixed, link)
        if page is not None:
            page.close({name_below(path, root): reason for path, reason in failed.items()})
    finally:
        if page is not None:
            page.discard()


def too_long(path: Path) -> str:
    """Why no map and no overlay can have an image's name plus a suffix; nothing if they can."""
    size = len(os.fsencode(path.name))
    if size + LONGEST_SUFFIX <= LONGEST_NAME:
        return ""
    return f"{path}: its name has {size} bytes, which leaves no room for the suffix of its map; shorten it"


def save_map(path: Path, anomaly_map: np.ndarray) -> None:
    """Write a float32 map atomically, as .npy or by any other suffix as TIFF."""
    with atomic_path(path, sync=False) as temporary:
        if path.suffix == ".npy":
            np.save(temporary, anomaly_map.astype(np.float32))
        else:
            Image.fromarray(anomaly_map.astype(np.float32)).save(temporary, "TIFF")


def _load_map(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    with Image.open(path) as image:
        return np.asarray(image)


def _write_scores(path: Path, rows: Sequence[Row], failed: Mapping[Path, str], root: str | Path | None) -> None:
    lines: list[tuple[str, str, int | str, str]]
    lines = [(r.name, f"{r.score:.9g}", "" if r.anomalous is None else int(r.anomalous), "") for r in rows]
    lines += [(name_below(image, root), "", "", reason) for image, reason in failed.items()]
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows((as_text(name), *rest) for name, *rest in sorted(lines))


def as_text(name: str) -> str:
    """A file name that a spreadsheet would take for a formula, behind an apostrophe, which makes it text there."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def name_below(path: Path, root: str | Path | None) -> str:
    """An image's path below the folder predicted, with "/"; its own name where that does not hold it."""
    if root is None or path == Path(root) or not path.is_relative_to(root):
        return path.name
    return path.relative_to(root).as_posix()
