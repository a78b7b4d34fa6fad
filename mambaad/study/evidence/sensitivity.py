"""How far choices made after training move mAD: the same trained weights, read in other ways.

Smoothing, image score, scales and precision are varied one at a time around the published reading (sigma 4, maximum,
three scales, float32); nothing is trained again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from mambaad.data import Sample
from mambaad.data.image_set import ImageSet
from mambaad.engine.environment import environment
from mambaad.files import write_json
from mambaad.inference.weights_hub import sha256
from mambaad.metrics import evaluate_protocols, mean_over_categories
from mambaad.metrics.report import image_metrics, in_percent
from mambaad.model import MambaAD, load_checkpoint
from mambaad.model.anomaly_map import SIGMA, gaussian_filter
from mambaad.progress import progress

FILE = "sensitivity.json"
STRIDES = (4, 8, 16)


@dataclass(frozen=True)
class Reading:
    """One way from encoder and decoder features to maps and scores."""

    sigma: float = SIGMA
    """Of the Gaussian filter, in pixels; 0: unfiltered."""
    top_share: float = 0.0
    """The image's score is the mean of this share of its highest pixels; 0: the maximum."""
    strides: tuple[int, ...] = STRIDES
    precision: str = "float32"


PUBLISHED = "published reading"
READINGS: Mapping[str, Reading] = {
    PUBLISHED: Reading(),
    **{f"sigma {sigma:g} pixels": Reading(sigma=sigma) for sigma in (0.0, 1.0, 2.0, 8.0)},
    **{f"score: mean of the highest {share:.1%}": Reading(top_share=share) for share in (0.001, 0.01, 0.05)},
    **{f"stride {stride} alone": Reading(strides=(stride,)) for stride in STRIDES},
    "strides 8 and 16": Reading(strides=(8, 16)),
    "network in bfloat16": Reading(precision="bfloat16"),
}


def read_all(model: MambaAD, samples: Sequence[Sample], side: int) -> dict[str, dict[str, dict[str, float]]]:
    """`{reading: {protocol: {metric: percent}}}`, means over the categories of the test images."""
    test = [sample for sample in samples if sample.split == "test"]
    distances, masks = {}, torch.empty(0)
    for precision in dict.fromkeys(reading.precision for reading in READINGS.values()):
        distances[precision], masks = _distances(model, test, side, precision)
    labels = np.array([sample.is_defect for sample in test])
    names = np.array([sample.category for sample in test])
    found = {}
    for name, reading in READINGS.items():
        maps = _maps(distances[reading.precision], reading)
        found[name] = _metrics(maps, masks.numpy(), labels, names, reading.top_share)
    return found


def _distances(model: MambaAD, test: list[Sample], side: int, precision: str) -> tuple[Tensor, Tensor]:
    """1 - cosine similarity per scale at `side` pixels, (N, 3, side, side), and the masks (N, side, side)."""
    images = ImageSet(test, side, model.config.mean, model.config.std, cache=False)
    maps, masks = [], []
    with progress(len(test), f"maps in {precision}", unit="image") as bar, torch.no_grad():
        for batch, mask, _ in DataLoader(images, batch_size=16):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                encoder, decoder = model(batch)
            scales = [
                F.interpolate(
                    (1 - F.cosine_similarity(e.float(), d.float(), dim=1))[:, None],
                    size=(side, side),
                    mode="bilinear",
                    align_corners=True,
                )
                for e, d in zip(encoder, decoder, strict=True)
            ]
            maps.append(torch.cat(scales, dim=1))
            masks.append(mask)
            bar.update(len(batch))
    return torch.cat(maps), torch.cat(masks)


def _maps(distances: Tensor, reading: Reading) -> NDArray[np.float32]:
    chosen = distances[:, [STRIDES.index(stride) for stride in reading.strides]].sum(1) / 9
    smooth = gaussian_filter(chosen, reading.sigma) if reading.sigma else chosen
    return np.asarray(smooth.numpy(), dtype=np.float32)


def _metrics(
    maps: NDArray[np.float32],
    masks: NDArray[np.bool_],
    labels: NDArray[np.bool_],
    names: NDArray[np.str_],
    top_share: float,
) -> dict[str, dict[str, float]]:
    by_protocol: dict[str, dict[str, dict[str, float]]] = {"exact": {}, "paper": {}}
    for category in dict.fromkeys(names.tolist()):
        own = names == category
        values = evaluate_protocols(maps[own], masks[own], labels[own])
        if top_share:
            scores = top_mean(maps[own], top_share)
            values = {
                protocol: in_percent(
                    [*image_metrics(labels[own], scores), *(v / 100 for k, v in found.items() if k.startswith("pixel"))]
                )
                for protocol, found in values.items()
            }
        for protocol, found in values.items():
            by_protocol[protocol][category] = found
    return {protocol: mean_over_categories(found) for protocol, found in by_protocol.items()}


def top_mean(maps: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """(N,) mean of the highest `share` of each map's pixels, of at least one."""
    flat = maps.reshape(len(maps), -1)
    count = max(1, round(share * flat.shape[1]))
    return np.asarray(np.partition(flat, -count, axis=1)[:, -count:].mean(axis=1), dtype=np.float32)


def measure(checkpoints: Mapping[int, Path], samples: Sequence[Sample], side: int, results: str | Path) -> Path:
    """Read the trained networks of several seeds in every way; writes `<results>/sensitivity.json`.

    Args:
        checkpoints: the weights of the same row by seed.
    """
    seeds = {}
    for seed, path in checkpoints.items():
        readings = read_all(load_checkpoint(path), samples, side)
        seeds[str(seed)] = {"weights_sha256": sha256(path), "readings": readings}
    return write_json(Path(results) / FILE, {"schema": 1, "environment": environment(), "side": side, "seeds": seeds})


def table(record: Mapping[str, Any], readings: Iterable[str] = READINGS, protocol: str = "exact") -> pd.DataFrame:
    """How each reading moves the metrics of the published one: mean over seeds, and the range over seeds for mAD."""
    lines = []
    for name in readings:
        shifts = {
            metric: [
                seed["readings"][name][protocol][metric] - seed["readings"][PUBLISHED]["exact"][metric]
                for seed in record["seeds"].values()
            ]
            for metric in ("mad", "image_auroc", "pixel_auroc", "pixel_aupro")
        }
        low, high = min(shifts["mad"]), max(shifts["mad"])
        lines.append(
            {"reading": name, "n": len(record["seeds"])}
            | {metric: float(np.mean(values)) for metric, values in shifts.items()}
            | {"mad_low": low, "mad_high": high}
        )
    return pd.DataFrame(lines)
