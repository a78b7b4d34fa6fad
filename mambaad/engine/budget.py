"""Minutes in place of steps: a few steps are timed, and the schedule is fitted to what the time allows.

What came out is kept beside the runs, so that the same command goes on with the same run instead of timing another one.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch

from mambaad.baselines import build_method
from mambaad.baselines.method import FeatureMethod, FinishedMethod, FittedMethod, TexturedMethod, TrainedMethod
from mambaad.config import RunConfig, config_hash, method_of
from mambaad.data import DatasetError, Sample
from mambaad.data.holdout import hold_out
from mambaad.data.image_set import ImageSet
from mambaad.device import resolve_device
from mambaad.engine.execution import Execution, pinned_threads
from mambaad.files import write_json

FILE = "budgets.json"
STEPS_TIMED = 4  # after one that is not
SHARES_TIMED = (0.1, 0.3, 0.5, 0.7, 0.9)  # of a training in phases
RESERVE = 0.1  # of the budget: starting, saving, and a machine that slows down


@dataclass(frozen=True)
class Timing:
    """What a run takes on this machine, in seconds."""

    step: float
    """One optimiser step."""
    encode: float
    """The frozen encoder, per image; 0 where it runs in every step."""
    predict: float
    """Prediction, per image."""
    finish: float = 0.0
    """What is learned after the last step, per image."""


def with_budget(
    run: RunConfig,
    samples: Sequence[Sample],
    minutes: float,
    out: str | Path,
    execution: Execution,
    encoder_file: str | Path | None = None,
) -> RunConfig:
    """The run with as many steps as `minutes` allow for training and evaluation together.

    The first call times the run and writes the steps to `<out>/budgets.json`; later ones with the same settings and
    minutes read them there.

    Raises:
        ValueError: a budget that is not positive, a method that is not trained in steps, too little time for one pass
            over the images and ten steps, several processes of a launcher.
    """
    if not 0 < minutes < math.inf:
        raise ValueError(f"minutes must be positive and finite, got {minutes:g}")
    path = Path(out) / FILE
    key = f"{config_hash(replace(run, train=replace(run.train, steps=None)))} {minutes:g} min"
    known: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if key not in known and (launched := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise ValueError(
            f"a launcher started {launched} processes, and each would count other steps in {minutes:g} minutes: name "
            "the steps"
        )
    if key not in known:
        known[key] = steps_within(60 * minutes, run, samples, time_run(run, samples, execution, encoder_file))
        write_json(path, known)
    return replace(run, train=replace(run.train, steps=known[key]))


def steps_within(seconds: float, run: RunConfig, samples: Sequence[Sample], timing: Timing) -> int:
    """Optimiser steps that fit into a time, after what comes before and after them.  Raises ValueError for none."""
    train = sum(sample.split == "train" for sample in samples)
    predicted = len(samples) - train * (1 - run.train.holdout)
    besides = (timing.encode + timing.finish) * train + timing.predict * predicted
    steps = int((seconds * (1 - RESERVE) - besides) / timing.step)
    if steps < 10:
        enough = (besides + 100 * timing.step) / (1 - RESERVE) / 60
        raise ValueError(
            f"{seconds / 60:.3g} minutes are too few: reading and predicting the images takes about {besides:.0f} s "
            f"here and a step {timing.step:.2g} s; allow {enough:.2g} or more"
        )
    return steps


def time_run(
    run: RunConfig, samples: Sequence[Sample], execution: Execution, encoder_file: str | Path | None = None
) -> Timing:
    """Time one batch of the run, on a network that is then thrown away.

    Raises ValueError and what `build_method` raises.
    """
    device = resolve_device(execution.device)
    kept, _ = hold_out([s for s in samples if s.split == "train"], run.train.holdout, run.train.seed)
    size = run.train.batch_size
    with pinned_threads(execution.threads), torch.random.fork_rng():
        model: Any = build_method(run.model, encoder_file or run.encoder_weights)
        if isinstance(model, FittedMethod):
            raise ValueError(f"{method_of(run.model)} is filled in one pass over the images: leave out --minutes")
        if len(kept) < size:
            raise DatasetError(
                f"{len(kept)} training images are fewer than one batch of {size}: lower batch_size (--batch-size)"
            )
        model.to(device).train()
        images = ImageSet(kept[:size], run.data.side, run.model.mean, run.model.std)
        optimizers = cast(TrainedMethod, model).optimizers(run.train)
        read, batch = _timed(lambda: torch.stack([images[k][0] for k in range(size)]).to(device))
        keeps = execution.features != "off" and isinstance(model, FeatureMethod)
        encode, features = _timed(lambda: model.encode(batch)) if keeps else (0.0, None)

        if isinstance(model, TexturedMethod):
            model.use_textures(execution.textures)

        def step(progress: float) -> None:
            loss = model.loss_from_features(features) if keeps else model.loss(batch, progress)
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        # a step costs more in one phase than in another; those of the mean are spread over the whole training
        phases = SHARES_TIMED if getattr(model, "trains_in_phases", False) else (0.0,)
        times = []
        for share in phases:
            step(share)
            times.append(median(_timed(lambda: step(share))[0] for _ in range(STEPS_TIMED)))  # noqa: B023
        steps = sum(times) / len(times)
        finish = 0.0
        if isinstance(model, FinishedMethod):  # before it predicts, as it could not otherwise
            finish, _ = _timed(lambda: model.finish([batch], [batch], size, run.data.side, run.train.seed))
        model.eval()
        predict, _ = _timed(lambda: model.predict(batch))
    return Timing(
        step=steps,
        encode=(encode + read) / size if keeps else 0.0,
        predict=(predict + read) / size,
        finish=(finish + read) / size if finish else 0.0,
    )


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result
