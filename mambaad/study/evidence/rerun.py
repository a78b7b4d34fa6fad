"""A run of the protocol made again: does it fall where the recorded runs of its row lead one to expect?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from mambaad.engine.records import read_record
from mambaad.study.evidence.carry_out import recorded
from mambaad.study.evidence.protocol import PRIMARY, Row

LEVEL = 0.95


def expected(values: Sequence[float]) -> tuple[float, float]:
    """Where one further run of the same row lies with a probability of 95 %, were runs normally distributed.

    Raises:
        ValueError: fewer than two runs.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"expected at least two recorded runs, got {n}")
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) * math.sqrt(1 + 1 / n)
    middle = float(np.mean(values))
    return middle - float(half), middle + float(half)


def beside_recorded(row: Row, record: str | Path, results: str | Path) -> str:
    """A sentence about a new record of a row and those in `results`; empty where fewer than two are recorded there.

    Args:
        record: path of the new record.
        results: folder with the recorded runs; another one than the new record's.
    """
    others = {seed: found["replicates"][PRIMARY][0] for seed, found in recorded(row, results).items()}
    if len(others) < 2:
        return ""
    new = read_record(Path(record))
    value, seed = new["replicates"][PRIMARY][0], new["seed"]
    low, high = expected(list(others.values()))
    same = f"; recorded with this seed: {others[seed]:.1f}" if seed in others else ""
    return (
        f"{row.name}, seed {seed}: mAD {value:.1f}{same}. {'Inside' if low <= value <= high else 'OUTSIDE'} "
        f"{low:.1f} to {high:.1f}, where {len(others)} recorded seeds let one expect a further run."
    )
