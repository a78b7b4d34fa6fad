"""The seven metrics of one category, and their mean over categories.  Paper: section 4, metrics; table 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mambaad.metrics.aupro import ranked_aupro, region_weights
from mambaad.metrics.inputs import as_finite, check_labels, check_maps
from mambaad.metrics.ranking import rank, ranked_auroc, ranked_average_precision, ranked_f1_max, ranked_f1_max_grid

METRICS = ("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "pixel_f1max", "pixel_aupro")
PROTOCOLS = ("exact", "paper")

PAPER_AUPRO_THRESHOLDS = 100


def evaluate(
    maps: ArrayLike,
    masks: ArrayLike,
    labels: ArrayLike | None = None,
    protocol: str = "exact",
    scores: ArrayLike | None = None,
) -> dict[str, float]:
    """The seven metrics of one category and their mean `mad`, in percent, under one protocol.

    Args, Raises: as `evaluate_protocols`; protocol: "exact" or "paper", ValueError for any other.
    Returns: the names in METRICS, then mad.

    Example:
        >>> masks = np.zeros((2, 8, 8), dtype=bool)
        >>> masks[1, 2:5, 2:5] = True
        >>> evaluate(masks.astype(float), masks)["mad"]
        100.0
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {PROTOCOLS}, got {protocol!r}")
    return _evaluate(maps, masks, labels, scores, (protocol,))[protocol]


def evaluate_protocols(
    maps: ArrayLike, masks: ArrayLike, labels: ArrayLike | None = None, scores: ArrayLike | None = None
) -> dict[str, dict[str, float]]:
    """The seven metrics of one category and their mean `mad`, in percent, under both protocols, from one sort.

    The two protocols share pixel AU-ROC and AP; they differ in
    - image labels: `exact` takes `labels`; `paper` the resized masks (`labels_by_mask`);
    - pixel_f1max: `exact` over every distinct score (f1_max); `paper` over 21 thresholds (f1_max_grid);
    - pixel_aupro: `exact` integrates every distinct score to FPR 0.3; `paper` uses 100 thresholds (see aupro).

    Args:
        maps: (N, H, W) anomaly maps, numpy or torch.
        masks: (N, H, W) bool or 0/1, 1 is defect. Every pixel counts at the pixel level, as its mask says.
        labels: (N,) bool or 0/1, 1 is defect; None takes mask.any(). Labels enter the image metrics of `exact` only: an
            image labelled 1 with an empty mask is defective there, while its pixels count as normal.
        scores: (N,) scores of the images; None takes the maximum of each map.
    Returns: {protocol: the names in METRICS, then mad, the mean of the seven}. A value that is not defined is NaN, and
        mad with it: AU-ROC needs both classes, AP and F1_max need a positive, AU-PRO both; the grids of `paper` also
        need maps that are not constant, its AU-PRO two different FPR below 0.3.
    Raises: ValueError for shapes that differ or are not (N, H, W), maps that are not finite, masks or labels that are
        not binary, labels or scores of another length, scores that are not finite, a label 0 for a mask with defect
        pixels.

    Example:
        >>> masks = np.zeros((2, 8, 8), dtype=bool)
        >>> masks[1, 2:5, 2:5] = True
        >>> list(evaluate_protocols(masks.astype(float), masks))
        ['exact', 'paper']
    """
    return _evaluate(maps, masks, labels, scores, PROTOCOLS)


def _evaluate(
    maps: ArrayLike,
    masks: ArrayLike,
    labels: ArrayLike | None,
    scores: ArrayLike | None,
    protocols: Sequence[str],
) -> dict[str, dict[str, float]]:
    values, truth = check_maps(maps, masks)
    defective = check_labels(truth.any(axis=(1, 2)) if labels is None else labels, truth)
    of_images, pixels, weights = image_scores(values, scores), rank(truth, values), region_weights(truth)
    shared = [ranked_auroc(pixels), ranked_average_precision(pixels)]
    seen = labels_by_mask(defective, shows_defect(truth))
    by_label = image_metrics(defective, of_images)
    images = {"exact": by_label, "paper": by_label if (seen == defective).all() else image_metrics(seen, of_images)}
    results = {}
    for protocol in protocols:
        if protocol == "exact":
            differing = ranked_f1_max(pixels), ranked_aupro(pixels, weights)
        else:
            differing = (
                ranked_f1_max_grid(pixels),
                ranked_aupro(pixels, weights, thresholds=PAPER_AUPRO_THRESHOLDS),
            )
        results[protocol] = in_percent([*images[protocol], *shared, *differing])
    return results


def image_scores(maps: NDArray[Any], scores: ArrayLike | None) -> NDArray[Any]:
    """The scores of the images, (N,), checked; the maximum of each map if there are none."""
    if scores is None:
        return np.asarray(maps.max(axis=(1, 2)))
    found = as_finite(scores, "scores")
    if found.shape != (len(maps),):
        raise ValueError(f"scores must be one number per map, {len(maps)}, got an array of shape {found.shape}")
    return found


def image_metrics(labels: NDArray[np.bool_], scores: NDArray[Any]) -> list[float]:
    """AU-ROC, AP and F1_max of whole images, 0..1."""
    ranking = rank(labels, scores)
    return [f(ranking) for f in (ranked_auroc, ranked_average_precision, ranked_f1_max)]


def shows_defect(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,) whether each mask (N, H, W) has a defect pixel."""
    return np.asarray(masks.any(axis=(1, 2)))


def labels_by_mask(labels: NDArray[np.bool_], masked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Image labels under the protocol `paper`: the published code calls an image defective if its mask, resized to the
    network's input, still has a pixel, so that a defect too small to survive the resize makes its image good.

    Where no image of the category has a mask there is nothing to follow, and the data set's labels stay.
    """
    return masked if masked.any() else labels


def in_percent(fractions: Sequence[float]) -> dict[str, float]:
    """The seven values in the order of METRICS, 0..1, as `{name: percent}` with their mean `mad` last."""
    percent = {name: 100 * value for name, value in zip(METRICS, fractions, strict=True)}
    return percent | {"mad": float(np.mean(list(percent.values())))}


def mean_over_categories(categories: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The plain mean of each metric over categories, and mad, the mean of the seven means.

    Args:
        categories: {category: as from evaluate}; every category weighs the same, whatever its number of images.

    Returns:
        The names in METRICS, then mad. NaN in one category makes the mean NaN: leaving the category out silently
        would compare different sets of categories.

    Raises:
        ValueError: no categories, or one that lacks a metric.

    Example:
        >>> mean_over_categories({"a": dict.fromkeys(METRICS, 90.0), "b": dict.fromkeys(METRICS, 80.0)})["mad"]
        85.0
    """
    if not categories:
        raise ValueError("mean_over_categories needs at least one category, got none")
    for category, metrics in categories.items():
        if missing := [name for name in METRICS if name not in metrics]:
            raise ValueError(f"category {category!r} lacks {missing}; expected all of {METRICS}")
    mean = {name: float(np.mean([metrics[name] for metrics in categories.values()])) for name in METRICS}
    return mean | {"mad": float(np.mean(list(mean.values())))}
