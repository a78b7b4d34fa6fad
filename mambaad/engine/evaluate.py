"""Evaluation of a model on a data set: the seven metrics per category and their mean, under both protocols.

The test set streams through the network in batches, category after category. The exact metrics need all pixels of a
category at once; a category whose maps are larger than a budget is measured from histograms instead, in memory that
does not grow with the number of images, and its values come with bounds (`mambaad.metrics.StreamingMetrics`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from mambaad.config import RunConfig
from mambaad.data import DatasetError, ImageSet, Sample, load_dataset
from mambaad.device import resolve_device
from mambaad.metrics import PROTOCOLS, Streamed, StreamingMetrics, evaluate_protocols, mean_over_categories
from mambaad.model import MambaAD

EXACT_BYTES = 4 * 2**30
MAP_BYTES = 4  # float32

Piece = tuple[list[Sample], Tensor, Tensor]  # images of one category, their maps and masks (n, side, side), on the CPU
Metrics = dict[str, float]


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
    exact_bytes: int = EXACT_BYTES,
) -> dict[str, dict[str, Any]]:
    """Metrics in percent: `{protocol: {"mean": {metric: value}, "categories": {category: {metric: value}}}}`.

    Masks are compared at `side` pixels, the size of the network's input.

    Args:
        workers: processes that read and resize images; 0 does it in this one.
        exact_bytes: budget for the float32 maps of one category, side * side * 4 bytes per image. Exact metrics take
            less than three times that at their peak. A category above it is measured in the streaming mode; 0 for all.

    Returns: for each protocol also "pixel_metrics", `{category: "exact" or "streaming"}`, and, if any is "streaming",
        "bounds": `{"mean": {metric: (low, high)}, "categories": {category: {metric: (low, high)}}}`, between which the
        exact values lie, with the streaming categories only; in the mean the others count with their exact values.

    Raises:
        DatasetError: no test images.
        ValueError: a device that is not there, a side the scan order cannot fill, a negative budget.
    """
    if exact_bytes < 0:
        raise ValueError(f"exact_bytes must be a number of bytes, 0 or more, got {exact_bytes}")
    test = [sample for sample in samples if sample.split == "test"]
    if not test:
        raise DatasetError("there are no test images: metrics need good and defective ones")
    categories = list(dict.fromkeys(sample.category for sample in test))
    grouped = [sample for category in categories for sample in test if sample.category == category]
    numbers = {category: sum(sample.category == category for sample in test) for category in categories}
    found: dict[str, dict[str, Metrics] | Streamed] = {}
    with tqdm(total=len(test), desc="evaluate", unit="image", disable=not progress) as bar:
        pieces = _predicted(model, grouped, side, device, batch_size, workers, bar)
        for category, own in groupby(pieces, key=lambda piece: piece[0][0].category):
            found[category] = _measured(own, numbers[category], side, exact_bytes)
    return {protocol: _report(protocol, found) for protocol in PROTOCOLS}


def _predicted(
    model: MambaAD, samples: list[Sample], side: int, device: str, batch_size: int, workers: int, bar: tqdm
) -> Iterator[Piece]:
    """Maps and masks in the order of the samples, a batch being split where the category changes."""
    target = resolve_device(device)
    model.to(target)
    images = ImageSet(samples, side, model.config.mean, model.config.std, cache=False)
    for batch, masks, index in DataLoader(images, batch_size=batch_size, num_workers=workers):
        # Without gradients, but not under torch.inference_mode: the scan routes that the model keeps between calls
        # would be inference tensors, which a later training in the same process cannot save for its backward pass.
        maps = model.predict(batch.to(target)).anomaly_map.cpu()
        chosen = [samples[i] for i in index.tolist()]
        start = 0
        for _, same in groupby(chosen, key=lambda sample: sample.category):
            piece = list(same)
            end = start + len(piece)
            yield piece, maps[start:end], masks[start:end]
            bar.update(len(piece))
            start = end


def _measured(pieces: Iterator[Piece], images: int, side: int, exact_bytes: int) -> dict[str, Metrics] | Streamed:
    if images * side * side * MAP_BYTES > exact_bytes:
        streaming = StreamingMetrics()
        for samples, some_maps, some_masks in pieces:
            streaming.update(some_maps, some_masks, [sample.is_defect for sample in samples])
        return streaming.result()
    maps, masks = np.empty((images, side, side), dtype=np.float32), np.empty((images, side, side), dtype=bool)
    labels: list[bool] = []
    for samples, some_maps, some_masks in pieces:
        here = slice(len(labels), len(labels) + len(samples))
        maps[here], masks[here] = some_maps.numpy(), some_masks.numpy()
        labels += [sample.is_defect for sample in samples]
    return evaluate_protocols(maps, masks, labels)


def _report(protocol: str, found: Mapping[str, dict[str, Metrics] | Streamed]) -> dict[str, Any]:
    values, modes, bounds = {}, {}, {}
    for category, metrics in found.items():
        if isinstance(metrics, Streamed):
            values[category], modes[category] = metrics.values[protocol], "streaming"
            bounds[category] = metrics.bounds[protocol]
        else:
            values[category], modes[category] = metrics[protocol], "exact"
    report: dict[str, Any] = {"categories": values, "mean": mean_over_categories(values), "pixel_metrics": modes}
    if bounds:
        low, high = (
            mean_over_categories(
                values | {c: {name: pair[i] for name, pair in own.items()} for c, own in bounds.items()}
            )
            for i in range(2)
        )
        report["bounds"] = {"categories": bounds, "mean": {name: (low[name], high[name]) for name in low}}
    return report
