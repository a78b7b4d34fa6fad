"""COCO-AD: four splits of COCO 2017, made from its own annotations.

    <root>/train2017/*.jpg
    <root>/val2017/*.jpg
    <root>/annotations/instances_{train,val}2017.json

Split i holds out the classes 20 i ... 20 i + 19 of the 80, by rising id. It trains on the images of train2017 without
any of them and tests on val2017, where their segments are the defects. Images without annotations are not used: what
they show is not known. Masks are drawn once, as PNG files beside an index of all four splits, in the folder
`mambaad_index` below the root or, where that cannot be written, below the user's cache folder.

COCO-AD's ground truth is what its authors' tool draws: polygons between corners cut to whole pixels, filled with their
outline (OpenCV's `fillPoly`). These masks are up to a pixel larger on every side than pycocotools', whose rule serves
for run lengths alone. The tool itself was not at hand: that corners are cut, not rounded, is a reading of its
description.

Source: Zhang et al., "Learning Feature Inversion for Multi-class Anomaly Detection under General-purpose COCO-AD
Benchmark", 2024.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mambaad.config.parse import parse
from mambaad.data.image_cache import default_cache_dir
from mambaad.data.sample import INDEX_FOLDER, DatasetError, OnFault, Sample, raise_fault, select_categories
from mambaad.files import atomic_path, write_text
from mambaad.progress import progress as show_progress


@dataclass(frozen=True)
class Photograph:
    """What is read of an image's entry."""

    file_name: str
    height: int
    width: int

    def __post_init__(self) -> None:
        if not (0 < self.height <= LONGEST and 0 < self.width <= LONGEST):
            raise ValueError(f"an image of {self.width} x {self.height} pixels")


@dataclass(frozen=True)
class Polygons:
    """Corners of an object's outlines, x and y by turns."""

    points: list[list[float]]


@dataclass(frozen=True)
class RunLengths:
    """An object's pixels: lengths of runs, or pycocotools' text of them."""

    size: list[int]
    counts: list[int] | str


SPLITS, HELD_OUT = 4, 20
LONGEST = 10_000  # pixels of an image's side
ANNOTATIONS = {"train": "annotations/instances_train2017.json", "val": "annotations/instances_val2017.json"}
IMAGES = {"train": "train2017", "val": "val2017"}
INDEX_FILE = "coco_ad.json"
_VERSION = 2  # 1: polygons by pycocotools' rule


def load_coco_ad(
    split: int, root: str | Path, categories: Sequence[str] = (), on_fault: OnFault = raise_fault, /
) -> list[Sample]:
    """The samples of one split, 0 to 3: one category `coco<split>`, kind of defect "held_out".

    The first call draws the masks of all splits; interrupted, the next one resumes.

    Raises DatasetError if the root lacks COCO's folders or annotations, these are not those of COCO 2017, an image is
    missing, or the packages of the extra `coco` are not installed when masks have to be drawn.
    """
    root = Path(root)
    category = f"coco{split}"
    for part in (*IMAGES.values(), *ANNOTATIONS.values()):
        if not (root / part).exists():
            raise DatasetError(
                f"{root / part}: not there, expected {', '.join(IMAGES.values())} and annotations/ of COCO 2017 below "
                f"{root}"
            )
    select_categories(root, [category], categories)
    folder, index = open_index(root)
    samples = []
    there = {part: set(os.listdir(root / IMAGES[part])) for part in IMAGES}
    for part, name, mask in [
        *(("train", name, None) for name in index["splits"][split]["train"]),
        *(("val", name, mask) for name, mask in index["splits"][split]["test"]),
    ]:
        image = root / IMAGES[part] / name
        if name not in there[part]:
            on_fault(f"{image}: no such file, but {root / ANNOTATIONS[part]} lists it; unpack the images again")
            continue
        if part == "train":
            samples.append(Sample(image, category, "train"))
        else:
            samples.append(Sample(image, category, "test", "held_out" if mask else "good", mask and folder / mask))
    return samples


load_coco0, load_coco1, load_coco2, load_coco3 = (partial(load_coco_ad, split) for split in range(SPLITS))


def open_index(root: Path, progress: bool = True) -> tuple[Path, dict[str, Any]]:
    """The index's folder and content, built if there is none for these annotations or masks are missing."""
    sizes = {part: (root / name).stat().st_size for part, name in ANNOTATIONS.items()}
    places = [root / INDEX_FOLDER, _cache_folder(root)]
    for folder in places:
        index = _read_index(folder, sizes)
        if index is not None:
            return folder, index
    folder = places[0] if os.access(root, os.W_OK) else places[1]
    try:
        return folder, build_index(root, folder, sizes, progress=progress)
    except OSError as error:
        raise DatasetError(
            f"{folder}: the masks of COCO-AD cannot be written there ({error}); make room, or name another "
            "folder in the environment variable MAMBAAD_CACHE if the data set's own cannot be written"
        ) from error


def _cache_folder(root: Path) -> Path:
    place = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]
    return default_cache_dir() / f"coco_ad_{place}" / INDEX_FOLDER


