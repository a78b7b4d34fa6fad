"""What ends a run before its time, and that the same command continues it to the same weights."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Never

import pytest
import torch
from small_run import QUIETLY, RUN
from torch import Tensor

import mambaad
from mambaad import cli
from mambaad.baselines import Method
from mambaad.config import RunConfig
from mambaad.data import DatasetError, load_dataset
from mambaad.engine import records, train
from mambaad.engine import run as runner
from mambaad.engine.interrupt import Terminated
from mambaad.engine.run import execute
from mambaad.engine.train import train_run
from mambaad.model.checkpoint import read_checkpoint, write_checkpoint


def run_once(drawn: Path, run: RunConfig = RUN, **options: Any) -> train.TrainResult:
    return train_run(run, load_dataset("synthetic", drawn, ["gear"]), execution=QUIETLY, **options)


def same_weights(one: Method, other: Method) -> bool:
    """Parameters and buffers, such as BatchNorm's statistics, bit for bit."""
    state = other.state_dict()
    return all(torch.equal(value, state[key]) for key, value in one.state_dict().items())


def in_step(number: int, what: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Do something in the middle of a step, after the forward pass."""
    calls = []

    def loss(*features: Any) -> Tensor:
        calls.append(1)
        if len(calls) == number:
            what()
        return mambaad.model.reconstruction_loss(*features)

    monkeypatch.setattr("mambaad.model.mambaad.reconstruction_loss", loss)
    return calls


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 4, 6])
def test_an_interrupted_run_continues_to_the_same_weights(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, step: int
) -> None:
    whole = run_once(drawn)
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    calls = in_step(step, lambda: os.kill(os.getpid(), number), monkeypatch)
    with pytest.raises(KeyboardInterrupt) as stop:
        run_once(drawn, out=tmp_path)
    assert isinstance(stop.value, Terminated) == (number == signal.SIGTERM)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert len(calls) == step  # the step was finished, no other begun
    monkeypatch.undo()
    assert (tmp_path / "training_state.pt").is_file()
    with pytest.raises(ValueError, match="belongs to the run"):
        run_once(drawn, replace(RUN, train=replace(RUN.train, seed=9)), out=tmp_path)
    continued = run_once(drawn, out=tmp_path)
    assert continued.loss == whole.loss
    assert same_weights(continued.model, whole.model)
    assert not (tmp_path / "training_state.pt").exists()
    assert same_weights(mambaad.load_checkpoint(tmp_path / "checkpoint.pth"), whole.model)


def test_an_error_in_a_step_leaves_the_last_saved_state(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in the middle of a step is not saved: its statistics are of the next one already."""
    whole = run_once(drawn)

    def fail() -> Never:
        raise KeyboardInterrupt

    in_step(4, fail, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_once(drawn, out=tmp_path, checkpoint_every=2)
    monkeypatch.undo()
    calls = in_step(0, fail, monkeypatch)
    continued = run_once(drawn, out=tmp_path)
    assert len(calls) == 4
    assert same_weights(continued.model, whole.model)


def test_long_steps_are_saved_by_the_clock(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    monkeypatch.setattr(train.TrainingState, "save", lambda state, *_: saved.append(state.step))
    run_once(drawn, out=tmp_path, checkpoint_every=100)
    assert saved == []
    monkeypatch.setattr(train, "SAVE_SECONDS", 0)
    run_once(drawn, out=tmp_path, checkpoint_every=100)
    assert saved == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("broken", ["evaluate_run", "count", "records.write_record"])
def test_a_failure_after_the_last_step_does_not_cost_the_training(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    wanted = records.read_record(execute(RUN, tmp_path / "whole", profile="quick", data_root=drawn, execution=QUIETLY))
    results, outputs = tmp_path / "results", tmp_path / "outputs"
    options: dict[str, Any] = {"profile": "quick", "data_root": drawn, "outputs": outputs, "execution": QUIETLY}

    def fail(*_: object, **__: object) -> Never:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"mambaad.engine.run.{broken}", fail)
    with pytest.raises(KeyboardInterrupt):
        execute(RUN, results, **options)
    monkeypatch.undo()
    calls = in_step(0, fail, monkeypatch)
    record = records.read_record(execute(RUN, results, **options))
    assert not calls
    assert record["train"]["loss"] == wanted["train"]["loss"]
    assert record["metrics"] == wanted["metrics"]
    assert record["train"]["seconds_per_step"] > 0
    assert not list(outputs.rglob("training_state.pt"))
    execute(RUN, results, **options, force=True)  # trains again, from the first step
    assert len(calls) == 6


def test_a_test_image_that_cannot_be_read_is_named_before_training(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(drawn, copy)
    broken = sorted((copy / "gear" / "test").rglob("*.png"))[0]
    broken.write_bytes(broken.read_bytes()[:400])

    def train_run(*_: object, **__: object) -> Never:
        raise AssertionError("trained")

    monkeypatch.setattr(runner, "train_run", train_run)
    with pytest.raises(DatasetError, match=f"{broken}: cannot be read"):
        execute(RUN, tmp_path, profile="quick", data_root=copy, execution=QUIETLY)


def test_a_launcher_with_other_processes_is_refused(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    options = ["--depths", "2", "2", "2", "2", "--side", "64", "--batch-size", "4", "--steps", "1", "--device", "cpu"]
    data = ["--data", str(drawn), "--out", str(tmp_path / "out"), "--encoder-weights", "embedded"]
    assert cli.main(["train", *data, *options]) == 2
    assert "a launcher started 2 processes (WORLD_SIZE), and the run has 1" in capsys.readouterr().err
    assert cli.main(["train", *data, *options, "--processes", "4"]) == 2
    assert "a launcher started 2 processes (WORLD_SIZE), and the run has 4" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.p*t*"))


def test_sigterm_ends_the_command_line_with_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("mambaad.data.detect.where", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert cli.main(["data", "where"]) == 143
    assert capsys.readouterr().err.startswith("terminated; the same command resumes")
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_state_of_another_number_of_processes_is_refused(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_step(2, lambda: os.kill(os.getpid(), signal.SIGINT), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_once(drawn, out=tmp_path)
    monkeypatch.undo()
    state = tmp_path / "training_state.pt"
    content = read_checkpoint(state)
    write_checkpoint(state, content | {"processes": 2})
    with pytest.raises(ValueError, match="saved by 2 training processes, and this run has 1: go on with --processes 2"):
        run_once(drawn, out=tmp_path)


def test_a_record_that_exists_is_said_to(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = execute(RUN, tmp_path, profile="quick", data_root=drawn, execution=QUIETLY)
    assert "nothing trained" not in capsys.readouterr().err
    execute(RUN, tmp_path, profile="quick", data_root=drawn, execution=QUIETLY)
    assert capsys.readouterr().err == f"record exists, nothing trained: {path}\n"
    execute(RUN, tmp_path, profile="quick", data_root=drawn, execution=replace(QUIETLY, compile=True))
    assert "(made with compiled False, not True: remove it to train again)" in capsys.readouterr().err


def test_a_state_of_an_earlier_version_is_refused(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_step(2, lambda: os.kill(os.getpid(), signal.SIGINT), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_once(drawn, out=tmp_path)
    monkeypatch.undo()
    state = tmp_path / "training_state.pt"
    content = read_checkpoint(state)
    write_checkpoint(state, {key: value for key, value in content.items() if key != "optimizers"})
    with pytest.raises(ValueError, match=r"saved by an earlier version of this library.*remove it"):
        run_once(drawn, out=tmp_path)
