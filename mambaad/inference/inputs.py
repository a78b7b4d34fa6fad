"""What a detector is given: folders, files, and images in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mambaad.data import DatasetError, Sample, load_dataset
from mambaad.data.datasets.mvtec_ad import images_in
from mambaad.data.detect import guess_layout
from mambaad.data.pixels import read_rgb, to_rgb
from mambaad.inference.image_files import find_images

One = str | Path | np.ndarray | Image.Image
"""A file, a PIL image, or an array of uint8, (H, W, 3) or grey (H, W)."""
Images = One | Sequence[One]
"""One image or several, also as one array (N, H, W, 3); or the name of a folder."""


def training_samples(X: Images, folder: Path) -> list[Sample]:
    """Good images to train on; those in memory are written to `folder` first, without loss.

    Raises DatasetError for a folder with neither train/good nor images, for one with a folder train that holds no
    good images, whatever lies beside it, and for no images.
    """
    if isinstance(X, str | Path) and Path(X).is_dir():
        root = Path(X)
        try:
            return load_dataset(guess_layout(root), root)
        except DatasetError:
            flat = images_in(root)
            # beside a folder that was meant to hold the good images, they are something else
            if not flat or any(path.is_dir() and path.name.lower() == "train" for path in root.iterdir()):
                raise
            return [Sample(path, "images", "train") for path in flat]
    samples = []
    for number, image in enumerate(as_list(X)):
        if isinstance(image, str | Path):
            path = Path(image)
        else:
            path = folder / f"{number:06}.png"
            as_rgb(image).save(path)
        samples.append(Sample(path, "images", "train"))
    if not samples:
        raise DatasetError("a detector is fitted on good images, got none")
    return samples


def as_list(X: Images) -> Sequence[One]:
    """Its images, one after the other; of a folder everything below it.  Raises DatasetError for none."""
    if isinstance(X, str | Path):
        return find_images(X)
    if isinstance(X, Image.Image):
        return [X]
    if isinstance(X, np.ndarray):
        return [X] if X.ndim in (2, 3) else list(X)  # never (N, H, W): it could be one image of W channels
    return list(X)


def as_rgb(image: One) -> Image.Image:
    """An image as 8-bit RGB, read, turned and converted alike whether it is a file or in memory.

    Raises ValueError for an array that is none, DatasetError for a file and for values of unknown range.
    """
    if isinstance(image, str | Path):
        return read_rgb(image)
    if isinstance(image, Image.Image):
        return to_rgb(ImageOps.exif_transpose(image), "an image in memory")
    array = np.asarray(image)
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise ValueError(
            f"an image must be uint8, (H, W, 3) or (H, W), got {array.dtype}, {array.shape}; several are a list, or an "
            "array (N, H, W, 3)"
        )
    return Image.fromarray(array).convert("RGB")
