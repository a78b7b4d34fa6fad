"""The seven metrics of one category, and their mean over categories.  Paper: section 4, metrics; table 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from mambaad.metrics.aupro import ranked_aupro, region_weights
from mambaad.metrics.inputs import check_labels, check_maps
from mambaad.metrics.ranking import rank, ranked_auroc, ranked_average_precision, ranked_f1_max, ranked_f1_max_grid

METRICS = ("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "pixel_f1max", "pixel_aupro")
PROTOCOLS = ("exact", "paper")

PAPER_AUPRO_THRESHOLDS = 100


def evaluate(
    maps: ArrayLike, masks: ArrayLike, labels: ArrayLike | None = None, protocol: str = "exact"
) -> dict[str, float]:
    """The seven metrics of one category and their mean `mad`, in percent, under one protocol.

    Args, Raises: as `evaluate_protocols`; protocol: "exact" or "paper", ValueError for any other.
    Returns: the names in METRICS, then mad.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {PROTOCOLS}, got {protocol!r}")
    return _evaluate(maps, masks, labels, (protocol,))[protocol]


def evaluate_protocols(
    maps: ArrayLike, masks: ArrayLike, labels: ArrayLike | None = None
) -> dict[str, dict[str, float]]:
    """The seven metrics of one category and their mean `mad`, in percent, under both protocols, from one sort.

    The two protocols share AU-ROC and AP at both levels and the image F1_max; they differ in
    - pixel_f1max: `exact` over every distinct score (f1_max); `paper` over 21 thresholds (f1_max_grid);
    - pixel_aupro: `exact` integrates every distinct score to FPR 0.3; `paper` uses 100 thresholds (see aupro).

    Args:
        maps: (N, H, W) anomaly maps, numpy or torch; the score of an image is the maximum of its map.
        masks: (N, H, W) bool or 0/1, 1 is defect. Every pixel counts at the pixel level, as its mask says.
        labels: (N,) bool or 0/1, 1 is defect; None takes mask.any(). Labels enter the image metrics only: an image
            labelled 1 with an empty mask is defective there, while its pixels count as normal.
    Returns: {protocol: the names in METRICS, then mad, the mean of the seven}. A value that is not defined is NaN, and
        mad with it: AU-ROC needs both classes, AP and F1_max need a positive, AU-PRO both; the grids of `paper` also
        need maps that are not constant, its AU-PRO two different FPR below 0.3.
    Raises: ValueError for shapes that differ or are not (N, H, W), maps that are not finite, masks or labels that are
        not binary, labels of another length, a label 0 for a mask with defect pixels.
    """
    return _evaluate(maps, masks, labels, PROTOCOLS)


def _evaluate(
    maps: ArrayLike, masks: ArrayLike, labels: ArrayLike | None, protocols: Sequence[str]
) -> dict[str, dict[str, float]]:
    scores, truth = check_maps(maps, masks)
    defective = check_labels(truth.any(axis=(1, 2)) if labels is None else labels, truth)
    images, pixels, weights = rank(defective, scores.max(axis=(1, 2))), rank(truth, scores), region_weights(truth)
    shared = [f(images) for f in (ranked_auroc, ranked_average_precision, ranked_f1_max)]
    shared += [ranked_auroc(pixels), ranked_average_precision(pixels)]
    results = {}
    for protocol in protocols:
        if protocol == "exact":
            differing = ranked_f1_max(pixels), ranked_aupro(pixels, weights)
        else:
            differing = (
                ranked_f1_max_grid(pixels),
                ranked_aupro(pixels, weights, thresholds=PAPER_AUPRO_THRESHOLDS),
            )
        results[protocol] = in_percent([*shared, *differing])
    return results


def in_percent(fractions: Sequence[float]) -> dict[str, float]:
    """The seven values in the order of METRICS, 0..1, as `{name: percent}` with their mean `mad` last."""
    percent = {name: 100 * value for name, value in zip(METRICS, fractions, strict=True)}
    return percent | {"mad": float(np.mean(list(percent.values())))}


def mean_over_categories(categories: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The plain mean of each metric over categories, and mad, the mean of the seven means.

    Args: categories, {category: as from evaluate}; every category weighs the same, whatever its number of images.
    Returns: the names in METRICS, then mad. NaN in one category makes the mean NaN: leaving the category out silently
        would compare different sets of categories.
    Raises: ValueError for no categories or a category that lacks a metric.
    """
    if not categories:
        raise ValueError("mean_over_categories needs at least one category, got none")
    for category, metrics in categories.items():
        if missing := [name for name in METRICS if name not in metrics]:
            raise ValueError(f"category {category!r} lacks {missing}; expected all of {METRICS}")
    mean = {name: float(np.mean([metrics[name] for metrics in categories.values()])) for name in METRICS}
    return mean | {"mad": float(np.mean(list(mean.values())))}
