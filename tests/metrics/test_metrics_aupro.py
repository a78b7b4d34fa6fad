"""AU-PRO against explicit loops over thresholds and regions, a hand-worked case and closed forms."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import DTypeLike, NDArray
from scipy import ndimage
from scipy.integrate import trapezoid
from skimage import measure
from sklearn.metrics import roc_curve

from mambaad.metrics import aupro, auroc
from mambaad.metrics.aupro import ranked_aupro, region_weights, threshold_grid
from mambaad.metrics.ranking import rank

EXACT = 1e-12  # float64, sums of at most some 10^5 terms

SHAPE = (2, 4, 5)
quick = settings(max_examples=100, deadline=None)
small_maps = hnp.arrays(np.int64, SHAPE, elements=st.integers(0, 6))  # many ties
small_masks = hnp.arrays(np.bool_, SHAPE)


@quick
@given(small_maps, small_masks)
def test_of_ranked_scores_it_is_the_same(maps: NDArray[Any], masks: NDArray[Any]) -> None:
    np.testing.assert_equal(ranked_aupro(rank(masks, maps), region_weights(masks)), aupro(maps, masks))


def pro_and_fpr(predicted: NDArray[Any], masks: NDArray[Any]) -> tuple[float, float]:
    """One point of the curve by its definition; regions by skimage's default connectivity."""
    overlaps = []
    for mask, hit in zip(masks, predicted, strict=True):
        overlaps += [hit[tuple(region.coords.T)].mean() for region in measure.regionprops(measure.label(mask))]
    return np.mean(overlaps), predicted[~masks].mean()


def aupro_exact_loop(maps: NDArray[Any], masks: NDArray[Any], limit: float) -> float:
    """Every distinct score as threshold; each piece of the curve is cut at the limit and integrated by itself."""
    if not masks.any() or masks.all():
        return math.nan
    points = [(0.0, 0.0)] + [pro_and_fpr(maps >= t, masks) for t in np.unique(maps)[::-1]]
    area = 0.0
    for (pro_a, fpr_a), (pro_b, fpr_b) in pairwise(points):
        if fpr_b == fpr_a or fpr_a >= limit:
            continue
        slope = (pro_b - pro_a) / (fpr_b - fpr_a)
        width = min(fpr_b, limit) - fpr_a
        area += width * (pro_a + slope * width / 2)
    return area / limit


def aupro_paper_loop(maps: NDArray[Any], masks: NDArray[Any], limit: float, count: int) -> float:
    """The paper protocol, one threshold after the other."""
    if not masks.any() or masks.all() or np.ptp(maps) == 0:
        return math.nan
    maps = maps.astype(np.float64)
    step = (maps.max() - maps.min()) / count
    points = [pro_and_fpr(maps > maps.min() + k * step, masks) for k in range(count)]
    kept = sorted((fpr, pro) for pro, fpr in points if fpr < limit)
    if len({fpr for fpr, _ in kept}) < 2:
        return math.nan
    fpr, pro = np.array(kept).T
    fpr = (fpr - fpr.min()) / (fpr.max() - fpr.min())
    return float(np.sum(np.diff(fpr) * (pro[1:] + pro[:-1]) / 2))


