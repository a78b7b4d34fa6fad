"""What a record says of code, packages and processes, where they are not what they usually are."""

import os
import signal
import subprocess
import threading
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Never

import pytest
import torch
from filelock import FileLock
from lightning_fabric import Fabric

from mambaad.engine import environment as module
from mambaad.engine import processes
from mambaad.engine.environment import code_version, environment
from mambaad.engine.execution import check_compiler
from mambaad.engine.feature_cache import free_memory
from mambaad.engine.interrupt import StopRequest, Terminated, sigterm_raises, stop_between_steps
from mambaad.engine.lock import HOLDER, LOCK, locked
from mambaad.engine.state import rng_states

ROOT = Path(__file__).resolve().parents[2]


def test_a_package_that_is_missing_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "timm":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    packages = environment()["packages"]
    assert packages["timm"] == "not installed"
    assert packages["torch"] == real("torch")


def answers(monkeypatch: pytest.MonkeyPatch, **outputs: str | None) -> None:
    """A git that prints so for each of its commands; None: it fails."""

    def run(command: list[str], **_: Any) -> Any:
        said = outputs["status" if "status" in command else command[-1].lstrip("-").replace("-", "_")]
        return SimpleNamespace(returncode=int(said is None), stdout=f"{said}\n")

    monkeypatch.setattr(module.subprocess, "run", run)


def test_the_code_is_a_commit_with_or_without_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, show_toplevel=str(ROOT), HEAD="abc", status="")
    assert code_version() == {"commit": "abc", "dirty": False}
    answers(monkeypatch, show_toplevel=str(ROOT), HEAD="abc", status=" M mambaad/files.py")
    assert code_version() == {"commit": "abc", "dirty": True}
    answers(monkeypatch, show_toplevel=str(ROOT), HEAD="abc", status=None)
    assert code_version() == {"commit": "abc", "dirty": None}


def test_whatever_a_result_can_depend_on_counts_as_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    git("init")
    for name in module.CODE:
        assert (ROOT / name).exists(), name
        path = tmp_path / name if "." in name or name == "Snakefile" else tmp_path / name / "engine" / "file.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("before")
    git("add", ".")
    git("commit", "-m", "all")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "mambaad" / "engine" / "environment.py"))
    assert code_version()["dirty"] is False
    (tmp_path / "notes.txt").write_text("no code")
    assert code_version()["dirty"] is False
    for name in ("scripts/engine/file.py", "evidence.smk", "mambaad/engine/added.py"):
        (tmp_path / name).write_text("after")
        assert code_version()["dirty"] is True, name
        git("add", name)
        git("commit", "-m", "more")
        assert code_version()["dirty"] is False


def test_somebody_else_s_repository_and_no_git_are_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {"commit": None, "dirty": None}
    answers(monkeypatch, show_toplevel=str(ROOT.parent), HEAD="abc", status="")
    assert code_version() == nothing
    answers(monkeypatch, show_toplevel=None)
    assert code_version() == nothing

    def missing(*_: object, **__: object) -> Never:
        raise FileNotFoundError("git")

    monkeypatch.setattr(module.subprocess, "run", missing)
    assert code_version() == nothing

    def slow(*_: object, **__: object) -> Never:
        raise subprocess.TimeoutExpired("git", 20)

    monkeypatch.setattr(module.subprocess, "run", slow)
    assert code_version() == nothing


# -- signals


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_the_first_signal_waits_for_the_step_and_the_second_does_not(
    number: signal.Signals, error: type[KeyboardInterrupt]
) -> None:
    before = signal.getsignal(number)
    with stop_between_steps() as stop:
        os.kill(os.getpid(), number)
        assert stop.signal == number  # and nothing was raised
        with pytest.raises(KeyboardInterrupt) as caught:
            os.kill(os.getpid(), number)
    assert type(caught.value) is error
    assert signal.getsignal(number) == before


