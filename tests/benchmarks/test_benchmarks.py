"""The benchmark records: what is written, that a wrong kernel is not timed, and that the measures measure."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mambaad import cli
from mambaad.benchmarks import SUITES, methods, model, run_suite, scan, timing
from mambaad.cli.machine import SUITES as OFFERED
from mambaad.config import DeSTSegConfig, MemoryBankConfig, ModelConfig
from mambaad.inference.export import fits
from mambaad.ops.routed_scan import pick_backend, unavailable
from mambaad.ops.selective_scan import BACKENDS

SMALL = ModelConfig(backbone="mobilenetv2_050", depths=(2, 2, 2, 2), directions=2)


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_scan_writes_a_table_and_its_environment(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    path = run_suite("scan", tmp_path / "new", repeats=3, threads=1, length=64, width=8)
    assert torch.get_num_threads() == threads
    assert {p.name for p in path.parent.iterdir()} == {"scan_cpu.csv", "scan_cpu.json"}
    rows = table_of(path)
    forms = {"per-step loop", "reference", "chunked"} | {pick_backend("cpu")}
    assert {(row["form"], row["pass"]) for row in rows} == {
        (form, kind) for form in forms for kind in ("forward", "forward+backward")
    }
    for row in rows:
        assert 0 < float(row["min_ms"]) <= float(row["median_ms"]) <= float(row["max_ms"])
        loop = next(r for r in rows if r["form"] == "per-step loop" and r["pass"] == row["pass"])
        ratio = float(loop["median_ms"]) / float(row["median_ms"])
        assert float(row["times_faster_than_loop"]) == pytest.approx(ratio, rel=1e-3)
    facts = json.loads((tmp_path / "new" / "scan_cpu.json").read_text())
    assert facts["environment"]["threads"] == 1
    assert facts["environment"]["scan_backend"].startswith(pick_backend("cpu"))
    assert facts["repeats"] == 3


def test_the_loop_gets_the_same_scan() -> None:
    """The scan of pre-gathered sequences, scattered and summed, is the routed scan."""
    inputs = [v.detach() for v in scan.routed_inputs(2, 64, 8, "cpu")]
    y = BACKENDS["reference"](*(v.detach() for v in scan.loop_inputs(inputs)))
    parts = [torch.zeros(2, 64, 8).index_copy(1, inputs[2][k], y[:, k].mT) for k in range(scan.K)]
    summed = torch.stack(parts).sum(0)
    assert torch.allclose(summed, scan.routed_scan(*inputs, backend="reference"), atol=1e-4)


def test_a_kernel_that_disagrees_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "chunked", lambda u, *rest: 1.01 * BACKENDS["reference"](u, *rest))
    with pytest.raises(ArithmeticError, match=r"chunked is off by 0\.01"):
        run_suite("scan", tmp_path, repeats=1, threads=1, length=16, width=8)
    assert not list(tmp_path.iterdir())


def test_stages_state_a_floor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "STAGES", ((16, 32), (64, 8)))
    monkeypatch.setattr(scan, "peak_rates", lambda device: {"multiply_adds_per_s": 1e11, "bytes_per_s": 1e10})
    rows = table_of(run_suite("stages", tmp_path, repeats=1, threads=1))
    assert [row["L"] for row in rows] == ["16", "16", "64", "64"]
    for row in rows:
        floor = max(float(row["multiply_adds"]) / 1e8, float(row["bytes"]) / 1e7)
        assert float(row["achieved_fraction"]) == pytest.approx(floor / float(row["median_ms"]), rel=1e-3)


def test_counted_bytes_are_those_of_the_tensors() -> None:
    inputs = scan.routed_inputs(3, 64, 32, "cpu")
    size = sum(v.numel() * v.element_size() for v in inputs) + inputs[0].numel() * 4
    assert scan.needed(3, 64, 32, 1, "forward")[1] == size


@pytest.mark.skipif(unavailable("native") is not None, reason=f"{unavailable('native')}")
def test_model_rows_compare_the_scans_and_tell_the_share() -> None:
    rows, facts = model.model_benchmark(repeats=1, side=64, config=SMALL)
    assert [(row["pass"], row["scan"]) for row in rows] == [
        (kind, name) for kind in ("forward", "training step") for name in ("reference", "chunked", "native")
    ]
    assert all(0 < row["scan_share"] < 1 for row in rows if row["scan"] == "native")
    assert rows[0]["times_faster_than_loop"] == 1
    assert facts["encoder"] == "mobilenetv2_050"


def test_scaling_moves_one_axis_at_a_time() -> None:
    rows, facts = model.scaling_benchmark(repeats=1, sides=(64, 128), config=SMALL)
    axes = [(row["axis"], row["value"]) for row in rows]
    expected = {"side": (64, 128), "batch": (1, 2, 4, 8), "K": (2, 4, 8)}
    assert axes[:9] == [(axis, value) for axis, values in expected.items() for value in values]
    assert {axis for axis, _ in axes[9:]} == {"threads"}
    assert facts["exponents_in_pixels"] == model.exponents(rows)
    assert "median_ms" in facts["exponents_in_pixels"]
    assert np.isfinite(list(facts["exponents_in_pixels"].values())).all()


def test_exponent_of_known_growth() -> None:
    rows = [{"axis": "side", "value": s, "median_ms": 3.0 * s**2, "peak_mb": 0.1 * s**4} for s in (128, 256, 1024)]
    assert model.exponents(rows) == pytest.approx({"median_ms": 1, "peak_mb": 2})
    assert "peak_mb" not in model.exponents([{**row, "peak_mb": ""} for row in rows])


def test_peak_memory_sees_what_was_freed_again() -> None:
    def call() -> None:
        held = np.ones(40_000_000)  # 320 MB
        del held

    found = model.peak_memory(call, "cpu")
    assert found == "" or 300 < float(found) < 400


def test_the_allocation_of_a_pass_is_that_of_its_tensors() -> None:
    def call() -> None:
        a = torch.zeros(2_000_000)  # 8 MB
        b = a + 1
        del a
        torch.zeros(1_000_000)
        del b

    assert model.peak_allocation(call, "cpu") == pytest.approx(16, rel=1e-3)
    assert model.peak_allocation(call, "cpu") == pytest.approx(16, rel=1e-3), "nothing kept from the call before"


def test_too_many_threads_are_refused() -> None:
    with pytest.raises(ValueError, match="threads must be from 1 to 1024, got 1000000"), timing.cpu_threads(1_000_000):
        pass


def test_calls_alternate_after_one_round_that_does_not_count() -> None:
    order = []
    times = timing.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 4
    assert set(times) == {"a", "b"}


def test_wrong_options_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(OFFERED) == set(SUITES)
    assert cli.main(["benchmark", "speed", "--out", str(tmp_path)]) == 2
    assert cli.main(["benchmark", "metrics", "--repeats", "0", "--out", str(tmp_path)]) == 2
    assert cli.main(["benchmark", "metrics", "--threads", "0", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "benchmark must be one of" in said
    assert "repeats must be at least 1" in said
    assert "threads must be from 1 to 1024" in said
    assert not list(tmp_path.iterdir())


def test_methods_stand_side_by_side_with_mambaad() -> None:
    small: dict[str, Any] = {"backbone": SMALL.backbone}
    configs: dict[str, Any] = {
        "mambaad": SMALL,
        "destseg": DeSTSegConfig(**small, student=SMALL.backbone, width=16),
        "memory_bank": MemoryBankConfig(**small, entries=64),
    }
    rows, facts = methods.methods_benchmark(repeats=1, side=64, batch=2, configs=configs)
    assert [row["method"] for row in rows] == list(configs)
    for row in rows:
        assert 0 < row["latency_min_ms"] <= row["latency_median_ms"]
        assert row["latency_ratio"] == row["latency_median_ms"] / rows[0]["latency_median_ms"]
        assert row["images_per_s"] > 0
        assert (row["step_s"] == "") == (row["step_ratio"] == "") == (row["method"] == "memory_bank")
    assert rows[0]["latency_ratio"] == rows[0]["throughput_ratio"] == rows[0]["step_ratio"] == 1
    assert facts["batch"] == 2
    assert [methods.first_phase(config) for config in configs.values()] == [0, 0.2, 0]


def test_training_steps_stand_beside_each_other(tmp_path: Path) -> None:
    path = run_suite("training", tmp_path, 2, 1, side=64, batch=2, configs={"small": SMALL})
    rows = table_of(path)
    assert [(row["encoder"], row["features"]) for row in rows] == [("small", "in every step"), ("small", "kept")]
    for row in rows:
        assert 0 < float(row["min_ms"]) <= float(row["median_ms"]) <= float(row["max_ms"])
        assert 0 < float(row["scan_share"]) < 1


def test_a_share_on_the_cpu_is_one_of_its_own_time_on_a_machine_with_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert model.scan_share(lambda: torch.ones(9, 9) @ torch.ones(9, 9), "cpu") == 0


@pytest.mark.skipif(not fits(), reason="needs torch 2.8 or newer, whose exporter writes operators of other domains")
def test_exports_stand_beside_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    tiny = dataclasses.replace(SMALL, depths=(1, 1, 1, 1), hss_per_lss=1, state_size=4)
    path = run_suite("exports", tmp_path, 2, 1, side=64, formats=("onnx", "torch"), config=tiny)
    rows = table_of(path)
    assert [row["format"] for row in rows] == ["onnx", "torch"]
    for row in rows:
        ratio = float(row["median_ms"]) / float(row["pytorch_median_ms"])
        assert float(row["times_pytorch"]) == pytest.approx(ratio, rel=1e-3)
        assert 0 < float(row["max_relative_difference"]) < 5e-5
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["repeats"] == 2
    assert set(facts["export_packages"]) == {"onnx", "onnxscript", "onnxruntime"}
    with pytest.raises(ValueError, match="timed on the CPU, got cuda"):
        run_suite("exports", tmp_path, device="cuda")
