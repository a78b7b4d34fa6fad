"""A table's page keeps printed, measured and synthetic numbers apart."""

import json
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
    assert "computed here" not in page, "the frame has no counts"
    assert "synthetic" not in page
    folded = table_page.reduced(table, "quick", frame).data
    assert "reported" not in folded
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


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_reduced_rows_have_names_of_their_own(table: Table, quick: Path) -> None:
    page = table_page.reduced(table, "quick", tables.build_table(table, "quick", quick, counts=False)).data
    names = re.findall(r'<th scope="row">([^<]+)</th>', page)
    assert len(names) == len(set(names))
    assert names or not page


def test_measured_rows_link_their_records(results: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    page = table_page.measured_rows(TABLE_5.name, results).data
    links = re.findall(r'href="\.\./results/real_v1/runs/(real_v1_\w+\.json)"', page)
    assert len(links) == len(set(links)) == 16
    assert all((results / "runs" / name).is_file() for name in links)


@pytest.mark.parametrize("groups", [(), (TABLE_5.name, protocol.METHODS)])
def test_differences_are_row_minus_reference(results: Path, groups: tuple[str, ...]) -> None:  # noqa: F811
    page = table_page.overview(TABLE_5, tables.build_table(TABLE_5, "quick", results, counts=False), results, groups)
    rows = re.findall(r"<tr\b.*?</tr>", page.data, re.DOTALL)
    for name, difference in (("sweep 8", "−3.0 ("), ("zorder 8", "+3.0 (")):
        (row,) = (row for row in rows if f">{name}<" in row)
        assert difference in row


def test_the_page_of_a_table_shows_its_findings_and_claims(
    results: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(table_page, "display", lambda *parts: shown.extend(getattr(part, "data", "") for part in parts))
    table_page.measured(TABLE_5, results)
    page = "".join(shown)
    assert "<p>On these images, of 11 claims, 1 is supported, 1 is contradicted" in page
    assert "hilbert 8 is better than zorder 8" in page
    assert "The claims, and what these runs say" in page
    shown.clear()
    for path in (results / "runs").iterdir():
        record = json.loads(path.read_text())
        if record["hash"] not in {row.run(0).hash for row in protocol.rows(TABLE_5.name)}:
            path.unlink()
    table_page.measured(TABLE_5, results)
    assert "<p>These runs test no claim yet: a verdict needs 3 seeds of both rows.</p>" in "".join(shown)
    shown.clear()
    table_page.measured(TABLE_3, results / "none")
    (alone,) = shown
    assert "No run of this table is recorded yet" in alone


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
