"""From pixels to tensors: images normalised as the encoder expects them, masks as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mambaad.data.pixels import read_mask, read_rgb, resize_mask, resize_rgb


def normalise(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (side, side, 3) -> float32 (3, side, side): values / 255, less `mean`, divided by `std`."""
    tensor = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32)) / 255
    return (tensor - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def load_image(
    path: str | Path, side: int, mean: Sequence[float], std: Sequence[float], upright: bool = True
) -> Tensor:
    """The network's input: float32 (3, side, side), normalised per channel.  `upright` and errors as of `read_rgb`."""
    return normalise(resize_rgb(read_rgb(path, upright), side), mean, std)


def load_mask(path: str | Path, side: int, upright: bool = True) -> Tensor:
    """The defect's pixels after the resize rule: bool (side, side).  `upright` and errors as of `read_mask`."""
    return torch.from_numpy(resize_mask(read_mask(path, upright), side))
