"""What the book's small network sees in one image while it learns: `scripts/training_maps.py` trains it once more and
writes `results/book/training_maps.json`, from which the book draws its figure."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mambaad.model import MambaAD
from mambaad.model.anomaly_map import gaussian_filter
from mambaad.study.book_network import Example, book_run
from mambaad.study.published_numbers import repository_root

STEPS = (0, 5, 10, 20, 40, 80, 160, 320, 560, 800)
"""Optimiser steps after which the network is looked at: 0 is the untrained one, at 560 the learning rate falls."""
PICTURES = ("image", "twin")


@dataclass(frozen=True)
class Seen:
    """What the network makes of the defective image and of its good twin after so many steps."""

    step: int
    distances: dict[str, list[Float[Tensor, "s s"]]]
    """1 - cos at strides 4, 8 and 16, by picture."""
    scores: dict[str, float]

    def anomaly_map(self, picture: str, side: int) -> Float[Tensor, "side side"]:
        """The map of `image` or `twin` from the distances, as the network makes it."""
        return summed(self.distances[picture], side)[1]


def stride_distances(
    encoder: Sequence[Float[Tensor, "B C s s"]], decoder: Sequence[Float[Tensor, "B C s s"]]
) -> list[Float[Tensor, "B s s"]]:
    """1 - cos between what was seen and what was rebuilt at every token, finest stride first."""
    return [1 - F.cosine_similarity(e, d, dim=1) for e, d in zip(encoder, decoder, strict=True)]


def summed(
    distances: Sequence[Float[Tensor, "s s"]], side: int
) -> tuple[Float[Tensor, "side side"], Float[Tensor, "side side"]]:
    """The distances enlarged to the image, summed and divided by 9, and this sum smoothed: the anomaly map."""
    enlarged = [
        F.interpolate(d[None, None].float(), size=(side, side), mode="bilinear", align_corners=True)[0, 0]
        for d in distances
    ]
    total = torch.stack(enlarged).sum(0) / 9
    return total, gaussian_filter(total[None])[0]


def look(model: MambaAD, example: Example, step: int) -> Seen:
    """Send image and twin through the network, which must be in eval mode."""
    batch = model.normalize(torch.stack([example.image, example.good_twin]))
    with torch.no_grad():
        distances = stride_distances(*model(batch))
        scores = model.predict(batch).score
    return Seen(
        step,
        {name: [d[place] for d in distances] for place, name in enumerate(PICTURES)},
        {name: float(scores[place]) for place, name in enumerate(PICTURES)},
    )


def to_json(seen: Seen) -> dict[str, Any]:
    """Distances as float16, row by row and stride by stride, in base64."""
    point: dict[str, Any] = {"step": seen.step, "scores": seen.scores}
    for name in PICTURES:
        values = torch.cat([d.flatten() for d in seen.distances[name]]).numpy().astype("<f2")
        point[name] = base64.b64encode(values.tobytes()).decode()
    return point


def from_json(point: dict[str, Any], side: int) -> Seen:
    """The reverse of `to_json`, for images of this side.

    Raises:
        ValueError: not as many values as the three maps have tokens.
    """
    sizes = [side // stride for stride in (4, 8, 16)]
    distances = {}
    for name in PICTURES:
        values = torch.from_numpy(np.frombuffer(base64.b64decode(point[name]), "<f2").astype(np.float32))
        if len(values) != sum(size**2 for size in sizes):
            raise ValueError(
                f"step {point['step']}: expected the maps of an image of {side} pixels, got {len(values)} values"
            )
        parts = values.split([size**2 for size in sizes])
        distances[name] = [part.view(size, size) for part, size in zip(parts, sizes, strict=True)]
    return Seen(point["step"], distances, point["scores"])


def training_maps(path: str | Path | None = None) -> tuple[dict[str, Any], list[Seen]]:
    """The committed record of the training, and what was seen at each of its steps.

    Raises:
        ValueError: the record is about other settings than the book's network has now.
    """
    path = Path(path) if path is not None else repository_root() / "results" / "book" / "training_maps.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    run = book_run()
    if record["run"] != run.hash:
        raise ValueError(f"{path} is about run {record['run']}, the book's network is run {run.hash}: make it again")
    return record, [from_json(point, run.data.side) for point in record["points"]]
