"""The streaming mode: exact values lie between its bounds, which are met and close in; its memory is fixed."""

import math
import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from mambaad.metrics import METRICS, PROTOCOLS, Streamed, StreamingMetrics, evaluate_protocols
from mambaad.metrics.streaming import as_float32, from_ordered_bits, ordered_bits

ROUNDING = 1e-9  # percent; sums of float64 in another order
PIXEL = tuple(name for name in METRICS if name.startswith("pixel"))
SHAPE = (3, 4, 5)
LARGEST = float(np.finfo(np.float32).max)

masks_of = hnp.arrays(np.bool_, SHAPE)
few = hnp.arrays(np.float32, SHAPE, elements=st.integers(-3, 6))
near = hnp.arrays(np.float32, SHAPE, elements=st.floats(0.125, 1, width=32))  # some bins of 10 bits, all crowded
positive = hnp.arrays(np.float32, SHAPE, elements=st.floats(0, 16, width=32))
single = hnp.arrays(np.float32, SHAPE, elements=st.floats(-LARGEST, LARGEST, width=32))
double = hnp.arrays(np.float64, SHAPE, elements=st.floats(-1e100, 1e100))
close = hnp.arrays(np.float64, SHAPE, elements=st.floats(1, 1 + 1e-6))  # many share one float32
maps_of = st.one_of(few, near, positive, single, double, close)
bits_of = st.sampled_from([10, 12, 16])


def streamed(
    maps: NDArray[Any] | torch.Tensor, masks: NDArray[Any], bits: int = 22, batch: int | None = None
) -> Streamed:
    streaming = StreamingMetrics(bits)
    for start in range(0, len(maps), batch or len(maps)):
        end = start + (batch or len(maps))
        streaming.update(maps[start:end], masks[start:end])
    return streaming.result()


def category(seed: int = 0, images: int = 12, side: int = 64) -> tuple[NDArray[Any], NDArray[Any]]:
    """Smooth positive maps as of a trained model, higher at some of the defects."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((images, side, side), dtype=bool)
    for mask in masks[images // 3 :]:
        for top, left, height, width in rng.integers(2, side // 4, (3, 4)) * [3, 3, 1, 1]:
            mask[top : top + height, left : left + width] = True
    noise = ndimage.gaussian_filter(rng.standard_normal(masks.shape), (0, 3, 3))
    raised = ndimage.gaussian_filter(masks.astype(float), (0, 2, 2)) * rng.uniform(0, 3, (images, 1, 1))
    return (0.01 * np.exp(0.4 * noise / noise.std() + raised)).astype(np.float32), masks


@settings(max_examples=600)
@given(maps=maps_of, masks=masks_of, bits=bits_of)
@example(maps=np.linspace(1, 1.4, 60).reshape(SHAPE), masks=np.arange(60).reshape(SHAPE) % 7 == 0, bits=10)
@example(
    maps=np.where(np.arange(60).reshape(SHAPE) % 2, -0.0, 0.0),
    masks=np.eye(4, 5, dtype=bool)[None] > [[[0]]] * 3,
    bits=10,
)
def test_the_exact_value_is_between_the_bounds(maps: NDArray[Any], masks: NDArray[Any], bits: int) -> None:
    expected, result = evaluate_protocols(as_float32(maps), masks), streamed(maps, masks, bits, batch=2)
    for protocol in PROTOCOLS:
        for name in (*METRICS, "mad"):
            exact, value = expected[protocol][name], result.values[protocol][name]
            low, high = result.bounds[protocol][name]
            if math.isnan(exact):
                # Only the rates of the AU-PRO grid may be left open by the bins.
                assert math.isnan(value) or (protocol == "paper" and name in ("pixel_aupro", "mad"))
                continue
            assert low - ROUNDING <= exact <= high + ROUNDING, (protocol, name)
            assert low - ROUNDING <= value <= high + ROUNDING, (protocol, name)
            assert -ROUNDING <= low <= high + ROUNDING <= 100 + 2 * ROUNDING


@pytest.mark.parametrize("bits", [10, 11, 12, 14])
@pytest.mark.parametrize("seed", range(8))
def test_the_exact_value_is_between_the_bounds_on_smooth_maps(seed: int, bits: int) -> None:
    """Many thresholds of the grid in one bin, and the limit of the false positive rate inside another."""
    maps, masks = category(seed, images=6, side=32)
    expected, result = evaluate_protocols(maps, masks), streamed(maps, masks, bits)
    for protocol in PROTOCOLS:
        for name, (low, high) in result.bounds[protocol].items():
            assert low - ROUNDING <= expected[protocol][name] <= high + ROUNDING, (protocol, name)
            assert low - ROUNDING <= result.values[protocol][name] <= high + ROUNDING, (protocol, name)


@settings(max_examples=150)
@given(maps=few, masks=masks_of)
def test_scores_alone_in_their_bin_are_measured_exactly(maps: NDArray[Any], masks: NDArray[Any]) -> None:
    """Seven numbers from -3 to 6 keep apart at 12 bits, so the bins know all there is to know."""
    expected, result = evaluate_protocols(maps, masks), streamed(maps, masks, bits=12)
    for protocol in PROTOCOLS:
        assert result.values[protocol] == pytest.approx(expected[protocol], abs=ROUNDING, nan_ok=True)
        for low, high in result.bounds[protocol].values():
            assert low == pytest.approx(high, abs=ROUNDING, nan_ok=True)


def in_bins(first: str, tied: bool = False, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scores whose bin (of 12 bits: an eighth of an octave) is random, positives or negatives first inside each bin."""
    rng = np.random.default_rng(seed)
    masks = rng.random((4, 12, 12)) < 0.3
    bins = 2.0 ** rng.integers(0, 6, masks.shape)
    upper = masks == (first == "positives")
    within = np.where(upper, 0.1, 0.02) + (
        0 if tied else 1e-4 * rng.permutation(masks.size).reshape(masks.shape) / masks.size
    )
    return (bins * (1 + within)).astype(np.float32), masks


