"""`mambaad reproduce`: which runs it names, before any is made."""

import subprocess
import sys
from pathlib import Path

import layouts
import pytest
import yaml

from mambaad import cli
from mambaad.study import plan
from mambaad.study.tables_spec import TABLE_5, TABLE_6

ROOT = Path(__file__).resolve().parents[2]


def lines(capsys: pytest.CaptureFixture[str], *words: object) -> list[str]:
    assert cli.main(["reproduce", *map(str, words)]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("dataset", ["visa", "mvtec_ad"])
def test_a_subset_is_of_the_data_set_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str) -> None:
    root = layouts.WRITERS[dataset](tmp_path / "data")
    subset = ["--profile", "subset", "--data-dir", root, "--tables", TABLE_6.name]
    subset += ["--dataset", dataset] if dataset != "mvtec_ad" else []  # the default
    (run, count) = lines(capsys, *subset, "--dry-run", "--results", tmp_path / "results")
    assert f"table 6: {dataset} at 256 px" in run
    assert count == "1 runs"
    assert lines(capsys, *subset, "--list") == [run.split()[0]]


def test_the_list_is_that_of_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, "--list", "--tables", TABLE_5.name) == list(plan.runs("quick", [TABLE_5]))


@pytest.mark.parametrize("options", [["train=True"], ["train=False", "build=build", "results=results"]])
def test_the_graph_can_be_read_and_ends_in_the_book(options: list[str], tmp_path: Path) -> None:
    """What `make reproduce` and `make book` would do; nothing is run."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "-n", "--nolock"]
    if options == ["train=True"]:
        options = [*options, f"build={tmp_path}"]
    done = subprocess.run([*command, "--config", *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    if f"build={tmp_path}" in options:
        jobs = done.stdout + done.stderr
        assert all(name in jobs for name in ("contact_sheet", "data", "runs_1", "table", "book"))


def test_the_paper_profile_asks_for_its_images_and_makes_one_job_of_each_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "-n", "--nolock", "--printshellcmds", "--config"]
    options = ["profile=paper", "train=True", f"build={tmp_path}"]
    without = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert without.returncode
    assert "needs its images" in without.stderr + without.stdout
    (tmp_path / "images").mkdir()
    done = subprocess.run([*command, *options, f"data={tmp_path / 'images'}"], cwd=ROOT, capture_output=True, text=True)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert printed.count("python -m mambaad reproduce --profile paper --run") == len(plan.runs("paper"))


def test_cluster_profiles_name_options_of_snakemake() -> None:
    known = subprocess.run([sys.executable, "-m", "snakemake", "--help"], capture_output=True, text=True).stdout
    for path in (ROOT / "profiles").rglob("config.yaml"):
        for option in yaml.safe_load(path.read_text(encoding="utf-8")):
            assert f"--{option}" in known, f"{path.relative_to(ROOT)}: {option}"
