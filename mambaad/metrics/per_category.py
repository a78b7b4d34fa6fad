"""The metrics of a test set that arrives in pieces, category after category.

The exact metrics need all pixels of a category at once; a category whose maps are larger than a budget is measured from
histograms instead, in memory that does not grow with the number of images, and its values come with bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mambaad.metrics.report import (
    PROTOCOLS,
    evaluate_protocols,
    labels_by_mask,
    mean_over_categories,
    shows_defect,
)
from mambaad.metrics.streaming import StreamingMetrics

EXACT_BYTES = 4 * 2**30
MAP_BYTES = 4  # float32

Piece = tuple[ArrayLike, ArrayLike, list[bool], ArrayLike]
"""Maps and masks (n, side, side) of some images of one category, whether each is defective, and its score."""
Observe = Callable[[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float32]], None]
"""Called with all maps, masks, labels and scores of a category that is measured exactly."""


@dataclass(frozen=True)
class CategoryMetrics:
    """What was measured on one category, in percent."""

    values: Mapping[str, Mapping[str, float]]
    """`{protocol: {metric: value}}`."""
    bounds: Mapping[str, Mapping[str, tuple[float, float]]] | None
    """The same with (lowest, highest) possible exact values; None if the values are exact."""
    relabelled: int
    """Images whose label differs between the protocols: defective ones whose resized mask is empty."""


def measure_category(
    pieces: Iterable[Piece], images: int, side: int, exact_bytes: int = EXACT_BYTES, observe: Observe | None = None
) -> CategoryMetrics:
    """The metrics of one category.

    Args:
        images: how many the pieces hold in all.
        side: of the maps, in pixels.
        exact_bytes: budget for the float32 maps, side * side * 4 bytes per image; exact metrics take less than three
            times that at their peak. Above it they are measured in the streaming mode; 0 for always.

    Raises:
        ValueError: a negative budget; maps, masks, labels or scores as in `evaluate_protocols`.
    """
    if exact_bytes < 0:
        raise ValueError(f"exact_bytes must be a number of bytes, 0 or more, got {exact_bytes}")
    labels: list[bool] = []
    masked: list[bool] = []
    if images * side * side * MAP_BYTES > exact_bytes:
        streaming = StreamingMetrics()
        for some_maps, some_masks, some_labels, some_scores in pieces:
            streaming.update(some_maps, some_masks, some_labels, some_scores)
            labels += some_labels
            masked += shows_defect(np.asarray(some_masks)).tolist()
        found = streaming.result()
        return CategoryMetrics(found.values, found.bounds, _relabelled(labels, masked))
    maps, masks = np.empty((images, side, side), dtype=np.float32), np.empty((images, side, side), dtype=bool)
    scores = np.empty(images, dtype=np.float32)
    for some_maps, some_masks, some_labels, some_scores in pieces:
        here = slice(len(labels), len(labels) + len(some_labels))
        maps[here], masks[here], scores[here] = some_maps, some_masks, some_scores
        labels += some_labels
    values = evaluate_protocols(maps, masks, labels, scores)
    if observe is not None:
        observe(maps, masks, np.array(labels), scores)
    return CategoryMetrics(values, None, _relabelled(labels, shows_defect(masks).tolist()))


def _relabelled(labels: list[bool], masked: list[bool]) -> int:
    own = np.array(labels)
    return int((labels_by_mask(own, np.array(masked)) != own).sum())


def report(found: Mapping[str, CategoryMetrics]) -> dict[str, dict[str, Any]]:
    """Categories -> `{protocol: {"mean": {metric: value}, "categories": {category: {metric: value}}, …}}`.

    Each protocol also has "pixel_metrics", `{category: "exact" or "streaming"}`; "relabelled", `{category: images}`
    whose label `paper` takes from the resized mask against the data set's own; and, if any category is "streaming",
    "bounds", with the categories' and those of the mean, in which the others count with their exact values.
    """
    return {protocol: _one_protocol(protocol, found) for protocol in PROTOCOLS}


def _one_protocol(protocol: str, found: Mapping[str, CategoryMetrics]) -> dict[str, Any]:
    values = {category: dict(metrics.values[protocol]) for category, metrics in found.items()}
    bounds = {c: dict(m.bounds[protocol]) for c, m in found.items() if m.bounds is not None}
    result: dict[str, Any] = {
        "categories": values,
        "mean": mean_over_categories(values),
        "pixel_metrics": {c: "exact" if m.bounds is None else "streaming" for c, m in found.items()},
        "relabelled": {c: m.relabelled for c, m in found.items()},
    }
    if bounds:
        low, high = (
            mean_over_categories(
                values | {c: {name: pair[i] for name, pair in own.items()} for c, own in bounds.items()}
            )
            for i in range(2)
        )
        result["bounds"] = {"categories": bounds, "mean": {name: (low[name], high[name]) for name in low}}
    return result
