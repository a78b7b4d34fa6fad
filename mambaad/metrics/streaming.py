"""The seven metrics of one category whose maps do not fit into memory: histograms in place of the sort, with bounds.

The bins are the leading bits of the float32 score, read as an integer that orders as the scores do. That needs no range
in advance and splits every octave into equally many bins, so the resolution is relative: a trained model's scores lie
one or two orders of magnitude below the largest possible one, 2/3, where bins of equal width would be few. Maps of few
distinct scores (half precision, quantised) are measured exactly, since a bin with one distinct score is a known tie.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mambaad.metrics.aupro import region_areas
from mambaad.metrics.bounds import (
    Bounded,
    Histogram,
    bounded_aupro,
    bounded_aupro_grid,
    bounded_auroc,
    bounded_average_precision,
    bounded_f1_max,
    bounded_f1_max_grid,
)
from mambaad.metrics.inputs import check_labels, check_maps
from mambaad.metrics.report import (
    METRICS,
    PAPER_AUPRO_THRESHOLDS,
    PROTOCOLS,
    image_metrics,
    image_scores,
    in_percent,
    labels_by_mask,
    shows_defect,
)

SIGN = np.uint32(1 << 31)
LARGEST = float(np.finfo(np.float32).max)
MINUS_INFINITY, INFINITY = np.uint32(0x007FFFFF), np.uint32(0xFF800000)  # as ordered bits
FEWEST_BITS, MOST_BITS = 10, 24


@dataclass(frozen=True)
class Streamed:
    """Values and bounds in percent; both `{protocol: {metric: ...}}` with the metrics of `evaluate`, mad included."""

    values: Mapping[str, dict[str, float]]
    bounds: Mapping[str, dict[str, tuple[float, float]]]  # (lowest, highest) possible exact value


class StreamingMetrics:
    """`evaluate` for maps that come in batches and are not kept.

    Memory is 29 bytes for each of 2**bits bins, the work space of `result` (at most some ten times as much, for the
    bins in use only), that of the batch at hand, and two numbers per image. Scores are taken in float32, as models
    give them. Image metrics are exact. Pixel metrics are those of scores known only up to their bin, and come with
    bounds between which the exact value lies (see `bounds`).

    Args:
        bits: 10 to 24: sign, 8 bits of exponent, the rest of the mantissa; with 22, an octave of scores has 8192
            bins. One more bit doubles the memory and about halves the distance between the bounds.

    Raises:
        ValueError: other bits.

    Example:
        >>> masks = np.zeros((2, 8, 8), dtype=bool)
        >>> masks[1, 2:5, 2:5] = True
        >>> metrics = StreamingMetrics(bits=12)
        >>> for one in range(2):
        ...     metrics.update(masks[[one]].astype(float), masks[[one]])
        >>> metrics.result().values["exact"]["pixel_auroc"]
        100.0
    """

    def __init__(self, bits: int = 22) -> None:
        if not isinstance(bits, int) or isinstance(bits, bool) or not FEWEST_BITS <= bits <= MOST_BITS:
            raise ValueError(f"bits must be an integer from {FEWEST_BITS} to {MOST_BITS}, got {bits!r}")
        self.bits = bits
        self._positive = np.zeros(2**bits, dtype=np.int64)
        self._negative = np.zeros(2**bits, dtype=np.int64)
        self._weight = np.zeros(2**bits)  # sum of 1 / area of the region of each positive
        self._score = np.zeros(2**bits, dtype=np.uint32)  # ordered bits of one score of the bin
        self._several = np.zeros(2**bits, dtype=bool)  # whether the bin holds more than one distinct score
        self._regions = 0
        self._lowest, self._highest = math.inf, -math.inf
        self._labels: list[bool] = []
        self._masked: list[bool] = []  # whether the mask of an image shows a defect
        self._scores: list[float] = []

    @property
    def images(self) -> int:
        """How many images were added."""
        return len(self._labels)

    def update(
        self,
        maps: ArrayLike,
        masks: ArrayLike,
        labels: ArrayLike | None = None,
        scores: ArrayLike | None = None,
    ) -> None:
        """Add a batch of images of the category.

        Args, Raises: as `evaluate`. Nothing is added if an error is raised. Regions do not reach across images, so any
        division into batches gives the same result up to the rounding of sums.
        """
        values, truth = check_maps(maps, masks)
        values = as_float32(values)
        of_images = image_scores(values, scores)
        defective = check_labels(truth.any(axis=(1, 2)) if labels is None else labels, truth)
        ordered = ordered_bits(values)
        bins = ordered >> np.uint32(32 - self.bits)
        first = int(bins.min())
        bins -= np.uint32(first)
        found = np.bincount(bins.ravel())
        positive = bins[truth]
        areas, regions = region_areas(truth)
        self._compare(first, found, bins, ordered)
        here = slice(first, first + found.size)
        of_positives = np.bincount(positive, minlength=found.size)
        self._positive[here] += of_positives
        self._negative[here] += found - of_positives
        self._weight[here] += np.bincount(positive, weights=1 / areas, minlength=found.size)
        self._regions += regions
        self._lowest = min(self._lowest, float(values.min()))
        self._highest = max(self._highest, float(values.max()))
        self._labels += defective.tolist()
        self._masked += shows_defect(truth).tolist()
        self._scores += of_images.tolist()

    def _compare(
        self,
        first: int,
        found: NDArray[np.int64],
        bins: NDArray[np.uint32],
        ordered: NDArray[np.uint32],
    ) -> None:
        """Note which bins get a second distinct score; to be called before the batch is counted."""
        here = slice(first, first + found.size)
        one = np.zeros(found.size, dtype=np.uint32)
        one[bins] = ordered  # any of the bin's scores will do
        several = np.zeros(found.size, dtype=bool)
        several[bins[one[bins] != ordered]] = True
        seen = self._positive[here] + self._negative[here] > 0
        several |= seen & (found > 0) & (one != self._score[here])
        self._several[here] |= several
        np.copyto(self._score[here], one, where=found > 0)

    def result(self) -> Streamed:
        """The metrics of all images so far; more may be added afterwards.

        A value is NaN as in `evaluate`. For AU-PRO of the paper protocol the bins may leave open whether it is: then
        the value and its bounds are those of the case that it is not.

        Raises: ValueError if no image was added.
        """
        if not self.images:
            raise ValueError("there are no images yet: call update before result")
        labels, scores = np.array(self._labels), np.array(self._scores)
        image = {
            protocol: [Bounded(value, value, value) for value in image_metrics(own, scores)]
            for protocol, own in (("exact", labels), ("paper", labels_by_mask(labels, np.array(self._masked))))
        }
        h = self.histogram()
        shared = [bounded_auroc(h), bounded_average_precision(h)]
        grid = [bounded_f1_max_grid(h), bounded_aupro_grid(h, thresholds=PAPER_AUPRO_THRESHOLDS)]
        rows = {
            "exact": [*image["exact"], *shared, bounded_f1_max(h), bounded_aupro(h)],
            "paper": [*image["paper"], *shared, *grid],
        }
        values, lows, highs = (
            {protocol: in_percent([row[i] for row in rows[protocol]]) for protocol in PROTOCOLS} for i in range(3)
        )
        bounds = {
            protocol: {name: (lows[protocol][name], highs[protocol][name]) for name in (*METRICS, "mad")}
            for protocol in PROTOCOLS
        }
        return Streamed(values, bounds)

    def histogram(self) -> Histogram:
        """All pixels so far by bin; the counts at the edges of the bins are exact."""
        bins = np.flatnonzero(self._positive + self._negative)[::-1]
        tied = ~self._several[bins]
        shift = np.uint32(32 - self.bits)
        low = bins.astype(np.uint32) << shift
        high = low | np.uint32((1 << int(shift)) - 1)
        low, high = np.maximum(low, MINUS_INFINITY), np.minimum(high, INFINITY)  # beyond them the bits are those of NaN
        low, high = np.where(tied, self._score[bins], low), np.where(tied, self._score[bins], high)
        return Histogram(
            positive=self._positive[bins],
            negative=self._negative[bins],
            weight=self._weight[bins] / max(self._regions, 1),
            low=np.clip(from_ordered_bits(low).astype(float), self._lowest, self._highest),
            high=np.clip(from_ordered_bits(high).astype(float), self._lowest, self._highest),
            tied=tied,
            lowest=self._lowest,
            highest=self._highest,
        )


def as_float32(scores: NDArray[Any]) -> NDArray[np.float32]:
    """Scores in float32; those beyond its range become its largest."""
    if scores.dtype == np.float32:
        return scores
    return np.clip(scores, -LARGEST, LARGEST).astype(np.float32)


def ordered_bits(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Scores as integers of the same order: a < b exactly if ordered_bits(a) < ordered_bits(b).

    The bits of non-negative floats already order as the floats do; those of negative ones in reverse.
    """
    bits = (scores + np.float32(0)).view(np.uint32)  # adding 0 turns -0 into its equal 0
    return np.where(bits >= SIGN, ~bits, bits | SIGN)


def from_ordered_bits(ordered: NDArray[np.uint32]) -> NDArray[np.float32]:
    """The inverse of `ordered_bits`, on float32."""
    return np.where(ordered >= SIGN, ordered ^ SIGN, ~ordered).view(np.float32)