def _read_index(folder: Path, sizes: dict[str, int]) -> dict[str, Any] | None:
    try:
        index = json.loads((folder / INDEX_FILE).read_bytes())
        if index["version"] != _VERSION or index["sizes"] != sizes:
            return None
        listed = {mask for split in index["splits"] for _, mask in split["test"] if mask}
        drawn = {f"{part}/{name}" for part in index["masks"] for name in os.listdir(folder / part)}
        return index if listed <= drawn else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def build_index(root: Path, folder: Path, sizes: dict[str, int], *, progress: bool = True) -> dict[str, Any]:
    """Draw the masks that are not there yet, then write the index; both are put in place whole."""
    try:
        import cv2 as _cv2  # noqa: F401
        from pycocotools import mask as _mask  # noqa: F401
    except ImportError as error:
        raise DatasetError(
            f"{root}: the masks of COCO-AD need pycocotools and OpenCV, and {error.name} is not installed; "
            "install both with pip install 'mambaad[coco]'"
        ) from error
    val, digest = _annotations(root / ANNOTATIONS["val"], with_segments=True)
    train, _ = _annotations(root / ANNOTATIONS["train"], with_segments=False)
    splits: list[dict[str, list[Any]]] = [{"train": _normal(train, i), "test": []} for i in range(SPLITS)]
    # the digest ties the masks to their annotations, the version to the rule that draws them
    names = [f"coco{i}/{digest}_{_VERSION}" for i in range(SPLITS)]
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    with show_progress(SPLITS * len(val), "COCO-AD masks", progress, unit="image") as bar:
        for i, name in enumerate(names):
            drawn = set(os.listdir(folder / name))
            for image in val:
                segments = [s for position, s in image["objects"] if position // HELD_OUT == i]
                file = f"{Path(image['file_name']).stem}.png"
                if segments and file not in drawn:
                    _save(_union(segments, image["height"], image["width"]), folder / name / file)
                splits[i]["test"].append([image["file_name"], f"{name}/{file}" if segments else None])
                bar.update()
    index = {"version": _VERSION, "sizes": sizes, "masks": names, "splits": splits}
    write_text(folder / INDEX_FILE, json.dumps(index))
    return index


def _annotations(path: Path, *, with_segments: bool) -> tuple[list[dict[str, Any]], str]:
    """The images that have annotations, each with `objects`: (position of the class, segment); and the file's digest.

    Segments of the large training file are dropped while it is being parsed: they would take most of the memory.
    """
    text = path.read_bytes()
    hook = None if with_segments else lambda values: {k: v for k, v in values.items() if k != "segmentation"}
    try:
        content = json.loads(text, object_hook=hook)
        ids = sorted(entry["id"] for entry in content["categories"])
        images = {entry["id"]: asdict(parse(Photograph, entry, others=True)) for entry in content["images"]}
        position = {identifier: k for k, identifier in enumerate(ids)}
        objects: dict[int, list[tuple[int, Any]]] = defaultdict(list)
        for entry in content["annotations"]:
            segment = _segment(entry["segmentation"]) if with_segments else None
            objects[entry["image_id"]].append((position[entry["category_id"]], segment))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(f"{path}: expected COCO's instance annotations, got {error!r}; download it again") from error
    if len(ids) != SPLITS * HELD_OUT:
        raise DatasetError(f"{path}: expected the {SPLITS * HELD_OUT} classes of COCO 2017, got {len(ids)}")
    with_objects = [images[k] | {"objects": objects[k]} for k in sorted(images) if k in objects]
    return with_objects, hashlib.sha256(text).hexdigest()[:12]


def _segment(segment: Any) -> Any:
    """Polygons as they are, or run lengths, checked: the codec takes what it is given.  Raises ValueError."""
    if isinstance(segment, list):
        points = parse(Polygons, {"points": segment}).points
        if not all(math.isfinite(number) for polygon in points for number in polygon):
            raise ValueError("a corner that is not a number")
        return points
    return asdict(parse(RunLengths, segment, others=True))


def _normal(images: list[dict[str, Any]], split: int) -> list[str]:
    """File names of the images without any object of the held-out classes."""
    return [i["file_name"] for i in images if all(position // HELD_OUT != split for position, _ in i["objects"])]


def _union(segments: Sequence[Any], height: int, width: int) -> np.ndarray:
    """Pixels of any of the segments: uint8 (height, width), 255 inside.

    A segment is a list of polygons, or run lengths, compressed or not (COCO's crowds).
    """
    import cv2
    from pycocotools import mask as codec

    pixels = np.zeros((height, width), dtype=np.uint8)
    for segment in segments:
        if isinstance(segment, list):
            for polygon in segment:
                if len(polygon) >= 6:  # three points at least
                    corners = np.array(polygon[: len(polygon) // 2 * 2]).clip(-LONGEST, 2 * LONGEST)
                    cv2.fillPoly(pixels, [corners.astype(np.int32).reshape(-1, 1, 2)], (255,))
            continue
        runs = codec.frPyObjects(segment, height, width) if isinstance(segment["counts"], list) else segment
        with warnings.catch_warnings():
            # pycocotools' own array class lacks an argument that NumPy 2 asks for; nothing of ours can add it
            warnings.simplefilter("ignore", DeprecationWarning)
            pixels |= codec.decode(runs) * np.uint8(255)
    return pixels


def _save(pixels: np.ndarray, path: Path) -> None:
    with atomic_path(path, sync=False) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
