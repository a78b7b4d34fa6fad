"""What the preset `laptop` rests on: readings of one trained network, a memory bank, and both, on single categories.

    python scripts/own_parts_ablation.py --data ../shared/data screw bottle metal_plate glassfiber pcb --seeds 0 1 2

For each category and seed, MambaAD is trained once at 128 pixels on the good images that are not held out, and a memory
bank is filled at 128 and at 256 pixels. Every reading below is an anomaly map made of their distances; the maps of good
images held out standardise what is added. Records: results/own_parts/<category>_<seed>.json. The distances are kept
below --maps, so that a call that was interrupted goes on, and another reading needs no training.

Development only: the categories are those of the protocol real_v1, and no other images were looked at.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.nn import functional as F

from mambaad.baselines.memory_bank import MemoryBank
from mambaad.config import (
    LITE0_ENCODER,
    DataConfig,
    MemoryBankConfig,
    ModelConfig,
    RunConfig,
    TrainConfig,
    config_hash,
    to_dict,
)
from mambaad.config.model import Distance
from mambaad.data import Sample, index_hash, load_dataset
from mambaad.data.holdout import hold_out
from mambaad.data.image_set import ImageSet
from mambaad.data.transforms import load_mask
from mambaad.engine.environment import environment
from mambaad.engine.execution import Execution
from mambaad.engine.train import train_run
from mambaad.files import atomic_path, write_json
from mambaad.metrics import evaluate
from mambaad.model.anomaly_map import gaussian_filter, unsmoothed_map

FOLDERS = {"screw": "mvtec", "bottle": "mvtec", "metal_plate": "other", "glassfiber": "other", "pcb": "other"}
SIDE, BANK_SIDE = 128, 256
READINGS: dict[str, tuple[tuple[str, ...], int, float]] = {
    # name: parts of the map, side of map and masks in pixels, sigma
    "cosine": (("cosine",), SIDE, 4.0),
    "euclidean": (("euclidean",), SIDE, 4.0),
    "euclidean, sigma 2": (("euclidean",), SIDE, 2.0),
    "cosine + euclidean": (("cosine", "euclidean"), SIDE, 4.0),
    "bank 128": (("bank_128",), SIDE, 4.0),
    "cosine + bank 128": (("cosine", "bank_128"), SIDE, 4.0),
    "cosine + euclidean + bank 128": (("cosine", "euclidean", "bank_128"), SIDE, 4.0),
    "bank 256": (("bank_256",), BANK_SIDE, 4.0),
    "cosine + bank 256": (("cosine", "bank_256"), BANK_SIDE, 4.0),
    "cosine + euclidean + bank 256": (("cosine", "euclidean", "bank_256"), BANK_SIDE, 4.0),
    "cosine + euclidean + 2 × bank 256": (("cosine", "euclidean", "bank_256", "bank_256"), BANK_SIDE, 4.0),
    "cosine + euclidean + 4 × bank 256": (("cosine", "euclidean", *4 * ("bank_256",)), BANK_SIDE, 4.0),
}
Maps = Mapping[str, np.ndarray]


def settings(steps: int, seed: int) -> RunConfig:
    """The network of the preset, with the published loss and schedule."""
    return RunConfig(
        model=ModelConfig(depths=(2, 2, 2, 2), **LITE0_ENCODER),
        encoder_weights="imagenet_lite0",
        data=DataConfig(dataset="folder", side=SIDE),
        train=TrainConfig(steps=steps, batch_size=8, lr=2.5e-3, warmup_steps=20, seed=seed, holdout=0.1),
    )


def batches(samples: list[Sample], side: int, model: Any) -> Iterator[torch.Tensor]:
    """Normalised images, sixteen at a time."""
    images = ImageSet(samples, side, model.config.mean, model.config.std, cache=False)
    for start in range(0, len(images), 16):
        yield torch.stack([images[k][0] for k in range(start, min(start + 16, len(images)))])


def distances(run: RunConfig, samples: list[Sample], folder: Path, name: str) -> dict[str, Maps]:
    """{part: {"held", "test": maps}}, from the files of an earlier call where they are."""
    kept, held = hold_out(samples, run.train.holdout, run.train.seed)
    settings_of_bank = MemoryBankConfig(**LITE0_ENCODER)
    # a file is named by all that it depends on but the code: remove the folder after changing that
    stems = {
        **dict.fromkeys(("cosine", "euclidean"), name),
        **dict.fromkeys(("bank_128", "bank_256"), f"{name}_{config_hash(settings_of_bank)}"),
    }
    seen = {"held": held, "test": [sample for sample in samples if sample.split == "test"]}
    execution = Execution(features="float32")
    found: dict[str, Maps] = {}

    def keep(part: str, maps: Maps) -> None:
        with atomic_path(folder / f"{stems[part]}_{part}.npz") as path, path.open("wb") as file:
            np.savez(file, **dict[str, Any](maps))
        found[part] = maps

    for part in ("bank_128", "bank_256", "cosine", "euclidean"):
        path = folder / f"{stems[part]}_{part}.npz"
        if path.is_file():
            with np.load(path) as stored:
                found[part] = dict(stored)
    for side in (SIDE, BANK_SIDE):
        if f"bank_{side}" in found:
            continue
        bank = MemoryBank(settings_of_bank, "imagenet_lite0").eval()
        good = [sample for sample in kept if sample.split == "train"]
        with torch.no_grad():
            bank.fit((bank.encode(batch) for batch in batches(good, side, bank)), len(good), side, run.train.seed)
            maps = {k: torch.cat([bank(b) for b in batches(v, side, bank)]).numpy() for k, v in seen.items()}
        keep(f"bank_{side}", maps)
    if not {"cosine", "euclidean"} <= found.keys():
        model: Any = train_run(run, samples, out=folder / name, execution=execution).model
        parts: dict[str, dict[str, list[torch.Tensor]]] = {"cosine": {}, "euclidean": {}}
        with torch.no_grad():
            for what, own in seen.items():
                for batch in batches(own, SIDE, model):
                    encoder, decoder = model(batch)
                    for part in parts:
                        parts[part].setdefault(what, []).append(
                            unsmoothed_map(encoder, decoder, SIDE, cast(Distance, part))
                        )
        for part, maps_of in parts.items():
            keep(part, {what: torch.cat(maps).numpy() for what, maps in maps_of.items()})
    return found


def read(found: Mapping[str, Maps], parts: tuple[str, ...], side: int, sigma: float) -> torch.Tensor:
    """One map per test image: the mean of its parts, each standardised by the maps of the images held out."""
    total = torch.zeros(())
    for part in parts:
        align = not part.startswith("bank")
        held, test = (
            F.interpolate(torch.from_numpy(found[part][k])[:, None], (side, side), mode="bilinear", align_corners=align)
            for k in ("held", "test")
        )
        total = total + ((test - held.mean()) / held.std())[:, 0] / len(parts)
    return gaussian_filter(total, sigma)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", nargs="*", default=[], choices=[*FOLDERS, []])
    parser.add_argument("--data", type=Path, required=True, help="folder of mvtec/ and other/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--maps", type=Path, default=Path("build/own_parts"), help="folder that keeps the distances")
    parser.add_argument("--out", type=Path, default=Path("results/own_parts"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed in given.seeds:
        for category in given.categories or FOLDERS:
            started = time.perf_counter()
            root = given.data / FOLDERS[category] / category
            samples = load_dataset("folder", root)
            run = settings(given.steps, seed)
            run = replace(run, data=replace(run.data, index_hash=index_hash(samples, root)))
            found = distances(run, samples, given.maps, f"{category}_{run.hash}")
            test = [sample for sample in samples if sample.split == "test"]
            metrics = {}
            for name, (parts, side, sigma) in READINGS.items():
                blank = torch.zeros(side, side, dtype=torch.bool)
                masks = torch.stack([blank if s.mask is None else load_mask(s.mask, side) for s in test])
                metrics[name] = evaluate(read(found, parts, side, sigma), masks)
            write_json(
                given.out / f"{category}_{seed}.json",
                {
                    "category": category,
                    "seed": seed,
                    "hash": run.hash,
                    "config": to_dict(run),
                    "bank": to_dict(MemoryBankConfig(**LITE0_ENCODER)),
                    "readings": {n: {"parts": p, "side": s, "sigma": g} for n, (p, s, g) in READINGS.items()},
                    "metrics": metrics,
                    "environment": environment("cpu"),
                    "wall_seconds": time.perf_counter() - started,
                    "note": "made on a machine that other work shared: times say nothing",
                },
            )
            print(category, seed, *(f"{name}: {values['mad']:.1f}" for name, values in metrics.items()), sep="  ")


if __name__ == "__main__":
    main()
