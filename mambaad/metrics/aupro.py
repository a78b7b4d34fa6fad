"""AU-PRO: area under the per-region overlap curve.  Paper: section 4, metrics; Bergmann et al., MVTec AD.

Regions are the 8-connected components of each mask; over a category with regions r = 1..n,
PRO(t) = 1/n sum_r |{pixels of r with score beyond t}| / |r|, plotted over FPR(t) = share of all normal pixels (those of
good images too) beyond t. Written per pixel, each defect pixel adds 1 / (n |its region|): AU-PRO is a weighted ROC
curve and needs the same sort as the ranking metrics, and no loop over thresholds or regions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.integrate import trapezoid

from mambaad.metrics.inputs import check_maps
from mambaad.metrics.ranking import Ranking, count_above, rank

EIGHT_CONNECTED = np.ones((3, 3), dtype=int)


def aupro(maps: ArrayLike, masks: ArrayLike, limit: float = 0.3, thresholds: int | None = None) -> float:
    """Area under PRO over FPR up to FPR = limit, as a share of its largest possible value.

    thresholds=None (`exact` protocol): every distinct score is a threshold, a pixel counts when its score is >= it; the
    curve starts at (0, 0), joins its points by straight lines, is integrated from 0 to limit with the last piece
    interpolated at the limit, and divided by limit.

    thresholds=n (`paper` protocol, there 100): thresholds min + k (max - min) / n below max (`threshold_grid`), over
    the scores of the category, a pixel counts when its score is > the threshold; only points with FPR < limit are kept,
    the FPR of those is rescaled to [0, 1] by their own minimum and maximum, and the area under them is taken by the
    trapezoid rule. No point is added at either end. The grid changes the number, and one outlier pixel, which
    stretches it, more so.

    Args:
        maps: (N, H, W), finite anomaly maps of one category.
        masks: (N, H, W), binary.
        limit: in (0, 1].
        thresholds: None, or how many.

    Returns:
        0..1. NaN if there is no defect pixel or no normal pixel. On the grid also NaN if fewer than two different
        FPR are left below the limit: rescaling would divide by zero (constant maps, or maps so sparse that one step of
        the grid jumps over the limit, or no normal pixel above the minimum).

    Raises:
        ValueError: shapes that differ or are not (N, H, W), maps that are not finite, masks that are not binary, a
            limit outside (0, 1], thresholds that are not an integer of at least 2.

    Example:
        >>> masks = np.zeros((2, 8, 8), dtype=bool)
        >>> masks[1, 2:5, 2:5] = True
        >>> round(aupro(masks.astype(float), masks), 6)
        1.0
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit must be a false positive rate in (0, 1], got {limit}")
    if thresholds is not None and (not isinstance(thresholds, int) or isinstance(thresholds, bool) or thresholds < 2):
        raise ValueError(f"thresholds must be None (exact) or an integer of at least 2, got {thresholds!r}")
    scores, truth = check_maps(maps, masks)
    return ranked_aupro(rank(truth, scores), region_weights(truth), limit, thresholds)


def region_areas(masks: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
    """The area of its region for each defect pixel of masks (N, H, W), in C order, and the number of regions."""
    regions: list[NDArray[Any]] = [np.zeros(0, dtype=np.int64)]
    found = 0
    for mask in masks[masks.any(axis=(1, 2))]:
        labelled, count = ndimage.label(mask, structure=EIGHT_CONNECTED)
        regions.append(labelled[mask] - 1 + found)
        found += count
    region = np.concatenate(regions)
    return np.bincount(region)[region], found


def region_weights(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """1 / (number of regions · area of its region) for each defect pixel of masks (N, H, W), in C order; sums to 1."""
    areas, found = region_areas(masks)
    return 1 / (found * areas)


def threshold_grid(low: float, high: float, thresholds: int) -> NDArray[np.float64]:
    """The published code's thresholds in [low, high): steps of (high - low) / thresholds by numpy.arange.

    Rounding gives one threshold more now and then, next to the highest score; there is one alone where float64 has no
    such steps.
    """
    step = (high - low) / thresholds
    if not 0 < step < math.inf:
        return np.full(1, low)
    return np.arange(low, high, step)


def ranked_aupro(r: Ranking, weights: NDArray[np.float64], limit: float = 0.3, thresholds: int | None = None) -> float:
    """`aupro` of scores already sorted; weights as from region_weights."""
    if not r.positive.size or not r.negative.size:
        return math.nan
    overlap = np.concatenate([[0.0], np.cumsum(weights[r.order])])  # PRO when so many positives are beyond
    if thresholds is None:
        return _exact_area(r, overlap, limit)
    if r.lowest == r.highest:
        return math.nan
    grid = threshold_grid(r.lowest, r.highest, thresholds)[::-1]  # from high to low: FPR rises
    fpr = count_above(r.negative, grid) / r.negative.size
    pro = overlap[count_above(r.positive, grid)]
    pro, fpr = pro[fpr < limit], fpr[fpr < limit]
    if fpr.size < 2 or fpr[0] == fpr[-1]:
        return math.nan
    return float(trapezoid(pro, (fpr - fpr[0]) / (fpr[-1] - fpr[0])))


def _exact_area(r: Ranking, overlap: NDArray[np.float64], limit: float) -> float:
    # Two corners per level: before it (all that is strictly above) and after it. A level that holds positives and
    # negatives is one slanted piece; the negatives between two levels make a flat piece.
    fp = np.concatenate([[0], np.stack([r.fp_above, r.fp], axis=1).ravel(), [r.negative.size]])
    tp = np.concatenate([[0], np.stack([np.append(0, r.tp[:-1]), r.tp], axis=1).ravel(), r.tp[-1:]])
    fpr, pro = fp / r.negative.size, overlap[tp]
    end = int(np.searchsorted(fpr, limit, side="left"))  # first corner at or past the limit; never 0, never missing
    share = (limit - fpr[end - 1]) / (fpr[end] - fpr[end - 1])
    at_limit = pro[end - 1] + share * (pro[end] - pro[end - 1])
    return float(trapezoid(np.append(pro[:end], at_limit), np.append(fpr[:end], limit)) / limit)
