"""The paper's tables beside our numbers, built from published values and run records.

One line per table row and metric:

- the row's label columns, named as in `results/paper`
- metric, paper: the printed value and the data set it is about (`paper_data`)
- ours: our value under the published code's metric protocol; ours_exact: under the exact one; `our_data`: the data it
  was measured on
- difference = ours - paper, only where both are about the same data, and for parameter and FLOP counts
- profile, run_hash, note
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from mambaad.config import RunConfig, model_config, to_dict
from mambaad.data.datasets.catalog import DATASETS
from mambaad.engine.records import find_record
from mambaad.files import write_text
from mambaad.study import plan, published_numbers
from mambaad.study.profiles import NOTES, SubsetOptions, load_subset
from mambaad.study.tables_spec import Table

COUNT_SIDE = 256
NOT_YET = "not run yet"
AS_PUBLISHED = "as published"
COUNT_EQUAL = "computed, equal to the printed digits"
VALUE_COLUMNS = ("paper", "ours", "ours_exact", "difference", "paper_data", "our_data", "profile", "run_hash", "note")


def build_table(
    table: Table,
    profile: str,
    results: Path,
    *,
    published_root: Path | None = None,
    subset: SubsetOptions | None = None,
    counts: bool = True,
) -> pd.DataFrame:
    """Build a table from the records in `results` and write it to `<results>/tables/<name>.csv`.

    Args:
        table: one of `tables_spec.TABLES`.
        profile: one of `profiles.PROFILES`.
        results: folder with `runs/`; rows without a record are kept and their note says so.
        published_root: folder of the published numbers; default: the repository's.
        subset: the subset profile's options; default: those saved in `results`.
        counts: count parameters and FLOPs of the MambaAD rows, where the paper prints them.

    Raises:
        ValueError: unknown profile.
        FileNotFoundError: the published numbers, or the options of the subset profile, are not there.
    """
    if profile == "subset" and subset is None:
        subset = load_subset(results)
    rows = plan.rows(table, profile, subset)
    labels = list(table.label_columns)
    paper = _paper_lines(table, published_root)
    ours = [line for row in rows for line in _run_lines(table, row, results, profile)]
    if table.rows_are_datasets:
        ours += _split_means(ours, rows)
    if counts and table.counted:
        ours += [line for row in rows for line in _count_lines(row, profile)]
    frame = _join(paper, pd.DataFrame(ours), labels, rows)
    frame["profile"] = profile
    frame["note"] = frame.apply(lambda line: _note(table, line, labels, profile), axis=1)
    same_data = (frame["our_data"] == frame["paper_data"]) | (frame["our_data"] == "computed")
    frame["difference"] = (frame["ours"] - frame["paper"]).where(same_data)
    frame = frame[[*labels, "metric", *VALUE_COLUMNS]]
    write_csv(frame, results / "tables" / f"{table.name}.csv")
    return frame


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Numbers with at most four decimals, written atomically."""
    write_text(path, frame.round(4).to_csv(index=False, lineterminator="\n"))


def missing_runs(
    table: Table, profile: str, results: Path, subset: SubsetOptions | None = None
) -> dict[str, RunConfig]:
    """The runs of a table that have no record in `results` yet, by hash."""
    wanted = plan.runs(profile, [table], subset)
    return {name: run for name, run in wanted.items() if find_record(results, name) is None}


def _paper_lines(table: Table, root: Path | None) -> pd.DataFrame:
    """Printed values: label columns, metric, paper, paper_data, paper_note."""
    frame = published_numbers.table_values(table, root)
    if table.rows_are_datasets:
        # beside the means of every method, MambaAD's categories; the means are the table's own, not the appendix's
        categories = published_numbers.load("per_category", root)
        categories = categories[(categories["method"] == "MambaAD") & (categories["category"] != "mean")]
        frame = pd.concat([frame, categories.assign(note="")], ignore_index=True)
    frame = frame.rename(columns={"value": "paper", "note": "paper_note"})
    frame["paper_data"] = table.dataset or frame["dataset"]
    return frame


def _run_lines(table: Table, row: plan.Row, results: Path, profile: str) -> list[dict[str, Any]]:
    """Measured values of a row, one line per metric (and category, where rows are data sets)."""
    if row.run is None:
        return []
    record = find_record(results, row.run.hash)
    if record is None:
        return []
    our_data = _data_name(row, profile)
    groups: list[tuple[dict[str, str], str, str | None]] = [({}, "mean", None)]
    if table.rows_are_datasets:
        names = record["metrics"]["paper"]["categories"]
        groups += [
            ({"category": name}, "categories", name) for name in names if row.labels["category"].startswith("mean")
        ]
    lines = []
    for other_labels, part, name in groups:
        values = {p: record["metrics"][p][part] for p in ("paper", "exact")}
        if name is not None:
            values = {p: v[name] for p, v in values.items()}
        for metric in ("mad", *published_numbers.SEVEN):
            lines.append(
                {
                    **row.labels,
                    **other_labels,
                    "metric": metric,
                    "ours": _number(values["paper"].get(metric)),
                    "ours_exact": _number(values["exact"].get(metric)),
                    "our_data": our_data,
                    "run_hash": row.run.hash,
                }
            )
    return lines


