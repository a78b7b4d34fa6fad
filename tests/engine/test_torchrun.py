"""Processes started by torchrun itself: they join one run, as those that `--processes` starts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
OPTIONS = [
    *("--encoder-weights", "embedded", "--depths", "2", "2", "2", "2", "--side", "64", "--preset", "paper"),
    *("--batch-size", "4", "--steps", "4", "--seed", "1", "--device", "cpu", "--threads", "1"),
]


def train(launcher: list[str], data: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*launcher, "-m", "mambaad", "train", "--data", str(data), "--out", str(out), *OPTIONS, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def found(out: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights of the run's only checkpoint, and its only record."""
    (checkpoint,) = out.rglob("*.pth")
    (record,) = (p for p in out.rglob("*.json") if "metrics" in json.loads(p.read_text()))
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    return weights, json.loads(record.read_text())


@pytest.mark.slow
def test_processes_of_torchrun_train_one_model(drawn: Path, tmp_path: Path) -> None:
    alone = train([sys.executable], drawn, tmp_path / "started", "--processes", "2")
    assert alone.returncode == 0, alone.stderr
    launched = train(LAUNCHER, drawn, tmp_path / "launched", "--processes", "2")
    assert launched.returncode == 0, launched.stderr
    (weights, record), (expected, reference) = found(tmp_path / "launched"), found(tmp_path / "started")
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, expected[name]), name
    assert record["metrics"] == reference["metrics"]
    assert record["train"]["loss"] == reference["train"]["loss"]

    one = train([sys.executable], drawn, tmp_path / "one")
    assert one.returncode == 0, one.stderr
    first = found(tmp_path / "one")[1]["train"]["loss"][0][1]
    shares = record["train"]["loss"][0][1]
    assert shares == pytest.approx(first, rel=0.2), "processes differ in stochastic depth, and in nothing else"

    again = train(LAUNCHER, drawn, tmp_path / "launched", "--processes", "2")
    assert again.returncode == 0, again.stderr
    assert "nothing trained" in again.stdout + again.stderr


@pytest.mark.slow
def test_torchrun_without_processes_is_refused_and_trains_nothing(drawn: Path, tmp_path: Path) -> None:
    refused = train(LAUNCHER, drawn, tmp_path / "out")
    assert refused.returncode != 0
    assert "a launcher started 2 processes (WORLD_SIZE), and the run has 1" in refused.stderr
    assert not list((tmp_path / "out").rglob("*.p*t*"))
