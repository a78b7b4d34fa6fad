"""From encoder and decoder features to the training loss, the anomaly map and the image score.  Paper: section 3.1.

Axes: B batch, C channels, h = w feature side, S image side.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mambaad.config import Distance

LOSS_WEIGHT = 5.0
SIGMA = 4.0  # pixels, at every image size
TRUNCATE = 4.0  # the filter's radius in sigmas, scipy's default


def reconstruction_loss(encoder: Sequence[Tensor], decoder: Sequence[Tensor]) -> Float[Tensor, ""]:
    """5 times the sum over the scales of the mean squared error between encoder and decoder features.

    Example:
        >>> ones = [torch.ones(1, 4, side, side) for side in (16, 8, 4)]
        >>> float(reconstruction_loss(ones, [2 * scale for scale in ones]))
        15.0
    """
    return (
        LOSS_WEIGHT
        * torch.stack([F.mse_loss(d.float(), e.float()) for e, d in zip(encoder, decoder, strict=True)]).sum()
    )


def anomaly_map(
    encoder: Sequence[Tensor],
    decoder: Sequence[Tensor],
    side: int,
    sigma: float = SIGMA,
    distance: Distance = "cosine",
) -> Float[Tensor, "B S S"]:
    """Mean over the scales of (1 - cosine similarity over channels), upsampled to `side` pixels and smoothed.

    Divided by 9 and not by 3, as in the published code (sum of 3 scales over 3 unit weights): a constant factor
    that changes no metric.

    Args:
        sigma: of the smoothing, in pixels.
        distance: "cosine", as published; "euclidean": the root mean square over the channels of the difference.
            Training minimises its square, and a cosine does not see a feature that has only become weaker or stronger.

    Example:
        >>> features = [torch.ones(1, 4, side, side) for side in (16, 8, 4)]
        >>> float(anomaly_map(features, features, side=64).abs().max()) < 1e-6
        True
    """
    return gaussian_filter(unsmoothed_map(encoder, decoder, side, distance), sigma)


def unsmoothed_map(
    encoder: Sequence[Tensor], decoder: Sequence[Tensor], side: int, distance: Distance = "cosine"
) -> Float[Tensor, "B S S"]:
    """`anomaly_map` before its smoothing."""
    scales = []
    for e, d in zip(encoder, decoder, strict=True):
        if distance == "cosine":
            apart = 1 - F.cosine_similarity(e.float(), d.float(), dim=1)
        else:
            apart = (e.float() - d.float()).square().mean(1).sqrt()
        scales.append(F.interpolate(apart[:, None], size=(side, side), mode="bilinear", align_corners=True))
    return torch.stack(scales).sum(0)[:, 0] / 9


def image_score(maps: Float[Tensor, "B H W"], pool: int = 1) -> Float[Tensor, " B"]:
    """The largest value of each map, after averaging over squares of `pool` x `pool` pixels.

    Example:
        >>> image_score(torch.tensor([[[0.1, 0.9], [0.2, 0.3]]]))
        tensor([0.9000])
    """
    pooled = maps if pool == 1 else F.avg_pool2d(maps[:, None], pool, stride=1)
    return pooled.flatten(1).amax(1)


def gaussian_filter(maps: Float[Tensor, "B S S"], sigma: float = SIGMA) -> Float[Tensor, "B S S"]:
    """Each map smoothed by itself, as `scipy.ndimage.gaussian_filter` does it by default, on the maps' device."""
    radius = math.floor(TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)  # on the CPU: MPS has no float64
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(maps.dtype).to(maps.device)
    out = maps
    for _ in range(2):  # columns, then rows: filter the last axis and transpose
        # scipy's "reflect" repeats the edge pixel (d c b a | a b c d), which torch has no padding mode for
        side = out.shape[-1]
        index = torch.arange(-radius, side + radius, device=maps.device) % (2 * side)
        index = torch.where(index < side, index, 2 * side - 1 - index)
        if torch.compiler.is_compiling():
            # Windows overlap, which other runtimes have no view for and copy: there one matrix for all is quicker.
            near = index.unfold(0, 2 * radius + 1, 1)
            matrix = maps.new_zeros(side, side).scatter_add(1, near, kernel.expand(side, -1))
            out = (out @ matrix.mT).transpose(1, 2)
        else:
            windows = out[..., index].unfold(-1, 2 * radius + 1, 1)
            out = (windows @ kernel).transpose(1, 2)
    return out
