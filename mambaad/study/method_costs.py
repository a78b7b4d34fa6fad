"""What every method takes on a machine, as a page shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from IPython.display import Markdown, display

from mambaad.study import table_view
from mambaad.study.tables_spec import METHOD_TITLES

COSTS = {
    "latency_median_ms": "ms, one image",
    "latency_ratio": "× MambaAD",
    "images_per_s": "images/s",
    "peak_mb": "peak MB",
    "step_s": "s per step",
    "step_ratio": "× MambaAD's step",
}
"""Columns of the record `methods` that a page shows."""


def two_digits(value: float) -> float:
    """As many as three repetitions on one machine can vouch for."""
    return float(f"{value:.2g}")


def costs(benchmarks: str | Path) -> None:
    """What each method takes on a machine, from the records of `mambaad benchmark methods`."""
    records = sorted(Path(benchmarks).glob("methods_*.csv"))
    if not records:
        display(Markdown("Not measured yet: `mambaad benchmark methods`."))
    for path in records:
        rows = pd.read_csv(path)
        facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        about, batch = facts["environment"], facts["batch"]
        names = [
            f"{METHOD_TITLES[method]}{' (reduced)' if form == 'reduced' else ''}"
            for method, form in zip(rows["method"], rows["form"], strict=True)
        ]
        shown = rows.assign(method=names)[["method", "encoder", *COSTS]]
        shown[[*COSTS]] = shown[[*COSTS]].map(two_digits)
        shown = shown.rename(columns=COSTS)
        display(
            table_view.plain(shown, None, caption="Time and memory of every method on one machine."),
            Markdown(
                f"*{rows['side'][0]} pixels, float32, random weights; images/s and steps with {batch} images. All in "
                f"one process, calls alternating, medians of {facts['repeats']}. {about['device']}, "
                f"{about['threads']} CPU thread{'s' if about['threads'] != 1 else ''}, PyTorch "
                f"{about['packages']['torch']}.*"
            ),
        )
