"""The benchmark of the metrics, on a small category: it measures what it says, and both sides agree."""

import sys

import numpy as np
import pytest

from mambaad.benchmarks.metrics import aupro_loop, metrics_benchmark, synthetic_category
from mambaad.metrics import aupro


def test_rows_and_facts() -> None:
    rows, facts = metrics_benchmark(images=6, side=32, repeats=2)
    names = ("scikit-learn and loop", "mambaad", "mambaad, streaming")
    assert [(row["scores"], row["implementation"]) for row in rows] == [
        (kind, name) for kind in ("distinct", "tied") for name in names
    ]
    for row in rows:
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["max_ms"]
        assert row["ratio"] > 0
        assert row["largest_difference"] < (1e-3 if "streaming" in row["implementation"] else 1e-9)
    assert [row["ratio"] for row in rows if row["implementation"] == names[0]] == [1, 1]
    assert {key: facts[key] for key in ("images", "side", "repeats")} == {"images": 6, "side": 32, "repeats": 2}
    assert facts["share_tied_distinct"] < 0.01 < facts["share_tied_tied"]


def test_the_made_up_category_is_deterministic_and_has_both_classes() -> None:
    maps, masks = synthetic_category(6, 32)
    again, _ = synthetic_category(6, 32)
    assert maps.dtype == np.float32
    assert np.array_equal(maps, again)
    assert masks.any(axis=(1, 2)).tolist() == [False, False, True, True, True, True]
    assert maps.min() > 0
    assert maps[masks].mean() > maps[~masks].mean()


@pytest.mark.parametrize("tied", [False, True])
def test_the_loop_is_the_paper_protocol(tied: bool) -> None:
    maps, masks = synthetic_category(20, 128, tied)  # enough pixels that some lie next to a threshold
    assert aupro(maps, masks, thresholds=100) == pytest.approx(aupro_loop(maps, masks), abs=1e-12)


@pytest.mark.parametrize("sizes", [(2, 32, 1), (6, 15, 1), (6, 32, 0)])
def test_sizes_have_a_floor(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected images >= 3, side >= 16 and repeats >= 1, got"):
        metrics_benchmark(*sizes)


def test_without_scikit_learn_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(ValueError, match="needs scikit-learn, which is not installed: pip install scikit-learn"):
        metrics_benchmark(6, 32, 1)
