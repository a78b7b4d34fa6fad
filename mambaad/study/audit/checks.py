"""Checks of the published numbers against themselves.  Source of the list: `results/paper/README.md`.

Each function takes nothing but the published tables and returns what they say; nothing is corrected. The items are
numbered as in that README. `version` chooses between two printings of the per-category tables: "images" (pictures in
the authors' repository) or "neurips" (text of the NeurIPS paper).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from mambaad.data.datasets.catalog import DATASETS, dataset_named
from mambaad.study.published_numbers import SEVEN, load, mean_of_seven

Version = Literal["images", "neurips"]
KEY = ["dataset", "category", "method", "metric"]


def per_category(version: Version = "images", root: str | Path | None = None) -> pd.DataFrame:
    """The multi-class results per category: dataset, category, method, metric, value.

    Raises:
        ValueError: unknown version.
    """
    if version not in ("images", "neurips"):
        raise ValueError(f"version must be 'images' or 'neurips', got {version!r}")
    frame = load("per_category", root)
    if version == "images":
        return frame
    changes = load("per_category_changes", root)[[*KEY, "value_neurips"]]
    merged = frame.merge(changes, how="left", on=KEY)
    return frame.assign(value=merged["value_neurips"].fillna(merged["value"]))


def mean_differences(frame: pd.DataFrame, more_than: float = 0.0) -> pd.DataFrame:
    """Printed means against the means of their category rows, largest difference first (items 5 to 9).

    Rounding each row and the mean to one decimal can move the difference by at most 0.1.

    Args:
        frame: per-category values with printed means as category "mean".
        more_than: keep differences of a larger absolute value only.
    """
    group = ["dataset", "method", "metric"]
    means = frame[frame["category"] == "mean"].set_index(group)["value"].rename("printed_mean")
    rows = frame[frame["category"] != "mean"].groupby(group)["value"].mean().rename("mean_of_rows")
    both = pd.concat([means, rows], axis=1, join="inner").reset_index()
    both["difference"] = both["printed_mean"] - both["mean_of_rows"]
    both = both[both["difference"].abs() > more_than + 1e-9]
    return both.sort_values("difference", key=lambda d: -d.abs(), ignore_index=True)


def mad_of_table_6(root: Path | None = None) -> pd.DataFrame:
    """Item 1: mAD on MVTec-AD of each method in table 6, in table 1, and as the mean of table 1's seven metrics."""
    table_6 = load("efficiency", root).query("metric == 'mad'").set_index("method")["value"].rename("table_6")
    main = load("main_results", root).query("dataset == 'mvtec'")
    table_1 = main.query("metric == 'mad'").set_index("method")["value"].rename("table_1")
    mean = mean_of_seven(main, ["method"]).set_index("method")["value"].rename("mean_of_seven")
    frame = pd.concat([table_6, table_1, mean], axis=1).reset_index()
    return frame.assign(tables_differ=(frame["table_6"] - frame["table_1"]).abs() > 0.05)


def mambaad_visa(root: Path | None = None) -> pd.DataFrame:
    """Item 2: where the mAD of MambaAD on VisA is printed, and what its seven metrics average to."""
    main = load("main_results", root).query("dataset == 'visa' and method == 'MambaAD'")
    seven = main[main["metric"].isin(SEVEN)]["value"].mean()
    table_2 = load("incremental_ablation", root).query("dataset == 'visa' and lss == '1' and hss == '1'")
    table_3 = load("lss_ablation", root).query("dataset == 'visa' and method == 'local_global'")
    values = {
        "table 1, printed": main.query("metric == 'mad'")["value"].item(),
        "table 1, mean of the seven metrics": seven,
        "table 2": table_2["value"].item(),
        "table 3": table_3["value"].item(),
    }
    return pd.DataFrame({"source": list(values), "mad": list(values.values())})


def main_against_appendix(version: Version = "images", root: Path | None = None) -> pd.DataFrame:
    """Item 3: means in table 1, which has three data sets, that differ from the printed means of the appendix."""
    main = load("main_results", root).query("dataset in ['mvtec', 'visa', 'realiad']")
    main = main.rename(columns={"value": "table_1"})
    appendix = per_category(version, root).query("category == 'mean'").rename(columns={"value": "appendix"})
    both = main.merge(appendix[["dataset", "method", "metric", "appendix"]], on=["dataset", "method", "metric"])
    return both[(both["table_1"] - both["appendix"]).abs() > 0.05].reset_index(drop=True)


