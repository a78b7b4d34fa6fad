"""Good images that are kept out of training: what a threshold and the end of training are judged by."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from mambaad.data.sample import Sample

FEWEST = 5
"""Images held out of each category at least, if that is no more than a third of them."""


def hold_out(samples: Sequence[Sample], share: float, seed: int = 0) -> tuple[list[Sample], list[Sample]]:
    """The samples without those held out, and those held out, both in their order.

    Of each category's training images the share is held out, rounded up, at least five, at most a third: which ones
    follows from the seed and from the names of their files, not from where they lie.  Test images are never held out.

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
            chosen |= set(sorted(good, key=lambda k: _rank(samples[k], seed))[:number])
    kept = [sample for k, sample in enumerate(samples) if k not in chosen]
    return kept, [samples[k] for k in sorted(chosen)]


def _rank(sample: Sample, seed: int) -> str:
    name = "/".join(sample.image.parts[-3:])
    return hashlib.sha256(f"{seed} {sample.category} {name}".encode()).hexdigest()
