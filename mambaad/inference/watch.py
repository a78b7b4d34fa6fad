"""A folder that is watched: images are scored as they come, one line each in scores.csv.

The folder is looked through again and again, which works on every file system, network drives included. An image is
taken once its size and time have stopped changing; one that cannot be read then may still be in the making and is tried
again for a while. A line is appended in one write, after the image's map and overlay are there. So whoever reads the
file meets whole lines, and after any interruption the lines are the images that are done.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mambaad.baselines import Method
from mambaad.data import DatasetError
from mambaad.data.pixels import read_rgb
from mambaad.data.transforms import load_image
from mambaad.device import resolve_device
from mambaad.engine.lock import locked
from mambaad.files import atomic_path, write_json, write_text
from mambaad.inference.gallery import colour_scale, overlay
from mambaad.inference.image_files import images_below
from mambaad.inference.predict import (
    COLUMNS,
    LARGEST_OVERLAY,
    MAP_FORMATS,
    WATCHED,
    as_text,
    name_below,
    save_map,
    too_long,
)
from mambaad.inference.scoring import score_of
from mambaad.inference.threshold import Threshold
from mambaad.model import check_side

INTERVAL = 1.0
PATIENCE = 10  # intervals for which an image that cannot be read is tried again

Stamp = tuple[int, int]
"""Size and time of last change, in bytes and nanoseconds."""


@dataclass(frozen=True)
class Scored:
    """One line of scores.csv: a score, or the reason why there is none."""

    name: str
    score: float | None
    anomalous: bool | None
    error: str


@dataclass
class _Waiting:
    """Images that were seen and not scored yet: what they looked like, and for how many looks they have not changed."""

    stamp: Stamp
    looks: int = 0


@dataclass
class _Folder:
    """What is known about the watched folder."""

    path: Path
    out: Path
    done: dict[Path, Stamp | None] = field(default_factory=dict)
    """Images with a line, as they were then; None for those of an earlier call."""
    waiting: dict[Path, _Waiting] = field(default_factory=dict)

    def look(self) -> list[Path]:
        """The images that are ready, the ones that have waited longest first."""
        found = images_below(self.path, self.out)
        for gone in self.waiting.keys() - set(found):
            del self.waiting[gone]
        for path in found:
            stamp = stamp_of(path)
            if stamp is None:
                continue
            if path in self.done and self.done[path] is None:
                self.done[path] = stamp
            if self.done.get(path) == stamp:
                self.waiting.pop(path, None)
            elif path not in self.waiting or self.waiting[path].stamp != stamp:
                self.waiting[path] = _Waiting(stamp)
            else:
                self.waiting[path].looks += 1
        ready = [path for path, waits in self.waiting.items() if waits.looks]
        return sorted(ready, key=lambda path: (self.waiting[path].stamp[1], path))


def watch_folder(
    model: Method,
    folder: str | Path,
    out: str | Path,
    *,
    side: int,
    threshold_of: Callable[[Path], Threshold | None],
    made_with: Mapping[str, Any],
    maps: str = "npy",
    overlays: bool = True,
    batch_size: int = 8,
    device: str = "auto",
    interval: float = INTERVAL,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Scored]:
    """Score the images of a folder, then the new ones as they come, without end; yields each when its line is written.

    An image that changes later is scored again and has another line; the last one counts. Images that have a score from
    an earlier call are left out, also if they changed in between.

    Args:
        out: for scores.csv, maps/NAME.npy and overlays/NAME.jpg as `predict_files` writes them. Overlays need a
            threshold, which sets their colours: without one none are written.
        threshold_of: the threshold of an image, None for none.
        made_with: plain values that name the checkpoint and its settings; lines of others are not mixed with them.
        interval: seconds between two looks.

    Raises:
        DatasetError: the folder does not exist.
        ValueError: as `predict_files`; an interval that is not positive; `out` holds scores made otherwise, or is in
            use by another process.
    """
    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise DatasetError(f"{folder} does not exist or is no folder: a folder to watch was expected")
    if not interval > 0:
        raise ValueError(f"the seconds between two looks must be positive, got {interval:g}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if maps not in MAP_FORMATS:
        raise ValueError(f"maps must be one of {', '.join(MAP_FORMATS)}, got {maps!r}")
    check_side(model.config, side, side)
    target = resolve_device(device)
    model.to(target).eval()
    with locked(out):
        table = out / "scores.csv"
        names = _open_table(table, {**made_with, "side": side})
        watched = _Folder(folder, out)
        watched.done = {path: None for path in images_below(folder, out) if as_text(name_below(path, folder)) in names}
        while True:
            ready = watched.look()
            for start in range(0, len(ready), batch_size):
                loaded, failed = _load(ready[start : start + batch_size], watched, side, model)
                for path, reason in failed.items():
                    watched.done[path] = watched.waiting.pop(path).stamp
                    yield _append(table, Scored(name_below(path, folder), None, None, reason))
                for path, anomaly_map in _maps(model, loaded, target):
                    threshold = threshold_of(path)
                    score = score_of(model, anomaly_map)
                    if not np.isfinite(score):
                        raise ValueError(f"the score of {path} is {score}: the checkpoint is damaged, take another one")
                    name = name_below(path, folder)
                    if maps != "none":
                        save_map(out / "maps" / f"{name}.{maps}", anomaly_map)
                    if (
                        overlays
                        and threshold is not None
                        and not _save_overlay(path, anomaly_map, threshold, out, name)
                    ):
                        continue  # the image has gone or changed: what is there now is met in a later look
                    watched.done[path] = watched.waiting.pop(path).stamp
                    verdict = None if threshold is None else threshold.exceeded_by(score)
                    yield _append(table, Scored(name, score, verdict, ""))
            sleep(interval)


def stamp_of(path: Path) -> Stamp | None:
    """Size and time of a file; None if it has gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _load(
    paths: Sequence[Path], watched: _Folder, side: int, model: Method
) -> tuple[dict[Path, torch.Tensor], dict[Path, str]]:
    """Images as the network takes them, and those that were given up with the reason."""
    loaded, failed = {}, {}
    for path in paths:
        waits = watched.waiting[path]
        if reason := too_long(path):
            failed[path] = reason
            continue
        try:
            tensor = load_image(path, side, model.config.mean, model.config.std)
        except DatasetError as error:
            if waits.looks >= PATIENCE and stamp_of(path) == waits.stamp:
                failed[path] = str(error)
            continue
        if stamp_of(path) == waits.stamp:  # or what was read may be two halves
            loaded[path] = tensor
    return loaded, failed


