"""`mambaad reproduce`: which runs it names, before any is made."""

import layouts
import pytest

from mambaad import cli
from mambaad.study import plan
from mambaad.study.tables_spec import TABLE_5, TABLE_6


def lines(capsys, *words):
    assert cli.main(["reproduce", *map(str, words)]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("dataset", ["visa", "mvtec_ad"])
def test_a_subset_is_of_the_data_set_named(tmp_path, capsys, dataset):
    root = layouts.WRITERS[dataset](tmp_path / "data")
    subset = ["--profile", "subset", "--data-dir", root, "--tables", TABLE_6.name]
    subset += ["--dataset", dataset] if dataset != "mvtec_ad" else []  # the default
    (run, count) = lines(capsys, *subset, "--dry-run", "--results", tmp_path / "results")
    assert f"table 6: {dataset} at 256 px" in run
    assert count == "1 runs"
    assert lines(capsys, *subset, "--list") == [run.split()[0]]


def test_the_list_is_that_of_the_plan(capsys):
    assert lines(capsys, "--list", "--tables", TABLE_5.name) == list(plan.runs("quick", [TABLE_5]))
