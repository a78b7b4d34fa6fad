"""The seven metrics of one category: this library beside scikit-learn and the loop over thresholds that users write.

Both sides get the same maps and masks, in memory, and alternate in one process. The loop's side is a fair one: regions
are labelled once and not once per threshold, and its coordinates are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.integrate import trapezoid

from mambaad.benchmarks.timing import interleaved
from mambaad.metrics import METRICS, StreamingMetrics, evaluate_protocols

SEED = 0
TIED_LEVELS = 4096  # how many different scores the maps "with ties" have
BATCH = 16  # images that the streaming mode gets at a time
Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]


def synthetic_category(images: int, side: int, tied: bool = False, seed: int = SEED) -> tuple[Maps, Masks]:
    """Maps as a trained model makes them: smooth positive noise, raised at defects, of which some are missed.

    Args:
        images: a third of them are good.
        side: pixels.
        tied: round the scores to TIED_LEVELS levels; otherwise nearly all differ.
    Returns: maps (images, side, side) float32 and masks of the same shape, the same for the same seed.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    masks = np.zeros((images, side, side), dtype=bool)
    maps = np.empty((images, side, side), dtype=np.float32)
    for i in range(images):
        raised = np.zeros((side, side))
        for _ in range(rng.integers(1, 4) if 3 * i >= images else 0):
            (y, x), (height, width) = rng.uniform(0.1, 0.9, 2) * side, rng.uniform(0.02, 0.09, 2) * side
            blob = ((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 <= 1
            masks[i] |= blob
            raised += rng.uniform(0.0, 2.5) * blob
        noise = ndimage.gaussian_filter(rng.standard_normal((side, side)), side / 32)
        raised = ndimage.gaussian_filter(raised, side / 64)
        maps[i] = 0.01 * np.exp(0.4 * noise / noise.std() + 0.2 * rng.standard_normal() + raised)
    if tied:
        step = maps.max() / TIED_LEVELS
        maps = np.round(maps / step).astype(np.float32) * step
    return maps, masks


def metrics_benchmark(
    images: int = 117, side: int = 256, repeats: int = 3
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Time the seven metrics of one category, by this library and by scikit-learn with a loop of 100 thresholds.

    The library's call gives both protocols; the other side gives the exact ranking metrics and the paper protocol's
    AU-PRO, that is seven numbers.

    Args:
        images, side: size of the made-up category.
        repeats: timed rounds, after one that is not timed.
    Returns:
        rows: one per kind of scores (`distinct`, `tied`) and implementation (`scikit-learn and loop`, `mambaad`,
            `mambaad, streaming`): median, minimum and maximum in milliseconds, `ratio` (median of scikit-learn and
            loop divided by this median) and `largest_difference` (of the seven numbers from those of scikit-learn and
            loop, as fractions; the streaming mode's is that of its approximation).
        facts: sizes, repeats, the seed, and for each kind of scores the share of pixels whose score another one has.
    Raises: ValueError for fewer than 3 images, a side below 16 or no repeats; RuntimeError without scikit-learn.
    """
    if images < 3 or side < 16 or repeats < 1:
        raise ValueError(
            f"expected images >= 3, side >= 16 and repeats >= 1, got {images}, {side} and {repeats}; "
            "both classes must occur"
        )
    others = _scikit_learn()
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {"images": images, "side": side, "repeats": repeats, "seed": SEED, "unit": "ms"}
    for kind in ("distinct", "tied"):
        maps, masks = synthetic_category(images, side, tied=kind == "tied")
        facts[f"share_tied_{kind}"] = 1 - np.unique(maps).size / maps.size
        facts["share_defect"] = float(masks.mean())
        calls: dict[str, Callable[[], dict[str, float]]] = {
            "scikit-learn and loop": partial(others, maps, masks),
            "mambaad": partial(_exact, maps, masks),
            "mambaad, streaming": partial(_streamed, maps, masks),
        }
        values = {name: call() for name, call in calls.items()}
        times = interleaved(calls, repeats)
        slow, expected = times["scikit-learn and loop"]["median_ms"], values["scikit-learn and loop"]
        for name, measured in times.items():
            row: dict[str, Any] = {"scores": kind, "implementation": name, "images": images, "side": side}
            row |= measured
            row |= {
                "ratio": slow / measured["median_ms"],
                "largest_difference": _largest_difference(values[name], expected),
            }
            rows.append(row)
    return rows, facts


def _seven(results: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """What the other side computes: exact everywhere but in AU-PRO; as fractions."""
    chosen = {name: results["exact"][name] for name in METRICS} | {"pixel_aupro": results["paper"]["pixel_aupro"]}
    return {name: value / 100 for name, value in chosen.items()}


def _exact(maps: Maps, masks: Masks) -> dict[str, float]:
    return _seven(evaluate_protocols(maps, masks))


def _streamed(maps: Maps, masks: Masks) -> dict[str, float]:
    streaming = StreamingMetrics()
    for start in range(0, len(maps), BATCH):
        streaming.update(maps[start : start + BATCH], masks[start : start + BATCH])
    return _seven(streaming.result().values)


def _largest_difference(values: dict[str, float], expected: dict[str, float]) -> float:
    return max(abs(values[name] - expected[name]) for name in METRICS)


def _scikit_learn() -> Callable[[Maps, Masks], dict[str, float]]:
    """The seven metrics as a user would write them."""
    try:
        from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
    except ImportError as error:
        raise ValueError(
            "the comparison needs scikit-learn, which is not installed: pip install scikit-learn, or set up the "
            "project with its dev packages"
        ) from error

    def ranking(labels: Any, scores: Any) -> tuple[float, float, float]:
        precision, recall, _ = precision_recall_curve(labels, scores)
        total = precision + recall
        f1 = 2 * precision * recall / np.where(total > 0, total, 1)
        return float(roc_auc_score(labels, scores)), float(average_precision_score(labels, scores)), float(f1.max())

    def seven(maps: Maps, masks: Masks) -> dict[str, float]:
        image = ranking(masks.any(axis=(1, 2)), maps.max(axis=(1, 2)))
        pixel = ranking(masks.ravel(), maps.ravel())
        return dict(zip(METRICS, (*image, *pixel, aupro_loop(maps, masks)), strict=True))

    return seven


def aupro_loop(maps: Maps, masks: Masks, limit: float = 0.3, thresholds: int = 100) -> float:
    """AU-PRO of the paper protocol by its definition: each threshold, each region, one after the other.

    Args, Returns: as `mambaad.metrics.aupro`; both classes must occur.
    """
    regions = []
    for image, mask in zip(maps, masks, strict=True):
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [image[labelled == k] for k in range(1, count + 1)]
    normal = maps[~masks]
    lowest, highest = float(maps.min()), float(maps.max())
    points = []
    for k in range(thresholds):
        exact = lowest + k * ((highest - lowest) / thresholds)
        # The largest float32 not above it has the same scores beyond it, and float32 compares faster than float64.
        threshold = np.float32(exact)
        if float(threshold) > exact:
            threshold = np.nextafter(threshold, np.float32(-np.inf))
        fpr = np.count_nonzero(normal > threshold) / normal.size
        points.append((fpr, float(np.mean([np.mean(region > threshold) for region in regions]))))
    fpr, pro = np.array(sorted(point for point in points if point[0] < limit)).T
    return float(trapezoid(pro, (fpr - fpr.min()) / (fpr.max() - fpr.min())))
