"""What the training of the preset `laptop` rests on: one setting changed at a time, on single categories.

    python scripts/own_parts_training.py --data ../shared/data screw bottle --seeds 0 1 2

Each change is one training of the network of `own_parts_ablation.py`, whose own training is what it is compared with,
and whose memory bank stands in the same map.  Records: results/own_parts/training/<category>_<seed>.json; a change that
has been measured is not trained again.  Development only, as there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest import mock

import torch
from own_parts_ablation import FOLDERS, READINGS, distances, read, settings
from torch import Tensor
from torch.nn import functional as F

from mambaad.config import ModelConfig, RunConfig, to_dict
from mambaad.data import index_hash, load_dataset
from mambaad.data.transforms import load_mask
from mambaad.engine.environment import environment
from mambaad.files import write_json
from mambaad.metrics import evaluate
from mambaad.model.anomaly_map import LOSS_WEIGHT
from mambaad.study.own_parts import NETWORK, PRESET, TRAINING


def changed(run: RunConfig, *, drop_path: float | None = None, **train: Any) -> RunConfig:
    """The run with other settings of its network or training."""
    model = cast(ModelConfig, run.model)
    if drop_path is not None:
        model = replace(model, drop_path=drop_path)
    return replace(run, model=model, train=replace(run.train, **train))


def levels_weigh_the_same(encoder: Sequence[Tensor], decoder: Sequence[Tensor]) -> Tensor:
    """The published loss with each level's error relative to the mean square of its features in the batch."""
    errors = [F.mse_loss(d, e) / e.square().mean() for e, d in zip(encoder, decoder, strict=True)]
    return LOSS_WEIGHT * torch.stack(errors).sum()


def cosine_loss(encoder: Sequence[Tensor], decoder: Sequence[Tensor]) -> Tensor:
    """One minus the cosine similarity at each position, which the published map shows: mean of each level, summed."""
    return torch.stack(
        [1 - F.cosine_similarity(e, d, dim=1).mean() for e, d in zip(encoder, decoder, strict=True)]
    ).sum()


CHANGES: dict[str, dict[str, Any]] = {
    "no stochastic depth": {"drop_path": 0.0},
    "levels weigh the same in the loss": {},
    "warm-up of 200 steps": {"warmup_steps": 200},
    "learning rate 0.001": {"lr": 1e-3},
    "learning rate 0.005": {"lr": 5e-3},
    "cosine in the loss": {},
}
LOSSES = {"levels weigh the same in the loss": levels_weigh_the_same, "cosine in the loss": cosine_loss}


def loss_of(change: str) -> AbstractContextManager[Any]:
    """The loss of a change in place of the published one."""
    if change not in LOSSES:
        return nullcontext()
    return mock.patch("mambaad.model.mambaad.reconstruction_loss", LOSSES[change])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", nargs="+", choices=FOLDERS)
    parser.add_argument("--data", type=Path, required=True, help="folder of mvtec/ and other/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=list(CHANGES))
    parser.add_argument("--maps", type=Path, default=Path("build/own_parts_training"), help="folder for the distances")
    parser.add_argument("--out", type=Path, default=Path("results/own_parts") / TRAINING)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for change in given.changes:
        for seed in given.seeds:
            for category in given.categories:
                path = given.out / f"{category}_{seed}.json"
                record: dict[str, Any] = {"category": category, "seed": seed, "changes": {}}
                if path.exists():
                    record = json.loads(path.read_text(encoding="utf-8"))
                if change in record["changes"]:
                    continue
                root = given.data / FOLDERS[category] / category
                samples = load_dataset("folder", root)
                run = changed(settings(given.steps, seed), **CHANGES[change])
                run = replace(run, data=replace(run.data, index_hash=index_hash(samples, root)))
                with loss_of(change):
                    name = f"{category}_{change.replace(' ', '_')}_{run.hash}"
                    found = distances(run, samples, given.maps, name)
                test = [sample for sample in samples if sample.split == "test"]
                metrics = {}
                for reading in (NETWORK, PRESET):
                    parts, side, sigma = READINGS[reading]
                    blank = torch.zeros(side, side, dtype=torch.bool)
                    masks = torch.stack([blank if s.mask is None else load_mask(s.mask, side) for s in test])
                    metrics[reading] = evaluate(read(found, parts, side, sigma), masks)
                record["changes"][change] = {
                    "hash": run.hash,
                    "config": to_dict(run),
                    "loss": LOSSES[change].__name__ if change in LOSSES else "reconstruction_loss",
                    "metrics": metrics,
                    "environment": environment("cpu"),
                }
                write_json(path, record)
                mads = (f"{reading}: {values['mad']:.1f}" for reading, values in metrics.items())
                print(change, category, seed, *mads, sep="  ", flush=True)


if __name__ == "__main__":
    main()
