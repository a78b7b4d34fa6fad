"""Ranking metrics: AU-ROC, average precision and F1_max.  Paper: section 4, metrics.

A metric needs the scores only to count those beyond a threshold, so one sort serves them all. P positives (defect) and
N negatives (normal); as a threshold t comes down, tp(t) and fp(t) count the positives and negatives with score >= t.
Between two scores of positives only fp moves, so all curves are known from their values at the positives' scores; the
negatives need no more than a plain sort, which is several times faster than sorting pixels together with their labels.
All values are fractions from 0 to 1. A value that its equation does not define is NaN, never a made-up number.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mambaad.metrics.inputs import check_scores

MANY = 1 << 20  # values worth a second thread


@dataclass(frozen=True)
class Ranking:
    """The sorted scores of one category and its counts at each level, the levels being the U distinct positive scores.

    Equal scores form one level, so every metric is exact under ties.
    """

    positive: NDArray[Any]  # (P,) scores of the positives, highest first
    negative: NDArray[Any]  # (N,) scores of the negatives, highest first
    order: NDArray[np.intp]  # (P,) index of each sorted positive among the positives as they came, in C order
    tp: NDArray[np.int64]  # (U,) positives with score >= the level, highest level first
    fp: NDArray[np.int64]  # (U,) negatives with score >= the level
    fp_above: NDArray[np.int64]  # (U,) negatives with score > the level

    @property
    def lowest(self) -> float:
        return min(float(part[-1]) for part in (self.positive, self.negative) if part.size)

    @property
    def highest(self) -> float:
        return max(float(part[0]) for part in (self.positive, self.negative) if part.size)


def rank(truth: NDArray[np.bool_], scores: NDArray[Any]) -> Ranking:
    """Sort once. truth and scores have one shape; trusted to be boolean and finite (see inputs.check_scores)."""
    positive = scores[truth]
    order = np.argsort(positive)[::-1]
    positive = positive[order]
    ascending = scores[~truth]
    sort(ascending)
    last_of_level = np.append(positive[1:] != positive[:-1], True)[: positive.size]
    level = positive[last_of_level]
    return Ranking(
        positive=positive,
        negative=ascending[::-1],
        order=order,
        tp=np.flatnonzero(last_of_level) + 1,
        fp=ascending.size - np.searchsorted(ascending, level, side="left"),
        fp_above=ascending.size - np.searchsorted(ascending, level, side="right"),
    )


def sort(values: NDArray[Any]) -> None:
    """Put one-dimensional values into ascending order, in place; many of them in two threads."""
    if values.size < MANY:
        values.sort()
        return
    below = values < np.median(values[:: values.size // 4096])  # of a sample: the halves need not be equal
    low, high = values[below], values[~below]
    values[: low.size], values[low.size :] = low, high
    with ThreadPoolExecutor(2) as pool:  # numpy lets the other thread run while it sorts
        list(pool.map(np.ndarray.sort, (values[: low.size], values[low.size :])))


def count_above(
    descending: NDArray[Any], thresholds: Iterable[float], rescale: Callable[[float], float] = float
) -> NDArray[np.int64]:
    """How many scores s have rescale(s) > t, for each t; rescale must not decrease. A binary search, not a pass."""
    return np.array([bisect_left(descending, -t, key=lambda s: -rescale(float(s))) for t in thresholds], dtype=np.int64)


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, a tie counting half.

    AUROC = (#{s_p > s_n} + #{s_p = s_n} / 2) / (P N), equal to the trapezoid area over every distinct score.

    Args: labels, binary, any shape (1 is defect); scores, finite, same shape (higher is more anomalous).
    Returns: 0..1; NaN if there are no positives or no negatives.
    Raises: ValueError for different shapes, labels that are not binary, scores that are not finite.

    Example:
        >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        0.75
    """
    return ranked_auroc(rank(*check_scores(labels, scores)))


