"""Methods that learn in one pass over the images, without gradients: the memory bank."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mambaad.baselines.method import FinishedMethod, FittedMethod, Method
from mambaad.config import RunConfig, TrainConfig, method_of, to_dict
from mambaad.data import Sample
from mambaad.data.image_set import ImageSet
from mambaad.device import resolve_device
from mambaad.engine.execution import Execution
from mambaad.engine.result import CHECKPOINT, TrainResult
from mambaad.model import save_checkpoint
from mambaad.progress import progress

BATCH = 16


def fit(
    model: FittedMethod,
    run: RunConfig,
    images: ImageSet,
    out: str | Path | None,
    execution: Execution,
    facts: Mapping[str, Any],
) -> TrainResult:
    """Fit a method on its training images; a checkpoint with `facts` is written to `out`, if named.

    Raises:
        DatasetError: an image that is missing or unreadable.
        ValueError: several processes, compile, another precision or patience, which have nothing to do here.
    """
    if run.train.precision != "32-true" or run.train.patience is not None:
        raise ValueError(f"{method_of(run.model)} is not trained in steps: leave out precision and patience")
    if execution.processes > 1 or execution.compile:
        raise ValueError(
            f"{method_of(run.model)} is filled in one pass by one process: leave out processes and compile"
        )
    device = resolve_device(execution.device)
    model.to(device)
    model.eval()
    started = time.perf_counter()
    loader = DataLoader(images, batch_size=BATCH, num_workers=execution.workers, generator=torch.Generator())
    with progress(len(images), "fit", execution.progress, unit="image") as bar:

        def encoded() -> Iterator[list[Tensor]]:
            for batch, _, _ in loader:
                with torch.no_grad():
                    yield model.encode(batch.to(device))
                bar.update(len(batch))

        model.fit(encoded(), len(images), run.data.side, run.train.seed)
    seconds = time.perf_counter() - started
    if out is not None:
        save_checkpoint(Path(out) / CHECKPOINT, model, {"run": to_dict(run), **facts})
    carried_out = {
        "precision": run.train.precision,
        "compiled": False,
        "image_cache": execution.image_cache is not None,
        "processes": 1,
        "threads": torch.get_num_threads(),
        "workers": execution.workers,
    }
    return TrainResult(model, [], 1, seconds, str(device), execution=carried_out)


def check_held(model: Method, held: Sequence[Sample], train: TrainConfig) -> None:
    """Raise ValueError, before anything is trained, if what needs images held out would have none."""
    if train.patience is not None and not held:
        raise ValueError(
            "patience watches good images that are not trained on, and no category has enough to hold one out: leave "
            "patience out, or give three good images or more"
        )
    if isinstance(model, FinishedMethod) and not held:
        raise ValueError(
            "this method needs good images that it is not trained on, and there are none: give three good images or "
            "more, with a holdout above 0, or take the method memory_bank"
        )


def finish(
    model: FinishedMethod, run: RunConfig, images: ImageSet, held: Sequence[Sample], device: torch.device, show: bool
) -> None:
    """What a trained method learns after its last step, from the images it was trained on and those held out.

    Raises:
        DatasetError: an image that is missing or unreadable.
        ValueError: no images were held out.
    """

    def read(chosen: ImageSet) -> Iterator[Tensor]:
        for batch, _, _ in DataLoader(chosen, batch_size=BATCH, generator=torch.Generator()):
            yield batch.to(device)
            bar.update(len(batch))

    unseen = ImageSet(held, run.data.side, run.model.mean, run.model.std, cache=False) if held else None
    with progress(len(images) + len(held), "finish", show, unit="image") as bar:
        model.finish(
            read(images), iter(()) if unseen is None else read(unseen), len(images), run.data.side, run.train.seed
        )
