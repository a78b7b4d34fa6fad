"""Devices by name."""

import os
import sys
from pathlib import Path

import pytest
import torch

from mambaad.device import device_name, resolve_device


@pytest.mark.parametrize(
    ("device", "message"),
    [(name, "device must be 'auto'") for name in ("tpu9", "meta", "xpu", "cpu:3", "cuda:x")]
    + [("cuda:77", "torch sees . CUDA devices"), ("mps", "no 'mps' device")],
)
def test_a_device_that_is_not_there_is_refused(device: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_device(device)


@pytest.mark.parametrize(("cards", "device"), [(0, "cpu"), (2, "cuda")])
def test_auto_takes_a_card_where_there_is_one(monkeypatch: pytest.MonkeyPatch, cards: int, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    assert resolve_device("auto") == torch.device(device)


def test_devices_that_are_there_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for name in ("cuda", "cuda:1", "mps", "mps:0", "cpu"):
        assert resolve_device(name) == torch.device(name)
    with pytest.raises(ValueError, match="there is no device 'cuda:2': torch sees 2"):
        resolve_device("cuda:2")


def test_a_device_is_named_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    assert device_name("cuda:1") == "card 1"
    assert device_name("mps") == "mps"


@pytest.mark.parametrize(
    ("system", "facts", "name"),
    [
        ("linux", "flags : fpu\nmodel name\t: Some Core 9: fast\n", "Some Core 9: fast"),
        ("linux", "flags : fpu\n", "arch"),
        ("linux", None, "arch"),
        ("darwin", "model name\t: not asked\n", "arch"),
    ],
)
def test_a_processor_is_named_by_the_system_or_by_its_architecture(
    monkeypatch: pytest.MonkeyPatch, system: str, facts: str | None, name: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "arch")
    monkeypatch.setattr(Path, "is_file", lambda path: facts is not None)
    monkeypatch.setattr(Path, "read_text", lambda path: facts)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert device_name("cpu") == f"CPU {name}, 6 cores"
