"""What the benchmarks do on a graphics card, as far as that can be told without one."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Never

import pytest
import torch
from torch import Tensor

from mambaad.benchmarks import model, scan, timing
from mambaad.config import ModelConfig


def test_a_card_s_calls_are_timed_until_it_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: order.append(f"wait for {device}"))
    timing.interleaved({"a": lambda: order.append("call")}, 2, "cuda:1")
    assert order == ["wait for cuda:1", "call", "wait for cuda:1"] * 3


def test_a_card_s_record_names_driver_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "mamba-ssm":
            raise metadata.PackageNotFoundError(name)
        return "3.9"

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(timing, "environment", lambda device: {"device": f"card {device}"})
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    known = {"cuda": "12.9", "capability": "(9, 0)", "triton": "3.9", "mamba-ssm": "not installed"}
    assert timing.cuda_versions("cuda") == known
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    monkeypatch.setattr(Path, "read_text", lambda path: "NVRM version: 570\nGCC version: 12\n")
    monkeypatch.delenv("OMP_PROC_BIND", raising=False)
    bound = {"device": "card cuda", "threads_bound": "not set"}
    assert timing.machine("cuda") == bound | known | {"driver": "NVRM version: 570"}
    assert timing.machine("cpu") == {"device": "card cpu", "threads_bound": "not set"}


def test_a_card_s_peak_is_what_a_call_holds_beyond_what_was_held(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"before": 5_000_000, "most": 5_000_000}
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: held.update(most=held["before"]))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: held["before"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: held["most"])
    assert model.peak_memory(lambda: held.update(most=12_000_000), "cuda") == 7.0


def test_a_system_that_does_not_tell_has_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, text: str) -> Never:
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "write_text", refused)
    called: list[bool] = []
    assert model.peak_memory(lambda: called.append(True), "cpu") == ""
    assert called == []


@pytest.mark.parametrize(
    ("device", "timed"),
    [("cpu", ["reference", "chunked", "native"]), ("cuda", ["reference", "chunked", "triton", "mamba_ssm"])],
)
def test_a_device_times_the_backends_that_run_on_it(
    device: str, timed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not those that are there to be exported."""

    class Enough(Exception):
        pass

    def check(inputs: Sequence[Tensor], names: list[str]) -> Never:
        raise Enough(*names)

    every = ["reference", "chunked", "native", "triton", "mamba_ssm", "exportable", "onnx", "onnx_native", "missing"]
    monkeypatch.setattr(scan, "backends", lambda: every)
    monkeypatch.setattr(scan, "unavailable", lambda name: "not here" if name == "missing" else None)
    monkeypatch.setattr(scan, "routed_inputs", lambda *sizes: [])
    monkeypatch.setattr(scan, "check_agreement", check)
    with pytest.raises(Enough) as caught:
        scan.scan_benchmark(device=device)
    assert list(caught.value.args) == timed


def test_threads_are_no_axis_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    class Network:
        def to(self, device: str) -> "Network":
            return self

    def stand_in(*_: Any) -> Any:
        return lambda: None

    monkeypatch.setattr(model, "_model", lambda config, device: Network())
    monkeypatch.setattr(model, "_call", stand_in)
    monkeypatch.setattr(model, "peak_allocation", lambda call, device: 1.0)
    monkeypatch.setattr(timing, "_wait", lambda device: None)
    monkeypatch.setattr(Tensor, "to", lambda tensor, *_: tensor)
    config = ModelConfig(depths=(2, 2, 2, 2), directions=2)
    axes = {
        device: {
            row["axis"] for row in model.scaling_benchmark(repeats=1, sides=(64,), device=device, config=config)[0]
        }
        for device in ("cpu", "cuda")
    }
    assert axes["cpu"] - axes["cuda"] == {"threads"}
    assert axes["cuda"] == {"side", "batch", "K"}