def test_the_upper_bounds_are_met_when_positives_come_first() -> None:
    maps, masks = in_bins("positives", tied=True)
    expected, result = evaluate_protocols(maps, masks)["exact"], streamed(maps, masks, bits=12)
    for name in PIXEL:
        low, high = result.bounds["exact"][name]
        assert expected[name] == pytest.approx(high, abs=ROUNDING)
        assert high - low > 1


def test_the_lower_bounds_are_met_when_negatives_come_first() -> None:
    maps, masks = in_bins("negatives")
    expected, result = evaluate_protocols(maps, masks)["exact"], streamed(maps, masks, bits=12)
    for name in ("pixel_auroc", "pixel_aupro"):
        low, high = result.bounds["exact"][name]
        assert expected[name] == pytest.approx(low, abs=ROUNDING)
        assert high - low > 1
    low, high = result.bounds["exact"]["pixel_ap"]  # an integral in place of a sum
    assert low <= expected["pixel_ap"] < low + 0.01 * (high - low)


def test_the_lower_bound_of_f1_is_met_when_scores_are_almost_equal() -> None:
    maps, masks = in_bins("negatives")
    negative_lowest = np.where(masks, maps, maps * 0.9999)  # the last of a bin is one of its negatives
    alike = np.where(masks, 2.0 ** np.floor(np.log2(maps)) * 1.05, 2.0 ** np.floor(np.log2(maps)) * 1.05).astype(
        np.float32
    )
    assert streamed(negative_lowest, masks, 12).bounds["exact"]["pixel_f1max"][0] == pytest.approx(
        evaluate_protocols(alike, masks)["exact"]["pixel_f1max"], abs=ROUNDING
    )


def test_bounds_close_in_as_bins_grow() -> None:
    maps, masks = category()
    results = [streamed(maps, masks, bits) for bits in (10, 14, 18, 22)]
    for protocol in PROTOCOLS:
        for name in (*PIXEL, "mad"):
            bounds = [result.bounds[protocol][name] for result in results]
            widths = [high - low for low, high in bounds]
            assert widths[0] > 5 * widths[1] > 25 * widths[2] > 125 * widths[3], (protocol, name, widths)
            assert widths[3] < 0.1
            if protocol == "exact" and name != "mad":  # finer bins only add corners
                slack = 1e-3 if name == "pixel_ap" else ROUNDING
                for (low, high), (finer_low, finer_high) in pairwise(bounds):
                    assert low - slack <= finer_low <= finer_high <= high + ROUNDING


@pytest.mark.parametrize("seed", range(3))
def test_values_are_close_on_smooth_maps(seed: int) -> None:
    maps, masks = category(seed)
    expected, result = evaluate_protocols(maps, masks), streamed(maps, masks)
    for protocol in PROTOCOLS:
        assert result.values[protocol] == pytest.approx(expected[protocol], abs=0.02)  # percent


def test_half_precision_maps_are_measured_exactly() -> None:
    maps, masks = category()
    half = torch.from_numpy(maps).bfloat16()
    expected, result = evaluate_protocols(half, masks), streamed(half, masks)
    assert dict(result.values) == {p: pytest.approx(expected[p], abs=ROUNDING) for p in PROTOCOLS}
    assert result.bounds["exact"]["pixel_auroc"] == pytest.approx((expected["exact"]["pixel_auroc"],) * 2, abs=ROUNDING)


