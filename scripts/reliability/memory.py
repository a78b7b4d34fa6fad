"""Evaluate very many images and record the memory in use, which should not grow with their number.

    python scripts/reliability/memory.py --images 100000 --out results/reliability/memory.json

The images are tiny and generated, a thousand different ones under as many names as are wanted; metrics are measured in
the streaming mode, as they are for any category whose maps would not fit. The network is a small one with random
weights: its maps cost what maps cost.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tiny import NETWORK

from mambaad.data import Sample
from mambaad.engine.environment import code_version
from mambaad.engine.evaluate import evaluate_samples
from mambaad.engine.execution import Execution
from mambaad.files import write_json
from mambaad.model import MambaAD
from mambaad.model.mambaad import Prediction

SIDE, DISTINCT, BATCH = 64, 1000, 50


def draw(folder: Path, number: int, seed: int) -> list[Sample]:
    """Grey noise, a bright square in every second image; after the first thousand, more names for the same files."""
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(number):
        image, mask = folder / f"{i:06d}.png", folder / f"{i:06d}_mask.png"
        defective = i % 2 == 1
        if i < DISTINCT:
            pixels = rng.integers(60, 140, (SIDE, SIDE, 3), dtype=np.uint8)
            if defective:
                top, left = rng.integers(0, SIDE - 8, 2)
                truth = np.zeros((SIDE, SIDE), dtype=np.uint8)
                truth[top : top + 8, left : left + 8] = 255
                pixels[truth > 0] += 80
                Image.fromarray(truth).save(mask)
            Image.fromarray(pixels).save(image)
        else:
            os.link(folder / f"{i % DISTINCT:06d}.png", image)
            if defective:
                os.link(folder / f"{i % DISTINCT:06d}_mask.png", mask)
        samples.append(Sample(image, "noise", "test", "square" if defective else "good", mask if defective else None))
    return samples


def resident_mb() -> float:
    """Memory of this process that is in use now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Watched:
    """A network that notes the memory in use as it predicts."""

    def __init__(self, every: int) -> None:
        torch.manual_seed(0)
        self.net = MambaAD(NETWORK, "random").eval()
        self.config, self.every, self.seen = self.net.config, every, 0
        self.points: list[tuple[int, float]] = []

    def to(self, device: torch.device) -> Watched:
        return self

    def predict(self, images: torch.Tensor) -> Prediction:
        found = self.net.predict(images)
        self.seen += len(images)
        if self.seen % self.every == 0:
            self.points.append((self.seen, round(resident_mb(), 1)))
            print(f"{self.seen} images, {self.points[-1][1]} MB", file=sys.stderr)
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--out", type=Path, required=True, help="JSON record")
    given = parser.parse_args()
    torch.set_num_threads(1)
    every = max(BATCH, given.images // 20 // BATCH * BATCH)
    with tempfile.TemporaryDirectory() as place:
        samples = draw(Path(place), given.images, 0)
        model: Any = Watched(every)
        execution = Execution(device="cpu", threads=1, progress=False)
        metrics = evaluate_samples(model, samples, SIDE, execution, batch_size=BATCH, exact_bytes=0)
    later = [memory for _, memory in model.points[1:]]
    record = {
        "kind": "memory",
        "command": f"python scripts/reliability/memory.py --images {given.images} "
        f"--out results/reliability/{given.out.name}",
        "code": [code_version()["commit"] or "unknown"],
        "images": given.images,
        "side": SIDE,
        "resident_mb": model.points,
        "growth_mb": round(later[-1] - later[0], 1) if later else None,
        "maps_would_take_mb": round(given.images * SIDE**2 * 4 / 1e6, 1),
        "pixel_metrics": metrics["exact"]["pixel_metrics"],
    }
    write_json(given.out, record)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