def tables_2_and_3(root: Path | None = None) -> pd.DataFrame:
    """Item 4: the plain decoder of table 2 beside "global" of table 3, two different networks."""
    plain = load("incremental_ablation", root).query("lss == '0' and hss == '0'").set_index("dataset")["value"]
    branch = load("lss_ablation", root).query("method == 'global'").set_index("dataset")["value"]
    frame = pd.concat([plain.rename("table_2_row_1"), branch.rename("table_3_global")], axis=1).reset_index()
    return frame.assign(equal=frame["table_2_row_1"] == frame["table_3_global"])


def ap_limit(f1max: float) -> float:
    """Largest average precision (as a share) of a precision-recall curve with maximal F1 `f1max` (a share).

    F1 <= F at recall R means precision <= F R / (2 R - F), and never above 1, which that reaches at a = F / (2 - F).
    The area under this limit is a + F ((1 - a) / 2 + F / 4 ln((2 - F) / (2 a - F))).

    Raises:
        ValueError: f1max is not in (0, 1].
    """
    if not 0 < f1max <= 1:
        raise ValueError(f"f1max must be a share in (0, 1], got {f1max}")
    a = f1max / (2 - f1max)
    return a + f1max * ((1 - a) / 2 + f1max / 4 * math.log((2 - f1max) / (2 * a - f1max)))


def ap_above_limit(frame: pd.DataFrame, level: str = "pixel") -> pd.DataFrame:
    """Item 10: categories whose AP exceeds what their F1max allows, even with both rounded in their favour."""
    wide = frame[frame["category"] != "mean"].pivot(index=KEY[:3], columns="metric", values="value")
    wide = wide[[f"{level}_ap", f"{level}_f1max"]].set_axis(["ap", "f1max"], axis=1).reset_index()
    highest_f1 = (wide["f1max"] + 0.05).clip(upper=100)
    wide["limit"] = [100 * ap_limit(f / 100) for f in highest_f1]
    return wide[wide["ap"] - 0.05 > wide["limit"]].reset_index(drop=True)


def anomalous_share_limit(f1max: float) -> float:
    """Largest share p of anomalous images that F1max (a share) permits: F1max >= 2 p / (1 + p), so p <= F / (2 - F)."""
    return f1max / (2 - f1max)


def f1max_below_others(
    dataset: str, method: str, metric: str = "image_f1max", at_least: float = 0.0, root: Path | None = None
) -> pd.DataFrame:
    """Item 11: categories where a method's F1max lies `at_least` this far below every other method's.

    The two last columns are the largest shares of anomalous images that each value permits, in percent.
    """
    frame = load("per_category", root).query("dataset == @dataset and metric == @metric and category != 'mean'")
    wide = frame.pivot(index="category", columns="method", values="value")
    others = wide.drop(columns=method)
    found = pd.DataFrame({method: wide[method], "lowest_other": others.min(axis=1), "whose": others.idxmin(axis=1)})
    found["below"] = found["lowest_other"] - found[method]
    for column in (method, "lowest_other"):
        found[f"share_limit_{column}"] = [100 * anomalous_share_limit(f / 100) for f in found[column]]
    return found[found["below"] >= at_least].sort_values("below", ascending=False).reset_index()


def f1max_below_one_verdict(frame: pd.DataFrame) -> pd.DataFrame:
    """Item 11: image F1max below that of calling every image anomalous, 2 p / (1 + p), where p is published.

    Args:
        frame: per-category values.
    """
    rows = frame[(frame["metric"] == "image_f1max") & (frame["category"] != "mean")]
    lines = []
    for spec in filter(lambda spec: spec.paper_name, DATASETS.values()):
        for row in rows[rows["dataset"] == spec.paper_name].itertuples():
            if counts := spec.categories.get(row.category) or spec.categories.get(f"coco{row.category}"):
                _, normal, anomalous = counts
                limit = 100 * 2 * anomalous / (2 * anomalous + normal)
                if row.value + 0.05 < limit - 1e-9:
                    lines.append([row.dataset, row.category, row.method, row.value, limit])
    return pd.DataFrame(lines, columns=["dataset", "category", "method", "image_f1max", "all_anomalous"])


