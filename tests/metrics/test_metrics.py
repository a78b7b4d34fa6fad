"""Ranking metrics against scikit-learn and explicit loops; exact under ties."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from mambaad.metrics import auroc, average_precision, f1_max, f1_max_grid, ranking

EXACT = 1e-12  # float64, sums of at most some 10^5 terms
RANKING = (auroc, average_precision, f1_max)
METRICS = (*RANKING, f1_max_grid)
Metric = Callable[..., float]

# Few distinct scores, so that ties within and between the classes are the rule.
tied = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=30)
quick = settings(max_examples=100, deadline=None)


def both_classes(pairs: list[tuple[bool, int]]) -> tuple[NDArray[Any], NDArray[Any]]:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    assume(labels.any() and not labels.all())
    return labels, scores


def f1_max_sklearn(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    total = precision + recall
    return np.max(2 * precision * recall / np.where(total > 0, total, 1))


def f1_max_grid_loop(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    scores = scores.astype(np.float64)
    rescaled = (scores - scores.min()) / (scores.max() - scores.min())
    best, eps = 0.0, 1e-8
    for k in range(21):
        predicted = rescaled > k / 20
        tp, fp, fn = (predicted & labels).sum(), (predicted & ~labels).sum(), (~predicted & labels).sum()
        precision, recall = tp / (tp + fp + eps), tp / (tp + fn + eps)
        best = max(best, 2 * precision * recall / (precision + recall + eps))
    return best


ORACLES: dict[Metric, Metric] = {
    auroc: roc_auc_score,
    average_precision: average_precision_score,
    f1_max: f1_max_sklearn,
    f1_max_grid: f1_max_grid_loop,
}


@pytest.mark.parametrize("metric", METRICS)
@quick
@given(pairs=tied)
def test_equals_its_oracle_under_ties(metric: Metric, pairs: list[tuple[bool, int]]) -> None:
    labels, scores = both_classes(pairs)
    assume(np.ptp(scores) > 0)
    assert metric(labels, scores) == pytest.approx(ORACLES[metric](labels, scores), abs=EXACT)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("metric", METRICS)
def test_equals_its_oracle_on_many_scores(metric: Metric, share: float, dtype: DTypeLike) -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((4, 64, 64)) < share
    scores = (rng.standard_normal(labels.shape) + labels).astype(dtype)  # float16 has many ties
    expected = ORACLES[metric](labels.ravel(), scores.astype(np.float64).ravel())
    assert metric(labels, scores) == pytest.approx(expected, abs=EXACT)


def test_hand_worked_values() -> None:
    """Scores from high to low: 4 defect, 3 normal, 2 defect and normal tied, 1 normal; so P = 2, N = 3.

    Pairs: the defect at 4 beats 3 normals, the one at 2 beats 1 and ties with 1: (3 + 1 + 1/2) / 6.
    AP: recall 1/2 at precision 1 (t = 4), the other half at precision 2/4 (t = 2): 1/2 + 1/4.
    F1: t = 4 gives 2·1/(2+1) = 2/3; t = 2 gives 2·2/(2+4) = 2/3.
    """
    labels, scores = [1, 0, 1, 0, 0], [4, 3, 2, 2, 1]
    assert auroc(labels, scores) == 0.75
    assert average_precision(labels, scores) == 0.75
    assert f1_max(labels, scores) == pytest.approx(2 / 3, abs=EXACT)


@pytest.mark.parametrize("metric", RANKING)
@pytest.mark.parametrize("transform", [np.exp, lambda s: s**3 - 7.5, lambda s: 1e-30 * s, np.arctan])
@quick
@given(pairs=tied)
def test_depends_only_on_the_ranking(
    metric: Metric, transform: Callable[[Any], Any], pairs: list[tuple[bool, int]]
) -> None:
    labels, scores = both_classes(pairs)
    assert metric(labels, transform(scores.astype(np.float64))) == metric(labels, scores)


@pytest.mark.parametrize("metric", RANKING)
@quick
@given(pairs=tied, seed=st.integers(0, 99))
def test_does_not_depend_on_the_order_of_the_samples(metric: Metric, pairs: list[tuple[bool, int]], seed: int) -> None:
    labels, scores = both_classes(pairs)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    assert metric(labels[shuffled], scores[shuffled]) == metric(labels, scores)


@quick
@given(pairs=tied)
def test_auroc_of_negated_scores_is_the_complement(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = both_classes(pairs)
    assert auroc(labels, -scores) == pytest.approx(1 - auroc(labels, scores), abs=EXACT)


@quick
@given(pairs=tied)
def test_the_grid_never_beats_every_distinct_score(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = both_classes(pairs)
    assume(np.ptp(scores) > 0)
    assert f1_max_grid(labels, scores) <= f1_max(labels, scores)


def test_one_outlier_moves_the_grid_but_not_the_exact_f1() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(1000) < 100
    scores = rng.standard_normal(1000) + 3 * labels
    with_outlier = np.where(np.arange(1000) == 999, 500.0, scores)  # one normal pixel
    assert abs(f1_max(labels, with_outlier) - f1_max(labels, scores)) < 0.01
    assert f1_max_grid(labels, scores) - f1_max_grid(labels, with_outlier) > 0.3


def test_a_score_on_the_grid_counts_only_above_its_threshold() -> None:
    """Stated in the docstring: t = 0 predicts all but the minimum, so one of the two defects is never found."""
    assert f1_max_grid([1, 1], [0.0, 1.0]) == pytest.approx(2 / 3, abs=1e-7)  # '>=' would give 1
    assert f1_max_grid([0, 0, 1], [0.0, 1.0, 0.5]) == pytest.approx(2 / 3, abs=1e-7)


def test_more_thresholds_bring_the_grid_to_the_exact_value() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(500) < 0.2
    scores = rng.integers(0, 100, 500) + 30 * labels
    assert f1_max_grid(labels, scores, thresholds=10_001) == pytest.approx(f1_max(labels, scores), abs=1e-7)


@pytest.mark.parametrize("metric", METRICS)
def test_a_perfect_ranking_is_one_and_the_reverse_is_not(metric: Metric) -> None:
    labels, scores = np.arange(20) >= 15, np.arange(20)
    assert metric(labels, scores) == pytest.approx(1, abs=1e-7)  # the grid's eps costs some 1e-8
    assert metric(labels, -scores) < 0.5


def test_constant_scores() -> None:
    labels, scores = [1, 0, 0, 0], [2.0, 2.0, 2.0, 2.0]
    assert auroc(labels, scores) == 0.5
    assert average_precision(labels, scores) == 0.25
    assert f1_max(labels, scores) == pytest.approx(0.4, abs=EXACT)  # all predicted: 2·1/(2+3)
    assert math.isnan(f1_max_grid(labels, scores))


@pytest.mark.parametrize("metric", METRICS)
def test_without_a_positive_there_is_no_value(metric: Metric) -> None:
    assert math.isnan(metric([0, 0, 0], [1.0, 2.0, 3.0]))
    assert math.isnan(metric([], []))


def test_without_a_negative_only_auroc_has_no_value() -> None:
    labels, scores = [1, 1, 1], [1.0, 2.0, 3.0]
    assert math.isnan(auroc(labels, scores))
    assert average_precision(labels, scores) == 1
    assert f1_max(labels, scores) == 1


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64])
def test_torch_and_numpy_agree(metric: Metric, dtype: torch.dtype) -> None:
    scores = (10 * torch.randn(40, 5)).to(dtype).T  # not contiguous
    labels = torch.rand(40, 5).T < 0.3
    expected = metric(labels.numpy(), scores.double().numpy())
    assert metric(labels, scores) == expected
    assert metric(labels.long(), scores) == expected
    assert metric(labels.tolist(), scores.tolist()) == expected


def test_scores_with_a_gradient_are_taken_as_values() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)
    assert auroc([0, 0, 1], scores) == 1


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [1.0, 2.0, 3.0], r"labels and scores must have one shape, got \(2,\) and \(3,\)"),
        ([[0, 1]], [1.0, 2.0], r"one shape, got \(1, 2\) and \(2,\)"),
        ([0, 2, 255], [1.0, 2.0, 3.0], r"labels must be binary.*2 of 3 values are neither, such as 2"),
        ([0.0, math.nan], [1.0, 2.0], r"labels must be binary.*1 of 2"),
        ([0, 1, 1], [1.0, math.nan, math.inf], r"scores must be finite: 2 of 3.*first at index \(1,\)"),
        ([0, 1], ["a", "b"], r"scores must hold real numbers, got <U1"),
        ([0, 1], [1j, 2.0], r"scores must hold real numbers, got complex128"),
    ],
)
def test_errors_say_what_arrived(metric: Metric, labels: list[Any], scores: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(labels, scores)


@pytest.mark.parametrize("thresholds", [1, 0, -3, 2.0, True, None])
def test_a_grid_needs_two_thresholds(thresholds: Any) -> None:
    with pytest.raises(ValueError, match="thresholds must be an integer of at least 2"):
        f1_max_grid([0, 1], [0.0, 1.0], thresholds=thresholds)


@pytest.mark.parametrize("levels", [1, 2, 3, None])
def test_sorting_in_two_threads_is_sorting(levels: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one of the halves is empty: with one level nothing is below the median."""
    monkeypatch.setattr(ranking, "MANY", 5000)
    rng = np.random.default_rng(0)
    values = rng.standard_normal(20_000) if levels is None else rng.integers(0, levels, 20_000).astype(float)
    expected = np.sort(values)
    ranking.sort(values)
    assert np.array_equal(values, expected)
