"""DeSTSeg: a student that sees through synthetic anomalies, and a network that segments them (Zhang et al., CVPR 2023).

A frozen teacher encodes the image.  A student, given the image with an anomaly painted into it, learns to answer with
the teacher's features of the clean image; then a segmentation network learns to find the anomaly in the product of
teacher and student.

Axes: B batch, c1 c2 c3 the teacher's channels at strides 4, 8, 16, S image side in pixels, h = S / 4.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mambaad.baselines.common import check_images, evaluating, kaiming_fan_out
from mambaad.baselines.synthetic_anomalies import Texture, corrupt, texture_source
from mambaad.config import PUBLISHED_WEIGHTS, DeSTSegConfig, TrainConfig
from mambaad.model.anomaly_map import image_score
from mambaad.model.encoder import Encoder, build_net
from mambaad.model.mambaad import Prediction

EPSILON = 1e-12  # added to the norms that features are divided by
DILATIONS = (6, 12, 18)
FOCUS = 4  # exponent of the focal loss
MASKED = 0.5  # share of anomalous pixels from which a position of the smaller mask counts


class DeSTSeg(nn.Module):
    """Teacher, student and segmentation network.

    Args:
        config: architecture; the default is the published one.
        weights: the teacher's weights, as for `Encoder`.  The student starts from random ones.

    Raises:
        ValueError: a configuration that cannot be built.
        EncoderWeightsError: weights that are unavailable or do not fit.
    """

    trains_in_phases = True
    """In every step, some parameters have no gradient."""

    def __init__(self, config: DeSTSegConfig | None = None, weights: str | Path = PUBLISHED_WEIGHTS["destseg"]) -> None:
        super().__init__()
        self.config = config or DeSTSegConfig()
        self.encoder = Encoder(self.config.backbone, weights, self.config.backbone_kwargs)
        self.student = Student(self.config.student, self.encoder.channels)
        self.segmentation = Segmentation(sum(self.encoder.channels), self.config.width)
        self._texture: Texture | None = None

    def use_textures(self, folder: str | Path | None) -> None:
        """Get ready to train.

        Args:
            folder: of the texture images that the config names; None for procedural textures.

        Raises:
            DatasetError: see `texture_source`.
        """
        self._texture = texture_source(self.config.textures, folder)

    def teach(self, images: Float[Tensor, "B 3 S S2"]) -> list[Tensor]:
        """Images -> the teacher's features at strides 4, 8, 16, of unit length over channels."""
        check_images(images)
        return [unit(scale) for scale in self.encoder(images)]

    def answer(self, images: Float[Tensor, "B 3 S S2"]) -> list[Tensor]:
        """Images -> the student's features, of the teacher's shapes and unit length."""
        return [unit(scale) for scale in self.student(images)]

    def forward(self, images: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B 1 h h"]:
        """Images -> probability of an anomaly at stride 4: both networks see the same image."""
        return self.segmentation(self.teach(images), self.answer(images))

    def loss(self, images: Float[Tensor, "B 3 S S2"], progress: float = 0.0) -> Float[Tensor, ""]:
        """The student's loss in the first fifth of the training, then the segmentation's.

        The network that does not learn is in eval mode.

        Raises:
            ValueError: a single image in training: the pooled branch has one value per image and channel, and
                BatchNorm cannot train on one value.
        """
        if self.training and len(images) < 2:
            raise ValueError("destseg needs at least two images per step and process: raise the batch size")
        if self._texture is None:
            self.use_textures(None)
            assert self._texture is not None
        student_learns = progress < self.config.student_share
        self.student.train(self.training and student_learns)
        self.segmentation.train(self.training and not student_learns)
        corrupted, masks = corrupt(images, self._texture, self.config.mean, self.config.std)
        if not student_learns:
            return self.segmentation_loss(corrupted, masks)
        # a sum over the batch, and several processes average the gradients of their shares
        shares = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        return shares * self.student_loss(images, corrupted)

    def student_loss(
        self, images: Float[Tensor, "B 3 S S2"], corrupted: Float[Tensor, "B 3 S S2"]
    ) -> Float[Tensor, ""]:
        """Cosine distance of the student's features of the corrupted image to the teacher's of the clean one: mean
        over positions, summed over scales and, as published, over the batch."""
        distances = distances_of(self.teach(images), self.answer(corrupted))
        return torch.stack([scale.mean((1, 2)).sum() for scale in distances]).sum()

    def segmentation_loss(
        self, corrupted: Float[Tensor, "B 3 S S2"], masks: Float[Tensor, "B 1 S S2"]
    ) -> Float[Tensor, ""]:
        """Focal loss and L1 distance to the mask; the student has no gradient."""
        with torch.no_grad():
            teacher, student = self.teach(corrupted), self.answer(corrupted)
        found = self.segmentation(teacher, student)
        wanted = shrink(masks, found.shape[-1])
        return focal_loss(found, wanted) + (found - wanted).abs().mean()

    def optimizers(self, train: TrainConfig) -> list[torch.optim.Optimizer]:
        """SGD on the student, whose vectors are not decayed, and on the segmentation network, all of which is."""
        momentum, decay = train.betas[0], train.weight_decay
        student = list(self.student.parameters())
        groups = [
            {"params": [p for p in student if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in student if p.ndim <= 1], "weight_decay": 0.0},
        ]
        parts = [
            {"params": list(self.segmentation.residual.parameters()), "lr": train.lr * self.config.residual_lr},
            {"params": list(self.segmentation.head.parameters()), "lr": train.lr * self.config.head_lr},
        ]
        return [
            torch.optim.SGD(groups, lr=train.lr, momentum=momentum),
            torch.optim.SGD(parts, lr=train.lr, momentum=momentum, weight_decay=decay),
        ]

    def predict(self, images: Float[Tensor, "B 3 S S2"]) -> Prediction:
        """Segmentation of the image as it is, resized, not smoothed; the image's score is the map's maximum, as the
        benchmark takes it for every method (DeSTSeg's own is the mean of the 100 largest values)."""
        with evaluating(self):
            side = check_images(images)
            maps = F.interpolate(self(images), size=(side, side), mode="bilinear", align_corners=False)[:, 0]
            return Prediction(maps, image_score(maps))


class Student(nn.Module):
    """An encoder to stride 32 and a decoder without skip connections back to strides 16, 8, 4."""

    def __init__(self, backbone: str, channels: Sequence[int]) -> None:
        super().__init__()
        self.encoder = build_net(backbone, {}, (32,))
        (deep,) = self.encoder.feature_info.channels()
        widths = (deep, deep, *reversed(channels))
        self.decoder = nn.ModuleList(
            nn.Sequential(Block(before, after), Block(after, after)) for before, after in pairwise(widths)
        )
        kaiming_fan_out(self.decoder)

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> list[Tensor]:
        (deepest,) = self.encoder(images)
        x, answers = self.decoder[0](deepest), []
        for stage in list(self.decoder)[1:]:
            x = stage(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
            answers.append(x)
        return answers[::-1]


class Segmentation(nn.Module):
    """From the products of teacher and student to the probability of an anomaly at stride 4."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(Block(channels, width), Block(width, width))
        self.head = nn.Sequential(
            Pyramid(width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 1, 1),
        )
        kaiming_fan_out(self.residual)

    def forward(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Float[Tensor, "B 1 h h"]:
        size = teacher[0].shape[-2:]
        # The minus sign is the published code's, not the paper's.
        products = [
            F.interpolate(-t * s, size=size, mode="bilinear", align_corners=False)
            for t, s in zip(teacher, student, strict=True)
        ]
        return self.head(self.residual(torch.cat(products, dim=1))).sigmoid()


class Block(nn.Module):
    """Residual block of two convolutions; a projected shortcut where the width changes."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        projection = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
        self.shortcut = projection if before != after else nn.Identity()

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H W"]:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: the image's mean, and convolutions of growing dilation, side by side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pooled = _conv(width, width, 1)
        self.dilated = nn.ModuleList(_conv(width, width, 3, dilation) for dilation in DILATIONS)
        self.fusion = _conv(width * (1 + len(DILATIONS)), width, 3)

    def forward(self, x: Float[Tensor, "B W h h"]) -> Float[Tensor, "B W h h"]:
        pooled = self.pooled(x.mean((2, 3), keepdim=True)).expand_as(x)
        return self.fusion(torch.cat([pooled, *(branch(x) for branch in self.dilated)], dim=1))


def _conv(before: int, after: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(before, after, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


def unit(features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Features divided by their length over channels."""
    return features / (features.norm(dim=1, keepdim=True) + EPSILON)


def distances_of(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> list[Tensor]:
    """1 - cosine per position (B, H, W) of each scale, for features of unit length."""
    return [1 - (t * s).sum(1) for t, s in zip(teacher, student, strict=True)]


def shrink(masks: Float[Tensor, "B 1 S S"], side: int) -> Float[Tensor, "B 1 h h"]:
    """Masks at another side: 1 where at least half of a position is masked."""
    resized = F.interpolate(masks.float(), size=(side, side), mode="bilinear", align_corners=False)
    return (resized >= MASKED).to(resized)


def focal_loss(found: Float[Tensor, "B 1 h h"], wanted: Float[Tensor, "B 1 h h"]) -> Float[Tensor, ""]:
    """Mean cross entropy, times (1 - p)^4 where p is the probability of what is wanted."""
    likely = found * wanted + (1 - found) * (1 - wanted)
    with torch.autocast(found.device.type, enabled=False):  # where torch refuses cross entropy of probabilities
        entropy = F.binary_cross_entropy(found.float(), wanted.float(), reduction="none")
    return (entropy * (1 - likely) ** FOCUS).mean()
