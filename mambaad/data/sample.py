"""What a data set is: a list of samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


class DatasetError(ValueError):
    """A data set on disk is not what its layout promises; the message names the file and what was expected."""


@dataclass(frozen=True)
class Sample:
    """One image: where it lies, what it shows, and where its defects are marked."""

    image: Path
    category: str
    split: Literal["train", "test"]
    defect: str = "good"
    """Kind of defect, the name of its folder; "good" for none."""
    mask: Path | None = None
    """Image that is above 0 where defective; None for good images and where there is no ground truth."""

    @property
    def is_defect(self) -> bool:
        return self.defect != "good"


def index_hash(samples: Iterable[Sample], root: str | Path) -> str:
    """First 12 hex digits of the SHA-256 over every image's and mask's path below `root` and its size in bytes.

    Independent of the order of the samples, of where the root lies and of file times.
    """
    root = Path(root)
    files = {path for sample in samples for path in (sample.image, sample.mask) if path is not None}
    lines = sorted(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def counts(samples: Iterable[Sample]) -> dict[str, dict[str, int]]:
    """Images per category, in order of appearance: `{category: {"train": n, "test_good": n, "test_defect": n}}`."""
    table: dict[str, dict[str, int]] = {}
    for sample in samples:
        row = table.setdefault(sample.category, {"train": 0, "test_good": 0, "test_defect": 0})
        row["train" if sample.split == "train" else "test_defect" if sample.is_defect else "test_good"] += 1
    return table
