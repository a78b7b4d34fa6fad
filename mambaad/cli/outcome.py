"""What `mambaad predict` and `mambaad evaluate` say of what they measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambaad.cli.options import print_metrics

if TYPE_CHECKING:
    from mambaad.inference.threshold import Threshold


def print_measured(results: Mapping[str, Any]) -> None:
    """Tables of metrics with "-" for those that the images do not define, and why; no table if they define none."""
    shown: dict[str, dict[str, Any]] = {
        protocol: {
            "mean": _defined(result["mean"]),
            "categories": {category: _defined(values) for category, values in result["categories"].items()},
        }
        for protocol, result in results.items()
    }
    values = [value for result in shown.values() for value in result["mean"].values()]
    why = "image metrics need good and defective images, pixel metrics need masks of defects"
    if values and all(value is None for value in values):
        print(f"no metrics: {why}")
        return
    print_metrics(shown)
    if None in values:
        print(f"- is not defined: {why}")


def _defined(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None or math.isnan(value) else value for name, value in values.items()}


def print_thresholds(images: Iterable[Path], by_category: Mapping[str, Threshold], overall: Threshold) -> None:
    """The note of every threshold that one of these images was compared with."""
    from mambaad.inference.threshold import threshold_for

    used = {id(threshold_for(image.absolute(), by_category, overall)) for image in images}
    for category, own in {**by_category, "": overall}.items():
        if id(own) in used:
            print(f"{category}: {own.note}" if category else own.note)