def test_in_another_thread_signals_are_left_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen: list[Any] = []

    def work() -> None:
        with stop_between_steps() as stop, sigterm_raises():
            seen.append((type(stop), stop.signal))
            seen.append([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(StopRequest, None), before]


def test_a_folder_whose_holder_is_not_known_is_refused_all_the_same(tmp_path: Path) -> None:
    with FileLock(tmp_path / LOCK):
        assert not (tmp_path / HOLDER).exists()
        with pytest.raises(ValueError, match="is in use by another process: wait for it to end"), locked(tmp_path):
            pass


# -- cards and processes that this machine does not have


def test_a_card_s_free_memory_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 80))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 70)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 30)
    assert free_memory(torch.device("cuda")) == 5
    assert free_memory(torch.device("mps")) == 40


def test_compiling_for_a_card_needs_triton_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("mambaad.engine.execution.find_spec", lambda name: object())
    check_compiler(torch.device("cuda"))
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler"):
        check_compiler(torch.device("cpu"))


def test_the_random_numbers_of_a_card_belong_to_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(rng_states()) >= {"cpu"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: torch.arange(3))
    found = rng_states()
    assert torch.equal(found["cpu"], torch.get_rng_state())
    assert torch.equal(found["cuda"], torch.arange(3))


@pytest.mark.parametrize(
    ("device", "number", "phases", "wanted"),
    [
        ("cpu", 1, False, {"accelerator": "cpu", "devices": 1}),
        ("cuda", 1, False, {"accelerator": "cuda", "devices": [0]}),
        ("cuda:3", 1, True, {"accelerator": "cuda", "devices": [3]}),
        ("cpu", 2, False, {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}),
        ("cuda", 4, True, {"accelerator": "cuda", "devices": 4, "strategy": "ddp_find_unused_parameters_true"}),
    ],
)
def test_processes_are_launched_on_the_devices_named(
    monkeypatch: pytest.MonkeyPatch, device: str, number: int, phases: bool, wanted: dict[str, Any]
) -> None:
    launched: list[dict[str, Any]] = []

    class Made(Fabric):
        def __init__(self, **options: Any) -> None:
            launched.append(options)

        def launch(self, *_: Any, **__: Any) -> None:
            launched.append({"launched": True})

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(processes, "Fabric", Made)
    processes.launch(torch.device(device), number, "32-true", phases)
    assert launched == [{**wanted, "precision": "32-true"}, {"launched": True}]


def test_one_device_for_several_processes_and_another_number_than_before_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ValueError, match="2 processes have a device each: name 'cuda' alone, not 'cuda:1'"):
        processes.launch(torch.device("cuda:1"), 2, "32-true")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    with pytest.raises(ValueError, match="this program has trained with 2 processes, which go on: train with 1 in a"):
        processes.launch(torch.device("cpu"), 1, "32-true")


def test_random_states_are_those_of_every_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = torch.arange(3)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: drawn)
    states = rng_states()
    assert states["mps"] is drawn
    assert torch.equal(states["cpu"], torch.get_rng_state())


def test_losses_and_signals_are_those_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What each asks of the others; that they answer is tested with real ones."""
    asked: list[tuple[float, str]] = []

    def all_reduce(value: torch.Tensor, reduce_op: str) -> torch.Tensor:
        asked.append((float(value), reduce_op))
        return value * 2

    several: Any = SimpleNamespace(world_size=2, device=torch.device("cpu"), all_reduce=all_reduce)
    alone: Any = SimpleNamespace(world_size=1)
    assert processes.mean(alone, torch.tensor(3.0)) == 3
    assert processes.mean(several, torch.tensor(3.0)) == 6
    assert processes.largest(alone, 15) == 15
    assert processes.largest(several, 15) == 30
    assert asked == [(3, "mean"), (15, "max")]
    monkeypatch.setattr(
        torch.distributed, "all_gather", lambda found, own: [t.copy_(own + k) for k, t in enumerate(found)]
    )
    assert [t.tolist() for t in processes.gather(several, torch.tensor([1, 2]))] == [[1, 2], [2, 3]]
    assert [t.tolist() for t in processes.gather(alone, torch.tensor([1, 2]))] == [[1, 2]]


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "4", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1"}, False),
    ],
)
def test_the_first_process_is_known_before_the_others_are_met(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], first: bool
) -> None:
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes.is_first() is first
