"""Comparing rows of runs: paired differences, their intervals, and verdicts.

Two rows are compared on the same seeds and the same test images.  With d[s, b] the difference of a metric between
the rows' runs of seed s on image replicate b (b = 0: the test set as it is), the estimate is the mean over seeds of
d[s, 0].  Its uncertainty has two sources, taken as independent: which seeds, and which test images.  A bootstrap
draw adds a resampling of the seeds (widened by sqrt(n / (n - 1)), as n deviations from their own mean are too small)
and the shift of one image replicate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

DRAWS = 4000
LEVEL = 0.95
POWER = 0.8
Replicates = Mapping[int, Sequence[float]]
"""Seed -> values of one metric in percent: on the test set, then on each image replicate."""
Verdict = Literal["supported", "contradicted", "no difference seen", "not tested here"]


@dataclass(frozen=True)
class Estimate:
    """A mean or a mean difference in points of percent."""

    value: float
    low: float
    high: float
    """Ends of the 95 % interval; both NaN for a single seed."""
    n: int
    """Seeds behind it."""
    detectable: float
    """Smallest true difference that runs of this spread, over seeds and test images, would find four times out of five
    by the rule of `verdict`; in simulations, 76 to 81 times in a hundred."""
    improvement: float
    """Probability that a run of the row beats a run of the reference, over all pairs of seeds; NaN for a mean."""


def row_mean(runs: Replicates) -> Estimate:
    """Mean over seeds of one row, with its interval.  Raises ValueError for no seed."""
    return _estimate(_matrix(runs, sorted(runs)), math.nan)


def paired_difference(row: Replicates, reference: Replicates) -> Estimate:
    """Row minus reference over the seeds that both have.  Raises ValueError if they share none."""
    seeds = sorted(set(row) & set(reference))
    if not seeds:
        raise ValueError(f"the rows share no seed: {sorted(row)} and {sorted(reference)}; run both with the same seeds")
    ours, theirs = _matrix(row, seeds), _matrix(reference, seeds)
    wins = np.sign(ours[:, None, 0] - theirs[None, :, 0])
    return _estimate(ours - theirs, float((wins.mean() + 1) / 2))


def verdict(difference: Estimate | None, claimed: int) -> Verdict:
    """What a difference says of the claim that its sign is `claimed` (+1 or -1).

    The rule was fixed before the runs: the interval has to exclude zero, and at least three seeds must stand behind it.
    """
    if difference is None or difference.n < 3 or math.isnan(difference.low):
        return "not tested here"
    if difference.low <= 0 <= difference.high:
        return "no difference seen"
    return "supported" if np.sign(difference.value) == claimed else "contradicted"


def smaller_than(difference: Estimate) -> float:
    """The size that a difference not seen would be below: the far end of its interval."""
    return max(abs(difference.low), abs(difference.high))


def _matrix(runs: Replicates, seeds: Sequence[int]) -> NDArray[np.float64]:
    if not seeds:
        raise ValueError("expected at least one run, got none")
    lengths = {len(runs[seed]) for seed in seeds}
    if len(lengths) != 1:
        raise ValueError(f"runs have {sorted(lengths)} image replicates; all must follow one protocol")
    return np.array([runs[seed] for seed in seeds], dtype=np.float64)


def _estimate(values: NDArray[np.float64], improvement: float) -> Estimate:
    """values (seeds, 1 + replicates)."""
    n, value = len(values), float(values[:, 0].mean())
    if n == 1:
        return Estimate(value, math.nan, math.nan, n, math.nan, improvement)
    random = np.random.default_rng(0)
    deviations = (values[:, 0] - value) * math.sqrt(n / (n - 1))
    by_seed = deviations[random.integers(0, n, size=(DRAWS, n))].mean(axis=1)
    shifts = values.mean(axis=0)[1:] - value
    by_image = random.choice(shifts, size=DRAWS) if shifts.size else 0.0
    low, high = np.quantile(value + by_seed + by_image, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    spread = math.sqrt(values[:, 0].var(ddof=1) / n + (shifts.var() if shifts.size else 0.0))
    detectable = (stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(POWER)) * spread
    return Estimate(value, float(low), float(high), n, float(detectable), improvement)
