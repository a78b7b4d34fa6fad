"""The command line from training to prediction, its errors and its help."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mambaad import cli
from mambaad.engine import records
from mambaad.ops.routed_scan import pick_backend


def test_command_line_from_training_to_prediction(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    options = ["--depths", "2", "2", "2", "2", "--directions", "2", "--side", "64", "--batch-size", "4", "--steps", "1"]
    data = ["--data", str(drawn), "--categories", "gear"]
    backbone = ["--backbone", "mobilenetv2_050", "--encoder-weights", "random", "--device", "cpu"]
    assert cli.main(["train", *data, "--out", str(out), *backbone, *options]) == 0
    assert "protocol paper" in capsys.readouterr().out
    (checkpoint,) = out.glob("runs/own_*/checkpoint.pth")
    metrics = tmp_path / "m.json"
    assert cli.main(["evaluate", "--weights", str(checkpoint), *data, "--side", "64", "--out", str(metrics)]) == 0
    (record,) = out.glob("runs/own_*.json")
    wanted = json.loads(record.read_text())["metrics"]["exact"]["mean"]
    assert json.loads(metrics.read_text())["exact"]["mean"] == pytest.approx(wanted)
    image = next((drawn / "gear" / "test" / "good").glob("*.png"))
    predict = ["predict", str(image), "--weights", str(checkpoint), "--out", str(tmp_path / "p"), "--side", "64"]
    assert cli.main(predict) == 0
    assert (tmp_path / "p" / "scores.csv").is_file()


@pytest.mark.slow
def test_two_processes_share_the_batches_and_write_one_record(drawn: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mambaad", "train", "--data", str(drawn), "--out", str(tmp_path), "--side", "64"]
    command += ["--encoder-weights", "embedded", "--depths", "2", "2", "2", "2", "--batch-size", "4", "--steps", "3"]
    command += ["--device", "cpu", "--threads", "1", "--processes"]
    uneven = subprocess.run([*command, "3"], capture_output=True, text=True, check=False)
    assert "does not split among 3 processes" in uneven.stderr
    subprocess.run([*command, "2"], check=True, timeout=300)
    (record,) = tmp_path.glob("runs/own_*.json")
    content = records.read_record(record)
    assert content["train"]["steps"] == 3
    assert content["metrics"]["exact"]["mean"]


def test_good_images_alone_are_enough_to_train(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = tmp_path / "parts" / "train" / "good"
    parts.mkdir(parents=True)
    for image in (drawn / "gear" / "train" / "good").glob("*.png"):
        (parts / image.name).write_bytes(image.read_bytes())
    options = ["--depths", "2", "2", "2", "2", "--side", "64", "--batch-size", "4", "--steps", "1", "--device", "cpu"]
    data = ["--data", str(tmp_path / "parts"), "--dataset", "folder", "--out", str(tmp_path / "out")]
    assert cli.main(["train", *data, "--encoder-weights", "embedded", *options]) == 0
    assert "no test images: nothing to measure" in capsys.readouterr().out


def test_command_line_errors_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", str(tmp_path), "--weights", "w.pth", "--out", str(tmp_path / "o")]) == 2
    assert "there is no image" in capsys.readouterr().err
    assert cli.main(["evaluate", "--weights", str(tmp_path / "w.pth"), "--data", str(tmp_path)]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert cli.main(["train", "--data", str(tmp_path / "no"), "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert cli.main(["reproduce", "--profile", "paper", "--run", "abc"]) == 2
    assert "has no run 'abc'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "reproduce", "doctor", "benchmark"])
def test_help_shows_defaults(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "default:" in text or command == "doctor"


def test_doctor_names_backends_and_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    picked = pick_backend("cpu")
    assert facts["scan backends"][picked].startswith(f"picked by 'auto': {picked}")
    assert "install" in facts["scan backends"]["mamba_ssm"] or "device" in facts["scan backends"]["mamba_ssm"]
    assert facts["packages"]["torch"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_a_lack_of_memory_says_what_to_lower(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise error

    assert cli.exit_code(work, "train") == 2
    assert capsys.readouterr().err == "mambaad train: out of memory: choose a smaller --batch-size or --side\n"


def test_other_errors_of_the_library_are_not_hidden() -> None:
    def work() -> int:
        raise RuntimeError("a mistake of ours")

    with pytest.raises(RuntimeError, match="a mistake of ours"):
        cli.exit_code(work, "train")
