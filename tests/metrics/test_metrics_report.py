"""The report of seven metrics: which definition stands under which name, and what is refused."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from mambaad.metrics import (
    METRICS,
    PROTOCOLS,
    StreamingMetrics,
    aupro,
    auroc,
    average_precision,
    evaluate,
    evaluate_protocols,
    f1_max,
    f1_max_grid,
    mean_over_categories,
)
from mambaad.metrics import report as report_module

SHARED = ("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap")


def category(seed: int = 0, images: int = 9, side: int = 16) -> tuple[NDArray[Any], NDArray[Any]]:
    """Noise, raised in all images but the first third over a square, the last time over a lone pixel too."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((images, side, side), dtype=bool)
    masks[images // 3 :, 4:9, 6:12] = True
    masks[-1, 14, 1] = True
    return rng.standard_normal(masks.shape).astype(np.float32) + masks * np.float32(1.8), masks


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_name_is_its_metric_in_percent(protocol: str) -> None:
    maps, masks = category()
    labels, scores = masks.any(axis=(1, 2)), maps.max(axis=(1, 2))
    pixel_f1, thresholds = (f1_max, None) if protocol == "exact" else (f1_max_grid, 100)
    expected = {
        "image_auroc": auroc(labels, scores),
        "image_ap": average_precision(labels, scores),
        "image_f1max": f1_max(labels, scores),
        "pixel_auroc": auroc(masks, maps),
        "pixel_ap": average_precision(masks, maps),
        "pixel_f1max": pixel_f1(masks, maps),
        "pixel_aupro": aupro(maps, masks, limit=0.3, thresholds=thresholds),
    }
    report = evaluate(maps, masks, protocol=protocol)
    assert tuple(report) == (*METRICS, "mad")
    assert report == pytest.approx(
        {name: 100 * value for name, value in expected.items()} | {"mad": 100 * np.mean(list(expected.values()))}
    )
    assert all(type(value) is float for value in report.values())


def test_the_protocols_share_five_values_and_differ_in_two() -> None:
    maps, masks = category()
    maps[0, 0, 0] = 80  # an outlier pixel in a good image
    exact, paper = evaluate(maps, masks), evaluate(maps, masks, protocol="paper")
    assert all(exact[name] == paper[name] for name in SHARED)
    assert abs(exact["pixel_f1max"] - paper["pixel_f1max"]) > 1
    assert abs(exact["pixel_aupro"] - paper["pixel_aupro"]) > 1


@pytest.mark.parametrize("labelled", [False, True])
def test_both_protocols_at_once_are_each_by_itself(labelled: bool) -> None:
    maps, masks = category()
    labels = np.arange(len(masks)) > 1 if labelled else None  # image 2 is defective without a mask
    assert evaluate_protocols(maps, masks, labels) == {p: evaluate(maps, masks, labels, p) for p in PROTOCOLS}


def test_both_protocols_share_one_sort_and_one_labelling(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = {"rank": 0, "region_weights": 0}
    for name in counted:
        original = getattr(report_module, name)

        def counting(*arguments: tuple[Any, ...], name: str = name, original: Callable[..., Any] = original) -> Any:
            counted[name] += 1
            return original(*arguments)

        monkeypatch.setattr(report_module, name, counting)
    evaluate_protocols(*category())
    assert counted == {"rank": 2, "region_weights": 1}  # images and pixels


def test_the_exact_protocol_is_that_of_scikit_learn() -> None:
    maps, masks = category()
    found = evaluate_protocols(maps, masks)["exact"]
    for level, truth, scores in (
        ("image", masks.any((1, 2)), maps.max((1, 2))),
        ("pixel", masks.ravel(), maps.ravel()),
    ):
        precision, recall, _ = precision_recall_curve(truth, scores)
        assert found[f"{level}_auroc"] == pytest.approx(100 * roc_auc_score(truth, scores), abs=1e-9)
        assert found[f"{level}_ap"] == pytest.approx(100 * average_precision_score(truth, scores), abs=1e-9)
        best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))
        assert found[f"{level}_f1max"] == pytest.approx(100 * best, abs=1e-9)


