"""Encoder features of the training images, computed once.  Paper: section 3.1.

The encoder is frozen and images are not augmented, so the features of an image are the same in every epoch: training
can read them back instead of running the encoder.  They are kept in the training device's memory, or in a folder as
memory maps that later runs with the same encoder and images reuse.

Axes: n images, B batch, c channels, h = w side of a feature map.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from mambaad.baselines.method import EncodingMethod
from mambaad.data.image_cache import PIXEL_RULE
from mambaad.data.image_set import ImageSet
from mambaad.data.row_store import CacheError, Layout, RowStore, gigabytes, open_rows, row_bytes
from mambaad.engine.execution import FEATURES
from mambaad.model.encoder import STRIDES
from mambaad.model.encoder_weights import weights_sha256
from mambaad.progress import progress as show_progress

MEMORY_SHARE = 0.6  # of the device's free memory; the rest is for training
FLOAT16_MAX = torch.finfo(torch.float16).max  # it rounds by at most 2^-11 of a value, below 2^-14 by at most 2^-25
_RULE = 1  # counts up whenever the same encoder and image give other features

Encoded = Iterator[tuple[list[int], list[Tensor]]]
"""Rows and their features at the three scales, portion by portion."""


@dataclass(frozen=True)
class FeatureCache(Dataset[list[Tensor]]):
    """Features of n images, (n, h, w, c) at strides 4, 8, 16: channels last, as the encoder gives them.

    A data loader asks it for whole batches; `as_features` makes of one what the network takes.
    """

    memory: tuple[Tensor, ...] = ()
    store: RowStore | None = None

    def __len__(self) -> int:
        return len(self._scales()[0])

    def __getitem__(self, index: int) -> list[Tensor]:
        return [scale[0] for scale in self.__getitems__([index])]

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        """The images' features (B, h, w, c), in the type and on the device they are kept."""
        return [torch.as_tensor(scale[indices]) for scale in self._scales()]

    def _scales(self) -> Sequence[Any]:
        return self.memory if self.store is None else list(self.store.arrays.values())


def as_features(batch: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """A batch of a `FeatureCache` -> encoder features (B, c, h, w) float32 on `device`."""
    return [scale.to(device, non_blocking=True).float().permute(0, 3, 1, 2) for scale in batch]


def cache_features(
    model: EncodingMethod,
    images: ImageSet,
    kept: str,
    *,
    device: torch.device,
    folder: str | Path | None = None,
    precision: str = "32-true",
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    batch_size: int = 16,
    workers: int = 0,
    sharers: int = 1,
    progress: bool = True,
) -> FeatureCache:
    """Run the model's encoder, which is on `device`, over all images once.

    Args:
        kept: "float32" or "float16".
        folder: where to keep the features on disk, in a folder of their own; features of images that changed since are
            computed again.  None: in the memory of `device`.
        precision, autocast: name and context of the precision the encoder runs in, as it would during training.
        workers: processes that decode images.
        sharers: training processes on this device's memory, each with its own copy.

    Raises:
        CacheError: too little memory or room, with the bytes needed; a folder that cannot be written; values that
            float16 cannot hold.
        DatasetError: an image that is missing or unreadable.
    """
    if kept not in FEATURES[1:]:
        raise ValueError(f"features can be kept as {' or '.join(FEATURES[1:])}, got {kept!r}")
    # a method may shrink images for its encoder
    side = min(images.side, getattr(model.config, "network_side", images.side))
    layout: Layout = {
        f"stride_{stride}": ((side // stride, side // stride, channels), kept)
        for stride, channels in zip(model.encoder.strides, model.encoder.channels, strict=True)
    }
    fill = _encoder_pass(model, images, kept, device, autocast, batch_size, workers, progress)
    if folder is None:
        return FeatureCache(memory=_in_memory(len(images), layout, fill, device, sharers))
    about = {
        "rules": [_RULE, PIXEL_RULE],
        "backbone": model.config.backbone,
        "backbone_kwargs": dict(model.config.backbone_kwargs),
        "weights": weights_sha256(model.config.backbone, "", model.encoder.net),  # "" is no file: hash of the tensors
        "side": images.side,
        "mean": images.mean,
        "std": images.std,
        "precision": precision,
    }
    if model.encoder.strides != STRIDES:
        about["strides"] = model.encoder.strides
    if side != images.side:
        about["encoder_side"] = side
    if not all(sample.upright for sample in images.samples):
        about["upright"] = [sample.upright for sample in images.samples]

    def on_host(rows: list[int]) -> Iterator[tuple[Sequence[int], Sequence[np.ndarray]]]:
        for index, scales in fill(rows):
            yield index, [scale.cpu().numpy() for scale in scales]

    sources = [sample.image for sample in images.samples]
    return FeatureCache(store=open_rows(folder, f"features_{images.side}px_{kept}", about, sources, layout, on_host))


def _encoder_pass(
    model: EncodingMethod,
    images: ImageSet,
    kept: str,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]],
    batch_size: int,
    workers: int,
    progress: bool,
) -> Callable[[list[int]], Encoded]:
    """Rows -> their features in portions, channels last, on `device` in the type they are kept in."""

    def fill(rows: list[int]) -> Encoded:
        loader = DataLoader(
            Subset(images, rows),
            batch_size=batch_size,
            num_workers=workers,
            generator=torch.Generator(),  # or the loader draws from the global one, and training differs
            pin_memory=device.type == "cuda",
        )
        with show_progress(len(rows), "encode", progress, unit="image") as bar:
            for batch, _, index in loader:
                with autocast():
                    features = model.encode(batch.to(device, non_blocking=True))
                scales = [scale.float().permute(0, 2, 3, 1) for scale in features]
                if kept == "float16":
                    largest = max(float(scale.abs().max()) for scale in scales)
                    if largest > FLOAT16_MAX:
                        raise CacheError(
                            f"the encoder's features reach {largest:.3g}, and float16 ends at {FLOAT16_MAX:.0f}: "
                            "keep float32"
                        )
                    scales = [scale.half() for scale in scales]
                yield index.tolist(), scales
                bar.update(len(index))

    return fill


def _in_memory(
    rows: int, layout: Layout, fill: Callable[[list[int]], Encoded], device: torch.device, sharers: int
) -> tuple[Tensor, ...]:
    needed, free = rows * row_bytes(layout), free_memory(device)
    if needed * sharers > MEMORY_SHARE * free:
        types = {dtype for _, dtype in layout.values()}
        smaller = "" if "float16" in types else "float16, "
        raise CacheError(
            f"the features of {rows} images need {needed * sharers} bytes ({gigabytes(needed * sharers)}) of memory "
            f"on {device}, and {gigabytes(MEMORY_SHARE * free)} may be used: choose {smaller}a folder on disk, or none"
        )
    memory = tuple(
        torch.empty((rows, *shape), dtype=getattr(torch, dtype), device=device) for shape, dtype in layout.values()
    )
    for index, scales in fill(list(range(rows))):
        for kept, scale in zip(memory, scales, strict=True):
            kept[torch.as_tensor(index, device=device)] = scale
    return memory


def free_memory(device: torch.device) -> int:
    """Bytes of a device's memory that are free; on systems that do not tell, all it has."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    facts = Path("/proc/meminfo")
    if facts.is_file():
        lines = dict(line.split(":", 1) for line in facts.read_text(encoding="ascii").splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
