"""SimpleNet: a discriminator between features of good patches and noisy copies of them (Liu et al., CVPR 2023).

Axes: B batch, S image side in pixels, h = S / 8 side of the finer features, N = B * h * h positions, W width.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mambaad.baselines.common import check_images, evaluating
from mambaad.config import PUBLISHED_WEIGHTS, SimpleNetConfig, TrainConfig
from mambaad.device import is_exporting
from mambaad.model.anomaly_map import gaussian_filter, image_score
from mambaad.model.encoder import Encoder
from mambaad.model.mambaad import Prediction

STRIDES = (8, 16)
PATCH = 3
DISCRIMINATOR_DECAY = 1e-5  # of Adam, coupled with the gradient


def average(values: Float[Tensor, "N C"], width: int) -> Float[Tensor, "N W"]:
    """Means of `width` neighbouring pieces of each row, as `adaptive_avg_pool1d` cuts them.

    ONNX has no such function where the widths do not divide, so a graph gets a product with fixed weights.
    """
    if is_exporting():
        return values @ averaging(values.shape[1], width)
    return F.adaptive_avg_pool1d(values, width)


def averaging(channels: int, width: int) -> Float[Tensor, "C W"]:
    """The weights of `average`: piece k reaches from floor(k C / W) to ceil((k + 1) C / W)."""
    weights = np.zeros((channels, width), dtype=np.float32)
    for k in range(width):
        first, end = k * channels // width, -(-(k + 1) * channels // width)
        weights[first:end, k] = 1 / (end - first)
    return torch.from_numpy(weights)


class SimpleNet(nn.Module):
    """Frozen encoder, projection and discriminator.

    Args:
        config: architecture; the default is the published one.
        weights: the encoder's weights, as for `Encoder`.

    Raises:
        ValueError: a configuration that cannot be built.
        EncoderWeightsError: weights that are unavailable or do not fit.
    """

    def __init__(
        self, config: SimpleNetConfig | None = None, weights: str | Path = PUBLISHED_WEIGHTS["simplenet"]
    ) -> None:
        super().__init__()
        self.config = config or SimpleNetConfig()
        self.encoder = Encoder(self.config.backbone, weights, self.config.backbone_kwargs, STRIDES)
        width, hidden = self.config.width, self.config.hidden
        self.projection = nn.Linear(width, width)
        self.discriminator = nn.Sequential(
            nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1, bias=False)
        )
        for module in (self.projection, *self.discriminator):  # an encoder may have linear layers, too
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)

    def encode(self, images: Float[Tensor, "B 3 S S2"]) -> list[Tensor]:
        """Images -> encoder features at strides 8 and 16."""
        check_images(images)
        return list(self.encoder(images))

    def describe(self, features: Sequence[Tensor]) -> Float[Tensor, "N W"]:
        """Encoder features -> a description of every position's 3 x 3 neighbourhood.

        The neighbourhoods of both scales are averaged to W values each, joined, and averaged to W values.
        """
        fine, coarse = (F.unfold(f, PATCH, padding=PATCH // 2) for f in features)
        side, coarse_side = features[0].shape[-1], features[1].shape[-1]
        coarse = F.interpolate(
            coarse.unflatten(2, (coarse_side, coarse_side)), size=(side, side), mode="bilinear", align_corners=False
        ).flatten(2)
        width = self.config.width
        both = [average(patches.transpose(1, 2).flatten(0, 1), width) for patches in (fine, coarse)]
        return average(torch.cat(both, dim=1), width)

    def forward(self, images: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B h h"]:
        """Images -> anomaly score of every position: minus the discriminator's."""
        features = self.encode(images)
        scores = -self.discriminator(self.projection(self.describe(features)))
        return scores.view(images.shape[0], *features[0].shape[-2:])

    def loss(self, images: Float[Tensor, "B 3 S S2"], progress: float = 0.0) -> Float[Tensor, ""]:
        """Truncated L1 loss of true and noisy descriptions."""
        return self.loss_from_features(self.encode(images))

    def loss_from_features(
        self, features: Sequence[Tensor], noise: Float[Tensor, "N W"] | None = None
    ) -> Float[Tensor, ""]:
        """`loss` for encoder features.

        Args:
            noise: standard normal; None: drawn anew.
        """
        true = self.projection(self.describe(features))
        fake = true + self.config.noise * (torch.randn_like(true) if noise is None else noise)
        # One batch: the discriminator's BatchNorm sees both.
        scores = self.discriminator(torch.cat([true, fake]))[:, 0]
        margin = self.config.margin
        return F.relu(margin - scores[: len(true)]).mean() + F.relu(margin + scores[len(true) :]).mean()

    def optimizers(self, train: TrainConfig) -> list[torch.optim.Optimizer]:
        """AdamW on the projection, Adam on the discriminator; both decay vectors, too, which the benchmark exempts."""
        return [
            torch.optim.AdamW(
                self.projection.parameters(), lr=train.lr, betas=train.betas, weight_decay=train.weight_decay
            ),
            torch.optim.Adam(
                self.discriminator.parameters(),
                lr=train.lr * self.config.discriminator_lr,
                betas=train.betas,
                weight_decay=DISCRIMINATOR_DECAY,
            ),
        ]

    def predict(self, images: Float[Tensor, "B 3 S S2"]) -> Prediction:
        """Scores of the positions, resized and smoothed; the image's score is the map's maximum, as the benchmark
        takes it for every method (SimpleNet's own is the maximum before resizing)."""
        with evaluating(self):
            side = check_images(images)
            scores = F.interpolate(self(images)[:, None], size=(side, side), mode="bilinear", align_corners=False)
            maps = gaussian_filter(scores[:, 0])
            return Prediction(maps, image_score(maps))
