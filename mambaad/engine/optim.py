"""What an optimiser step works with: parameter groups, learning rate, images.  Paper: section 4.1; published code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from mambaad.config import TrainConfig
from mambaad.data import DatasetError


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters with and without weight decay, as the published optimiser splits them.

    Exempt: 1-d tensors, names ending in ".bias", and the scan's D (1-d in the published code).  A_log and the bias of
    the step size are decayed there, unlike in Mamba's own convention.
    """
    decayed: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            free = parameter.ndim <= 1 or name.endswith((".bias", ".D"))
            (exempt if free else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]


def lr_factor(step: int, steps: int, config: TrainConfig) -> float:
    """Learning rate of a step (from 0) relative to the peak: linear warm-up, then one drop by `decay`."""
    warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
    return warmup * (config.decay if step >= config.decay_at * steps else 1.0)


def total_steps(config: TrainConfig, images: int) -> int:
    """Optimiser steps of a run; incomplete last batches are dropped.  Raises DatasetError for less than one batch."""
    per_epoch = images // config.batch_size
    if per_epoch == 0:
        raise DatasetError(
            f"{images} training images are fewer than one batch of {config.batch_size}: lower batch_size"
        )
    return config.steps or config.epochs * per_epoch


def batches(images: int, config: TrainConfig, steps: int) -> Iterator[list[int]]:
    """Image indices of every step of the run."""
    per_epoch = images // config.batch_size
    for step in range(steps):
        epoch, position = divmod(step, per_epoch)
        if position == 0:
            order = torch.randperm(images, generator=torch.Generator().manual_seed(config.seed + epoch))
        yield order[position * config.batch_size : (position + 1) * config.batch_size].tolist()