def test_the_division_into_batches_does_not_matter() -> None:
    maps, masks = category()
    whole = streamed(maps, masks, 14)
    for batch in (1, 5):
        parts = streamed(maps, masks, 14, batch)
        for protocol in PROTOCOLS:
            assert parts.values[protocol] == pytest.approx(whole.values[protocol], abs=ROUNDING)
            for name, bounds in whole.bounds[protocol].items():
                assert parts.bounds[protocol][name] == pytest.approx(bounds, abs=ROUNDING)


def test_image_metrics_are_exact_and_labels_count_for_them_only() -> None:
    maps, masks = category()
    labels = np.asarray(masks.any(axis=(1, 2)))
    labels[0] = True  # defective without a mask
    streaming = StreamingMetrics(10)
    for i in range(0, len(maps), 5):
        streaming.update(torch.from_numpy(maps[i : i + 5]), masks[i : i + 5], labels[i : i + 5].tolist())
    both, result = evaluate_protocols(maps, masks, labels), streaming.result()
    expected = both["exact"]
    assert streaming.images == len(maps)
    for name in METRICS[:3]:
        assert result.values["exact"][name] == expected[name]
        assert result.values["paper"][name] == both["paper"][name]
        assert result.bounds["exact"][name] == (expected[name], expected[name])
    without = streamed(maps, masks, 10)
    assert all(result.values["exact"][name] == pytest.approx(without.values["exact"][name]) for name in PIXEL)


@pytest.mark.parametrize("kind", ["good only", "defect only", "constant"])
def test_undefined_values_are_nan_as_in_the_exact_mode(kind: str) -> None:
    maps, masks = category()
    if kind == "constant":
        maps = np.full_like(maps, 0.5)
    else:
        masks = np.full_like(masks, kind == "defect only")
    expected, result = evaluate_protocols(maps, masks), streamed(maps, masks)
    for protocol in PROTOCOLS:
        assert result.values[protocol] == pytest.approx(expected[protocol], nan_ok=True, abs=0.02)
        for name, bounds in result.bounds[protocol].items():
            assert {math.isnan(bound) for bound in bounds} == {math.isnan(expected[protocol][name])}


def test_more_may_be_added_after_a_result() -> None:
    maps, masks = category()
    streaming = StreamingMetrics(14)
    streaming.update(maps[:6], masks[:6])
    streaming.result()
    streaming.update(maps[6:], masks[6:])
    assert streaming.result().values["exact"] == pytest.approx(streamed(maps, masks, 14).values["exact"], abs=ROUNDING)


def test_memory_does_not_grow_with_the_images() -> None:
    maps, masks = category(images=6, side=128)

    def peak(rounds: int) -> int:
        tracemalloc.start()
        streaming = StreamingMetrics(16)
        for _ in range(rounds):
            streaming.update(maps, masks)
        streaming.result()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(20) < peak(2) + 0.1 * maps.nbytes  # 18 more rounds, whose maps would be 18 times maps.nbytes


@given(values=hnp.arrays(np.float32, 20, elements=st.floats(-LARGEST, LARGEST, width=32)))
def test_ordered_bits_order_as_the_scores_do_and_come_back(values: NDArray[Any]) -> None:
    ordered = ordered_bits(values)
    assert np.array_equal(from_ordered_bits(ordered), values)
    assert np.array_equal(values[:, None] < values, ordered[:, None] < ordered)


def test_wider_scores_are_rounded_to_float32() -> None:
    assert as_float32(np.array([1.0, 1 + 1e-12, 1e300, -1e300])).tolist() == [1, 1, LARGEST, -LARGEST]


@pytest.mark.parametrize("bits", [9, 25, 16.0, True, None])
def test_bits_have_a_range(bits: int) -> None:
    with pytest.raises(ValueError, match="bits must be an integer from 10 to 24, got"):
        StreamingMetrics(bits)


def test_a_result_needs_images() -> None:
    with pytest.raises(ValueError, match="no images yet: call update before result"):
        StreamingMetrics(10).result()


def test_a_refused_batch_leaves_nothing_behind() -> None:
    maps, masks = category()
    streaming = StreamingMetrics(14)
    streaming.update(maps, masks)
    before = streaming.result()
    spoilt = maps.copy()
    spoilt[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match="maps must be finite"):
        streaming.update(spoilt, masks)
    with pytest.raises(ValueError, match="labels contradict masks"):
        streaming.update(maps, masks, np.zeros(len(maps)))
    assert streaming.images == len(maps)
    assert streaming.result() == before