def test_exact_is_the_default() -> None:
    maps, masks = category()
    assert evaluate(maps, masks) == evaluate(maps, masks, protocol="exact") != evaluate(maps, masks, protocol="paper")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_perfect_detector_has_100_everywhere(protocol: str) -> None:
    maps, masks = category()
    maps = np.where(masks, 1, np.linspace(0, 0.9, maps.size).reshape(maps.shape))
    assert evaluate(maps, masks, protocol=protocol) == pytest.approx(dict.fromkeys((*METRICS, "mad"), 100), abs=1e-5)


def test_given_scores_take_the_place_of_the_maximum() -> None:
    maps, masks = category()
    labels, scores = masks.any(axis=(1, 2)), np.random.default_rng(0).random(len(maps))
    found, usual = evaluate(maps, masks, scores=scores), evaluate(maps, masks)
    assert found["image_auroc"] == pytest.approx(100 * roc_auc_score(labels, scores))
    assert found["image_auroc"] != pytest.approx(usual["image_auroc"])
    for name in METRICS:
        assert name.startswith("image") or found[name] == usual[name]
    assert evaluate(maps, masks, scores=maps.max(axis=(1, 2))) == usual
    streamed = StreamingMetrics()
    for half in (slice(0, 3), slice(3, None)):
        streamed.update(maps[half], masks[half], scores=scores[half])
    assert streamed.result().values["exact"]["image_auroc"] == pytest.approx(found["image_auroc"])
    with pytest.raises(ValueError, match="one number per map"):
        evaluate(maps, masks, scores=scores[:-1])
    with pytest.raises(ValueError, match="finite"):
        StreamingMetrics().update(maps, masks, scores=np.full(len(maps), np.nan))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_torch_and_numpy_agree(protocol: str) -> None:
    maps, masks = category()
    expected = evaluate(maps, masks, masks.any(axis=(1, 2)), protocol)
    maps_t, masks_t = torch.from_numpy(maps).requires_grad_(), torch.from_numpy(masks)
    assert evaluate(maps_t, masks_t, masks_t.flatten(1).any(1), protocol) == expected
    assert evaluate(maps_t, masks_t.to(torch.uint8), protocol=protocol) == expected
    assert evaluate(maps_t, masks_t.float(), masks_t.flatten(1).any(1).tolist(), protocol) == expected


def test_the_inputs_are_left_as_they_were() -> None:
    maps, masks = category()
    before = maps.copy(), masks.copy()
    evaluate(maps, masks, protocol="paper")
    assert np.array_equal(maps, before[0])
    assert np.array_equal(masks, before[1])