def lowest_ap_and_f1max(auroc: float, anomalous: int, normal: int) -> tuple[float, float]:
    """Lowest AP and lowest F1max (shares) of any ranking of so many images with at least this AU-ROC (a share).

    With a_j normal images ranked above the j-th anomalous one, AU-ROC = 1 - sum(a_j) / (anomalous * normal),
    AP = mean of j / (j + a_j) and F1 there is 2 j / (j + a_j + anomalous); a_j never falls with j.
    """
    budget = math.floor((1 - auroc) * anomalous * normal + 1e-9)
    places = np.arange(1, anomalous + 1)

    # AP: least precision sum with the last a_j = a and a total of t, one anomalous image after the other
    best = np.full((normal + 1, budget + 1), np.inf)
    best[0, 0] = 0.0
    for j in places:
        reachable = np.minimum.accumulate(best, axis=0)  # any earlier a_(j-1) <= a
        best = np.full_like(best, np.inf)
        for a in range(min(normal, budget) + 1):
            best[a, a:] = reachable[a, : budget + 1 - a] + j / (j + a)
    # F1max <= F needs a_j >= 2 j / F - j - anomalous: the lowest F whose total fits the budget
    candidates = sorted({2 * j / (j + a + anomalous) for j in places for a in range(normal + 1)})
    lowest = bisect_left(candidates, True, key=lambda f: _inversions_for(f, places, anomalous, normal) <= budget)
    return float(best.min()) / anomalous, candidates[lowest]


def _inversions_for(f1: float, places: np.ndarray, anomalous: int, normal: int) -> float:
    needed = np.maximum(0, np.ceil(2 * places / f1 - places - anomalous - 1e-9))
    return math.inf if needed.max() > normal else float(needed.sum())


def highest_ap_and_f1max(auroc: float, anomalous: int, normal: int) -> tuple[float, float]:
    """Highest AP and highest F1max (shares) of any ranking of so many images with at most this AU-ROC (a share).

    Both are highest where the last anomalous images stand below all normal ones; a_j as in `lowest_ap_and_f1max`.
    """
    wrong = math.ceil((1 - auroc) * anomalous * normal - 1e-9)
    last, rest = divmod(wrong, normal)
    above = np.zeros(anomalous)
    above[anomalous - last :] = normal
    if last < anomalous:
        above[anomalous - last - 1] = rest
    places = np.arange(1, anomalous + 1)
    found, false = places[:, None], np.arange(normal + 1)
    enough = false * found + normal * (anomalous - found) >= wrong
    f1 = (2 * found / (found + false + anomalous))[enough]
    return float((places / (places + above)).mean()), float(f1.max())


def mvtec_image_level(frame: pd.DataFrame) -> pd.DataFrame:
    """Item 12: categories of MVTec-AD where no ranking of the test images can have the printed AU-ROC and the printed
    AP or F1max, all of them rounded in its favour.

    Args:
        frame: per-category values.
    """
    test_images = {name: counts[1:] for name, counts in dataset_named("mvtec_ad").categories.items() if counts}
    wide = frame[(frame["dataset"] == "mvtec") & (frame["category"] != "mean")]
    wide = wide.pivot(index=["method", "category"], columns="metric", values="value")
    lines = []
    for (method, category), printed in wide.iterrows():
        normal, anomalous = test_images[category]
        auroc = printed["image_auroc"] / 100
        low = lowest_ap_and_f1max(max(auroc - 0.0005, 0), anomalous, normal)
        high = highest_ap_and_f1max(min(auroc + 0.0005, 1), anomalous, normal)
        line = {"method": method, "category": category, "image_auroc": printed["image_auroc"]}
        impossible = []
        for name, below, above in zip(("image_ap", "image_f1max"), low, high, strict=True):
            line |= {name: printed[name], f"{name}_possible": f"{100 * below:.2f} to {100 * above:.2f}"}
            if not 100 * below - 0.05 - 1e-9 <= printed[name] <= 100 * above + 0.05 + 1e-9:
                impossible.append({"image_ap": "AP", "image_f1max": "F1max"}[name])
        if impossible:
            lines.append({**line, "impossible": " and ".join(impossible)})
    return pd.DataFrame(lines)


def best_methods(root: Path | None = None) -> pd.DataFrame:
    """Item 16: data sets and metrics where MambaAD does not have the best printed value alone."""
    frame = load("main_results", root).query("metric != 'mad'")
    wide = frame.pivot(index=["dataset", "metric"], columns="method", values="value")
    others = wide.drop(columns="MambaAD")
    found = pd.DataFrame({"MambaAD": wide["MambaAD"], "best_other": others.max(axis=1), "whose": others.idxmax(axis=1)})
    found = found[found["best_other"] >= found["MambaAD"]].reset_index()
    return found.assign(tie=found["best_other"] == found["MambaAD"])
