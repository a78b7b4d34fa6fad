"""How one category's errors depend on the threshold: of whole images, and of pixels.

One threshold serves both, since an image's score is the highest value of its map: an image is called anomalous if a
pixel is. What lies above the threshold by more than rounding counts, as everywhere where a verdict is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mambaad.inference.threshold import TOLERANCE, limit
from mambaad.metrics.bounds import Histogram

Floats = NDArray[np.float64]

IMAGE_POINTS = 160
PIXEL_POINTS = 60  # along each of three scales


@dataclass(frozen=True)
class Curves:
    """One category's test images at T thresholds, ascending.  What is not defined is NaN."""

    threshold: Floats  # (T,)
    good_above: NDArray[np.int64]  # (T,) good images above the threshold
    defective_above: NDArray[np.int64]  # (T,)
    good: int
    defective: int
    pixel_fpr: Floats  # (T,) share of the normal pixels above it, 0..1
    pixel_recall: Floats  # (T,) share of the defect pixels above it
    pixel_precision: Floats  # (T,) share of the pixels above it that are defect
    pixel_overlap: Floats  # (T,) mean share of a defect region above it: PRO

    @property
    def image_fpr(self) -> Floats:
        return _share(self.good_above, self.good)

    @property
    def image_recall(self) -> Floats:
        return _share(self.defective_above, self.defective)

    @property
    def image_precision(self) -> Floats:
        return _share(self.defective_above, self.good_above + self.defective_above)

    @property
    def missed(self) -> NDArray[np.int64]:
        """(T,) defective images that are not above the threshold."""
        return self.defective - self.defective_above

    def row(self, threshold: float) -> int:
        """The row of the threshold next to a value."""
        return int(np.abs(self.threshold - threshold).argmin())

    def balanced(self) -> float | None:
        """The threshold at which recall and false-positive rate of whole images are furthest apart (Youden's index).

        Of several as good, the middle of the lowest interval; None without images of both kinds. It is chosen on the
        images that it is judged on, which flatters: good for a first look, not for a claim. F1 would not do: with more
        defective images than good ones, as in most test sets, and a poor model, it is best where everything is
        anomalous.
        """
        if not self.good or not self.defective:
            return None
        # in whole numbers, so that what is equally good is equal
        apart = self.defective_above * self.good - self.good_above * self.defective
        best = np.flatnonzero(apart == apart.max())
        last = best[0] + np.flatnonzero(np.append(np.diff(best) > 1, True))[0]
        last = min(int(last), self.threshold.size - 1)
        return float(self.threshold[self.row((self.threshold[best[0]] + self.threshold[last]) / 2)])


def curves(scores: ArrayLike, defective: ArrayLike, pixels: Histogram, also: Sequence[float] = ()) -> Curves:
    """The curves of a category.

    Image counts are exact at every threshold, pixel counts up to one bin of the histogram (`StreamingMetrics`: at most
    1/8192 of an octave). The thresholds are those at which something happens, thinned to a few hundred, from below all
    pixels to the highest score.

    Args:
        scores: (N,) of the images.
        defective: (N,) bool.
        pixels: of the same images' maps and masks, `StreamingMetrics.histogram`.
        also: thresholds to include in any case.
    """
    score, label = np.asarray(scores, dtype=float), np.asarray(defective, dtype=bool)
    negative, positive = np.cumsum(pixels.negative), np.cumsum(pixels.positive)
    overlap = np.cumsum(pixels.weight)
    levels = np.concatenate(
        [_image_levels(score), pixels.low[_bins(negative, positive)], np.asarray(also, dtype=float)]
    )
    # so far below that the lowest pixel is above it by more than rounding
    below = np.nextafter(pixels.lowest - 2 * TOLERANCE * abs(pixels.lowest), -np.inf)
    t = np.unique(np.append(levels, below))
    t = t[t <= max([pixels.highest, *also])]
    limits = [limit(value) for value in t]
    ascending = pixels.high[::-1]
    above = pixels.high.size - np.searchsorted(ascending, limits, side="right")  # bins with a score above them
    count = [np.append(0, total)[above] for total in (negative, positive, overlap)]
    good, bad = np.sort(score[~label]), np.sort(score[label])
    return Curves(
        threshold=t,
        good_above=good.size - np.searchsorted(good, limits, side="right"),
        defective_above=bad.size - np.searchsorted(bad, limits, side="right"),
        good=good.size,
        defective=bad.size,
        pixel_fpr=_share(count[0], negative[-1]),
        pixel_recall=_share(count[1], positive[-1]),
        pixel_precision=_share(count[1], count[0] + count[1]),
        pixel_overlap=count[2] if positive[-1] else np.full(t.size, np.nan),
    )


def _image_levels(scores: Floats) -> Floats:
    """Thresholds between the images' scores, and the highest score."""
    distinct = np.unique(scores)
    between = np.append((distinct[1:] + distinct[:-1]) / 2, distinct[-1])
    chosen = np.linspace(0, between.size - 1, min(between.size, IMAGE_POINTS)).round().astype(int)
    return between[np.unique(chosen)]


def _bins(negative: NDArray[np.int64], positive: NDArray[np.int64]) -> NDArray[np.intp]:
    """Bins at which the curves are drawn: even steps of recall and of FPR, and of the FPR's logarithm."""
    even = np.linspace(0, 1, PIXEL_POINTS)
    wanted = []
    if negative[-1]:
        wanted += [
            np.searchsorted(negative, shares * negative[-1]) for shares in (even, np.geomspace(1e-5, 1, even.size))
        ]
    if positive[-1]:
        wanted.append(np.searchsorted(positive, even * positive[-1]))
    return np.unique(np.clip(np.concatenate(wanted), 0, negative.size - 1))


def _share(part: ArrayLike, whole: ArrayLike) -> Floats:
    part, whole = np.broadcast_arrays(np.asarray(part, dtype=float), np.asarray(whole, dtype=float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
