"""How far mAD moves when nothing that matters is changed: records of `scripts/noise_floor.py`, as a table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd

from mambaad.engine.records import find_record, read_record, record_path
from mambaad.study.profiles import quick_base
from mambaad.study.published_numbers import repository_root
from mambaad.study.table_html import signed

FOLDER = "noise_floor"
SEEDS = (0, 1, 2, 3, 4)
ORDERS = (1, 2, 3, 4)


def _mad(results: Path, what: str, seed: int = SEEDS[0]) -> float | None:
    """mAD of one recorded run, exact protocol; None where it was not made."""
    base = quick_base()
    run = dataclasses.replace(base, train=dataclasses.replace(base.train, seed=seed))
    path = record_path(results / what, "quick", run.hash)
    return float(read_record(path)["metrics"]["exact"]["mean"]["mad"]) if path.is_file() else None


def table(results: str | Path) -> pd.DataFrame:
    """One line for each thing that was varied alone: number of runs, lowest and highest mAD, and their distance.

    Lines without two runs are left out. For threads the distance is the largest one between the two runs of a seed.
    """
    folder = Path(results)
    seeds = {seed: _mad(folder, "seeds", seed) for seed in SEEDS}
    threads = {seed: _mad(folder, "threads", seed) for seed in SEEDS}
    first = seeds[SEEDS[0]]
    varied = {
        "nothing: the same run again": [first, _mad(folder, "again")],
        "order of the training images": [first, *(_mad(folder, f"order_{order}") for order in ORDERS)],
        "seed": list(seeds.values()),
    }
    lines = [_line(what, [value for value in values if value is not None]) for what, values in varied.items()]
    pairs = [(a, b) for a, b in zip(seeds.values(), threads.values(), strict=True) if a is not None and b is not None]
    if pairs:
        widest = max(pairs, key=lambda pair: abs(pair[0] - pair[1]))
        lines.insert(1, _line("threads: 1 or 2, same seed, widest pair", list(widest), runs=2 * len(pairs)))
    return pd.DataFrame([line for line in lines if line["runs"] >= 2], columns=list(COLUMNS))


COLUMNS = ("varied alone", "runs", "lowest mAD", "highest mAD", "distance")


def _line(what: str, values: list[float], runs: int | None = None) -> dict[str, Any]:
    low, high = (min(values), max(values)) if values else (float("nan"), float("nan"))
    count = len(values) if runs is None else runs
    return dict(zip(COLUMNS, (what, count, low, high, high - low), strict=True))


def against_committed(run: str, results: str | Path) -> str:
    """Whether a run made again lies within what seeds alone move, in words; empty where there is nothing to compare.

    Args:
        run: its hash.
        results: folder of the new record.
    """
    committed = repository_root() / "results"
    new, old = find_record(Path(results), run), find_record(committed, run)
    if new is None or old is None or Path(results).resolve() == committed.resolve():
        return ""
    made, recorded = (float(record["metrics"]["exact"]["mean"]["mad"]) for record in (new, old))
    words = f"{run}: mAD {made:.1f}, in the committed record {recorded:.1f} ({signed(made - recorded, 1)})"
    spread = table(committed / FOLDER).set_index(COLUMNS[0])
    if "seed" not in spread.index:
        return f"{words}."
    distance = float(spread.loc["seed", COLUMNS[-1]])
    inside = abs(made - recorded) <= distance
    return f"{words}: {'inside' if inside else 'OUTSIDE'} the {distance:.1f} points that seeds alone move it."
