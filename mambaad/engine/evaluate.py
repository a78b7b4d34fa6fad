"""Evaluation of a model on a data set: the seven metrics per category and their mean, under both protocols.

The test set streams through the network in batches, category after category (`mambaad.metrics.per_category`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from mambaad.baselines import Method
from mambaad.baselines.method import scores_of
from mambaad.config import RunConfig
from mambaad.data import DatasetError, Sample
from mambaad.data.image_set import ImageSet
from mambaad.device import resolve_device
from mambaad.engine.execution import Execution, pinned_threads
from mambaad.engine.processes import gather_rows, place
from mambaad.metrics.per_category import EXACT_BYTES, CategoryMetrics, measure_category, report
from mambaad.progress import Bar, progress

Piece = tuple[str, Tensor, Tensor, list[bool], Tensor]
"""Category of some images, their maps and masks (n, side, side) on the CPU, whether each is defective, its score."""


class Observer(Protocol):
    """Sees the maps of each category that is measured exactly, and adds what it found to the run's record."""

    def __call__(
        self,
        category: str,
        maps: NDArray[np.float32],
        masks: NDArray[np.bool_],
        labels: NDArray[np.bool_],
        scores: NDArray[np.float32],
        /,
    ) -> None: ...

    def facts(self) -> dict[str, Any]:
        """Fields of the record, once all categories were seen."""
        ...


def evaluate_run(
    model: Method, run: RunConfig, samples: Sequence[Sample], execution: Execution | None = None, **options: Any
) -> dict[str, dict[str, Any]]:
    """`evaluate_samples` on the test images of a run's data set, at the run's side."""
    return evaluate_samples(model, samples, run.data.side, execution, **options)


def evaluate_samples(
    model: Method,
    samples: Sequence[Sample],
    side: int,
    execution: Execution | None = None,
    *,
    batch_size: int = 16,
    exact_bytes: int = EXACT_BYTES,
    observe: Observer | None = None,
) -> dict[str, dict[str, Any]]:
    """Metrics in percent: `{protocol: {"mean": {metric: value}, "categories": {category: {metric: value}}}}`.

    Masks are compared at `side` pixels, the size of the network's input.

    Several training processes share the images; all of them have to call it, and the first one has the result.

    Args:
        execution: its device, threads, workers and progress count; None: the defaults, threads as they are.
        exact_bytes: as for `measure_category`.
        observe: is shown the maps of every category.

    Returns: as `mambaad.metrics.per_category.report`; empty in all but the first of several processes.

    Raises:
        DatasetError: no test images.
        ValueError: a device that is not there, a side the scan order cannot fill, a negative budget.
    """
    test = [sample for sample in samples if sample.split == "test"]
    if not test:
        raise DatasetError("there are no test images: metrics need good and defective ones")
    categories = list(dict.fromkeys(sample.category for sample in test))
    grouped = [sample for category in categories for sample in test if sample.category == category]
    numbers = {category: sum(sample.category == category for sample in test) for category in categories}
    found: dict[str, CategoryMetrics] = {}
    execution = execution or Execution(threads=None)
    first = place(execution.processes)[0] == 0
    with (
        pinned_threads(execution.threads),
        progress(len(test), "evaluate", execution.progress and first, unit="image") as bar,
    ):
        pieces = predicted(model, grouped, side, execution, batch_size, bar)
        if not first:
            for _ in pieces:
                pass
            return {}
        for category, own in groupby(pieces, key=lambda piece: piece[0]):
            shown = None if observe is None else partial(observe, category)
            found[category] = measure_category(
                (piece[1:] for piece in own), numbers[category], side, exact_bytes, shown
            )
    return report(found)


def predicted(
    model: Method, samples: list[Sample], side: int, execution: Execution, batch_size: int, bar: Bar
) -> Iterator[Piece]:
    """Maps, masks and scores in the order of the samples, a batch being split where the category changes.

    Several processes take the batches in turns, the same batches as one process has; every process is given all maps.
    """
    expected = 0
    for maps, masks, index in _in_turns(model, samples, side, execution, batch_size):
        if index.tolist() != list(range(expected, expected + len(index))):
            raise RuntimeError(f"expected image {expected} next, the processes sent {index.tolist()}")
        chosen = [samples[i] for i in index.tolist()]
        start = 0
        for _, same in groupby(chosen, key=lambda sample: sample.category):
            piece = list(same)
            end = start + len(piece)
            labels, own = [sample.is_defect for sample in piece], maps[start:end]
            yield piece[0].category, own, masks[start:end], labels, scores_of(model, own)
            bar.update(len(piece))
            start = end
        expected += len(index)


def _in_turns(
    model: Method, samples: list[Sample], side: int, execution: Execution, batch_size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(maps, masks, positions among the samples) of one batch after another, on the CPU."""
    target = resolve_device(execution.device)
    model.to(target)
    images = ImageSet(samples, side, model.config.mean, model.config.std, cache=False)
    numbers = range(len(samples))
    batches = [list(numbers[start : start + batch_size]) for start in numbers[::batch_size]]
    rank, processes = place(execution.processes)
    loader = iter(DataLoader(images, batch_sampler=batches[rank::processes], num_workers=execution.workers))
    for _ in range(0, len(batches), processes):
        read = next(loader, None)
        if read is None:  # in the last turn some processes have no batch
            maps, masks, index = torch.zeros(0, side, side), torch.zeros(0, side, side).bool(), torch.zeros(0).long()
        else:
            batch, masks, index = read
            # Without gradients, but not under torch.inference_mode: the scan routes that the model keeps between calls
            # would be inference tensors, which a later training in the same process cannot save for its backward pass.
            maps = model.predict(batch.to(target)).anomaly_map
        if processes == 1:
            yield maps.cpu(), masks, index
        else:
            parts = (gather_rows(own.to(target), batch_size) for own in (maps, masks.byte(), index))
            for some_maps, some_masks, some in zip(*parts, strict=True):
                yield some_maps, some_masks.bool(), some
