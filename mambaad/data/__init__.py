"""Images in, tensors out.  Reading order: sample, transforms, mvtec_ad, folder, synthetic.

Every loader takes a root folder and the categories wanted and returns a list of `Sample`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .contact_sheet import contact_sheet
from .folder import load_folder
from .mvtec_ad import load_mvtec_ad
from .sample import DatasetError, Sample, counts, index_hash
from .synthetic import SYNTHETIC_CATEGORIES, write_synthetic
from .transforms import load_image, load_mask, normalise, read_rgb, resize_rgb

__all__ = [
    "DATASETS",
    "SYNTHETIC_CATEGORIES",
    "DatasetError",
    "ImageSet",
    "Sample",
    "contact_sheet",
    "counts",
    "index_hash",
    "load_dataset",
    "load_folder",
    "load_image",
    "load_mask",
    "load_mvtec_ad",
    "write_synthetic",
]

DATASETS: dict[str, Callable[[str | Path, Sequence[str]], list[Sample]]] = {
    "synthetic": load_mvtec_ad,
    "mvtec_ad": load_mvtec_ad,
    "folder": load_folder,
}


def load_dataset(name: str, root: str | Path, categories: Sequence[str] = ()) -> list[Sample]:
    """The samples of a data set on disk.  Raises DatasetError for an unknown `name` and as its loader does."""
    if name not in DATASETS:
        raise DatasetError(f"no data set layout {name!r}; available: {', '.join(DATASETS)}")
    return DATASETS[name](root, categories)


class ImageSet(Dataset[tuple[Tensor, Tensor, int]]):
    """Samples as tensors: item i is `(image (3, side, side) float32, mask (side, side) bool, i)`.

    Good samples, and defective ones without ground truth, have an empty mask.  With `cache` every image is decoded
    and resized once and kept in memory as 8-bit pixels (side * side * 3 bytes each).
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        side: int,
        mean: Sequence[float],
        std: Sequence[float],
        cache: bool = True,
    ) -> None:
        if not samples:
            raise DatasetError("expected at least one sample, got an empty list")
        self.samples = list(samples)
        self.side, self.mean, self.std, self.cache = side, tuple(mean), tuple(std), cache
        self._images: dict[int, np.ndarray] = {}
        self._masks: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        if not 0 <= index < len(self.samples):
            raise IndexError(f"index {index} of {len(self.samples)} samples")
        image = self._images.get(index)
        if image is None:
            image = resize_rgb(read_rgb(self.samples[index].image), self.side)
            if self.cache:
                self._images[index] = image
        return normalise(image, self.mean, self.std), self._mask(index), index

    def _mask(self, index: int) -> Tensor:
        path = self.samples[index].mask
        if path is None:
            return torch.zeros(self.side, self.side, dtype=torch.bool)
        mask = self._masks.get(index)
        if mask is None:
            mask = load_mask(path, self.side)
            if self.cache:
                self._masks[index] = mask
        return mask.clone()
