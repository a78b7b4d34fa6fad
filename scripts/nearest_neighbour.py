"""How well an encoder's features separate defects, without any training: nearest neighbours among good images."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor, nn

from mambaad.data import Sample
from mambaad.data.image_set import ImageSet

Triple = tuple[float, float, float]


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve in percent, by ranks."""
    labels = labels.astype(bool)
    n, p = int((~labels).sum()), int(labels.sum())
    return 100 * (rankdata(scores)[labels].sum() - p * (p + 1) / 2) / (n * p)


@torch.inference_mode()
def nearest_neighbour(
    network: nn.Module, samples: list[Sample], side: int, mean: Triple, std: Triple
) -> tuple[float, float]:
    """Image and pixel AU-ROC (%) of one category by the distance to the nearest feature vector of good images.

    The three features, averaged over 3x3, are joined at stride 8; up to 4000 vectors of the training images are
    kept; a pixel's score is the distance to the nearest, the image's the largest.
    """
    network.eval()
    data = ImageSet(samples, side, mean, std)

    def vectors(indices: list[int]) -> Tensor:
        features = network(torch.stack([data[i][0] for i in indices]))
        size = features[1].shape[-2:]
        joined = [F.interpolate(F.avg_pool2d(f, 3, 1, 1), size, mode="bilinear", antialias=True) for f in features]
        return torch.cat(joined, 1).permute(0, 2, 3, 1)

    train_ids = [i for i, s in enumerate(samples) if s.split == "train"]
    bank = torch.cat([vectors(train_ids[k : k + 16]).flatten(0, 2) for k in range(0, len(train_ids), 16)])
    bank = bank[torch.randperm(len(bank), generator=torch.Generator().manual_seed(0))[:4000]]
    scale = bank.std(0) + 1e-6
    labels, scores, masks, maps = [], [], [], []
    for i, sample in enumerate(samples):
        if sample.split == "train":
            continue
        grid = vectors([i])[0]
        distance = torch.cdist(grid.flatten(0, 1) / scale, bank / scale).amin(1).view(1, 1, *grid.shape[:2])
        labels.append(sample.is_defect)
        scores.append(distance.max().item())
        masks.append(data[i][1].numpy())
        maps.append(F.interpolate(distance, (side, side), mode="bilinear")[0, 0].numpy())
    return auroc(np.array(labels), np.array(scores)), auroc(np.stack(masks).ravel(), np.stack(maps).ravel())


def judge(network: nn.Module, samples: list[Sample], side: int, mean: Triple, std: Triple) -> dict[str, list[float]]:
    """`nearest_neighbour` of every category: {category: [image, pixel]}, rounded to 0.01."""
    names = dict.fromkeys(s.category for s in samples)
    result = {
        name: nearest_neighbour(network, [s for s in samples if s.category == name], side, mean, std) for name in names
    }
    result["mean"] = tuple(np.mean(list(result.values()), axis=0))
    return {name: [round(float(v), 2) for v in pair] for name, pair in result.items()}
