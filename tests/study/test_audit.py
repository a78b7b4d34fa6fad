"""The audit: its bounds against brute force, its findings against the list, and silence on numbers that are right."""

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from mambaad.data.datasets.catalog import dataset_named
from mambaad.study import published_numbers
from mambaad.study.audit import checks, claims

ROOT = published_numbers.repository_root() / "results" / "paper"


def f1max(labels: Sequence[bool] | NDArray[Any], scores: NDArray[Any]) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    return (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()


@pytest.mark.parametrize("f1", [0.05, 0.3, 0.762, 1.0])
def test_ap_limit_is_the_area_below_the_largest_precision(f1: float) -> None:
    area = quad(lambda r: min(1.0, f1 * r / (2 * r - f1)) if r > f1 / 2 else 1.0, 0, 1, points=[f1 / (2 - f1)])[0]
    assert checks.ap_limit(f1) == pytest.approx(area, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=40).filter(lambda x: any(x)), st.integers(0, 1000))
def test_no_ranking_breaks_the_bounds(labels: list[bool], seed: int) -> None:
    scores = np.random.default_rng(seed).permutation(len(labels))
    best = f1max(labels, scores)
    assert average_precision_score(labels, scores) <= checks.ap_limit(best) + 1e-9
    assert np.mean(labels) <= checks.anomalous_share_limit(best) + 1e-9


def every_ranking(anomalous: int, normal: int) -> NDArray[np.float64]:
    """AU-ROC, AP and F1max of each, (rankings, 3)."""
    total = anomalous + normal
    scores = np.arange(total, 0, -1)
    found = []
    for places in itertools.combinations(range(total), anomalous):
        labels = np.isin(np.arange(total), places)
        found.append((roc_auc_score(labels, scores), average_precision_score(labels, scores), f1max(labels, scores)))
    return np.array(found)


@pytest.mark.parametrize(("anomalous", "normal"), [(3, 2), (4, 3), (2, 4)])
@pytest.mark.parametrize("auroc", [1.0, 0.9, 0.75, 0.5, 0.0])
def test_bounds_of_ap_and_f1max_against_every_ranking(anomalous: int, normal: int, auroc: float) -> None:
    found = every_ranking(anomalous, normal)
    lowest = found[found[:, 0] >= auroc - 1e-12].min(axis=0)[1:]
    highest = found[found[:, 0] <= auroc + 1e-12].max(axis=0)[1:]
    assert checks.lowest_ap_and_f1max(auroc, anomalous, normal) == pytest.approx(tuple(lowest), abs=1e-12)
    assert checks.highest_ap_and_f1max(auroc, anomalous, normal) == pytest.approx(tuple(highest), abs=1e-12)


def test_metrics_of_one_ranking_are_possible() -> None:
    """Drawn scores on the numbers of images of MVTec-AD, rounded as printed: nothing is reported."""
    lines = []
    for seed, (category, counts) in enumerate(dataset_named("mvtec_ad").categories.items()):
        assert counts is not None
        _, normal, anomalous = counts
        random = np.random.default_rng(seed)
        labels = np.arange(normal + anomalous) < anomalous
        scores = random.normal(size=labels.size) + labels * random.uniform(1, 4)
        values = {
            "image_auroc": roc_auc_score(labels, scores),
            "image_ap": average_precision_score(labels, scores),
            "image_f1max": f1max(labels, scores),
        }
        lines += [["mvtec", category, "drawn", name, round(100 * value, 1)] for name, value in values.items()]
    frame = pd.DataFrame(lines, columns=[*checks.KEY, "value"])
    assert checks.mvtec_image_level(frame).empty
    assert checks.f1max_below_one_verdict(frame).empty
    frame.loc[frame["metric"] == "image_ap", "value"] = 10.0
    frame.loc[frame["metric"] == "image_f1max", "value"] = 50.0
    assert set(checks.mvtec_image_level(frame)["impossible"]) == {"AP and F1max"}
    assert len(checks.f1max_below_one_verdict(frame)) == 15


@pytest.mark.parametrize("f1", [0.0, -1.0, 97.8])
def test_ap_limit_wants_a_share(f1: float) -> None:
    with pytest.raises(ValueError, match="share in"):
        checks.ap_limit(f1)


