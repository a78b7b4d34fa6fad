"""RD4AD: reverse distillation from a one-class embedding (Deng and Li, CVPR 2022).

A frozen teacher encodes the image; its features of three scales are fused and squeezed to stride 32; a student, a
ResNet run backwards, rebuilds the teacher's features from that.  It has learnt to do so for good images only.

Axes: B batch, c1 c2 c3 the teacher's channels at strides 4, 8, 16, S image side in pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mambaad.baselines.common import check_images, evaluating, kaiming_fan_out
from mambaad.config import PUBLISHED_WEIGHTS, RD4ADConfig, TrainConfig
from mambaad.model.anomaly_map import anomaly_map, image_score
from mambaad.model.encoder import Encoder
from mambaad.model.mambaad import Prediction


class RD4AD(nn.Module):
    """Teacher, embedding and student.

    Args:
        config: architecture; the default is the published one.
        weights: the teacher's weights, as for `Encoder`.

    Raises:
        ValueError: a configuration that cannot be built.
        EncoderWeightsError: weights that are unavailable or do not fit.
    """

    def __init__(self, config: RD4ADConfig | None = None, weights: str | Path = PUBLISHED_WEIGHTS["rd4ad"]) -> None:
        super().__init__()
        self.config = config or RD4ADConfig()
        self.encoder = Encoder(self.config.backbone, weights, self.config.backbone_kwargs)
        self.embedding = Embedding(self.encoder.channels, self.config)
        c1, c2, c3 = self.encoder.channels
        widths = (2 * c3, c3, c2, c1)
        self.student = nn.ModuleList(
            _stage(before, after, after // 2 if self.config.block == "bottleneck" else 0, blocks, "up")
            for before, after, blocks in zip(widths[:-1], widths[1:], self.config.decoder_blocks, strict=True)
        )
        kaiming_fan_out(self.embedding)
        kaiming_fan_out(self.student)

    def encode(self, images: Float[Tensor, "B 3 S S2"]) -> list[Tensor]:
        """Images -> teacher features at strides 4, 8, 16."""
        check_images(images)
        return list(self.encoder(images))

    def reconstruct(self, teacher: Sequence[Tensor]) -> list[Tensor]:
        """Teacher features -> student features of the same shapes."""
        x, rebuilt = self.embedding(*teacher), []
        for stage in self.student:
            x = stage(x)
            rebuilt.append(x)
        return rebuilt[::-1]

    def forward(self, images: Float[Tensor, "B 3 S S2"]) -> tuple[list[Tensor], list[Tensor]]:
        """Images -> features of teacher and student at strides 4, 8, 16."""
        teacher = self.encode(images)
        return teacher, self.reconstruct(teacher)

    def loss(self, images: Float[Tensor, "B 3 S S2"], progress: float = 0.0) -> Float[Tensor, ""]:
        """Sum over the scales of 1 - cosine of the whole maps, mean over the batch."""
        return self.loss_from_features(self.encode(images))

    def loss_from_features(self, features: Sequence[Tensor]) -> Float[Tensor, ""]:
        """`loss` for the teacher's features: each scale of an image is one vector, not one per position."""
        pairs = zip(features, self.reconstruct(features), strict=True)
        cosines = [F.cosine_similarity(t.flatten(1), s.flatten(1)) for t, s in pairs]
        return torch.stack([(1 - cosine).mean() for cosine in cosines]).sum()

    def optimizers(self, train: TrainConfig) -> list[torch.optim.Optimizer]:
        """Adam on embedding and student."""
        trained = [*self.embedding.parameters(), *self.student.parameters()]
        return [torch.optim.Adam(trained, lr=train.lr, betas=train.betas, weight_decay=train.weight_decay)]

    def predict(self, images: Float[Tensor, "B 3 S S2"]) -> Prediction:
        """1 - cosine per position, summed over the scales, smoothed; the score is the map's maximum."""
        with evaluating(self):
            teacher, student = self(images)
            maps = anomaly_map(teacher, student, check_images(images))
            return Prediction(maps, image_score(maps))


class Embedding(nn.Module):
    """Multi-scale fusion and one-class embedding: three scales to one at stride 32 with 2 * c3 channels."""

    def __init__(self, channels: Sequence[int], config: RD4ADConfig) -> None:
        super().__init__()
        c1, c2, c3 = channels
        self.conv1, self.bn1 = _resized(c1, c2, "down", 3), _norm(c2)
        self.conv2, self.bn2 = _resized(c2, c3, "down", 3), _norm(c3)
        self.conv3, self.bn3 = _resized(c2, c3, "down", 3), _norm(c3)
        # The benchmark's inner width, a quarter of the output: it gives table 6's count, the original's half does not.
        inner = c3 // 2 if config.block == "bottleneck" else 0
        self.stage = _stage(3 * c3, 2 * c3, inner, config.embedding_blocks, "down")

    def forward(
        self, fine: Float[Tensor, "B c1 h1 w1"], middle: Float[Tensor, "B c2 h2 w2"], coarse: Float[Tensor, "B c3 h w"]
    ) -> Float[Tensor, "B c4 h3 w3"]:
        fine = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(fine))))))
        middle = F.relu(self.bn3(self.conv3(middle)))
        return self.stage(torch.cat([fine, middle, coarse], dim=1))


class _Block(nn.Module):
    """Residual block: a bottleneck of width `inner`, or for `inner` 0 two convolutions.

    `resize` "down" or "up" halves or doubles the side, with a projected shortcut; "" leaves it.
    """

    def __init__(self, before: int, after: int, inner: int, resize: str) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(_resized(before, after, resize, 1), _norm(after)) if resize else nn.Identity()
        first = inner or after
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False) if inner else _resized(before, after, resize, 3)
        self.bn1 = _norm(first)
        self.conv2 = _resized(inner, inner, resize, 3) if inner else nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = _norm(first)
        if inner:
            self.conv3, self.bn3 = nn.Conv2d(inner, after, 1, bias=False), _norm(after)
        self.bottleneck = inner > 0

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            out = self.bn3(self.conv3(F.relu(out)))
        return F.relu(out + self.shortcut(x))


def _stage(before: int, after: int, inner: int, blocks: int, resize: str) -> nn.Sequential:
    """Residual blocks, the first of which changes the side."""
    rest = [_Block(after, after, inner, "") for _ in range(blocks - 1)]
    return nn.Sequential(_Block(before, after, inner, resize), *rest)


def _resized(before: int, after: int, resize: str, kernel: int) -> nn.Module:
    if resize == "up":
        return nn.ConvTranspose2d(before, after, 2, stride=2, bias=False)
    return nn.Conv2d(before, after, kernel, stride=2 if resize else 1, padding=kernel // 2, bias=False)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width)
