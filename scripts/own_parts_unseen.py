"""The presets on surfaces that had no part in choosing them: real photographs, drawn defects.

    python scripts/own_parts_unseen.py brick grass gravel --seeds 0 1 2

The photographs are three of scikit-image (grey, 512 pixels, CC0).  Good images are pieces of 128 pixels of their left
part to train on, and of their right part to test on; the two parts do not overlap.  Defects are drawn on pieces of the
right part: a scratch, a stain, a spot of another of the three surfaces, a spot worn smooth and bright.  All that can be
chosen here stands in the constants below.  They, and the recipes, were fixed and committed before the first training,
and nothing was tried on these images before.

Every recipe is one call of `mambaad train`.  Records: results/own_parts/unseen/<surface>.json; what has been measured
is not measured again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from own_parts_defaults import train
from PIL import Image
from scipy.ndimage import gaussian_filter

from mambaad.data.synthetic.drawing import Array, blob, canvas, paint, stroke
from mambaad.files import write_json
from mambaad.study.own_parts import UNSEEN

SURFACES = ("brick", "grass", "gravel")
SIDE = 128
LEFT, RIGHT = (0, 320), (320, 512)
"""Columns of the photograph that are trained on, and those that are tested on."""
TRAIN, GOOD, EACH = 90, 40, 15
"""Images to train on, good ones to test on, and images of each defect."""
DEFECTS = ("scratch", "stain", "foreign", "worn")
DRAWN = 2026
"""Seed of the drawing, apart from that of the training."""
RECIPES = {
    "no option": [],
    "memory bank alone": ["--method", "memory_bank"],
    "laptop_fine": ["--preset", "laptop_fine"],
}
LONG = ("laptop_fine",)


def photograph(surface: str) -> Array:
    """Grey values 0..1 of 512 x 512 pixels."""
    return np.asarray(getattr(skimage.data, surface)(), np.float32) / 255


def piece(image: Array, columns: tuple[int, int], rng: np.random.Generator) -> Array:
    """A square of the photograph within these columns: (SIDE, SIDE, 3)."""
    top = rng.integers(image.shape[0] - SIDE + 1)
    left = rng.integers(columns[0], columns[1] - SIDE + 1)
    return np.repeat(image[top : top + SIDE, left : left + SIDE, None], 3, axis=2)


def spoil(image: Array, defect: str, other: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """The image with a defect, and its mask."""
    c = canvas(SIDE)
    x, y = c.x[:: c.factor, :: c.factor], c.y[:: c.factor, :: c.factor]
    at = rng.uniform(-0.55, 0.55, 2).astype(np.float32)
    if defect == "scratch":
        angle, half = rng.uniform(0, np.pi), rng.uniform(0.2, 0.4)
        step = half * np.array([np.cos(angle), np.sin(angle)])
        middle = at + rng.uniform(-0.08, 0.08, 2)
        points = [(float(px), float(py)) for px, py in (at - step, middle, at + step)]
        distance = stroke(x, y, points, rng.uniform(0.02, 0.035))
    else:
        distance = blob(x - at[0], y - at[1], rng, rng.uniform(0.12, 0.28))
    inside = np.clip(0.5 - distance * (SIDE / 2), 0, 1)
    if defect == "scratch":
        laid, strength = np.full_like(image, rng.choice([0.1, 0.9])), 0.8
    elif defect == "stain":
        laid, strength = np.full_like(image, rng.uniform(0.0, 0.3)), rng.uniform(0.3, 0.6)
    elif defect == "foreign":
        laid, strength = other - other.mean() + image.mean(), 1.0
    else:
        laid, strength = gaussian_filter(image, (2.5, 2.5, 0)) + 0.08, 1.0
    return paint(image, strength * inside, laid), inside > 0.5


def save(path: Path, image: Array) -> None:
    """Values in 0..1 as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)).save(path)


def write(surface: str, root: Path) -> None:
    """The surface's images and masks, in the layout of MVTec-AD."""
    rng = np.random.default_rng((DRAWN, SURFACES.index(surface)))
    image = photograph(surface)
    others = [photograph(name) for name in SURFACES if name != surface]
    for number in range(TRAIN):
        save(root / f"train/good/{number:03}.png", piece(image, LEFT, rng))
    for number in range(GOOD):
        save(root / f"test/good/{number:03}.png", piece(image, RIGHT, rng))
    for defect in DEFECTS:
        for number in range(EACH):
            other = piece(others[number % len(others)], RIGHT, rng)
            spoilt, mask = spoil(piece(image, RIGHT, rng), defect, other, rng)
            save(root / f"test/{defect}/{number:03}.png", spoilt)
            save(root / f"ground_truth/{defect}/{number:03}_mask.png", mask.astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("surfaces", nargs="*", default=[], choices=[*SURFACES, []])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=[name for name in RECIPES if name not in LONG])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=Path, default=Path("build/own_parts_unseen"), help="folder for the images")
    parser.add_argument("--out", type=Path, default=Path("results/own_parts") / UNSEEN)
    given = parser.parse_args()
    for surface in given.surfaces or SURFACES:
        write(surface, given.images / surface)
    for name in given.recipes:
        for seed in given.seeds:
            for surface in given.surfaces or SURFACES:
                path = given.out / f"{surface}.json"
                source = hashlib.sha256(np.asarray(getattr(skimage.data, surface)()).tobytes()).hexdigest()
                record: dict[str, Any] = {"category": surface, "photograph_sha256": source, "recipes": {}}
                if path.exists():
                    record = json.loads(path.read_text(encoding="utf-8"))
                done = record["recipes"].setdefault(name, {})
                if str(seed) in done:
                    continue
                with tempfile.TemporaryDirectory() as place:
                    options = [*RECIPES[name], "--seed", str(seed), "--threads", str(given.threads)]
                    done[str(seed)] = train(given.images / surface, Path(place), options, beside=True)
                write_json(path, record)
                print(surface, name, seed, done[str(seed)]["metrics"], sep="  ", flush=True)


if __name__ == "__main__":
    main()
