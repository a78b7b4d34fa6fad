"""The page of single categories: printed values as printed, the hard ones found, ours as means over seeds."""

import re
from pathlib import Path

import numpy as np
from fake_records import write_fake

from mambaad.engine.records import read_record, record_path
from mambaad.study import per_category_page
from mambaad.study.evidence import protocol
from mambaad.study.published_numbers import SEVEN, load


def rows(page: str) -> list[list[str]]:
    """The cells of each line of the body, as text."""
    body = page.partition("<tbody>")[2]
    lines = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, re.DOTALL) for line in body.split("<tr")[1:]]
    return [[re.sub(r"<[^>]*>", "", cell).strip() for cell in line] for line in lines]


def test_every_printed_line_is_there_with_the_mean_of_its_seven() -> None:
    for name in ("per_category", "single_class"):
        printed = load(name)
        shown = rows(str(per_category_page.published(name, "As printed.").data))
        keys = printed[["dataset", "category", "method"]].drop_duplicates()
        assert len(shown) == len(keys)
        first = printed[(printed[["dataset", "category", "method"]] == keys.iloc[0]).all(axis=1)]
        values = first.set_index("metric")["value"]
        assert keys.iloc[0]["method"] in shown[0]
        for metric in SEVEN:
            assert f"{values[metric]:.1f}" in shown[0]
        assert f"{np.mean([values[metric] for metric in SEVEN]):.1f}" in shown[0]


def test_a_category_is_hard_where_the_best_printed_method_is_below_the_limit() -> None:
    printed = load("per_category").query("metric == 'pixel_ap' and category != 'mean'")
    best = printed.groupby(["dataset", "category"])["value"].max()
    shown = rows(str(per_category_page.hardest(20).data))
    values = [float(line[1]) for line in shown]
    assert values == sorted(round(value, 1) for value in best[best < 20])
    for _, value, _, ours in shown:
        assert float(ours) <= float(value) < 20


def test_ours_are_means_over_the_seeds_that_are_recorded(tmp_path: Path) -> None:
    assert per_category_page.methods_by_category(tmp_path) is None
    row = protocol.rows(protocol.METHODS)[0]
    for seed, start in zip(row.seeds[:2], (40.0, 50.0), strict=True):
        write_fake(tmp_path, protocol.NAME, row.run(seed), start=start, names=("bottle", "metal_plate"))
    table = per_category_page.methods_by_category(tmp_path, metrics=("pixel_ap",))
    assert table is not None
    page = str(table.data)
    assert "mean over 2 seeds" in page
    assert "metal plate" in page
    (line,) = rows(page)
    records = [read_record(record_path(tmp_path, protocol.NAME, row.run(seed).hash)) for seed in row.seeds[:2]]
    for category, cell in zip(("bottle", "metal_plate"), line[1:], strict=True):
        values = [record["metrics"]["exact"]["categories"][category]["pixel_ap"] for record in records]
        assert cell == f"{np.mean(values):.1f}"