def _data_name(row: plan.Row, profile: str) -> str:
    """The data behind a row's run: the paper's own name for it if it is the paper's, else what it is."""
    assert row.run is not None
    data = row.run.data
    if profile == "paper":
        return DATASETS[data.dataset].paper_name
    return data.dataset if data.dataset == "synthetic" else f"part of {data.dataset}"


def _split_means(lines: Iterable[Mapping[str, Any]], rows: Iterable[plan.Row]) -> list[dict[str, Any]]:
    """COCO-AD's mean over its splits, once all of them are there."""
    splits = [row for row in rows if row.labels["dataset"] == "coco" and row.run is not None]
    names = {row.labels["category"] for row in splits}
    found = pd.DataFrame([line for line in lines if line["dataset"] == "coco" and line["category"] in names])
    if found.empty or set(found["category"]) != names:
        return []
    means = found.groupby("metric", sort=False)[["ours", "ours_exact"]].mean().reset_index()
    shared = {"dataset": "coco", "category": "mean", "method": "MambaAD", "our_data": "coco", "run_hash": "all splits"}
    return [{**line, **shared} for line in means.to_dict("records")]


def _count_lines(row: plan.Row, profile: str) -> list[dict[str, Any]]:
    params_m, flops_g = _count(json.dumps(to_dict(row.model), sort_keys=True))
    values = {"params_m": params_m, "flops_g": flops_g}
    return [{**row.labels, "metric": m, "ours": v, "our_data": "computed", "run_hash": ""} for m, v in values.items()]


@lru_cache
def _count(model: str) -> tuple[float, float]:
    from mambaad import efficiency

    found = efficiency.count(model_config(**json.loads(model)), side=COUNT_SIDE)
    return found.params_m, found.flops_g


def _join(paper: pd.DataFrame, ours: pd.DataFrame, labels: list[str], rows: Iterable[plan.Row]) -> pd.DataFrame:
    """Paper and ours side by side, in the paper's order of rows and our order of metrics, and each row's state."""
    states = pd.DataFrame(
        [{**row.labels, "state": f"not run here: {row.not_run}" if row.run is None else NOT_YET} for row in rows]
    )
    if "category" in labels:  # the mean over COCO-AD's splits has no run of its own
        splits = states[states["dataset"] == "coco"].assign(category="mean")
        states = pd.concat([states, splits]).drop_duplicates(labels)
    columns = [*labels, "metric", "ours", "ours_exact", "our_data", "run_hash"]
    ours = ours.reindex(columns=columns).astype({"ours": float, "ours_exact": float})
    ours[["our_data", "run_hash"]] = ours[["our_data", "run_hash"]].astype(object)
    frame = paper.merge(ours, how="outer", on=[*labels, "metric"], sort=False)
    # a row that a profile adds and that has no record yet still gets its line
    absent = states.merge(frame.loc[frame["metric"] == "mad", labels], how="left", on=labels, indicator=True)
    absent = absent[absent["_merge"] == "left_only"][labels].assign(metric="mad")
    frame = pd.concat([frame, absent], ignore_index=True).merge(states, how="left", on=labels)
    order: dict[tuple[str, ...], int] = {}
    for key in [*paper[labels].itertuples(index=False, name=None), *states[labels].itertuples(index=False, name=None)]:
        order.setdefault(key, len(order))
    metrics = {name: i for i, name in enumerate(published_numbers.METRIC_NAMES)}
    keys = frame[labels].itertuples(index=False, name=None)
    frame = frame.assign(_row=[order.get(key, len(order)) for key in keys], _metric=frame["metric"].map(metrics))
    frame = frame.sort_values(["_row", "_metric"], kind="stable", ignore_index=True)
    text = ["paper_data", "our_data", "run_hash", "paper_note", "state"]
    frame[text] = frame[text].fillna("")
    return frame


def _note(table: Table, line: pd.Series, labels: list[str], profile: str) -> str:
    """Everything a reader has to know about one line."""
    notes = [line["paper_note"], table.doubts.get((*line[labels], line["metric"]), "")]
    if line["our_data"] == "computed":
        notes.append(_count_note(line["paper"], line["ours"]))
    elif line["our_data"]:
        notes.append("" if profile == "paper" else NOTES[profile])
    elif line["metric"] in published_numbers.COUNTS or not line["state"]:
        # other methods, and categories of data sets that were not run
        notes.append(AS_PUBLISHED)
    else:
        notes.append(line["state"])
    return "; ".join(filter(None, notes))


def _count_note(printed: float, computed: float) -> str:
    if math.isnan(printed):
        return f"computed at {COUNT_SIDE}x{COUNT_SIDE}"
    if f"{computed:.1f}" == f"{printed:.1f}":
        return COUNT_EQUAL
    reason = ", the same after rounding to a whole number" if round(computed) == printed else ""
    return f"printed {printed:.1f}, computed {computed:.1f}{reason}"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
