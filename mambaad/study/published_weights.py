"""Table 1 without training: the published checkpoints on the data sets they were trained for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mambaad.data.datasets.catalog import DATASETS, PAPER_DATASETS, load_dataset
from mambaad.engine.evaluate import evaluate_samples
from mambaad.engine.execution import Execution
from mambaad.inference.weights_hub import PUBLISHED, REPOSITORY, fetch, trained_on
from mambaad.model import load_checkpoint
from mambaad.study.published_numbers import SEVEN, load
from mambaad.study.tables import write_csv
from mambaad.study.tables_spec import TABLE_1

PAPER_NAMES = tuple(spec.name for specs in PAPER_DATASETS.values() for spec in specs)
"""The paper's data sets, each split of COCO-AD by itself."""
NOTE = "published weights, evaluated here"


def evaluate_published(
    weights: str | Path, name: str, data_root: str | Path, execution: Execution | None = None
) -> dict[str, dict[str, Any]]:
    """Metrics of a published checkpoint, as `evaluate_samples` gives them, at the paper's 256 pixels.

    Args:
        weights: the checkpoint, in either key dialect, or its name in `mambaad.inference.weights_hub.PUBLISHED`.
        name: the data set, one of `PAPER_NAMES`.
        data_root: its images.
        execution: as for `evaluate_samples`.

    Raises:
        ValueError: unknown data set.
        FileNotFoundError: no such checkpoint; the message says where the published ones are.
        WeightsError: a name whose file can neither be found nor fetched.
        CheckpointError, DatasetError: the file or the images are not what they should be.
    """
    if name not in PAPER_NAMES:
        raise ValueError(f"no data set {name!r}; there are {', '.join(PAPER_NAMES)}")
    named = trained_on(os.fspath(weights)) is not None and not Path(weights).is_file()
    if not named and (not os.fspath(weights) or not Path(weights).is_file()):
        raise FileNotFoundError(
            f"there is no checkpoint {os.fspath(weights)!r}: give a name ({', '.join(PUBLISHED)}), or download one, "
            f"such as mvtec/mambaad_mvtec.pth, from the Hugging Face repository {REPOSITORY} and give its path as "
            "weights"
        )
    if not os.fspath(data_root) or not Path(data_root).is_dir():
        raise FileNotFoundError(
            f"there is no folder {os.fspath(data_root)!r}: give the folder of the data set's images as data_root"
        )
    model = load_checkpoint(fetch(os.fspath(weights)) if named else weights)
    return evaluate_samples(model, load_dataset(name, data_root), 256, execution)


def published_weights_table(
    name: str, metrics: Mapping[str, Any], results: Path, published_root: Path | None = None
) -> pd.DataFrame:
    """`beside_paper`, written to `<results>/tables/table_1_published_weights_<name>.csv`."""
    frame = beside_paper(name, metrics, published_root)
    write_csv(frame, results / "tables" / f"table_{TABLE_1.number}_published_weights_{name}.csv")
    return frame


def beside_paper(name: str, metrics: Mapping[str, Any], published_root: Path | None = None) -> pd.DataFrame:
    """Printed and measured values per category and their mean, in the columns of table 1.

    Args:
        name: the data set, one of `PAPER_NAMES`.
        metrics: what `evaluate_published` returned.
        published_root: folder of the printed values; default: `results/paper` of the repository.

    Raises:
        FileNotFoundError: no folder of printed values.
    """
    spec = DATASETS[name]
    printed = load("per_category", published_root)
    printed = printed[(printed["dataset"] == spec.paper_name) & (printed["method"] == "MambaAD")]
    paper = printed.set_index(["category", "metric"])["value"].to_dict()
    groups = {spec.paper_category: {p: metrics[p]["mean"] for p in ("paper", "exact")}}
    if len(PAPER_DATASETS[spec.paper_name]) == 1:
        for category in metrics["paper"]["categories"]:
            groups[category] = {p: metrics[p]["categories"][category] for p in ("paper", "exact")}
    lines = []
    for category, values in groups.items():
        for metric in ("mad", *SEVEN):
            line = {"dataset": spec.paper_name, "category": category, "method": "MambaAD", "metric": metric}
            line["paper"] = paper.get((category, metric))
            line |= {"ours": values["paper"][metric], "ours_exact": values["exact"][metric]}
            lines.append(line)
    frame = pd.DataFrame(lines).astype({"paper": float})
    frame["difference"] = frame["ours"] - frame["paper"]
    return frame.assign(
        paper_data=spec.paper_name, our_data=spec.paper_name, profile="published weights", run_hash="", note=NOTE
    )
