"""The seven metrics of resampled test sets, to tell how much a value owes to the test images at hand.

Every replicate draws the test images of a category anew, with replacement, good and defective ones each among
themselves.  The draws follow from the protocol's seed alone: replicate b of two runs has the same images, so that
their difference is a paired one.

A replicate's pixels are those of the images drawn, each counted as often as its image.  Sorting millions of pixels
for every replicate would take hours; scores are put into bins instead (of equal numbers of pixels, normal and
defective ones apart), counted once per image, and each replicate is a weighted sum of these counts.

Axes: n images, H = W side, b replicates, q bins from the highest score to the lowest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.integrate import trapezoid

from mambaad.metrics.aupro import EIGHT_CONNECTED
from mambaad.metrics.report import METRICS

BINS = 2000  # of normal and of defective pixels each
FPR_LIMIT = 0.3
Floats = NDArray[np.float64]


def draws(labels: Sequence[bool] | NDArray[np.bool_], replicates: int, seed: int, block: int = 1) -> NDArray[np.int64]:
    """How often each image of a category is drawn, (b, n); the first row is the test set as it is, all ones.

    Args:
        labels: whether an image is defective, in the order of the file names.
        block: images are drawn in runs of so many neighbours, for series of nearly equal photographs.
    """
    random = np.random.default_rng(seed)
    truth = np.asarray(labels, dtype=bool)
    counts = np.zeros((replicates + 1, truth.size), dtype=np.int64)
    counts[0] = 1
    for kind in (False, True):
        own = np.flatnonzero(truth == kind)
        if not own.size:
            continue
        starts = random.integers(0, own.size, size=(replicates, -(-own.size // block)))
        places = (starts[:, :, None] + np.arange(block)) % own.size  # blocks wrap around
        for row, chosen in enumerate(places.reshape(replicates, -1)[:, : own.size], start=1):
            counts[row] += np.bincount(own[chosen], minlength=truth.size)
    return counts


def resampled_metrics(
    maps: NDArray[np.float32],
    masks: NDArray[np.bool_],
    labels: Sequence[bool] | NDArray[np.bool_],
    of_images: NDArray[np.float32],
    counts: NDArray[np.int64],
) -> Floats:
    """The seven metrics, exact protocol up to the bins, of every row of `counts`: (b, 7) in percent, NaN if undefined.

    Args:
        maps, masks: (n, H, W) of one category.
        labels: (n,) whether an image is defective.
        of_images: (n,) scores of the images.
        counts: (b, n) as from `draws`.
    """
    truth = np.asarray(labels, dtype=bool)
    weights = counts.astype(np.float64)
    scores = maps.reshape(len(maps), -1)
    bins = _bin(of_images[:, None], np.unique(of_images))
    good, bad = (_counts(bins, (truth == kind)[:, None].astype(float)) for kind in (False, True))
    image = _ranking(weights @ bad, weights @ good, one_score=True)

    defect = masks.reshape(len(masks), -1)
    # finer towards the highest scores, where precision changes fastest
    grid = np.unique(np.concatenate([np.linspace(0, 1, BINS), 1 - np.geomspace(1e-6, 1, BINS // 4)]))
    edges = [np.quantile(scores[part], grid, method="higher") for part in (defect, ~defect) if part.any()]
    bins = _bin(scores, np.unique(np.concatenate(edges)))
    overlap, regions = _overlaps(masks)
    positive, negative = _counts(bins, defect), _counts(bins, ~defect)
    pixel = _ranking(weights @ positive, weights @ negative, one_score=False)
    pro = _aupro(weights @ _counts(bins, overlap), weights @ negative, weights @ regions)
    return 100 * np.column_stack([*image, *pixel, pro])


def mean_and_mad(categories: Mapping[str, Floats]) -> dict[str, list[float]]:
    """Replicates of the categories -> those of their mean, `{metric: [value of replicate 0, 1, …]}` with mad."""
    mean = np.mean(list(categories.values()), axis=0)
    named = dict(zip(METRICS, mean.T, strict=True)) | {"mad": mean.mean(axis=1)}
    return {name: [round(float(v), 3) for v in values] for name, values in named.items()}


def _bin(values: NDArray[Any], edges: NDArray[Any]) -> NDArray[np.int64]:
    """Bin of each value, 0 for the highest: edges[i-1] < value <= edges[i], counted from the top."""
    return edges.size - 1 - np.searchsorted(edges, values, side="left").clip(max=edges.size - 1)


def _counts(bins: NDArray[np.int64], of: NDArray[Any]) -> Floats:
    """(n, q): for each image the sum of `of` in every bin."""
    size = int(bins.max()) + 1
    flat = (np.arange(len(bins))[:, None] * size + bins).ravel()
    sums = np.bincount(flat, weights=of.ravel().astype(float), minlength=len(bins) * size).astype(np.float64)
    return sums.reshape(len(bins), size)


def _overlaps(masks: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """1 / area of its region for every defect pixel (n, H * W), and the number of regions of each image (n,)."""
    share, regions = np.zeros(masks.shape), np.zeros(len(masks))
    for index, mask in enumerate(masks):
        labelled, found = ndimage.label(mask, structure=EIGHT_CONNECTED)
        regions[index] = found
        if found:
            areas = np.bincount(labelled.ravel())
            share[index] = np.where(labelled > 0, 1 / areas[labelled], 0)
    return share.reshape(len(masks), -1), regions


def _ranking(positive: Floats, negative: Floats, one_score: bool) -> tuple[Floats, Floats, Floats]:
    """AU-ROC, AP and F1max of (b, q) weights in bins from high to low.

    A bin is one score, or holds many, which are then taken as evenly mixed: AP counts the precision at the
    middle one of its positives.
    """
    p, n = positive.sum(axis=1), negative.sum(axis=1)
    tp, fp = positive.cumsum(axis=1), negative.cumsum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        below = n[:, None] - fp
        auroc = (positive * (below + negative / 2)).sum(axis=1) / (p * n)
        at = (tp, fp) if one_score else (tp - np.maximum(positive - 1, 0) / 2, fp - negative / 2)
        precision = np.where(at[0] > 0, at[0] / (at[0] + at[1]), 0)
        ap = (positive * precision).sum(axis=1) / p
        f1 = (2 * tp / (p[:, None] + tp + fp)).max(axis=1)
    return auroc, ap, f1


def _aupro(overlap: Floats, negative: Floats, regions: Floats) -> Floats:
    """Area under the per-region overlap curve up to `FPR_LIMIT`, a bin being one straight piece of the curve."""
    areas = np.empty(len(overlap))
    with np.errstate(invalid="ignore", divide="ignore"):
        pro = np.pad(overlap.cumsum(axis=1) / regions[:, None], ((0, 0), (1, 0)))
        fpr = np.pad(negative.cumsum(axis=1) / negative.sum(axis=1)[:, None], ((0, 0), (1, 0)))
    for row, (x, y) in enumerate(zip(fpr, pro, strict=True)):
        if not np.isfinite(x[-1]) or not np.isfinite(y[-1]):
            areas[row] = np.nan
            continue
        inside = x < FPR_LIMIT
        at_limit = np.interp(FPR_LIMIT, x, y)
        areas[row] = trapezoid(np.append(y[inside], at_limit), np.append(x[inside], FPR_LIMIT)) / FPR_LIMIT
    return areas