def _maps(
    model: Method, loaded: Mapping[Path, torch.Tensor], device: torch.device
) -> Iterator[tuple[Path, np.ndarray]]:
    if loaded:
        prediction = model.predict(torch.stack(list(loaded.values())).to(device))
        yield from zip(loaded, prediction.anomaly_map.float().cpu().numpy(), strict=True)


def _save_overlay(path: Path, anomaly_map: np.ndarray, threshold: Threshold, out: Path, name: str) -> bool:
    try:
        image = read_rgb(path)
    except DatasetError:
        return False
    image.thumbnail((LARGEST_OVERLAY, LARGEST_OVERLAY), Image.Resampling.BILINEAR)
    mixed = overlay(image, anomaly_map, *colour_scale([], threshold.value))
    with atomic_path(out / "overlays" / f"{name}.jpg", sync=False) as temporary:
        mixed.save(temporary, "JPEG", quality=90)
    return True


def _open_table(table: Path, made_with: Mapping[str, Any]) -> set[str]:
    """Make or repair scores.csv; the names whose last line has a score."""
    settings = table.parent / WATCHED
    if not table.exists():
        write_json(settings, made_with)
        write_text(table, ",".join(COLUMNS) + "\n")
        return set()
    if not settings.is_file():
        raise ValueError(f"{table} was not made by watching: choose another --out, or remove it")
    before = json.loads(settings.read_text(encoding="utf-8"))
    if before != json.loads(json.dumps(made_with)):
        changed = sorted(key for key in {*before, *made_with} if before.get(key) != made_with.get(key))
        raise ValueError(
            f"{table} holds scores made with another {', '.join(changed)}: choose another --out, or remove it"
        )
    text = table.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:  # the machine stopped in the middle of a line
        with atomic_path(table) as temporary:
            temporary.write_bytes(whole)
    rows = csv.reader(io.StringIO(whole.decode("utf-8", "surrogateescape"), newline=""))
    if tuple(next(rows, ())) != COLUMNS:
        raise ValueError(f"{table} does not begin with {','.join(COLUMNS)}: choose another --out, or remove it")
    last = {row[0]: row for row in rows if len(row) == len(COLUMNS)}
    return {name for name, row in last.items() if row[1]}


def _append(table: Path, row: Scored) -> Scored:
    """One line in one write, on the disk before it is told."""
    text = io.StringIO()
    score = "" if row.score is None else f"{row.score:.9g}"
    verdict = "" if row.anomalous is None else int(row.anomalous)
    csv.writer(text, lineterminator="\n").writerow((as_text(row.name), score, verdict, row.error.replace("\n", " ")))
    handle = os.open(table, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(handle, text.getvalue().encode("utf-8", "surrogateescape"))
        os.fsync(handle)
    finally:
        os.close(handle)
    return row