def test_a_defect_without_a_mask_counts_for_the_image_only() -> None:
    maps, masks = category()
    labels = np.asarray(masks.any(axis=(1, 2)))
    assert not labels[2]
    labels[2] = True  # the lowest image score of all
    with_label, without = evaluate(maps, masks, labels), evaluate(maps, masks)
    assert with_label["image_auroc"] == 100 * auroc(labels, maps.max(axis=(1, 2))) != without["image_auroc"]
    assert all(with_label[name] == without[name] for name in METRICS if name.startswith("pixel"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_good_images_have_no_value(protocol: str) -> None:
    maps, masks = category()
    report = evaluate(maps, np.zeros_like(masks), protocol=protocol)
    assert all(math.isnan(value) for value in report.values())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_defective_images_still_have_pixel_values(protocol: str) -> None:
    maps, masks = category()
    report = evaluate(maps[3:], masks[3:], protocol=protocol)
    assert {name for name, value in report.items() if math.isnan(value)} == {"image_auroc", "mad"}


def test_constant_maps() -> None:
    _, masks = category()
    constant = np.full(masks.shape, 0.5)
    exact, paper = evaluate(constant, masks), evaluate(constant, masks, protocol="paper")
    assert exact["image_auroc"] == exact["pixel_auroc"] == 50
    assert exact["pixel_aupro"] == pytest.approx(15)
    assert {name for name, value in paper.items() if math.isnan(value)} == {"pixel_f1max", "pixel_aupro", "mad"}


def spoilt(array: NDArray[Any], value: Any, *index: Any) -> NDArray[Any]:
    array = array.astype(float)
    array[index] = value
    return array


MAPS, MASKS = category()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MAPS, MASKS, None, "Paper"), r"protocol must be one of \('exact', 'paper'\), got 'Paper'"),
        ((MAPS, MASKS[:, :8]), r"both be \(N, H, W\).*got \(9, 16, 16\) and \(9, 8, 16\)"),
        ((MAPS[:, None], MASKS[:, None]), r"both be \(N, H, W\).*got \(9, 1, 16, 16\)"),
        ((MAPS[0], MASKS[0]), r"both be \(N, H, W\).*got \(16, 16\)"),
        ((MAPS[:0], MASKS[:0]), r"at least one pixel, got \(0, 16, 16\)"),
        ((spoilt(MAPS, np.nan, slice(2, 4), 1, 5), MASKS), r"finite: 2 of 2304.*first at index \(2, 1, 5\)"),
        ((spoilt(MAPS, -np.inf, 8, 0, 0), MASKS), r"finite: 1 of 2304.*first at index \(8, 0, 0\)"),
        ((MAPS, MASKS * 255), r"masks must be binary.*such as 255; threshold them first"),
        ((MAPS, spoilt(MASKS, 0.5, 0, 0, 0)), r"masks must be binary.*1 of 2304 values are neither, such as 0.5"),
        ((MAPS, MASKS, np.ones(8)), r"labels must be \(9,\), one per mask, got \(8,\)"),
        ((MAPS, MASKS, np.ones((9, 1))), r"labels must be \(9,\), one per mask, got \(9, 1\)"),
        ((MAPS, MASKS, np.full(9, 2)), r"labels must be binary"),
        ((MAPS, MASKS, np.zeros(9)), r"labels contradict masks: 6 of 9 images.*first ones \[3, 4, 5, 6, 7, 8\]"),
    ],
)
def test_errors_say_what_arrived(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(*arguments)


def test_the_mean_over_categories_is_plain() -> None:
    reports = {name: evaluate(*category(seed, images)) for seed, (name, images) in enumerate([("a", 6), ("b", 12)])}
    mean = mean_over_categories(reports)
    assert tuple(mean) == (*METRICS, "mad")
    for name in (*METRICS, "mad"):
        assert mean[name] == pytest.approx((reports["a"][name] + reports["b"][name]) / 2)
    assert mean["mad"] == pytest.approx(sum(mean[name] for name in METRICS) / 7)


def test_the_mean_ignores_what_is_no_metric() -> None:
    report = evaluate(*category())
    assert mean_over_categories({"a": report | {"images": 9.0, "mad": -1.0}}) == pytest.approx(report)


def test_a_category_without_a_value_leaves_the_mean_without_one() -> None:
    good = evaluate(*category())
    mean = mean_over_categories({"a": good, "b": good | {"pixel_aupro": math.nan}})
    assert {name for name, value in mean.items() if math.isnan(value)} == {"pixel_aupro", "mad"}


def test_the_mean_needs_complete_categories() -> None:
    with pytest.raises(ValueError, match="at least one category"):
        mean_over_categories({})
    report = evaluate(*category())
    with pytest.raises(ValueError, match=r"category 'b' lacks \['image_ap'\]"):
        mean_over_categories({"a": report, "b": {k: v for k, v in report.items() if k != "image_ap"}})
