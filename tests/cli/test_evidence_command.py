"""`mambaad evidence`: what it lists, counts, refuses, and how each run is made."""

from pathlib import Path
from typing import Any

import pytest
from fake_records import write_fake

from mambaad import cli
from mambaad.data.synthetic.generate import write_synthetic
from mambaad.study.evidence import curves, protocol, sensitivity


def output(capsys: pytest.CaptureFixture[str], tmp_path: Path, *words: object, code: int = 0) -> list[str]:
    folders = ["--results", str(tmp_path / "results"), "--outputs", str(tmp_path / "outputs")]
    assert cli.main(["evidence", *folders, *map(str, words)]) == code
    captured = capsys.readouterr()
    return (captured.err if code else captured.out).splitlines()


def test_the_list_names_every_run_of_the_protocol_and_its_amendment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.split("\t") for line in output(capsys, tmp_path, "--list")]
    wanted = [(run.hash, row.group, row.name, str(seed)) for row, seed, run in [*protocol.queue(), *curves.queue()]]
    assert [tuple(line) for line in lines] == wanted
    chosen = wanted[3][0]
    assert output(capsys, tmp_path, "--list", "--run", chosen) == ["\t".join(wanted[3])]
    (refused,) = output(capsys, tmp_path, "--list", "--run", "0123", code=2)
    assert "has no run '0123'" in refused
    for what in ("--tables", "--status", "--sensitivity"):
        (refused,) = output(capsys, tmp_path, what, "--run", chosen, code=2)
        assert "leave it out of --tables, --status and --sensitivity" in refused


def test_the_status_counts_the_records_of_each_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = protocol.rows(protocol.METHODS)[0]
    for seed in row.seeds[:2]:
        write_fake(tmp_path / "results", protocol.NAME, row.run(seed))
    lines = output(capsys, tmp_path, "--status")
    assert len(lines) == sum(len(protocol.rows(group)) for group in protocol.GROUPS) + len(curves.CURVES)
    assert f"2 of {len(row.seeds)}  {row.group}: {row.name}" in lines
    assert any(line.startswith("0 of ") for line in lines)


def test_tables_are_written_for_groups_with_records_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, tmp_path, "--tables") == []
    row = next(row for row in protocol.rows(protocol.METHODS) if row.name == "memory bank")
    write_fake(tmp_path / "results", protocol.NAME, row.run(row.seeds[0]))
    path = tmp_path / "results" / "tables" / f"{protocol.METHODS}.csv"
    assert output(capsys, tmp_path, "--tables") == [str(path)]
    assert "memory bank" in path.read_text()


def test_runs_are_made_with_what_was_named_and_judged_beside_the_committed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[dict[str, Any]] = []

    def carry_out(run: Any, data: Path, results: Path, **options: Any) -> Path:
        calls.append({"run": run, "data": data, "results": results, **options})
        return results / "made.json"

    def beside_recorded(row: Any, made: Path, committed: Path) -> str:
        return f"judged {made.name} of {row.name} by {committed}"

    monkeypatch.setattr("mambaad.study.evidence.carry_out.carry_out", carry_out)
    monkeypatch.setattr("mambaad.study.evidence.rerun.beside_recorded", beside_recorded)
    row, seed, run = next(iter(protocol.queue()))
    watched, _, curve = next(iter(curves.queue()))
    words = ["--data", tmp_path, "--weights-dir", tmp_path / "weights", "--run", run.hash, curve.hash]
    lines = output(capsys, tmp_path, *words)
    assert lines == [
        f"{run.hash}  {row.group}: {row.name}, seed {seed}",
        f"judged made.json of {row.name} by results/real_v1",
        f"{curve.hash}  {watched.group}: {watched.name}, seed 0",  # a curve is not judged by its last value
    ]
    assert [call["run"] for call in calls] == [run, curve]
    assert [call["curve_every"] for call in calls] == [None, curves.EVERY]
    for call in calls:
        assert (call["data"], call["weights"]) == (tmp_path, tmp_path / "weights")
        assert (call["results"], call["outputs"]) == (tmp_path / "results", tmp_path / "outputs")


def test_without_images_or_networks_it_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (refused,) = output(capsys, tmp_path, code=2)
    assert "--data is needed" in refused
    (refused,) = output(capsys, tmp_path, "--sensitivity", "--data", tmp_path, code=2)
    assert "no trained network of the row 'hilbert 8'" in refused
    assert str(tmp_path / "outputs") in refused


def test_the_sensitivity_reads_the_networks_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = next(row for row in protocol.rows("table_5_scan_methods") if row.name == "hilbert 8")
    there = {}
    for seed in protocol.SEEDS[1:3]:
        there[seed] = tmp_path / "outputs" / "runs" / f"{protocol.NAME}_{main.run(seed).hash}" / "checkpoint.pth"
        there[seed].parent.mkdir(parents=True)
        there[seed].write_bytes(b"weights")
    root = write_synthetic(tmp_path / "images", side=64, train=1, test=2, categories=("gear",))
    given: list[Any] = []

    def measure(checkpoints: Any, samples: Any, side: int, results: Path) -> Path:
        given.append((checkpoints, {sample.category for sample in samples}, side))
        return results / sensitivity.FILE

    def load_dataset(name: str, folder: Path) -> Any:
        from mambaad.data.datasets import catalog

        assert name == protocol.NAME
        return catalog.load_dataset("synthetic", folder)

    monkeypatch.setattr(sensitivity, "measure", measure)
    monkeypatch.setattr("mambaad.data.load_dataset", load_dataset)
    lines = output(capsys, tmp_path, "--sensitivity", "--data", root)
    assert lines == [str(tmp_path / "results" / sensitivity.FILE)]
    assert given == [(there, {"gear"}, protocol.SIDE)]
