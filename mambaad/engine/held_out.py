"""The loss of good images that are not trained on: it says when more training changes nothing.

Images of the test say nothing about it: they are for measuring the network that results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch

from mambaad.baselines.method import FeatureMethod, TrainedMethod
from mambaad.config import RunConfig, TrainConfig
from mambaad.data import Sample
from mambaad.data.image_set import ImageSet

PROGRESS = 0.01  # of the best loss: less does not count
CHECKS = 20  # in a run of full length


def check_every(steps: int) -> int:
    """Steps between two checks."""
    return max(1, steps // CHECKS)


def last_step(steps: int, config: TrainConfig, losses: Sequence[float]) -> int:
    """The step that ends training, known so far.

    After `patience` checks without progress the drop of the learning rate is brought forward: what was to follow it
    follows now, in the same proportion.

    Args:
        steps: of the run, if nothing ends it earlier.
        losses: of the checks so far, every `check_every(steps)` steps.

    Example:
        >>> config = TrainConfig(holdout=0.1, patience=2, decay_at=0.8)
        >>> last_step(1000, config, [1.0, 0.5, 0.5]), last_step(1000, config, [1.0, 0.5, 0.5, 0.5])
        (1000, 250)
    """
    best, stale = math.inf, 0
    for number, loss in enumerate(losses, start=1):
        best, stale = (loss, 0) if loss < best * (1 - PROGRESS) else (best, stale + 1)
        if config.patience is not None and stale >= config.patience:
            return min(steps, math.ceil(number * check_every(steps) / config.decay_at))
    return steps


def held_out_loss(
    run: RunConfig, held: Sequence[Sample], device: torch.device
) -> Callable[[TrainedMethod, float], torch.Tensor]:
    """A function of the method and the share of steps done: the mean loss () of the images held out, in eval mode.

    The frozen encoder runs over them once, where the method learns from its features.
    """
    images = ImageSet(held, run.data.side, run.model.mean, run.model.std)
    size = run.train.batch_size
    kept: list[list[torch.Tensor]] = []

    def batch(start: int) -> torch.Tensor:
        return torch.stack([images[k][0] for k in range(start, min(start + size, len(images)))]).to(device)

    @torch.no_grad()
    def loss(method: TrainedMethod, progress: float) -> torch.Tensor:
        model = cast(Any, method)
        model.eval()
        with torch.random.fork_rng():  # methods that draw random numbers for their loss draw them here, too
            if isinstance(method, FeatureMethod):
                if not kept:
                    kept.extend(model.encode(batch(start)) for start in range(0, len(images), size))
                values = [model.loss_from_features(features) for features in kept]
            else:
                values = [model.loss(batch(start), progress) for start in range(0, len(images), size)]
        model.train()
        numbers = torch.tensor([min(size, len(images) - start) for start in range(0, len(images), size)])
        return (torch.stack(values) * numbers.to(device)).sum() / len(images)

    return loss
