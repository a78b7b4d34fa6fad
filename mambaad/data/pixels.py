"""From files to pixels: the one rule by which images and masks are read and resized.

Images: RGB, the whole image resized to a square, bilinear with antialiasing.
Masks: above 0 is defect in the original, resized as 8-bit 0/255 the same way, defect where above half.
Paper: section 4.1; the rule for masks is the published code's.
"""

from __future__ import annotations

import io
import logging
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from mambaad.data.sample import DatasetError

# What Pillow logs of a file that it cannot read is in its exception, too; found by scripts/reliability/fuzz.py.
logging.getLogger("PIL").addHandler(logging.NullHandler())

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
"""Pillow's names of what is read, MPO among JPEG. It knows many more, and some start other programs (EPS)."""

# Pillow's names of one-channel modes with more than 8 bits; `convert("RGB")` would clip them at 255.
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")

# What Pillow raises for files that are broken in one way or another.
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError),
    *(TypeError, LookupError, ArithmeticError),  # found by scripts/reliability/fuzz.py: a TIFF without dimensions
)
_REMEDY = "replace or remove the file"


def _open(path: str | Path, what: str, upright: bool) -> Image.Image:
    if not Path(path).is_file():
        raise DatasetError(f"{path}: no such file, expected {what}")
    return _decode(Path(path), str(path), what, upright=upright)


def _decode(source: Path | BinaryIO, name: str, what: str, remedy: str = _REMEDY, upright: bool = True) -> Image.Image:
    try:
        with Image.open(source, formats=FORMATS) as image:
            # a camera's MPO file holds its photograph first, then previews and depth
            frames = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
            if frames > 1:
                raise DatasetError(f"{name}: holds {frames} images, expected one; save each as a file of its own")
            image.load()
            return ImageOps.exif_transpose(image) if upright else image
    except DatasetError:
        raise
    except _UNREADABLE as error:
        raise _refusal(name, what, error, remedy) from error


def _refusal(name: str, what: str, error: Exception, remedy: str = _REMEDY) -> DatasetError:
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow warns above half of it
        return DatasetError(f"{name}: has more than the {most / 1e6:.0f} megapixels read; cut it up or make it smaller")
    return DatasetError(f"{name}: cannot be read as {what} ({error}); {remedy}")


def read_rgb(path: str | Path, upright: bool = True) -> Image.Image:
    """An image file as 8-bit RGB at its own size, turned as its EXIF orientation says unless `upright` is False.

    Grey, palette and CMYK images are converted, an alpha channel is dropped.  16-bit grey is divided by 257,
    which takes 0..65535 to 0..255.  Raises DatasetError for a file that is missing or unreadable, and for
    float or 32-bit integer images, whose range is unknown.
    """
    return to_rgb(_open(path, "an image", upright), str(path))


def decode_rgb(content: bytes, name: str, largest: int) -> Image.Image:
    """The content of an image file, as `read_rgb` reads it.

    Args:
        name: for messages.
        largest: pixels that it may have; more are refused by the file's header, before anything is decoded.

    Raises DatasetError as `read_rgb`, and for an image of more pixels.
    """
    file = io.BytesIO(content)
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise DatasetError(f"{name}: has more than the {largest / 1e6:g} megapixels allowed; make it smaller") from None
    except _UNREADABLE:
        raise DatasetError(f"{name}: is not an image; PNG, JPEG, BMP, TIFF or WebP is expected") from None
    if width * height > largest:
        raise DatasetError(
            f"{name}: {width} x {height} pixels are more than the {largest / 1e6:g} megapixels allowed; make it smaller"
        )
    return to_rgb(_decode(file, name, "an image", "it is damaged"), name)


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """An opened image as 8-bit RGB, converted as `read_rgb` converts, but not turned.

    Args:
        name: for messages.

    Raises DatasetError for float or 32-bit integer images.
    """
    if image.mode in _DEEP_MODES:
        values = np.asarray(image)
        # Pillow reads 16-bit PNG as "I" in some versions and "I;16" in others.
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise DatasetError(
                f"{name}: expected 8-bit or 16-bit values, got mode {image.mode!r} with values from {values.min()} "
                f"to {values.max()}; convert the file to 8 or 16 bits per channel"
            )
        image = Image.fromarray(np.round(values / 257).astype(np.uint8))
    if image.mode == "P":  # by way of RGBA, or Pillow warns about palettes with several transparent entries
        image = image.convert("RGBA")
    return image.convert("RGB")


def resize_rgb(image: Image.Image, side: int) -> np.ndarray:
    """An RGB image as uint8 array (side, side, 3), bilinear with antialiasing."""
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def read_mask(path: str | Path, upright: bool = True) -> np.ndarray:
    """The defect's pixels at the file's own size: bool (height, width).

    Any channel above 0 is defect (an alpha channel does not count).  Turned as `read_rgb` turns.  Raises DatasetError
    for a file that is missing or unreadable.
    """
    image = _open(path, "a mask", upright)
    if image.mode not in ("1", "L", "RGB", *_DEEP_MODES):
        image = image.convert("RGBA").convert("RGB")
    values = np.asarray(image)
    return values > 0 if values.ndim == 2 else np.any(values > 0, axis=-1)


def resize_mask(defect: np.ndarray, side: int) -> np.ndarray:
    """The defect's pixels, bool (height, width), after the resize rule: bool (side, side)."""
    resized = Image.fromarray(defect.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(resized) > 127.5


def image_size(path: str | Path, what: str = "an image", upright: bool = True) -> tuple[int, int]:
    """Width and height as the file's header and, if `upright`, EXIF orientation tell, without decoding the pixels.

    Only a PNG file that is not square is decoded, since its EXIF data may come last.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width == height or not upright:
                return width, height
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF orientations with swapped sides
            return (height, width) if turned else (width, height)
    except _UNREADABLE as error:
        raise _refusal(str(path), what, error) from error