def test_means_that_differ_from_their_rows() -> None:
    large = checks.mean_differences(checks.per_category("images"), more_than=0.1)
    listed = {
        ("mvtec", "UniAD", "pixel_auroc"): (96.8, 92.43),
        ("mvtec", "UniAD", "pixel_ap"): (43.4, 39.23),
        ("mvtec", "UniAD", "pixel_f1max"): (49.5, 45.21),
        ("mvtec", "RD4AD", "pixel_ap"): (48.6, 46.59),
        ("mvtec", "RD4AD", "pixel_f1max"): (53.8, 52.58),
        ("mvtec", "SimpleNet", "pixel_ap"): (45.9, 43.94),
        ("visa", "RD4AD", "image_ap"): (92.4, 87.40),
        ("visa", "DeSTSeg", "pixel_f1max"): (43.4, 40.90),
        ("mvtec3d", "RD4AD", "pixel_ap"): (29.8, 27.85),
        ("medical", "UniAD", "image_auroc"): (78.5, 76.53),
        ("medical", "UniAD", "image_ap"): (75.2, 74.40),
        ("medical", "UniAD", "image_f1max"): (76.6, 76.87),
        ("medical", "DiAD", "pixel_aupro"): (85.4, 85.27),
    }
    found: dict[tuple[str, str, str], Any] = {
        (r.dataset, r.method, r.metric): (r.printed_mean, pytest.approx(r.mean_of_rows, abs=0.006))
        for r in large.itertuples()
    }
    assert found == listed
    left = checks.mean_differences(checks.per_category("neurips"), more_than=0.1)
    assert left[["dataset", "method", "metric"]].to_numpy().tolist() == [["medical", "DiAD", "pixel_aupro"]]


def test_the_neurips_printing_changes_exactly_the_listed_cells() -> None:
    images, neurips = checks.per_category("images"), checks.per_category("neurips")
    changed = images["value"] != neurips["value"]
    changes = published_numbers.load("per_category_changes")
    assert changed.sum() == len(changes) == 27
    old = images[changed].merge(changes, on=checks.KEY)
    assert (old["value"] == old["value_appendix_images"]).all()
    with pytest.raises(ValueError, match="'images' or 'neurips'"):
        checks.per_category(cast(Any, "poster"))


def test_every_listed_contradiction_is_found() -> None:
    findings = claims.findings()
    assert findings["item"].tolist() == list(range(1, 19))
    assert (findings["found"] == "found").all()


def test_single_items() -> None:
    swapped = checks.mad_of_table_6().set_index("method")
    assert swapped.index[swapped["tables_differ"]].tolist() == ["DeSTSeg", "SimpleNet"]
    assert swapped.loc["DeSTSeg", "mean_of_seven"] == pytest.approx(77.06, abs=0.005)
    above = checks.ap_above_limit(checks.per_category("neurips"))
    assert set(zip(above["dataset"], above["category"], above["method"], strict=True)) == {
        *(("coco", str(i), "DiAD") for i in range(4)),
        ("medical", "liver", "DiAD"),
        ("mvtec", "metal_nut", "DeSTSeg"),
        ("mvtec", "pill", "DeSTSeg"),
    }
    low = checks.f1max_below_others("realiad", "DiAD", at_least=5).set_index("category")
    assert low.loc["usb", ["DiAD", "lowest_other"]].tolist() == [45.7, 62.9]
    image = checks.mvtec_image_level(checks.per_category("neurips"))
    assert image["method"].value_counts().to_dict() == {"DiAD": 11, "UniAD": 7}
    assert checks.mvtec_image_level(published_numbers.load("single_class")).empty
    low = checks.f1max_below_one_verdict(checks.per_category("neurips"))
    assert low.value_counts(["dataset", "method"]).to_dict() == {
        ("visa", "SimpleNet"): 2,
        ("coco", "SimpleNet"): 2,
        ("medical", "SimpleNet"): 1,
        ("medical", "DiAD"): 1,
    }
    best = checks.best_methods()
    assert (len(best), best["tie"].sum()) == (11, 2)
    spread = claims.scan_spread().set_index("setting")["mad"].round(1)
    assert spread.to_dict() == {
        "sweep-8": 85.8, "scan-8": 85.9, "zorder-8": 85.9, "zigzag-8": 85.9,
        "hilbert-2": 85.8, "hilbert-4": 85.9, "hilbert-8": 86.0,
    }  # fmt: skip


def change(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / f"{name}.csv"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_numbers_that_agree_are_not_reported(tmp_path: Path) -> None:
    for path in ROOT.glob("*.csv"):
        shutil.copy(path, tmp_path)
    change(tmp_path, "efficiency", "DeSTSeg,mad,81.2", "DeSTSeg,mad,77.1")
    change(tmp_path, "efficiency", "SimpleNet,mad,77.1", "SimpleNet,mad,81.2")
    change(tmp_path, "incremental_ablation", "1,1,1,visa,mad,78.9", "1,1,1,visa,mad,78.7")
    change(tmp_path, "single_class", "mvtec,mean,UniAD,image_ap,98.9", "mvtec,mean,UniAD,image_ap,98.3")
    findings = claims.findings(tmp_path).set_index("item")["found"]
    assert set(findings[findings == "not found"].index) == {1, 2, 9}


def test_published_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no published table 'table_9'; there are main_results"):
        published_numbers.load("table_9")
    with pytest.raises(FileNotFoundError, match="pass the folder that holds the published numbers"):
        published_numbers.load("efficiency", tmp_path)


def test_published_copies_equal_their_source(shared: Path) -> None:
    for path in (shared / "paper").glob("*.csv"):
        assert (ROOT / path.name).read_bytes() == path.read_bytes()
