"""Evaluation of a model on a data set: the seven metrics per category and their mean, under both protocols.

One category's maps are in memory at a time: the exact metrics need all its pixels, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from mambaad import metrics
from mambaad.config import RunConfig
from mambaad.data import DatasetError, ImageSet, Sample, load_dataset
from mambaad.model import MambaAD
from mambaad.train import resolve_device

PROTOCOLS = ("exact", "paper")


def evaluate_run(
    model: MambaAD, run: RunConfig, data_root: str | Path, device: str = "auto", **options: Any
) -> dict[str, dict[str, Any]]:
    """`evaluate_samples` on the test images of a run's data set."""
    samples = load_dataset(run.data.dataset, data_root, run.data.categories)
    return evaluate_samples(model, samples, run.data.side, device, **options)


def evaluate_samples(
    model: MambaAD,
    samples: Sequence[Sample],
    side: int,
    device: str = "auto",
    batch_size: int = 16,
    workers: int = 0,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Metrics in percent: `{protocol: {"mean": {metric: value}, "categories": {category: {metric: value}}}}`.

    Masks are compared at `side` pixels, the size of the network's input.

    Raises:
        DatasetError: no test images.
        ValueError: a device that is not there, a side the scan order cannot fill.
    """
    test = [sample for sample in samples if sample.split == "test"]
    if not test:
        raise DatasetError("there are no test images: metrics need good and defective ones")
    categories = list(dict.fromkeys(sample.category for sample in test))
    results: dict[str, dict[str, Any]] = {protocol: {"categories": {}} for protocol in PROTOCOLS}
    target = resolve_device(device)
    model.to(target)
    with tqdm(total=len(test), desc="evaluate", unit="image", disable=not progress) as bar:
        for category in categories:
            chosen = [sample for sample in test if sample.category == category]
            maps, masks = torch.empty(len(chosen), side, side), torch.empty(len(chosen), side, side, dtype=torch.bool)
            images = ImageSet(chosen, side, model.config.mean, model.config.std, cache=False)
            for batch, mask, index in DataLoader(images, batch_size=batch_size, num_workers=workers):
                maps[index] = model.predict(batch.to(target)).anomaly_map.cpu()
                masks[index] = mask
                bar.update(len(index))
            labels = [sample.is_defect for sample in chosen]
            for protocol, result in results.items():
                result["categories"][category] = metrics.evaluate(maps, masks, labels, protocol=protocol)
    for result in results.values():
        result["mean"] = metrics.mean_over_categories(result["categories"])
    return results