def category(
    seed: int = 0, images: int = 10, side: int = 48, dtype: DTypeLike = np.float32
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Smooth noise, raised over rectangles that sometimes touch or overlap; the first three images are good."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((images, side, side), dtype=bool)
    for mask in masks[3:]:
        for top, left, height, width in rng.integers(2, side // 4, (3, 4)) * [3, 3, 1, 1]:
            mask[top : top + height, left : left + width] = True
    noise = ndimage.gaussian_filter(rng.standard_normal(masks.shape), (0, 2, 2))
    raised = ndimage.gaussian_filter(masks.astype(float), (0, 2, 2))
    return (noise / noise.std() + 1.5 * raised).astype(dtype), masks


@quick
@given(maps=small_maps, masks=small_masks, limit=st.sampled_from([0.05, 0.3, 0.5, 1.0]))
def test_exact_equals_the_loop_over_all_thresholds(maps: NDArray[Any], masks: NDArray[Any], limit: float) -> None:
    expected = aupro_exact_loop(maps, masks, limit)
    assert aupro(maps, masks, limit) == pytest.approx(expected, abs=EXACT, nan_ok=True)


@quick
@given(maps=small_maps, masks=small_masks, limit=st.sampled_from([0.3, 0.5, 1.0]), count=st.sampled_from([2, 7, 100]))
def test_grid_equals_the_loop_over_its_thresholds(
    maps: NDArray[Any], masks: NDArray[Any], limit: float, count: int
) -> None:
    expected = aupro_paper_loop(maps, masks, limit, count)
    assert aupro(maps, masks, limit, count) == pytest.approx(expected, abs=EXACT, nan_ok=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_equal_their_loops_on_smooth_maps(dtype: DTypeLike) -> None:
    maps, masks = category(images=5, side=24, dtype=dtype)
    assert aupro(maps, masks) == pytest.approx(aupro_exact_loop(maps, masks, 0.3), abs=EXACT)
    assert aupro(maps, masks, thresholds=100) == pytest.approx(aupro_paper_loop(maps, masks, 0.3, 100), abs=EXACT)


def test_exact_equals_a_weighted_roc_curve_of_scikit_learn() -> None:
    maps, masks = category(images=16, side=96)
    weights = np.ones(masks.shape)
    weights[masks] = region_weights(masks)
    fpr, pro, _ = roc_curve(masks.ravel(), maps.ravel(), sample_weight=weights.ravel(), drop_intermediate=False)
    end = np.searchsorted(fpr, 0.3)
    at_limit = np.interp(0.3, fpr[end - 1 : end + 1], pro[end - 1 : end + 1])
    expected = trapezoid(np.append(pro[:end], at_limit), np.append(fpr[:end], 0.3)) / 0.3
    assert aupro(maps, masks) == pytest.approx(expected, abs=EXACT)


def test_hand_worked_case() -> None:
    """Region A has the scores 9 and 5, region B (one pixel) 7; ten normal pixels 8, 6, 5 and seven times 0.

        t    9     8     7     6     5     0
        A   1/2   1/2   1/2   1/2    1     1
        B    0     0     1     1     1     1
        PRO 1/4   1/4   3/4   3/4    1     1
        FPR  0    0.1   0.1   0.2   0.3    1

    Exact, to FPR 0.3: 0.1·1/4 + 0.1·3/4 + 0.1·(3/4 + 1)/2 = 0.1875, divided by 0.3: 0.625.
    To FPR 0.25, halfway on the last piece: 0.025 + 0.075 + 0.05·(3/4 + 7/8)/2 = 0.140625, divided by 0.25: 0.5625.
    Paper: thresholds 0, 0.09, ... 8.91 meet every row of the table; the points with FPR < 0.3 are (0, 1/4), (0.1, 1/4),
    (0.1, 3/4) and (0.2, 3/4), their FPR becomes 0, 1/2, 1/2, 1, and the area 1/2·1/4 + 1/2·3/4 = 0.5.
    """
    maps = np.array([[[9, 5, 8, 6, 7, 5, 0, 0, 0, 0, 0, 0, 0]]], dtype=np.float32)
    masks = np.array([[[1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]]])
    assert aupro(maps, masks) == pytest.approx(0.625, abs=EXACT)
    assert aupro(maps, masks, limit=0.25) == pytest.approx(0.5625, abs=EXACT)
    assert aupro(maps, masks, thresholds=100) == pytest.approx(0.5, abs=EXACT)


def test_exact_and_grid_differ_and_one_outlier_pixel_widens_the_gap() -> None:
    """The choice of the protocol is not cosmetic: a single normal pixel moves the grid's value by many points."""
    maps, masks = category(images=12, side=64)
    with_outlier = maps.copy()
    with_outlier[0, 0, 0] = 10 * maps.max()  # in a good image
    exact, paper = aupro(maps, masks), aupro(maps, masks, thresholds=100)
    exact_outlier, paper_outlier = aupro(with_outlier, masks), aupro(with_outlier, masks, thresholds=100)
    assert 0.002 < abs(exact - paper) < 0.1
    assert exact_outlier == pytest.approx(exact, abs=1e-3)
    assert abs(exact_outlier - paper_outlier) > 0.05


def test_exact_depends_only_on_the_ranking() -> None:
    maps, masks = category(dtype=np.float64)
    assert aupro(np.exp(maps), masks) == pytest.approx(aupro(maps, masks), abs=EXACT)
    assert abs(aupro(np.exp(maps), masks, thresholds=100) - aupro(maps, masks, thresholds=100)) > 1e-3


def test_the_grid_does_not_depend_on_scale_and_offset() -> None:
    maps, masks = category(dtype=np.float64)
    assert aupro(4 * maps + 8, masks, thresholds=100) == pytest.approx(aupro(maps, masks, thresholds=100), abs=1e-3)


def test_with_equal_regions_and_no_limit_it_is_auroc() -> None:
    maps, _ = category()
    masks = np.zeros(maps.shape, dtype=bool)
    masks[::2, 5:10, 5:10] = masks[:, 30:35, 20:25] = True
    assert aupro(maps, masks, limit=1.0) == pytest.approx(auroc(masks, maps), abs=EXACT)


def test_every_region_weighs_the_same() -> None:
    """Missing the large region costs as much as missing the small one."""
    masks = np.zeros((1, 20, 20), dtype=bool)
    masks[0, 2:12, 2:12] = masks[0, 15, 15] = True
    large, small = masks.copy(), masks.copy()
    large[0, 15, 15] = small[0, 2:12, 2:12] = False
    # What is missed ties with every normal pixel, so PRO runs straight from 1/2 at FPR 0 to 1 at FPR 1.
    for found in (large, small):
        assert aupro(found.astype(np.float32), masks) == pytest.approx(0.5 + 0.5 * 0.15, abs=EXACT)


@settings(max_examples=100, deadline=None)
@given(masks=hnp.arrays(np.bool_, (3, 6, 6)))
def test_regions_are_those_of_skimage_by_default(masks: NDArray[Any]) -> None:
    labelled = [measure.label(mask) for mask in masks]
    total = sum(regions.max() for regions in labelled)
    areas = [np.bincount(regions.ravel())[regions[regions > 0]] for regions in labelled]
    weights = region_weights(masks)
    assert np.allclose(weights, 1 / (total * np.concatenate(areas)), rtol=EXACT, atol=0)
    assert not total or weights.sum() == pytest.approx(1, abs=EXACT)


def test_regions_touch_at_corners_but_not_across_images() -> None:
    diagonal = np.eye(3, dtype=bool)[None]
    assert region_weights(diagonal) == pytest.approx([1 / 3] * 3)
    corner_of_two = np.zeros((2, 2, 2), dtype=bool)
    corner_of_two[:, 0, 0] = [True, True]
    corner_of_two[1, 0, 1] = True
    assert region_weights(corner_of_two) == pytest.approx([1 / 2, 1 / 4, 1 / 4])


def test_a_perfect_map_is_one() -> None:
    maps, masks = category()
    perfect = maps - maps.min() + 100 * masks
    assert aupro(perfect, masks) == pytest.approx(1, abs=EXACT)
    graded = np.where(masks, 1, np.linspace(0, 0.9, maps.size).reshape(maps.shape))
    assert aupro(graded, masks, thresholds=100) == pytest.approx(1, abs=EXACT)


def test_normal_pixels_on_top_leave_nothing() -> None:
    maps, masks = category()
    assert aupro(np.where(masks, maps.min() - 1, maps), masks) == 0


def test_a_constant_map_is_the_diagonal_and_has_no_grid() -> None:
    _, masks = category()
    constant = np.full(masks.shape, 0.7)
    assert aupro(constant, masks) == pytest.approx(0.15, abs=EXACT)  # PRO = FPR: (0.3² / 2) / 0.3
    assert math.isnan(aupro(constant, masks, thresholds=100))


@pytest.mark.parametrize("thresholds", [None, 100])
@pytest.mark.parametrize("defect", [False, True])
def test_with_one_class_only_there_is_no_value(defect: bool, thresholds: int | None) -> None:
    maps, _ = category()
    assert math.isnan(aupro(maps, np.full(maps.shape, defect), thresholds=thresholds))


def test_the_grid_has_no_value_when_fewer_than_two_rates_are_left() -> None:
    _, masks = category()
    # The mask itself as map: every threshold finds all defects at FPR 0, a single point after rescaling.
    assert aupro(masks.astype(float), masks) == pytest.approx(1, abs=EXACT)
    assert math.isnan(aupro(masks.astype(float), masks, thresholds=100))
    # Normal pixels all above the limit at every threshold: no point at all.
    assert math.isnan(aupro(1 - masks.astype(float), masks, thresholds=100))


@pytest.mark.parametrize("scale", [5e-324, 1.7e308])
def test_scores_at_the_ends_of_float64_have_an_exact_value_and_no_grid(scale: float) -> None:
    _, masks = category()
    maps = np.where(masks, scale, -scale)
    assert aupro(maps, masks) == pytest.approx(1, abs=EXACT)
    assert math.isnan(aupro(maps, masks, thresholds=100))


@pytest.mark.parametrize("thresholds", [None, 100])
def test_torch_and_numpy_agree(thresholds: int | None) -> None:
    maps, masks = category()
    expected = aupro(maps, masks, thresholds=thresholds)
    assert aupro(torch.from_numpy(maps), torch.from_numpy(masks), thresholds=thresholds) == expected
    assert aupro(maps, torch.from_numpy(masks).float(), thresholds=thresholds) == expected


@pytest.mark.parametrize("limit", [0, -0.1, 1.01, math.nan])
def test_the_limit_is_a_rate(limit: float) -> None:
    with pytest.raises(ValueError, match="limit must be a false positive rate"):
        aupro(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), limit=limit)


@pytest.mark.parametrize("thresholds", [1, 0, 100.0, True])
def test_a_grid_needs_two_thresholds(thresholds: Any) -> None:
    with pytest.raises(ValueError, match="thresholds must be None"):
        aupro(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), thresholds=thresholds)


def test_the_grid_is_that_of_arange_with_its_rounding() -> None:
    """Some ranges give 101 thresholds, the last of them next to the highest score."""
    pairs = np.random.default_rng(0).random((2000, 2)).cumsum(axis=1)
    sizes = {threshold_grid(low, high, 100).size for low, high in pairs}
    assert sizes == {100, 101}
    for low, high in pairs[:50]:
        np.testing.assert_array_equal(threshold_grid(low, high, 100), np.arange(low, high, (high - low) / 100))