def ranked_auroc(r: Ranking) -> float:
    """`auroc` of scores already sorted."""
    positives, negatives = r.positive.size, r.negative.size
    if not positives or not negatives:
        return math.nan
    # Twice the count of ordered pairs stays an integer, so the only rounding is that of the division.
    twice_pairs = np.diff(r.tp, prepend=0) * (2 * negatives - r.fp - r.fp_above)
    return int(twice_pairs.sum()) / (2 * positives * negatives)


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision as a step sum, as in scikit-learn (no interpolation between points).

    AP = sum over distinct scores t, from high to low, of (R(t) - R(t before)) Pr(t), with recall R = tp / P and
    precision Pr = tp / (tp + fp).

    Args, Raises: as `auroc`.
    Returns: 0..1; NaN if there are no positives; 1 for any scores if there are no negatives.

    Example:
        >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
        0.8333
    """
    return ranked_average_precision(rank(*check_scores(labels, scores)))


def ranked_average_precision(r: Ranking) -> float:
    """`average_precision` of scores already sorted."""
    if not r.positive.size:
        return math.nan
    return float(np.sum(np.diff(r.tp, prepend=0) * (r.tp / (r.tp + r.fp))) / r.positive.size)


def f1_max(labels: ArrayLike, scores: ArrayLike) -> float:
    """The best F1 over every distinct score as threshold.

    F1_max = max over t of 2 tp / (2 tp + fp + fn) = 2 tp / (P + tp + fp), predictions being score >= t. It is reached
    at the score of a positive, since lowering t past negatives alone only adds to fp.

    Args, Raises: as `auroc`.
    Returns: 0..1; NaN if there are no positives; 1 for any scores if there are no negatives.

    Example:
        >>> f1_max([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        0.8
    """
    return ranked_f1_max(rank(*check_scores(labels, scores)))


def ranked_f1_max(r: Ranking) -> float:
    """`f1_max` of scores already sorted."""
    if not r.positive.size:
        return math.nan
    return float(np.max(2 * r.tp / (r.positive.size + r.tp + r.fp)))


def f1_max_grid(labels: ArrayLike, scores: ArrayLike, thresholds: int = 21, eps: float = 1e-8) -> float:
    """The best F1 over a coarse grid, as in the published code: pixel F1_max of the `paper` protocol.

    All scores of the category are rescaled to [0, 1], s' = (s - min) / (max - min), and a pixel is predicted defect
    when s' > t for t = 0, 1/20, 2/20 ... 1. With eps in each denominator,
    Pr = tp / (tp + fp + eps), R = tp / (P + eps), F1 = 2 Pr R / (Pr + R + eps), so that an empty prediction gives 0.

    The grid comes with no word on scores equal to a threshold: '>' is our reading, the rule that is stated for the
    same protocol's AU-PRO. It differs from '>=' only for scores exactly on the grid, in practice for the minimum (t = 0
    predicts all but it) and the maximum (t = 1 predicts nothing). The result depends on the scale of the scores, not
    only on their ranking: one outlier pixel moves every threshold.

    Args, Raises: as `auroc`; also ValueError for thresholds < 2.
    Returns: 0..1, at most f1_max; NaN if there are no positives or if all scores are equal (nothing to rescale by).

    Example:
        >>> round(f1_max_grid([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
        0.8
    """
    if not isinstance(thresholds, int) or isinstance(thresholds, bool) or thresholds < 2:
        raise ValueError(f"thresholds must be an integer of at least 2, got {thresholds!r}")
    return ranked_f1_max_grid(rank(*check_scores(labels, scores)), thresholds, eps)


def ranked_f1_max_grid(r: Ranking, thresholds: int = 21, eps: float = 1e-8) -> float:
    """`f1_max_grid` of scores already sorted."""
    if not r.positive.size or r.lowest == r.highest:
        return math.nan
    low, span = r.lowest, r.highest - r.lowest
    grid = np.arange(thresholds) / (thresholds - 1)
    tp = count_above(r.positive, grid, lambda s: (s - low) / span)
    fp = count_above(r.negative, grid, lambda s: (s - low) / span)
    precision, recall = tp / (tp + fp + eps), tp / (r.positive.size + eps)
    return float(np.max(2 * precision * recall / (precision + recall + eps)))
