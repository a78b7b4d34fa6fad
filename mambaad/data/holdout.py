"""Good images that are kept out of training: what a threshold and the end of training are judged by."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path

from mambaad.data.sample import Sample

FEWEST = 5
"""Images held out of each category at least, if that is no more than a third of them."""


def hold_out(samples: Sequence[Sample], share: float, seed: int = 0) -> tuple[list[Sample], list[Sample]]:
    """The samples without those held out, and those held out, both in their order.

    Of each category's training images the share is held out, rounded up, at least five, at most a third: which ones
    follows from the seed and the names of the category and of its files, not from where they lie.  Test images are
    never held out.

    Args:
        share: of the training images, 0..0.5; 0 holds out none.

    Raises:
        ValueError: another share.
    """
    if not 0 <= share <= 0.5:
        raise ValueError(f"the share held out must be in [0, 0.5], got {share}")
    chosen: set[int] = set()
    if share:
        for category in dict.fromkeys(sample.category for sample in samples):
            good = [k for k, s in enumerate(samples) if s.split == "train" and s.category == category]
            number = min(max(FEWEST, math.ceil(share * len(good) - 1e-9)), len(good) // 3)
            ranks = dict(zip(good, _ranks([samples[k].image for k in good], f"{seed} {category}"), strict=True))
            chosen |= set(sorted(good, key=ranks.__getitem__)[:number])
    kept = [sample for k, sample in enumerate(samples) if k not in chosen]
    return kept, [samples[k] for k in sorted(chosen)]


def _ranks(images: Sequence[Path], salt: str) -> list[str]:
    """Hashes of the images' names below the folder that all of them share; that one counts where a layout names it."""
    absolute = [image.absolute() for image in images]
    try:
        folder = Path(os.path.commonpath([image.parent for image in absolute]))
        layout = "train/good/" if folder.parts[-2:] == ("train", "good") else ""
        names = [layout + image.relative_to(folder).as_posix() for image in absolute]
    except ValueError:  # no images, or images on several drives
        names = [image.as_posix() for image in absolute]
    return [hashlib.sha256(f"{salt} {name}".encode("utf-8", "surrogateescape")).hexdigest() for name in names]
