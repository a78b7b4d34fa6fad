"""`mambaad doctor` and `mambaad benchmark`, and how failures of the system are told."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_model import small

from mambaad import cli, save_checkpoint
from mambaad.cli import doctor, machine
from mambaad.ops.routed_scan import native


@pytest.fixture(scope="module")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "c.pth"
    save_checkpoint(path, small(scan="sweep", directions=2), {"run": {"data": {"side": 64}}})
    return path


def test_the_report_of_this_machine_has_a_line_for_every_fact(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    doctor.diagnose()  # imports what looks at torch's version
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    facts = doctor.diagnose()
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert said == doctor.report(facts) + "\n"
    assert "CUDA: built for 12.9, 0 devices\n" in said
    assert f"Hugging Face cache: {tmp_path / 'none'} (empty)\n" in said
    assert "  embedded: present\n" in said
    (tmp_path / "none").mkdir()
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(doctor, "EMBEDDED_WEIGHTS", tmp_path / "gone")
    monkeypatch.setattr(doctor, "weights_cached", lambda tag: tag == "nothing")
    changed = doctor.diagnose()
    assert changed["CUDA"] == "not built in"
    assert changed["Hugging Face cache"].endswith("(exists)")
    assert changed["encoder weights"].pop("embedded") == "missing: reinstall the package"
    assert set(changed["encoder weights"].values()) == {"not cached (downloaded at first use)"}


def test_without_the_compiled_scan_it_says_what_that_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_library", lambda: "the native backend was not built; install a compiler")
    found = doctor.scan_backends("cpu")
    assert found["native"] == "not available: the native backend was not built; install a compiler"
    assert found["chunked"].startswith("picked by 'auto': chunked")
    assert found["chunked"].endswith("than the fused backend that this device could have")


def test_suites_are_timed_one_after_the_other_and_their_tables_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    def run_suite(name: str, *options: Any) -> Path:
        calls.append((name, *options))
        path = tmp_path / f"{name}.csv"
        path.write_text(f"table of {name}\n")
        return path

    monkeypatch.setattr("mambaad.benchmarks.run_suite", run_suite)
    assert cli.main(["benchmark", "scan", "model", "--out", str(tmp_path), "--repeats", "3", "--threads", "1"]) == 0
    assert calls == [(name, tmp_path, 3, 1, "cpu") for name in ("scan", "model")]
    assert capsys.readouterr().out.splitlines() == [
        line
        for name in ("scan", "model")
        for line in (f"benchmark {name} ...", f"table of {name}", f"written: {tmp_path / name}.csv")
    ]
    calls.clear()
    assert cli.main(["benchmark", "--out", str(tmp_path)]) == 0
    assert [name for name, *_ in calls] == list(machine.SUITES)
    calls.clear()
    monkeypatch.setattr("mambaad.device.resolve_device", lambda device: torch.device("cuda"))
    assert cli.main(["benchmark", "--out", str(tmp_path), "--device", "cuda"]) == 0
    assert [name for name, *_ in calls] == [name for name in machine.SUITES if name != "exports"]


def test_metrics_without_scikit_learn_are_refused_before_the_other_suites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mambaad.benchmarks.run_suite", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    assert cli.main(["benchmark", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "compares with scikit-learn, which is not installed" in said
    assert "scan stages model scaling methods exports training" in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "out/c.pth"), "mambaad train: out/c.pth: No space left on device"),
        (OSError(28, "No space left on device"), "mambaad train: No space left on device"),
        (OSError("the disk is gone"), "mambaad train: the disk is gone"),
        (FileNotFoundError(2, "No such file", "caf\udce9.png"), "mambaad train: caf\\udce9.png: No such file"),
        (ZeroDivisionError("no images"), "mambaad train: no images"),
        (FloatingPointError("the loss is nan"), "mambaad train: the loss is nan"),
    ],
)
def test_failures_of_the_system_are_one_sentence(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise error

    assert cli.exit_code(work, "train") == 2
    assert capsys.readouterr().err == f"{said}\n"


def test_an_output_that_nobody_reads_any_more_ends_without_a_word() -> None:
    """As `mambaad data where | head -0`."""
    read, write = os.pipe()
    os.close(read)
    try:
        command = [sys.executable, "-m", "mambaad", "data", "where", "visa"]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=120, text=True)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_package_can_be_run_and_imported_as_a_module(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["mambaad", "data", "where", "visa"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("mambaad", run_name="__main__")
    assert stop.value.code == 0
    assert "VisA" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["mambaad", "data", "where", "nothing"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("mambaad", run_name="__main__")
    assert stop.value.code == 2
    runpy.run_module("mambaad.__main__", run_name="a child process")  # which is started again up to its own work
    assert capsys.readouterr().out == ""


def test_ctrl_c_says_what_the_same_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise KeyboardInterrupt

    assert cli.exit_code(work, "train") == 130
    assert capsys.readouterr().err.startswith("interrupted; the same command resumes from the last saved state")


@pytest.mark.parametrize(
    ("host", "threshold", "warned"), [("127.0.0.1", None, False), ("0.0.0.0", 0.25, True)], ids=["alone", "open"]
)
def test_a_page_that_others_can_reach_says_so(
    host: str,
    threshold: float | None,
    warned: bool,
    small_checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Any] = []
    monkeypatch.setattr("mambaad.inference.serve.serve", lambda app, opened: made.append(app))
    words = ["serve", "--weights", str(small_checkpoint), "--host", host, "--port", "0", "--device", "cpu"]
    words += [] if threshold is None else ["--threshold", str(threshold)]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert ("everyone who reaches this address can send images" in said) is warned
    assert f"open http://{host}:" in said
    (app,) = made
    allowed = app.user_middleware[0].kwargs["allowed_hosts"]
    assert ("*" in allowed) is warned
