"""Samples as tensors, for torch's data loader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mambaad.data.image_cache import ImageCache, open_image_cache
from mambaad.data.pixels import read_rgb, resize_rgb
from mambaad.data.sample import DatasetError, Sample
from mambaad.data.transforms import load_mask, normalise


class ImageSet(Dataset[tuple[Tensor, Tensor, int]]):
    """Samples as tensors: item i is `(image (3, side, side) float32, mask (side, side) bool, i)`.

    Good samples, and defective ones without ground truth, have an empty mask.

    Args:
        cache: True: every image is decoded and resized once and kept in memory as 8-bit pixels (side * side * 3 bytes
            each); False: decoded every time; a folder: decoded once and for all, see `open_image_cache`.
        progress: show the building of a cache on disk.

    Raises:
        DatasetError: no samples; for a cache on disk also what `open_image_cache` raises.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        side: int,
        mean: Sequence[float],
        std: Sequence[float],
        cache: bool | str | Path = True,
        progress: bool = True,
    ) -> None:
        if not samples:
            raise DatasetError("expected at least one sample, got an empty list")
        self.samples = list(samples)
        self.side, self.mean, self.std = side, tuple(mean), tuple(std)
        self.cache = cache is True
        self.stored: ImageCache | None = None
        if not isinstance(cache, bool):
            self.stored = open_image_cache(self.samples, side, cache, progress=progress)
        self._images: dict[int, np.ndarray] = {}
        self._masks: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        if not 0 <= index < len(self.samples):
            raise IndexError(f"index {index} of {len(self.samples)} samples")
        return normalise(self._pixels(index), self.mean, self.std), self._mask(index), index

    def _pixels(self, index: int) -> np.ndarray:
        if self.stored is not None:
            return self.stored.image(index)
        image = self._images.get(index)
        if image is None:
            sample = self.samples[index]
            image = resize_rgb(read_rgb(sample.image, sample.upright), self.side)
            if self.cache:
                self._images[index] = image
        return image

    def _mask(self, index: int) -> Tensor:
        sample = self.samples[index]
        if sample.mask is None:
            return torch.zeros(self.side, self.side, dtype=torch.bool)
        if self.stored is not None:
            return torch.from_numpy(np.array(self.stored.mask(index)))  # a copy: the map is read-only
        mask = self._masks.get(index)
        if mask is None:
            mask = load_mask(sample.mask, self.side, sample.upright)
            if self.cache:
                self._masks[index] = mask
        return mask.clone()
