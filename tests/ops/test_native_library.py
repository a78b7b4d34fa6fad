"""The compiled scan where its library is missing, damaged, older than the processor, or out of memory."""

import ctypes
import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Never

import pytest
import torch

from mambaad.ops.routed_scan import native


def refuses(*_: object, **__: object) -> Never:
    raise OSError("wrong ELF class")


class Library:
    """Stands for a library of three instruction sets, of which the processor lacks the first."""

    def routed_scan_set(self, index: int) -> bytes | None:
        return (b"wide", b"narrow", b"plain", None)[index]

    def routed_scan_runs(self, index: int) -> bool:
        return index > 0

    def routed_scan_run(self, *_: Any) -> int:
        return 1  # no memory


@pytest.mark.parametrize("spec", [None, SimpleNamespace(origin=None)])
def test_a_library_that_was_not_built_says_what_to_install(monkeypatch: pytest.MonkeyPatch, spec: object) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    said = str(native._library.__wrapped__())
    assert "there was no C compiler" in said
    monkeypatch.setattr(native, "_library", lambda: said)
    assert native.unavailable() == said
    assert native._sets.__wrapped__() == []
    with pytest.raises(RuntimeError, match="install one and reinstall mambaad"):
        native._loaded()


@pytest.mark.parametrize("library", [refuses, lambda _: object()])
def test_a_library_that_does_not_load_says_so(monkeypatch: pytest.MonkeyPatch, library: Callable[..., Any]) -> None:
    """Of another machine, or without the functions that are called."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: SimpleNamespace(origin="_native.so"))
    monkeypatch.setattr(ctypes, "CDLL", library)
    assert "the native backend does not load" in str(native._library.__wrapped__())


def test_without_an_openmp_runtime_the_library_uses_its_own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", refuses)
    assert native._parallel.__wrapped__() is None


def test_instruction_sets_are_those_the_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_library", Library)
    assert native._sets.__wrapped__() == [(1, "narrow"), (2, "plain")]


def test_a_scan_without_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_loaded", Library)
    with pytest.raises(MemoryError, match="found no memory for its buffers"):
        native._call(dict.fromkeys(native._SIZES, 1), {"x": torch.zeros(0), "y": torch.ones(1)}, 0, backward=False)
