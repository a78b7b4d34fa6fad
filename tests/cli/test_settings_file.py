"""Files of settings and records: what is printed comes back, and what overrules what."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mambaad import cli
from mambaad.cli import parser
from mambaad.cli.settings import Settings, settle
from mambaad.config import preset, to_dict


def settings(*words: str) -> Settings:
    arguments: argparse.Namespace = parser().parse_args(["train", "--device", "cpu", *words])
    return settle(arguments)


@pytest.mark.parametrize(
    "words",
    [
        ["--minutes", "10", "--fpr", "0.05"],
        ["--preset", "laptop", "--method", "mambaad", "--holdout", "0"],
        ["--preset", "paper", "--method", "diad"],
        ["--epochs", "3", "--data", "Prüfteile/零件"],
    ],
)
def test_what_is_printed_comes_back(words: list[str], tmp_path: Path) -> None:
    wanted = settings(*words)
    file = tmp_path / "run.yaml"
    file.write_text(wanted.as_yaml(), encoding="utf-8")
    assert settings("--config", str(file)) == wanted


def test_another_preset_or_method_beside_a_printed_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(settings("--preset", "laptop").as_yaml())
    assert settings("--config", str(file), "--preset", "laptop") == settings("--config", str(file))
    with pytest.raises(ValueError, match=r"run\.yaml holds the values of the preset 'laptop', which would overrule"):
        settings("--config", str(file), "--preset", "laptop_fine")
    with pytest.raises(ValueError, match=r"holds the model of the method 'mambaad_bank', not of --method memory_bank"):
        settings("--config", str(file), "--method", "memory_bank")
    file.write_text("preset: laptop\nfpr: 0.05\n")  # a part that fits every preset
    assert settings("--config", str(file), "--preset", "laptop_fine").preset == "laptop_fine"


def test_paths_are_printed_as_they_are_written() -> None:
    assert "data: Prüfteile/零件" in settings("--data", "Prüfteile/零件").as_yaml()


def test_minutes_and_rate_are_settings(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("minutes: 10\nfpr: 0.05\n")
    found = settings("--config", str(file))
    assert (found.minutes, found.fpr) == (10, 0.05)
    found = settings("--config", str(file), "--minutes", "3", "--fpr", "0.2")
    assert (found.minutes, found.fpr) == (3, 0.2)
    found = settings("--config", str(file), "--steps", "7")  # the options come last
    assert (found.minutes, found.run.train.steps) == (None, 7)
    assert (settings().minutes, settings().fpr) == (None, 0.01)
    printed = yaml.safe_load(settings("--minutes", "10", "--fpr", "0.05").as_yaml())
    assert (printed["minutes"], printed["fpr"]) == (10, 0.05)
    assert not {"steps", "epochs"} & set(printed["train"])


@pytest.mark.parametrize("option", ["steps", "epochs"])
def test_minutes_and_steps_together_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"--minutes is in place of --{option}: leave one of them out"):
        settings("--minutes", "0.5", f"--{option}", "5")


def test_epochs_of_a_file_overrule_the_preset_s_steps(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("train: {epochs: 3}\n")
    train = settings("--config", str(file)).run.train
    assert (train.epochs, train.steps) == (3, None)


def test_zero_is_a_value(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("execution: {workers: 4, compile: true}\n")
    found = settings("--config", str(file), "--workers", "0").execution
    assert (found["workers"], found["compile"]) == (0, True)
    with pytest.raises(ValueError, match="threads must be from 1 to 1024, got 0"):
        settings("--threads", "0")


def test_numbers_without_a_point_are_numbers(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("train: {lr: 1e-5, weight_decay: 2E-3}\n")
    train = settings("--config", str(file)).run.train
    assert (train.lr, train.weight_decay) == (1e-5, 2e-3)


def test_a_laptop_run_s_record_is_the_laptop_s(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    run = settings("--holdout", "0", "--lr", "1e-5").run
    execution = {"threads": 2, "features": "float32", "workers": 1}
    record = {"schema": 1, "profile": "own", "config": to_dict(run), "execution": execution}
    file.write_text(json.dumps(record))
    found = settings("--config", str(file))
    assert found.run == run
    assert found.preset == "laptop"
    assert found.execution == {"device": "cpu", "threads": 2, "features": "float32"}
    record["config"] = to_dict(run) | {"train": {"steps": "two"}}
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="config: train: steps: Input should be a valid integer, got 'two'"):
        settings("--config", str(file))


def test_the_reason_for_the_preset_is_told(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("preset: laptop\n")
    assert settings().reason == "device cpu"
    assert settings("--preset", "paper").reason == "--preset"
    long = settings("--minutes", "30")
    assert (long.preset, long.reason) == ("laptop_fine", "device cpu, 30 minutes")
    model: Any = long.run.model
    assert replace(model, network_side=128) == preset("laptop").run.model
    assert settings("--config", str(file)).reason == str(file)


def test_help_keeps_the_presets_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{preset('paper').purpose}; laptop: {preset('laptop').purpose}" in printed
    assert "side of the input in pixels (not given: the preset's; with a memory bank" in printed
    assert "(not given: 0.01)" in printed


def test_a_small_set_lowers_the_batch_that_nobody_named(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["train", "--data", str(drawn), "--method", "mambaad", "--side", "64", "--device", "cpu", "--steps", "1"]
    call += ["--encoder-weights", "embedded", "--depths", "2", "2", "2", "2", "--holdout", "0.3"]
    assert cli.main([*call, "--out", str(tmp_path / "named"), "--batch-size", "8"]) == 2
    assert "6 training images are fewer than one batch of 8: lower batch_size (--batch-size)" in capsys.readouterr().err
    assert cli.main([*call, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "batch size: 6 (not 8: there are fewer training images)" in printed
    assert "preset: laptop (device cpu)" in printed


def test_a_batch_size_is_named_by_an_option_or_by_a_file_with_another_one(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(settings().as_yaml())
    assert not settings().own_batch
    assert not settings("--config", str(file)).own_batch
    assert settings("--batch-size", "8").own_batch
    file.write_text("train: {batch_size: 4}\n")
    assert settings("--config", str(file)).own_batch


def test_a_run_without_a_threshold_says_so(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = tmp_path / "set" / "train" / "good"
    one.mkdir(parents=True)
    image = next((drawn / "gear" / "train" / "good").iterdir())
    (one / image.name).write_bytes(image.read_bytes())
    call = ["train", "--data", str(tmp_path / "set"), "--method", "memory_bank", "--side", "64", "--device", "cpu"]
    assert cli.main([*call, "--encoder-weights", "embedded", "--out", str(tmp_path / "out")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("no threshold: no good images were held out to set it from; mambaad calibrate --weights ")
