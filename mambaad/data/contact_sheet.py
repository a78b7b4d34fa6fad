"""One picture of a data set: what is good, what is defective and where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mambaad.data.datasets.mvtec_ad import load_mvtec_ad
from mambaad.data.pixels import read_mask, read_rgb, resize_mask, resize_rgb
from mambaad.data.sample import DatasetError, Sample
from mambaad.files import atomic_path

_OUTLINE = (255, 40, 200)
_LINE = 16  # height of a label in pixels
_GAP = 4


def contact_sheet(
    root: str | Path, path: str | Path | None = None, *, good: int = 3, per_defect: int = 1, side: int = 160
) -> Image.Image:
    """A row per category of a data set in MVTec AD layout: `good` training images, then `per_defect` images of each
    kind of defect with the mask outlined.  Tiles of `side` pixels.  Also saved to `path` if given, as WebP or PNG.

    Raises as `load_mvtec_ad`.
    """
    samples = load_mvtec_ad(root)
    rows = {}
    for category in dict.fromkeys(sample.category for sample in samples):
        mine = [sample for sample in samples if sample.category == category]
        row = [sample for sample in mine if sample.split == "train"][:good]
        for kind in dict.fromkeys(sample.defect for sample in mine if sample.is_defect):
            row += [sample for sample in mine if sample.defect == kind][:per_defect]
        rows[category] = row
    columns = max(len(row) for row in rows.values())
    if not columns:
        raise DatasetError("expected good or per_defect of at least 1, got 0 for both")
    sheet = Image.new("RGB", (columns * (side + _GAP) + _GAP, len(rows) * (side + _LINE + _GAP) + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    for i, (category, row) in enumerate(rows.items()):
        for j, sample in enumerate(row):
            x, y = _GAP + j * (side + _GAP), _GAP + i * (side + _LINE + _GAP)
            pen.text((x, y), f"{category}: {sample.defect}", fill="black", font=font)
            sheet.paste(_tile(sample, side), (x, y + _LINE))
    if path is not None:
        with atomic_path(path) as temporary:
            # a page's picture is small as WebP; lossless otherwise
            sheet.save(temporary, format="WEBP" if Path(path).suffix == ".webp" else "PNG", quality=85)
    return sheet


def _tile(sample: Sample, side: int) -> Image.Image:
    """The image with a line just outside its mask, so that the defect itself stays visible."""
    pixels = resize_rgb(read_rgb(sample.image, sample.upright), side).copy()
    if sample.mask is not None:
        inside = np.pad(resize_mask(read_mask(sample.mask, sample.upright), side), 2)
        grown = np.zeros((side, side), dtype=bool)
        for dy in range(5):
            for dx in range(5):
                grown |= inside[dy : dy + side, dx : dx + side]
        near = inside[1:-3, 2:-2] | inside[3:-1, 2:-2] | inside[2:-2, 1:-3] | inside[2:-2, 3:-1] | inside[2:-2, 2:-2]
        pixels[grown & ~near] = _OUTLINE
    return Image.fromarray(pixels)
