"""The published numbers, as tables.  Source: the CSV files of `results/paper` (see the README there).

Nothing is corrected on reading: a doubtful cell holds what is printed. Accuracies are percentages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mambaad.data.datasets.catalog import PAPER_DATASETS
from mambaad.metrics import METRICS
from mambaad.study.tables_spec import TABLES, Table

SEVEN = METRICS
"""The seven metrics; `mad` is their mean."""
METRIC_NAMES = {
    "mad": "mAD",
    "params_m": "parameters",
    "flops_g": "FLOPs",
    "image_auroc": "image AU-ROC",
    "image_ap": "image AP",
    "image_f1max": "image F1max",
    "pixel_auroc": "pixel AU-ROC",
    "pixel_ap": "pixel AP",
    "pixel_f1max": "pixel F1max",
    "pixel_aupro": "AU-PRO",
}
UNITS = {
    **dict.fromkeys(("mad", *SEVEN), "%"),
    "params_m": "million",
    "flops_g": "10⁹ multiply-accumulates at 256×256",
}
DATASET_NAMES = {name: specs[0].paper_title for name, specs in PAPER_DATASETS.items()}
FILES = (
    *(table.published for table in TABLES.values()),
    *("main_results_std", "per_category", "per_category_changes", "single_class"),
)
COUNTS = ("params_m", "flops_g")
MAD_COMPUTED = "mean of the seven printed values, as the table prints no mAD"


def repository_root(start: Path | None = None) -> Path:
    """The folder above `start` (default: the working folder), or above this file, that holds `results/paper`.

    Raises:
        FileNotFoundError: there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents, *Path(__file__).resolve().parents):
        if (folder / "results" / "paper" / "main_results.csv").is_file():
            return folder
    raise FileNotFoundError(
        f"found no results/paper/main_results.csv in {here} or above it: "
        "run inside a clone of the repository, or pass the folder of the published numbers as root"
    )


def load(name: str, root: str | Path | None = None) -> pd.DataFrame:
    """One file of published numbers; every column but the numbers is text.

    Args:
        name: file name without suffix, one of `FILES`.
        root: folder of the CSV files; default: `results/paper` of the repository.

    Raises:
        ValueError: no such file name.
        FileNotFoundError: the folder does not hold it.
    """
    if name not in FILES:
        raise ValueError(f"no published table {name!r}; there are {', '.join(FILES)}")
    path = Path(root) / f"{name}.csv" if root is not None else repository_root() / "results" / "paper" / f"{name}.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: pass the folder that holds the published numbers as root")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column in frame.columns.intersection(["value", "std", "value_appendix_images", "value_neurips", *COUNTS]):
        frame[column] = frame[column].astype(float)
    frame.attrs["units"] = UNITS
    return frame


def table_values(table: Table, root: str | Path | None = None) -> pd.DataFrame:
    """A table of the paper in long form: the row's label columns, metric, value, note.

    Where rows are data sets, what the table prints of one is its category "mean".
    Printed parameter and FLOP counts are metrics of their own. Where the table prints the seven metrics but no mAD,
    their mean is added and the note says so.
    """
    labels = list(table.label_columns)
    frame = load(table.published, root)
    if table.rows_are_datasets:
        frame = frame.assign(category="mean")
    values = frame[[*labels, "metric", "value"]].assign(note="")
    parts = [values]
    counts = [c for c in COUNTS if c in frame]
    if counts:
        rows = frame.drop_duplicates([*labels])
        melted = rows[[*labels, *counts]].melt(id_vars=labels, value_vars=counts, var_name="metric", value_name="value")
        parts.append(melted.assign(note=""))
    printed = values.groupby(labels, sort=False).filter(lambda rows: set(SEVEN) <= set(rows["metric"]))
    if len(printed):
        without = printed.groupby(labels, sort=False).filter(lambda rows: "mad" not in set(rows["metric"]))
        if len(without):
            parts.append(mean_of_seven(without, labels).assign(note=MAD_COMPUTED))
    return pd.concat(parts, ignore_index=True)


def mean_of_seven(frame: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """The mean of the seven metrics for each row of a long table: label columns, metric "mad", value (unrounded)."""
    seven = frame[frame["metric"].isin(SEVEN)]
    means = seven.groupby(list(labels), sort=False)["value"].mean().reset_index()
    return means.assign(metric="mad")[[*labels, "metric", "value"]]
