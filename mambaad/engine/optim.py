"""What an optimiser step works with: learning rate and images.  Paper: section 4.1; published code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from mambaad.config import RunConfig, TrainConfig
from mambaad.data import DatasetError, Sample
from mambaad.data.holdout import hold_out


def lr_factor(step: int, steps: int, config: TrainConfig) -> float:
    """Learning rate of a step (from 0) relative to the peak: linear warm-up, then one drop by `decay`."""
    warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
    return warmup * (config.decay if step >= config.decay_at * steps else 1.0)


def total_steps(config: TrainConfig, images: int) -> int:
    """Optimiser steps of a run; incomplete last batches are dropped.  Raises DatasetError for less than one batch."""
    per_epoch = images // config.batch_size
    if per_epoch == 0:
        raise DatasetError(
            f"{images} training images are fewer than one batch of {config.batch_size}: lower batch_size (--batch-size)"
        )
    return config.steps or config.epochs * per_epoch


def batch_that_fits(run: RunConfig, samples: Sequence[Sample], processes: int = 1) -> int:
    """The run's batch size, or as many training images as there are if they are fewer, a multiple of the processes."""
    kept, _ = hold_out([s for s in samples if s.split == "train"], run.train.holdout, run.train.seed)
    fewer = len(kept) // processes * processes
    return fewer if 0 < fewer < run.train.batch_size else run.train.batch_size


def batches(images: int, config: TrainConfig, steps: int) -> Iterator[list[int]]:
    """Image indices of every step of the run."""
    per_epoch = images // config.batch_size
    for step in range(steps):
        epoch, position = divmod(step, per_epoch)
        if position == 0:
            order = torch.randperm(images, generator=torch.Generator().manual_seed(config.seed + epoch))
        yield order[position * config.batch_size : (position + 1) * config.batch_size].tolist()
