"""Resampled metrics against the exact ones of a test set that really holds the images drawn."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mambaad.metrics import METRICS, evaluate
from mambaad.study.evidence.resample import draws, mean_and_mad, resampled_metrics


def category(seed: int = 0, images: int = 24, side: int = 48) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Maps with blurred defects; a third of the images is good."""
    random = np.random.default_rng(seed)
    maps = random.normal(size=(images, side, side)).astype(np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    for index in range(images // 3, images):
        for _ in range(1 + index % 3):
            row, column = random.integers(0, side - 12, 2)
            masks[index, row : row + 4 + index % 6, column : column + 6] = True
    maps += 1.3 * masks
    return maps, masks, np.asarray(masks.any(axis=(1, 2)))


def test_the_first_replicate_is_the_test_set_itself() -> None:
    maps, masks, labels = category()
    found = resampled_metrics(maps, masks, labels, maps.max(axis=(1, 2)), draws(labels, 3, seed=1))
    exact = evaluate(maps, masks, labels)
    np.testing.assert_allclose(found[0], [exact[name] for name in METRICS], atol=0.1)  # bins of pixels


@pytest.mark.parametrize("block", [1, 4])
def test_a_replicate_equals_the_exact_metrics_of_the_images_it_draws(block: int) -> None:
    maps, masks, labels = category(seed=3)
    scores = maps.mean(axis=(1, 2))
    counts = draws(labels, 5, seed=2, block=block)
    found = resampled_metrics(maps, masks, labels, scores, counts)
    for values, count in zip(found, counts, strict=True):
        chosen = np.repeat(np.arange(len(labels)), count)
        exact = evaluate(maps[chosen], masks[chosen], labels[chosen], scores=scores[chosen])
        np.testing.assert_allclose(values, [exact[name] for name in METRICS], atol=0.1)


def test_draws_keep_the_numbers_of_good_and_defective_images() -> None:
    labels = np.array([False] * 7 + [True] * 11)
    counts = draws(labels, 50, seed=0, block=4)
    assert (counts[0] == 1).all()
    assert (counts[:, ~labels].sum(axis=1) == 7).all()
    assert (counts[:, labels].sum(axis=1) == 11).all()
    assert len({tuple(row) for row in counts[1:]}) == 50
    np.testing.assert_array_equal(counts, draws(labels, 50, seed=0, block=4))


def test_blocks_draw_neighbours_together() -> None:
    labels = [True] * 40
    alone, blocks = (draws(labels, 400, seed=5, block=b)[1:] for b in (1, 8))
    correlation = [np.corrcoef(c[:, 10], c[:, 11])[0, 1] for c in (alone, blocks)]
    assert correlation[1] > 0.5 > correlation[0] + 0.3


def test_mean_over_categories_and_mad() -> None:
    one, two = np.full((2, 7), 10.0), np.full((2, 7), 30.0)
    mean = mean_and_mad({"a": one, "b": two})
    assert mean["mad"] == [20.0, 20.0]
    assert set(mean) == {*METRICS, "mad"}
