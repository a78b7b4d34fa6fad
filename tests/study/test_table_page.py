"""A table's page keeps printed, measured and synthetic numbers apart."""

import re
import shutil
from pathlib import Path

import pytest
from test_evidence_report import results, write  # noqa: F401  the fixture

from mambaad.study import table_page, tables
from mambaad.study.evidence import protocol
from mambaad.study.published_numbers import repository_root
from mambaad.study.tables_spec import TABLE_3, TABLE_4, TABLE_5, TABLE_6, TABLES, Table


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed records in a folder of their own, since building a table writes it."""
    folder = tmp_path_factory.mktemp("results")
    shutil.copytree(repository_root() / "results" / "runs", folder / "runs")
    return folder


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_no_accuracy_of_ours_stands_beside_a_printed_one(table: Table, quick: Path) -> None:
    frame = tables.build_table(table, "quick", quick, counts=False)
    assert table is TABLE_6 or frame["ours"].notna().any()
    page = table_page.printed(table, "quick", frame).data
    assert ">ours<" not in page
    assert "synthetic" not in page
    folded = table_page.reduced(table, "quick", frame).data
    assert ">paper<" not in folded
    assert folded.startswith("<details") or not folded
    assert "MVTec" not in folded


def test_counts_of_ours_do_stand_beside_the_printed_ones(quick: Path) -> None:
    frame = tables.build_table(TABLE_3, "quick", quick)
    page = table_page.printed(TABLE_3, "quick", frame).data
    assert 'colspan="2" class="ours">computed here<' in page  # parameters, FLOPs


def test_reduced_values_are_whole_and_only_of_the_quick_profile(quick: Path) -> None:
    frame = tables.build_table(TABLE_5, "quick", quick, counts=False)
    page = table_page.reduced(TABLE_5, "quick", frame).data
    assert re.findall(r">(\d+)</td>", page)
    assert not re.findall(r">\d+\.\d+</td>", page)
    assert table_page.reduced(TABLE_5, "paper", frame).data == ""


def test_measured_rows_link_their_records(results: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    page = table_page.measured_rows(TABLE_5.name, results).data
    links = re.findall(r'href="\.\./results/real_v1/runs/(real_v1_\w+\.json)"', page)
    assert len(links) == len(set(links)) == 16
    assert all((results / "runs" / name).is_file() for name in links)


def test_a_difference_names_its_seeds_where_they_are_not_the_row_s(results: Path) -> None:  # noqa: F811
    frame = tables.build_table(TABLE_5, "quick", results, counts=False)
    rows = {row.name: row for row in protocol.rows(TABLE_5.name)}
    assert "seeds)" not in table_page.overview(TABLE_5, frame, results).data
    write(results, rows["scan 8"], 4, 80.0)
    assert len(re.findall(r"4 seeds\)", table_page.overview(TABLE_5, frame, results).data)) == 1


def test_every_encoder_of_table_4_has_its_reference(tmp_path: Path, quick: Path) -> None:
    for row in protocol.rows(TABLE_4.name):
        for seed in range(3):
            write(tmp_path, row, seed, 70.0 + seed)
    page = table_page.overview(TABLE_4, tables.build_table(TABLE_4, "quick", quick, counts=False), tmp_path).data
    assert page.count(">reference<") == 2


def test_without_a_record_the_page_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table_page.measured(TABLE_5, tmp_path)
    assert "HTML" in capsys.readouterr().out
