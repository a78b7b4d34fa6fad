"""The report's pictures: a test image, and the same with its map and the outline of its ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mambaad.baselines import Method
from mambaad.data import Sample
from mambaad.data.pixels import read_mask, read_rgb
from mambaad.data.transforms import load_image
from mambaad.inference.gallery import overlay
from mambaad.inference.pages import thumbnail

PICTURE = 300  # pixels on the long side
OUTLINE = (0, 229, 255)


@dataclass(frozen=True)
class Picture:
    """A test image and its map."""

    category: str
    name: str
    defect: str
    score: float
    start: float
    image: Image.Image
    mixed: Image.Image
    outlined: bool = False
    """Whether the ground truth is drawn."""


def take_picture(
    model: Method, sample: Sample, side: int, device: Any, score: float, start: float, scale: tuple[float, float]
) -> Picture:
    """The picture of a sample.

    Args:
        side: of the network's input in pixels.
        start: the threshold that the report opens with.
        scale: map values without colour and in full colour.
    """
    tensor = load_image(sample.image, side, model.config.mean, model.config.std, sample.upright)
    anomaly_map = model.predict(tensor[None].to(device)).anomaly_map[0].float().cpu().numpy()
    image = thumbnail(read_rgb(sample.image, sample.upright), PICTURE)
    mixed = overlay(image, anomaly_map, *scale)
    if sample.mask is not None:
        mixed = outlined(mixed, read_mask(sample.mask, sample.upright))
    name = f"{sample.image.parent.name}/{sample.image.name}"
    return Picture(sample.category, name, sample.defect, score, start, image, mixed, sample.mask is not None)


def outlined(image: Image.Image, defect: NDArray[np.bool_]) -> Image.Image:
    """The image with the outline of a mask of any size."""
    # maximum instead of mean: the outline of a small defect must not vanish with the resize; nor, as with 8 bits, with
    # its rounding
    mask = Image.fromarray(defect.astype(np.float32)).resize(image.size, Image.Resampling.BOX)
    inside = np.asarray(mask) > 0
    edge = ndimage.binary_dilation(inside) & ~ndimage.binary_erosion(inside)
    pixels = np.array(image)
    pixels[edge] = OUTLINE
    return Image.fromarray(pixels)
