"""A memory bank of features of good images, after PatchCore (Roth et al., CVPR 2022).  No gradient, one pass.

What an engineer would try first.  Kept simple: entries are drawn at random in place of a greedy core set, and the
image's score is the map's maximum, without PatchCore's reweighting.

Axes: B batch, S image side in pixels, C channels of strides 8 and 16 together, h side at stride 8, M entries.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mambaad.baselines.common import check_images, evaluating
from mambaad.config import PUBLISHED_WEIGHTS, MemoryBankConfig
from mambaad.model.anomaly_map import gaussian_filter, image_score
from mambaad.model.encoder import Encoder
from mambaad.model.mambaad import Prediction

STRIDES = (8, 16)
CHUNK = 1024  # entries compared at a time: the distances of all positions to all entries need not fit into memory
SMALLEST = 1e-6  # of a channel's deviation


class MemoryBank(nn.Module):
    """Positions of good images, standardised per channel; a position's score is its distance to the nearest of them.

    The entries are buffers, so that a checkpoint holds them.

    Args:
        config: encoder and size.
        weights: the encoder's weights, as for `Encoder`.

    Raises:
        ValueError: a configuration that cannot be built.
        EncoderWeightsError: weights that are unavailable or do not fit.
    """

    entries: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self, config: MemoryBankConfig | None = None, weights: str | Path = PUBLISHED_WEIGHTS["memory_bank"]
    ) -> None:
        super().__init__()
        self.config = config or MemoryBankConfig()
        self.encoder = Encoder(self.config.backbone, weights, self.config.backbone_kwargs, STRIDES)
        width = sum(self.encoder.channels)
        self.register_buffer("entries", torch.zeros(0, width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def encode(self, images: Float[Tensor, "B 3 S S2"]) -> list[Tensor]:
        """Images -> encoder features at strides 8 and 16."""
        check_images(images)
        return list(self.encoder(images))

    @torch.no_grad()
    def fit(self, batches: Iterable[Sequence[Tensor]], images: int, side: int, seed: int) -> None:
        """Fill the bank from all positions of all images, each at most once.

        Args:
            batches: encoder features of every image, once.
            images: how many there are.
            side: of the images, in pixels.
            seed: of the choice, which depends on neither the batches nor the device.

        Raises:
            ValueError: the batches hold another number of images.
        """
        per_image = (side // STRIDES[0]) ** 2
        order = torch.randperm(images * per_image, generator=torch.Generator().manual_seed(seed))
        wanted = order[: self.config.entries].sort().values
        kept, seen = [], 0
        total = torch.zeros(len(self.mean), dtype=torch.float64)
        squares = torch.zeros_like(total)
        for features in batches:
            rows = describe(features).permute(0, 2, 3, 1).flatten(0, 2).cpu()
            start = seen * per_image
            kept.append(rows[wanted[(wanted >= start) & (wanted < start + len(rows))] - start])
            total += rows.double().sum(0)
            squares += rows.double().square().sum(0)
            seen += len(features[0])
        if seen != images:
            raise ValueError(f"the bank was to be filled from {images} images, got {seen}")
        mean = total / (images * per_image)
        std = (squares / (images * per_image) - mean.square()).clamp(min=0).sqrt() + SMALLEST
        self.mean.copy_(mean)
        self.std.copy_(std)
        self.entries = ((torch.cat(kept) - mean.float()) / std.float()).to(self.mean.device)

    def forward(self, images: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B h h"]:
        """Images -> distance of every position to the nearest entry.

        Raises:
            ValueError: nothing was fitted or loaded yet.
        """
        if not len(self.entries):
            raise ValueError("the memory bank is empty: fit it, or load a checkpoint")
        rows = (describe(self.encode(images)).permute(0, 2, 3, 1) - self.mean) / self.std
        # |r - e|^2 is least where |e|^2 - 2 r e is
        nearest = [
            torch.addmm(chunk.square().sum(1), rows.flatten(0, 2), chunk.T, alpha=-2).amin(1)
            for chunk in self.entries.split(CHUNK)
        ]
        squared = torch.stack(nearest).amin(0).view(rows.shape[:3]) + rows.square().sum(-1)
        return squared.clamp(min=0).sqrt()

    def predict(self, images: Float[Tensor, "B 3 S S2"]) -> Prediction:
        """Distances, resized and smoothed; the score is the map's maximum."""
        with evaluating(self):
            side = check_images(images)
            distances = F.interpolate(self(images)[:, None], size=(side, side), mode="bilinear", align_corners=False)
            maps = gaussian_filter(distances[:, 0])
            return Prediction(maps, image_score(maps))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        entries = state_dict.get(f"{prefix}entries")
        if entries is not None:  # as many as were fitted
            self.entries = torch.empty_like(entries, device=self.mean.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def describe(features: Sequence[Tensor]) -> Float[Tensor, "B C h h"]:
    """Encoder features at strides 8 and 16, averaged over 3 x 3 positions, as one map at stride 8."""
    fine, coarse = (F.avg_pool2d(scale.float(), 3, stride=1, padding=1) for scale in features)
    coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([fine, coarse], dim=1)
