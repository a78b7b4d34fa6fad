"""Photographs of the protocol's categories with the maps of one trained network, failures first.

Pictures are made when the book is built where the images are; none is part of the project.  Glassfiber states no
licence and is shown in numbers only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mambaad.data import Sample, load_dataset
from mambaad.data.image_set import ImageSet
from mambaad.model import MambaAD, load_checkpoint
from mambaad.study.compare import Case, compare
from mambaad.study.evidence import protocol

SHOWN = 256
SOURCES = {
    "bottle": "Photographs: MVTec-AD (Bergmann et al. 2019), CC BY-NC-SA 4.0, resized; maps are ours.",
    "screw": "Photographs: MVTec-AD (Bergmann et al. 2019), CC BY-NC-SA 4.0, resized; maps are ours.",
    "metal_plate": "Photographs: MPDD (Jezek et al. 2021), CC BY-NC-SA 4.0, resized; maps are ours.",
    "pcb": "Photographs: DeepPCB (Tang et al. 2019), MIT licence, resized; its masks are boxes; maps are ours.",
}
"""The categories that may be shown, with what has to be said of them."""


def figures(images: str | Path, checkpoint: str | Path) -> dict[str, str]:
    """By category a figure as HTML: the lowest-scored defect, the highest-scored good part, and what goes well.

    Args:
        images: root of the protocol's images.
        checkpoint: a network trained by the protocol.

    Raises:
        DatasetError: the images are not those of the protocol.
    """
    samples = load_dataset(protocol.DATA.dataset, Path(images), tuple(SOURCES))
    model = load_checkpoint(checkpoint)
    found: dict[str, str] = {}
    for category, source in SOURCES.items():
        test = [sample for sample in samples if sample.split == "test" and sample.category == category]
        maps, scores = _predicted(model, test)
        cases = [_case(words, test[index], maps[index], scores[index]) for words, index in chosen(test, scores).items()]
        good = [score for score, sample in zip(scores, test, strict=True) if not sample.is_defect]
        scale = (float(np.median(good)), max(float(np.quantile(scores, 0.9)), 1.2 * float(np.median(good))))
        caption = f"{category.replace('_', ' ')}: {source}"
        found[category] = compare(cases, caption, scale=scale, side=SHOWN, hint=not found)
    return found


def chosen(test: list[Sample], scores: NDArray[np.float32]) -> dict[str, int]:
    """Which images are shown, by a rule and not by eye: `{what it is: index}`."""
    defect = np.array([sample.is_defect for sample in test])
    order = np.argsort(scores, kind="stable")
    bad, good = order[defect[order]], order[~defect[order]]
    return {
        "missed: the defect with the lowest score": int(bad[0]),
        "false alarm: the good part with the highest score": int(good[-1]),
        "typical: the defect with the median score": int(bad[len(bad) // 2]),
        "found: the defect with the highest score": int(bad[-1]),
        "typical good part": int(good[len(good) // 2]),
    }


def _predicted(model: MambaAD, test: list[Sample]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    images = ImageSet(test, protocol.SIDE, model.config.mean, model.config.std, cache=False)
    maps, scores = [], []
    with torch.no_grad():
        for start in range(0, len(test), 16):
            batch = torch.stack([images[i][0] for i in range(start, min(start + 16, len(test)))])
            found = model.predict(batch)
            maps.append(found.anomaly_map.numpy())
            scores.append(found.score.numpy())
    return np.concatenate(maps), np.concatenate(scores)


def _case(words: str, sample: Sample, anomaly_map: NDArray[np.float32], score: float) -> Case:
    with Image.open(sample.image) as file:
        image = np.asarray(file.convert("RGB"))
    mask = np.zeros(image.shape[:2], dtype=bool)
    if sample.mask is not None:
        with Image.open(sample.mask) as file:
            mask = np.asarray(file.convert("L").resize(image.shape[1::-1], Image.Resampling.NEAREST)) > 0
    return Case(words, image, anomaly_map, mask, float(score))
