"""The benchmark record: what is written, and that a wrong kernel is not timed."""

import csv
import json
from itertools import product

import pytest
import torch

from mambaad import benchmark
from mambaad.ops.selective_scan import BACKENDS

SMALL = (1, 2, 4, 20, 4)


def test_scan_writes_a_table_and_its_environment(tmp_path):
    threads = torch.get_num_threads()
    rows = benchmark.scan(repeats=3, threads=1, out=tmp_path / "new" / "scan.csv", shape=SMALL)
    assert torch.get_num_threads() == threads
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"scan.csv", "scan.json"}

    with (tmp_path / "new" / "scan.csv").open() as file:
        table = list(csv.DictReader(file))
    assert {(r["layout"], r["backend"], r["pass"]) for r in table} == set(
        product(("BKDL", "BKLD"), ("reference", "chunked"), ("forward", "forward+backward"))
    )
    for written, row in zip(table, rows, strict=True):
        assert [int(written[axis]) for axis in "BKDLN"] == list(SMALL)
        assert 0 < float(written["min_ms"]) <= float(written["median_ms"]) <= float(written["max_ms"])
        assert float(written["speedup"]) == pytest.approx(row["speedup"], abs=1e-3)
        assert row["backend"] != "reference" or row["speedup"] == 1

    facts = json.loads((tmp_path / "new" / "scan.json").read_text())
    assert facts["environment"]["threads"] == 1
    assert facts["repeats"] == 3


def test_a_kernel_that_disagrees_is_not_timed(tmp_path, monkeypatch):
    monkeypatch.setitem(BACKENDS, "chunked", lambda u, *rest: 1.01 * BACKENDS["reference"](u, *rest))
    with pytest.raises(ArithmeticError, match=r"chunked is off by 0\.01"):
        benchmark.scan(repeats=1, threads=1, out=tmp_path / "scan.csv", shape=SMALL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--repeats", "--threads"])
def test_counts_below_one_are_refused(option, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        benchmark.main(["scan", option, "0", "--out", str(tmp_path / "scan.csv")])
    assert stop.value.code == 2
    assert "must be at least 1" in capsys.readouterr().err
