"""Table 1 without training: the published checkpoints on the data sets they were trained for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mambaad.data import load_dataset
from mambaad.engine.evaluate import evaluate_samples
from mambaad.engine.execution import Execution
from mambaad.inference.weights_hub import PUBLISHED, REPOSITORY, fetch
from mambaad.model import load_checkpoint
from mambaad.study.profiles import PAPER_DATASETS
from mambaad.study.published_numbers import SEVEN, load
from mambaad.study.tables import write_csv

LOADERS = tuple(loader for loaders in PAPER_DATASETS.values() for loader in loaders)
NOTE = "published weights, evaluated here"


def evaluate_published(
    weights: str | Path, loader: str, data_root: str | Path, execution: Execution | None = None
) -> dict[str, dict[str, Any]]:
    """Metrics of a published checkpoint, as `evaluate_samples` gives them, at the paper's 256 pixels.

    Args:
        weights: the checkpoint, in either key dialect, or its name in `mambaad.inference.weights_hub.PUBLISHED`.
        loader: the data set, one of `LOADERS`.
        data_root: its images.
        execution: as for `evaluate_samples`.

    Raises:
        ValueError: unknown loader.
        FileNotFoundError: no such checkpoint; the message says where the published ones are.
        WeightsError: a name whose file can neither be found nor fetched.
        CheckpointError, DatasetError: the file or the images are not what they should be.
    """
    if loader not in LOADERS:
        raise ValueError(f"no data set {loader!r}; there are {', '.join(LOADERS)}")
    named = os.fspath(weights) in PUBLISHED and not Path(weights).is_file()
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
    return evaluate_samples(model, load_dataset(loader, data_root), 256, execution)


def published_weights_table(
    loader: str, metrics: Mapping[str, Any], results: Path, published_root: Path | None = None
) -> pd.DataFrame:
    """`beside_paper`, written to `<results>/tables/table_1_published_weights_<loader>.csv`."""
    frame = beside_paper(loader, metrics, published_root)
    write_csv(frame, results / "tables" / f"table_1_published_weights_{loader}.csv")
    return frame


def beside_paper(loader: str, metrics: Mapping[str, Any], published_root: Path | None = None) -> pd.DataFrame:
    """Printed and measured values per category and their mean, in the columns of table 1.

    Args:
        loader: the data set, one of `LOADERS`.
        metrics: what `evaluate_published` returned.
        published_root: folder of the printed values; default: `results/paper` of the repository.

    Raises:
        FileNotFoundError: no folder of printed values.
    """
    dataset = next(name for name, loaders in PAPER_DATASETS.items() if loader in loaders)
    split = loader.removeprefix("coco") if dataset == "coco" else ""
    printed = load("per_category", published_root).query("dataset == @dataset and method == 'MambaAD'")
    paper = printed.set_index(["category", "metric"])["value"].to_dict()
    groups = {split or "mean": {p: metrics[p]["mean"] for p in ("paper", "exact")}}
    if not split:
        for name in metrics["paper"]["categories"]:
            groups[name] = {p: metrics[p]["categories"][name] for p in ("paper", "exact")}
    lines = []
    for category, values in groups.items():
        for metric in ("mad", *SEVEN):
            line = {"dataset": dataset, "category": category, "method": "MambaAD", "metric": metric}
            line["paper"] = paper.get((category, metric))
            line |= {"ours": values["paper"][metric], "ours_exact": values["exact"][metric]}
            lines.append(line)
    frame = pd.DataFrame(lines).astype({"paper": float})
    frame["difference"] = frame["ours"] - frame["paper"]
    return frame.assign(paper_data=dataset, our_data=dataset, profile="published weights", run_hash="", note=NOTE)
