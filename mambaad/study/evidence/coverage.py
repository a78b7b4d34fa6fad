"""How often the intervals of `statistics` hold the true difference, by simulation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mambaad.study.evidence.statistics import paired_difference

FILE = "interval_coverage.json"
SEEDS = (3, 4, 5)
IMAGES = (0.0, 0.5, 1.0)
"""Standard deviation of what the draw of test images adds to a difference, in that of the mean over five seeds."""
DRAWS = 2000


def coverage(seeds: int, images: float, draws: int = DRAWS, replicates: int = 200) -> float:
    """The share of simulated comparisons whose 95 % interval holds the true difference.

    A comparison is `seeds` paired differences with normal noise of variance 1, and a shift by the test images that all
    of them share, with the standard deviation `images / sqrt(5)`; the bootstrap sees `replicates` shifts of the same
    distribution.
    """
    random = np.random.default_rng(seeds)
    scale = images / np.sqrt(5)
    hits = 0
    for _ in range(draws):
        shifts = np.append(0, random.normal(scale=scale, size=replicates)) + random.normal(scale=scale)
        row = {seed: (shifts + noise).tolist() for seed, noise in enumerate(random.normal(size=seeds))}
        found = paired_difference(row, dict.fromkeys(row, [0.0] * (replicates + 1)))
        hits += found.low <= 0 <= found.high
    return hits / draws


def simulated() -> list[dict[str, Any]]:
    """Coverage for every number of seeds and share of the images, as the record holds it."""
    return [
        {"seeds": seeds, "images": images, "coverage": coverage(seeds, images)} for seeds in SEEDS for images in IMAGES
    ]


def stored(results: str | Path) -> list[dict[str, Any]]:
    """The simulations on record; none if there is no such record."""
    path = Path(results) / FILE
    return list(json.loads(path.read_text(encoding="utf-8"))["simulated"]) if path.is_file() else []


def by_chance(lines: Sequence[Mapping[str, Any]], comparisons: int, seeds: int = max(SEEDS)) -> tuple[float, float]:
    """How many of some comparisons would exclude zero if nothing differed: fewest and most, by the simulations."""
    missed = [1 - line["coverage"] for line in lines if line["seeds"] == seeds]
    return comparisons * min(missed), comparisons * max(missed)


def sentence(lines: Sequence[Mapping[str, Any]]) -> str:
    """Lowest and highest coverage for each number of seeds, in words."""
    parts = []
    for seeds in sorted({line["seeds"] for line in lines}):
        own = [100 * line["coverage"] for line in lines if line["seeds"] == seeds]
        parts.append(f"{min(own):.0f} to {max(own):.0f} % with {seeds} seeds")
    return (
        "In simulations with normal noise the 95 % intervals hold the true difference in "
        f"{', '.join(parts)}; less than they say, as the spread of few seeds is hard to know."
    )
