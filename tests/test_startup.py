"""What is imported when: help and errors without torch, the library without timm and torch's compiler."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mambaad
import mambaad.data
from mambaad.ops.compiling import constant_when_compiled

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "timm", "torchvision", "scipy", "pandas", "lightning_fabric", "huggingface_hub", "matplotlib"}


def loaded(code: str) -> set[str]:
    """Modules that are loaded once `code` has run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('LOADED', *sys.modules)"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("LOADED"))
    return set(line.split()[1:])


def command_line(*arguments: str) -> str:
    return (
        f"from mambaad.cli import main\ntry:\n    code = main({list(arguments)!r})\n"
        "except SystemExit as stop:\n    code = stop.code\n"
    )


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["--help"], 0),
        *[
            ([name, "--help"], 0)
            for name in ("data", "train", "predict", "report", "serve", "reproduce", "evidence", "export", "doctor")
        ],
        (["train", "--steps", "many"], 2),
        (["predict"], 2),
        (["unknown"], 2),
        (["data", "where"], 0),
        (["data", "where", "visa"], 0),
        (["data", "check", "no_such_folder"], 1),
        (["reproduce", "--list"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_help_and_errors_do_not_wait_for_torch(arguments: list[str], exit_code: int) -> None:
    assert not HEAVY & loaded(f"{command_line(*arguments)}assert code == {exit_code}, code")


def test_the_package_alone_imports_next_to_nothing() -> None:
    modules = loaded("import mambaad")
    assert not (HEAVY | {"numpy", "PIL"}) & modules


def test_the_network_is_there_without_timm_and_the_compiler() -> None:
    modules = loaded("import mambaad\nmambaad.MambaAD, mambaad.efficiency, mambaad.load_checkpoint")
    assert "torch" in modules
    assert not {"timm", "torchvision", "torch._dynamo", "torch._inductor", "sympy", "lightning_fabric"} & modules
    assert "timm" in loaded("import mambaad\nmambaad.MambaAD(mambaad.ModelConfig(), weights='random')")


def test_every_public_name_is_there() -> None:
    for package in (mambaad, mambaad.data):
        for name in package.__all__:
            assert getattr(package, name) is not None
        assert not hasattr(package, "nothing_of_this_name")
    assert set(mambaad.__all__) <= set(dir(mambaad))
    assert "Prediction" in loaded("from mambaad import *\nimport sys; sys.modules['Prediction'] = Prediction")


def test_constants_are_marked_as_torch_marks_them() -> None:
    def ours() -> None: ...

    def theirs() -> None: ...

    constant_when_compiled(ours)
    torch.compiler.assume_constant_result(theirs)
    assert ours.__dict__ == theirs.__dict__ != {}
