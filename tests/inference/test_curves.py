"""Curves agree with counting by hand at every threshold, and their areas with the metrics."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage
from scipy.integrate import trapezoid
from sklearn.metrics import roc_curve

from mambaad.inference.curves import Curves, curves
from mambaad.inference.threshold import limit
from mambaad.metrics import StreamingMetrics, auroc, evaluate

SHAPE = (6, 5, 5)
few = hnp.arrays(np.float32, SHAPE, elements=st.integers(0, 9))  # every bin holds one score: pixel counts are exact
masks_of = hnp.arrays(np.bool_, SHAPE)


def drawn(maps: NDArray[Any], masks: NDArray[Any], also: Sequence[float] = ()) -> Curves:
    pixels = StreamingMetrics(16)
    pixels.update(maps, masks)
    return curves(maps.max(axis=(1, 2)), masks.any(axis=(1, 2)), pixels.histogram(), also)


def share(part: float, whole: float) -> float:
    return part / whole if whole else np.nan


@given(few, masks_of, st.floats(-1, 11))
def test_every_row_is_what_lies_above_its_threshold(
    maps: NDArray[Any], masks: NDArray[Any], given_threshold: float
) -> None:
    found = drawn(maps, masks, [given_threshold])
    scores, labels = maps.max(axis=(1, 2)), masks.any(axis=(1, 2))
    regions = [
        (mask == k) for image in masks for mask, n in [ndimage.label(image, np.ones((3, 3)))] for k in range(1, n + 1)
    ]
    owners = [i for i, image in enumerate(masks) for _ in range(ndimage.label(image, np.ones((3, 3)))[1])]
    assert given_threshold in found.threshold
    assert (np.diff(found.threshold) > 0).all()
    for i, t in enumerate(found.threshold):
        above = maps > limit(t)
        assert found.good_above[i] == (scores[~labels] > limit(t)).sum()
        assert found.defective_above[i] == (scores[labels] > limit(t)).sum()
        wanted = {
            "pixel_fpr": share((above & ~masks).sum(), (~masks).sum()),
            "pixel_recall": share((above & masks).sum(), masks.sum()),
            "pixel_precision": share((above & masks).sum(), above.sum()),
            "pixel_overlap": np.mean([above[o][r].mean() for o, r in zip(owners, regions, strict=True)])
            if regions
            else np.nan,
        }
        for name, value in wanted.items():
            assert getattr(found, name)[i] == pytest.approx(value, nan_ok=True), name


@pytest.mark.parametrize("sign", [1, -1])
def test_a_score_within_rounding_of_a_threshold_is_not_above_it(sign: int) -> None:
    maps = sign * np.linspace(1, 2, 18, dtype=np.float32).reshape(2, 3, 3)
    masks = np.zeros((2, 3, 3), dtype=bool)
    highest = float(maps.max())
    found = drawn(maps, masks, [highest - 1e-6])
    assert found.good_above[found.row(highest - 1e-6)] == 0
    assert (found.good_above[0], found.pixel_fpr[0]) == (2, 1), "the first row is below everything"


def test_curves_run_from_everything_to_nothing_and_have_the_metrics_areas() -> None:
    generator = np.random.default_rng(0)
    masks = np.zeros((40, 24, 24), dtype=bool)
    masks[20:, 5:12, 8:15] = True
    maps = (generator.normal(size=masks.shape) + 1.5 * masks).astype(np.float32)
    found = drawn(maps, masks)
    assert found.threshold.size < 500
    for name in ("image_fpr", "image_recall", "pixel_fpr", "pixel_recall", "pixel_overlap"):
        curve = getattr(found, name)
        assert (curve[0], curve[-1]) == pytest.approx((1, 0))
        assert (np.diff(curve) <= 1e-12).all()
    exact = evaluate(maps, masks)
    image = auroc(masks.any(axis=(1, 2)), maps.max(axis=(1, 2)))
    assert -trapezoid(found.image_recall, found.image_fpr) == pytest.approx(image)
    assert -100 * trapezoid(found.pixel_recall, found.pixel_fpr) == pytest.approx(exact["pixel_auroc"], abs=0.1)
    fpr, overlap = found.pixel_fpr[::-1], found.pixel_overlap[::-1]
    limit = np.linspace(0, 0.3, 2000)
    area = trapezoid(np.interp(limit, fpr, overlap), limit) / 0.3
    assert 100 * area == pytest.approx(exact["pixel_aupro"], abs=0.3)
    false_positive, recall, _ = roc_curve(masks.any(axis=(1, 2)), maps.max(axis=(1, 2)))
    balanced = found.balanced()
    assert balanced is not None
    row = found.row(balanced)
    assert found.image_recall[row] - found.image_fpr[row] == pytest.approx((recall - false_positive).max())


def test_one_kind_of_image_has_no_best_threshold_and_no_shares() -> None:
    maps, masks = np.arange(18, dtype=np.float32).reshape(2, 3, 3), np.zeros((2, 3, 3), dtype=bool)
    found = drawn(maps, masks)
    assert found.balanced() is None
    assert np.isnan(found.image_recall).all()
    assert np.isnan(found.pixel_overlap).all()
    assert found.good_above.tolist()[0] == 2
