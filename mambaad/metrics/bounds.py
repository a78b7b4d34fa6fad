"""Pixel metrics from a histogram of the scores, each with the bounds between which the exact value lies.

A bin is an interval of scores. The counts at the bins' edges are exact, so every curve of the exact metrics passes
through known corners; between two of them only the order of one bin's pixels is unknown. Below, bins come from high to
low, tp and fp are the positives and negatives in the bins above, p and n those in the bin, P and N all of them. A bound
is the value at the worst or best order inside every bin at once (or a little outside of it where that is said); the
value given is the one for positives and negatives evenly mixed inside each bin. A bin that holds one distinct score
leaves nothing open, and bounds and value treat it as the tie that it is. Bounds hold up to float64 rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid

from mambaad.metrics.aupro import threshold_grid

Floats = NDArray[np.float64]


class Bounded(NamedTuple):
    """A value in 0..1 and bounds of the exact one; all NaN where the exact metric is NaN whatever the order."""

    value: float
    low: float
    high: float


UNDEFINED = Bounded(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Histogram:
    """Pixels of one category by score, U bins from high to low, none of them empty."""

    positive: NDArray[np.int64]  # (U,) positives (defect pixels) in the bin
    negative: NDArray[np.int64]  # (U,) negatives
    weight: Floats  # (U,) summed region weights of the positives, 1 over all bins if there are any
    low: Floats  # (U,) no score of the bin is lower
    high: Floats  # (U,) no score of the bin is higher
    tied: NDArray[np.bool_]  # (U,) the bin holds one distinct score
    lowest: float  # smallest and largest score of all, exact
    highest: float

    @property
    def one_class(self) -> bool:
        return not (self.positive.any() and self.negative.any())


def bounded_auroc(h: Histogram) -> Bounded:
    """`auroc`: the p n pairs inside a bin are all in the right order, or none is; evenly mixed, half of them."""
    if h.one_class:
        return UNDEFINED
    below = h.negative.sum() - np.cumsum(h.negative)
    pairs = float(h.positive.sum()) * float(h.negative.sum())
    sure = float(h.positive.astype(float) @ (below + np.where(h.tied, h.negative / 2, 0))) / pairs
    open_ = float(h.positive.astype(float) @ np.where(h.tied, 0, h.negative)) / pairs
    return Bounded(sure + open_ / 2, sure, sure + open_)


def bounded_average_precision(h: Histogram) -> Bounded:
    """`average_precision`: the mean over positives of the precision f = x / (x + y) at its score, x and y counts.

    The positive that is j-th in its bin has tp + 1 <= tp + j <= x <= tp + p and fp <= y <= fp + n, where f grows with x
    and falls with y. Highest: all positives of a bin are equal and above its negatives, x = tp + p and y = fp. Lowest:
    they differ and are below, x = tp + j and y = Y = fp + n. f is concave in x, so f(x) is at least its mean over
    [x - 1/2, x + 1/2], and the sum over j at least the integral of f from tp + 1/2 to tp + p + 1/2, which is
    p - Y log(1 + p / (tp + 1/2 + Y)); it is also at least p f(tp + 1, Y), which is the sum itself for p = 1. The larger
    of the two is used. Evenly mixed: p f at the middle of both ranges, tp + (p + 1) / 2 and fp + n / 2. Tied: x and y
    are the counts at the lower edge.
    """
    if not h.positive.any():
        return UNDEFINED
    some = h.positive > 0
    p, n = h.positive[some].astype(float), h.negative[some].astype(float)
    tp, fp = (np.cumsum(h.positive) - h.positive)[some], (np.cumsum(h.negative) - h.negative)[some]
    integral = p - (fp + n) * np.log1p(p / (tp + 0.5 + fp + n))
    low = np.maximum(integral, p * (tp + 1) / (tp + 1 + fp + n))
    high = p * (tp + p) / (tp + p + fp)
    x = tp + (p + 1) / 2
    middle = p * x / (x + fp + n / 2)
    parts = (np.where(h.tied[some], p * (tp + p) / (tp + p + fp + n), part) for part in (middle, low, high))
    return Bounded(*(float(part.sum() / p.sum()) for part in parts))


def bounded_f1_max(h: Histogram) -> Bounded:
    """`f1_max`: the largest F1 = 2 tp / (P + tp + fp) over all points of the curve.

    The corner after a bin is a point of the curve, so the largest F1 at a corner is a lower bound, met when all scores
    of a bin are equal. No point in a bin has more than tp + p positives or fewer than fp negatives: the largest F1
    there is an upper bound, met when positives come first. Evenly mixed the curve is straight between corners; F1 is a
    ratio of linear functions along it, hence largest at a corner: the value is the lower bound.
    """
    if not h.positive.any():
        return UNDEFINED
    tp, fp = np.cumsum(h.positive), np.cumsum(h.negative)
    low = float(np.max(2 * tp / (tp[-1] + tp + fp)))
    least_fp = np.where(h.tied, fp, fp - h.negative)
    high = float(np.max(np.where(h.positive > 0, 2 * tp / (tp[-1] + tp + least_fp), 0)))
    return Bounded(low, low, high)


def bounded_aupro(h: Histogram, limit: float = 0.3) -> Bounded:
    """`aupro` over every distinct score: the curve rises from corner to corner, inside the box they span.

    The area up to the limit lies between those under the lower and the upper edges of the boxes, the last box being cut
    at the limit; both are met, by negatives or positives first. Evenly mixed: straight lines between corners.
    """
    if h.one_class:
        return UNDEFINED
    fpr = np.append(0, np.cumsum(h.negative) / h.negative.sum())
    pro = np.append(0, np.cumsum(h.weight))
    full = np.diff(fpr)
    width = np.diff(np.minimum(fpr, limit))
    share = np.divide(width, full, out=np.zeros_like(full), where=full > 0)
    middle = pro[:-1] + np.diff(pro) * share / 2
    heights = (middle, np.where(h.tied, middle, pro[:-1]), np.where(h.tied, middle, pro[1:]))
    return Bounded(*(float(width @ height / limit) for height in heights))


def bounded_f1_max_grid(h: Histogram, thresholds: int = 21, eps: float = 1e-8) -> Bounded:
    """`f1_max_grid`: smallest and largest score are known, hence the thresholds; each cuts a bin or two, no more.

    F1 grows with tp and falls with fp, so the bounds count all positives and no negatives of the bins that are cut, or
    the reverse, at each threshold by itself. Between, scores are taken as evenly spread over the bin.
    """
    if not h.positive.any() or h.lowest == h.highest:
        return UNDEFINED
    span = h.highest - h.lowest
    above = _above((h.low - h.lowest) / span, (h.high - h.lowest) / span, np.arange(thresholds) / (thresholds - 1))
    tp, fp = above.of(h.positive), above.of(h.negative)

    def best(tp: Floats, fp: Floats) -> float:
        precision, recall = tp / (tp + fp + eps), tp / (h.positive.sum() + eps)
        return float(np.max(2 * precision * recall / (precision + recall + eps)))

    return Bounded(best(tp.value, fp.value), best(tp.low, fp.high), best(tp.high, fp.low))


def bounded_aupro_grid(h: Histogram, limit: float = 0.3, thresholds: int = 100) -> Bounded:
    """`aupro` on a grid of thresholds. Point k of the curve is known to lie in the box of the bins that threshold cuts.

    A = (area under the points) / (last FPR - first FPR) is a mean of PRO over FPR along a rising polyline. So A grows
    with each PRO. It falls with the FPR of an inner point k, whose factor in the area is (PRO[k-1] - PRO[k+1]) / 2. It
    grows with the last FPR, next to which the mean is highest, and with the first, next to which it is lowest; that
    still holds while either pushes neighbours along that would otherwise be passed. Upper bound: PRO high, first and
    last FPR high, the others low but not below the first. Lower bound: the reverse. Where that leaves no width, the
    last PRO is the upper and the first PRO the lower bound, as of any mean. How many points are below the limit may
    also be uncertain; the bounds cover every number that is possible.

    Where the exact metric has no value only for some orders, the bounds are those of the others.
    """
    if h.one_class or h.lowest == h.highest:
        return UNDEFINED
    grid = threshold_grid(h.lowest, h.highest, thresholds)[::-1]
    above = _above(h.low, h.high, grid)
    pro, counts = above.of(h.weight), above.of(h.negative)
    fpr = _Counts(*(part / h.negative.sum() for part in counts))
    found = []
    surely, possibly = int(np.count_nonzero(fpr.high < limit)), int(np.count_nonzero(fpr.low < limit))
    for kept in range(max(2, surely), possibly + 1):
        low, high = fpr.low[:kept], np.minimum(fpr.high[:kept], limit)
        if low[0] >= high[-1]:
            continue
        lower = np.append(low[0], np.append(np.minimum(high[1:-1], low[-1]), low[-1]))
        upper = np.append(high[0], np.append(np.maximum(low[1:-1], high[0]), high[-1]))
        found.append((_mean(lower, pro.low[:kept], pro.low[0]), _mean(upper, pro.high[:kept], pro.high[kept - 1])))
    if not found:
        return UNDEFINED
    lowest, highest = min(low for low, _ in found), max(high for _, high in found)
    below = fpr.value < limit
    value = _mean(fpr.value[below], pro.value[below], (lowest + highest) / 2)
    return Bounded(min(max(value, lowest), highest), lowest, highest)


def _mean(fpr: Floats, pro: Floats, without_width: float) -> float:
    if fpr.size < 2 or fpr[-1] <= fpr[0]:
        return float(without_width)
    return float(trapezoid(pro, fpr) / (fpr[-1] - fpr[0]))


class _Counts(NamedTuple):
    """How much lies beyond each threshold, (T,): estimate and bounds."""

    value: Floats
    low: Floats
    high: Floats


class _Above(NamedTuple):
    """For each threshold the number of leading bins that are beyond it entirely, those beyond it at least in part,
    and the share of the bins between that is."""

    entirely: NDArray[np.intp]
    partly: NDArray[np.intp]
    share: Floats

    def of(self, content: ArrayLike) -> _Counts:
        """Sums of the bins' content (U,) beyond each threshold."""
        total = np.append(0.0, np.cumsum(content))
        low, high = total[self.entirely], total[self.partly]
        return _Counts(low + (high - low) * self.share, low, high)


def _above(low: Floats, high: Floats, thresholds: Floats) -> _Above:
    """Which bins, with scores from low to high (U,), are beyond (>) each threshold."""
    entirely = np.searchsorted(-low, -thresholds, side="left")
    partly = np.maximum(np.searchsorted(-high, -thresholds, side="left"), entirely)
    cut = partly > entirely
    top, bottom = high[np.where(cut, entirely, 0)], low[np.where(cut, partly - 1, 0)]
    share = np.divide(top - thresholds, top - bottom, out=np.zeros(thresholds.size), where=cut & (top > bottom))
    return _Above(entirely, partly, np.clip(share, 0, 1))
