"""Graphs for other runtimes: the scan against its definition, the whole against PyTorch, and what is recorded."""

import contextlib
import copy
import dataclasses
import functools
import hashlib
import io
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layouts import deep_and_turned
from PIL import Image
from torch import Tensor

import mambaad
from mambaad import cli
from mambaad.baselines.memory_bank import MemoryBank
from mambaad.config import MemoryBankConfig, ModelConfig
from mambaad.data.transforms import load_image, normalise
from mambaad.inference import export as export_module
from mambaad.inference.export import ARRAYS, RUNNER, ExportError, export
from mambaad.inference.threshold import calibrate, store_threshold
from mambaad.inference.weights_hub import sha256
from mambaad.ops.routed_scan import unavailable
from mambaad.ops.selective_scan import BACKENDS, exportable, selective_scan_reference
from mambaad.ops.selective_scan.exportable import chunk_steps, selective_scan_exportable

OUTPUTS = {"anomaly_map", "score", "decoder_4", "decoder_8", "decoder_16"}
exports = pytest.mark.skipif(
    not export_module.fits(), reason="needs torch 2.8 or newer, whose exporter writes operators of other domains"
)
THRESHOLD = 0.25  # one for all, so that a graph is traced once
NATIVE = pytest.param(
    "onnx_native", marks=pytest.mark.skipif(unavailable("native") is not None, reason=str(unavailable("native")))
)
# One direction pair and one HSS block per stage: tracing and translating take seconds for every block.
TINY = ModelConfig(
    backbone="resnet18",
    backbone_kwargs={"channels": (8, 16, 32, 64)},
    depths=(1, 1, 1, 1),
    hss_per_lss=1,
    scan="hilbert",
    directions=2,
    state_size=4,
)


@pytest.fixture(scope="module")
def model() -> mambaad.MambaAD:
    torch.manual_seed(1)
    model = mambaad.MambaAD(TINY, weights="random")
    with torch.no_grad():
        for parameter in model.decoder.parameters():  # away from the initial values, which hide mistakes of order
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


Program = Callable[[str, bool, float | None], torch.export.ExportedProgram]


@pytest.fixture(scope="module")
def program(model: mambaad.MambaAD, images: torch.Tensor) -> Program:
    """Traced once of each kind: it takes seconds."""
    trace = export_module.traced
    return functools.cache(
        lambda backend, features, threshold: trace(
            model, images, backend=backend, features=features, threshold=threshold
        )
    )


@pytest.fixture
def traced_before(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        export_module,
        "traced",
        lambda model, images, backend, features, threshold: program(backend, features, threshold),
    )


def arguments(
    length: int,
    dtype: torch.dtype = torch.float64,
    batch: int = 2,
    k: int = 3,
    d: int = 4,
    n: int = 3,
    rate: float = 1.0,
) -> tuple[Tensor, ...]:
    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype)

    return (
        random(batch, k, d, length),
        random(batch, k, d, length),
        -rate * torch.rand(k, d, n, dtype=dtype),
        random(batch, k, n, length),
        random(batch, k, n, length),
        random(k, d),
        random(k, d),
    )


# -- the scan
@given(length=st.integers(1, 70))
def test_the_exportable_scan_is_the_definition(length: int) -> None:
    given_ = arguments(length)
    wanted = selective_scan_reference(*given_)
    torch.testing.assert_close(selective_scan_exportable(*given_), wanted, rtol=1e-12, atol=1e-12)


def test_small_and_large_step_sizes_keep_their_digits() -> None:
    """The softplus that is written out, against torch's in float64."""
    x = torch.cat([torch.linspace(-80, 80, 4001), torch.tensor([-1e4, 1e4, 0.0])])
    wanted = torch.nn.functional.softplus(x.double())
    assert ((exportable.softplus(x) - wanted).abs() <= 4e-7 * wanted + 1e-38).all()
    exact = torch.nn.functional.softplus(x.double(), threshold=100)  # torch takes x itself from 20 on, if not told
    assert ((exportable.softplus(x.double()) - exact).abs() <= 1e-15 * exact + 1e-300).all()


@pytest.mark.parametrize("length", [1, 64, 100, 1024])
def test_the_exportable_scan_in_float32(length: int) -> None:
    given_ = arguments(length, torch.float32)
    wanted = selective_scan_reference(*given_)
    assert (selective_scan_exportable(*given_) - wanted).abs().max() <= 5e-6 * wanted.abs().max()
    half = [x.half() for x in given_]
    assert selective_scan_exportable(*half).dtype == torch.float16


@pytest.mark.parametrize("rate", [1e-6, 1e4])
def test_slow_and_fast_decays_neither_overflow_nor_vanish(rate: float) -> None:
    given_ = arguments(256, torch.float32, rate=rate)
    wanted = selective_scan_reference(*given_)
    got = selective_scan_exportable(*given_)
    assert got.isfinite().all()
    assert (got - wanted).abs().max() <= 5e-6 * wanted.abs().max()


def test_gradients_are_those_of_the_definition() -> None:
    given_ = [x.requires_grad_() for x in arguments(20)]
    weight = torch.randn(2, 3, 4, 20, dtype=torch.float64)
    wanted = torch.autograd.grad((selective_scan_reference(*given_) * weight).sum(), given_)
    got = torch.autograd.grad((selective_scan_exportable(*given_) * weight).sum(), given_)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_steps_in_sequence_grow_as_the_square_root() -> None:
    assert [chunk_steps(n) for n in (1, 2, 4, 5, 64, 4096)] == [1, 2, 2, 3, 8, 64]


# -- whole graphs
@exports
def test_torch_export_is_written_reloaded_and_equal_for_any_batch(
    model: mambaad.MambaAD, images: torch.Tensor, traced_before: None, tmp_path: Path
) -> None:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    record = export(
        model, tmp_path / "m.pt2", images, format="torch", threshold=THRESHOLD, facts={"of": "tests"}, repeats=1
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.pt2", "m.pt2.json"]
    assert json.loads((tmp_path / "m.pt2.json").read_text()) == record
    assert record["sha256"] == hashlib.sha256((tmp_path / "m.pt2").read_bytes()).hexdigest()
    assert record["of"] == "tests"
    assert record["compared"]["batches"] == [1, 3]
    assert set(record["compared"]["max_relative_difference"]) == OUTPUTS
    assert max(record["compared"]["max_relative_difference"].values()) <= 1e-5
    assert record["compared"]["max_difference_map"] <= 1e-5 * record["compared"]["largest_map_value"]
    assert record["milliseconds_per_image"]["pytorch"] > 0
    graph = torch.export.load(tmp_path / "m.pt2").module()
    for n in (1, 2, 3, 5):
        some = torch.rand(n, 3, 64, 64)
        maps, score, anomalous = graph(some)
        assert torch.equal(anomalous, score > THRESHOLD)
        wanted = model.predict(model.normalize(some))
        torch.testing.assert_close(maps, wanted.anomaly_map, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(score, wanted.score, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert {m.backend for m in model.modules() if isinstance(m, mambaad.model.SS2D)} == {"auto"}


@exports
@pytest.mark.parametrize("format", ["onnx", NATIVE, pytest.param("onnx_unrolled", marks=pytest.mark.slow)])
def test_onnx_is_equal_to_pytorch_under_onnxruntime(
    model: mambaad.MambaAD, images: torch.Tensor, traced_before: None, tmp_path: Path, format: str
) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    record = export(model, tmp_path / "m.onnx", images, format=format, threshold=THRESHOLD, repeats=1)
    native = format == "onnx_native"
    library = [tmp_path / "routed_scan.so"] * native
    assert sorted(tmp_path.iterdir()) == [tmp_path / "m.onnx", tmp_path / "m.onnx.json", *library]
    if native:
        assert record["library"] == {"file": "routed_scan.so", "sha256": sha256(library[0])}
    else:
        assert record["library"] is None
    assert set(record["compared"]["max_relative_difference"]) == OUTPUTS
    assert max(record["compared"]["max_relative_difference"].values()) <= 1e-5
    assert record["compared"]["max_difference_map"] <= 1e-5 * record["compared"]["largest_map_value"]
    proto = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert {p.key: p.value for p in proto.metadata_props} == {"side": "64", "threshold": str(THRESHOLD)}
    domains = {("", record["opset"]), *([("mambaad", 1)] * native)}
    assert {(o.domain, o.version) for o in proto.opset_import} == domains
    operators = [node.op_type for node in proto.graph.node]
    assert not {"Loop", "If", "SequenceAt", "SplitToSequence"} & set(operators)
    scans = sum(isinstance(part, mambaad.model.SS2D) for part in model.modules())
    assert operators.count("Scan") == (scans if format == "onnx" else 0)
    assert operators.count("RoutedScan") == (scans if native else 0)
    for value in (*proto.graph.input, *proto.graph.output):
        first, *rest = value.type.tensor_type.shape.dim
        assert first.dim_param == "batch"
        assert all(axis.dim_value for axis in rest)
    options = onnxruntime.SessionOptions()
    for file in library:
        options.register_custom_ops_library(str(file))
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", options, providers=["CPUExecutionProvider"])
    for n in (1, 3, 5):
        some = torch.rand(n, 3, 64, 64)
        maps, score, anomalous = session.run(None, {"images": some.numpy()})
        assert (anomalous == (score > np.float32(THRESHOLD))).all()
        wanted = model.predict(model.normalize(some))
        torch.testing.assert_close(torch.from_numpy(maps), wanted.anomaly_map, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.from_numpy(score), wanted.score, rtol=1e-4, atol=1e-5)


@exports
@pytest.mark.parametrize("format", ["torch", "onnx", pytest.param("onnx_unrolled", marks=pytest.mark.slow)])
def test_a_graph_that_computes_something_else_is_not_written(
    model: mambaad.MambaAD,
    images: torch.Tensor,
    traced_before: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format: str,
) -> None:
    """Without its skip path, in every block; and a D that is off in one block, which hardly shows in the maps."""

    if format != "torch":
        pytest.importorskip("onnxruntime")

    def wrong(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor) -> Tensor:
        return selective_scan_exportable(u, delta, A, B, C, 0 * D, delta_bias)

    other = copy.deepcopy(model)
    with torch.no_grad():
        other.decoder.get_parameter("stages.3.0.hss.0.ss2d.D").add_(1)
    (tmp_path / "m").write_bytes(b"an earlier export")
    monkeypatch.setitem(BACKENDS, "exportable", wrong)
    with pytest.raises(
        ExportError, match=r"(decoder_4|anomaly_map) of the exported graph differs .* nothing was written"
    ):
        export(model if format == "torch" else other, tmp_path / "m", images, format=format, threshold=THRESHOLD)
    assert (tmp_path / "m").read_bytes() == b"an earlier export"
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@exports
def test_wrong_arguments_and_missing_packages_are_refused(
    model: mambaad.MambaAD, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="format must be one of onnx, onnx_native, onnx_unrolled, torch"):
        export(model, tmp_path / "m", images, format="tflite")
    for wrong in (images[:1], images[:, :1], images[0], (images * 255).byte(), (images * 255).int()):
        with pytest.raises(ValueError, match=r"images must be uint8, \(B, S, S, 3\), or float"):
            export(model, tmp_path / "m", wrong)
    with pytest.raises(ValueError, match="the image side must be"):
        export(model, tmp_path / "m", torch.rand(2, 3, 96, 96))
    with monkeypatch.context() as patch:
        patch.setattr(export_module, "unavailable", lambda backend: f"no {backend}: do this")
        with pytest.raises(ExportError, match="no native: do this"):
            export(model, tmp_path / "m", images, format="onnx_native")
    monkeypatch.setattr(export_module, "_version", lambda name: "not installed")
    with pytest.raises(ExportError, match=r"onnxruntime not installed: pip install 'mambaad\[export\]'"):
        export(model, tmp_path / "m", images)
    assert not list(tmp_path.iterdir())


@exports
def test_export_command(
    model: mambaad.MambaAD, traced_before: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (70, 50), "red").save(tmp_path / "red.png")
    weights = tmp_path / "c.pth"
    mambaad.save_checkpoint(weights, model)
    store_threshold(weights, calibrate([THRESHOLD], 0.5, side=64))
    call = ["export", "--weights", str(weights), "--format", "torch", "--images", str(tmp_path / "red.png")]
    call += ["--input", "float"]
    assert cli.main([*call, "--out", str(tmp_path / "e" / "m.pt2"), "--repeats", "0"]) == 0
    out = capsys.readouterr().out
    assert "largest difference from PyTorch: map " in out
    assert "milliseconds" not in out
    record = json.loads((tmp_path / "e" / "m.pt2.json").read_text())
    assert record["input"]["images"] == ["batch", 3, 64, 64]
    assert (record["threshold"], record["checkpoint"]) == (THRESHOLD, "c.pth")
    assert str(tmp_path) not in json.dumps(record)
    assert "no threshold" not in out
    store_threshold(weights, dataclasses.replace(calibrate([THRESHOLD], 0.5, side=64), tile=32))
    assert cli.main([*call, "--out", str(tmp_path / "other.pt2"), "--repeats", "0"]) == 0
    assert "the checkpoint's belongs to tiles of 32 pixels, the graph takes images of 64" in capsys.readouterr().out
    assert json.loads((tmp_path / "other.pt2.json").read_text()).get("threshold") is None


@exports
@pytest.mark.skipif(unavailable("native") is not None, reason=str(unavailable("native")))
def test_the_script_finds_the_compiled_scan_beside_the_graph(
    model: mambaad.MambaAD, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Graph, library and script alone, in another folder, without torch and without this package."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    mambaad.save_checkpoint(tmp_path / "c.pth", model)
    call = ["export", "--weights", str(tmp_path / "c.pth"), "--format", "onnx_native", "--side", "64", "--repeats", "0"]
    assert cli.main([*call, "--out", str(tmp_path / "first" / "m.onnx")]) == 0
    assert f"which belongs to the graph: {tmp_path / 'first' / 'routed_scan.so'}" in capsys.readouterr().out
    folder = (tmp_path / "first").rename(tmp_path / "other")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    call = [sys.executable, "-c", WITHOUT_TORCH, "run_onnx.py", "m.onnx", str(tmp_path / "red.png")]
    done = subprocess.run(call, capture_output=True, text=True, cwd=folder, check=True)
    image = load_image(str(tmp_path / "red.png"), 64, model.config.mean, model.config.std)
    wanted = model.predict(image[None]).score.item()
    assert float(done.stdout.split("\t")[0]) == pytest.approx(wanted, rel=1e-4)
    (folder / "routed_scan.so").unlink()
    done = subprocess.run(call, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode != 0
    assert "mambaad" in done.stderr


# -- other methods, bytes in, verdicts out
@pytest.fixture(scope="module")
def bank() -> MemoryBank:
    """A memory bank of noise: the quickest method to export."""
    torch.manual_seed(2)
    config = MemoryBankConfig(backbone="resnet18", backbone_kwargs={"channels": (8, 16, 32, 64)}, entries=200)
    bank = MemoryBank(config, weights="random").eval()
    bank.fit([bank.encode(torch.randn(4, 3, 64, 64))], images=4, side=64, seed=0)
    return bank


@dataclass(frozen=True)
class ExportedBank:
    """The memory bank as the command wrote it, with the mean score of two image files as its threshold."""

    graph: Path
    files: list[str]
    wanted: mambaad.Prediction
    threshold: float
    said: str


@pytest.fixture(scope="module")
def exported(bank: MemoryBank, tmp_path_factory: pytest.TempPathFactory) -> ExportedBank:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("bank")
    files = [str(folder / name) for name in ("a.png", "b.jpg")]
    for file in files:
        noise = np.random.default_rng(len(Path(file).name)).integers(0, 256, (90, 70, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
    wanted = bank.predict(torch.stack([load_image(file, 64, bank.config.mean, bank.config.std) for file in files]))
    weights, graph = folder / "bank.pth", folder / "m.onnx"
    mambaad.save_checkpoint(weights, bank)
    threshold = calibrate([float(wanted.score.mean())], 0.5, side=64)
    store_threshold(weights, threshold)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert cli.main(["export", "--weights", str(weights), "--out", str(graph), "--repeats", "0"]) == 0
    return ExportedBank(graph, files, wanted, threshold.value, said.getvalue())


@exports
def test_other_methods_are_exported_and_take_bytes(bank: MemoryBank, exported: ExportedBank) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pixels = torch.randint(256, (3, 64, 64, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    record = json.loads(exported.graph.with_name("m.onnx.json").read_text())
    assert record["input"] == {"images": ["batch", 64, 64, 3], "values": "RGB, 0 to 255, uint8"}
    assert record["outputs"]["anomalous"] == ["batch"]
    assert record["threshold"] == exported.threshold
    assert set(record["compared"]["max_relative_difference"]) == {"anomaly_map", "score"}
    session = onnxruntime.InferenceSession(exported.graph, providers=["CPUExecutionProvider"])
    images = torch.stack([normalise(image, bank.config.mean, bank.config.std) for image in pixels.numpy()])
    wanted = bank.predict(images)
    for some in (slice(0, 1), slice(0, 3)):
        maps, score, anomalous = session.run(None, {"images": pixels[some].numpy()})
        np.testing.assert_allclose(maps, wanted.anomaly_map[some].numpy(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(score, wanted.score[some].numpy(), rtol=1e-4)
        assert anomalous.tolist() == (score > np.float32(exported.threshold)).tolist()


@exports
def test_a_method_without_a_scan_needs_no_library(bank: MemoryBank, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    pixels = torch.randint(256, (2, 64, 64, 3), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)
    record = export(bank, tmp_path / "b.onnx", pixels, format="onnx_native", repeats=0)
    assert record["library"] is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.onnx", "b.onnx.json"]


@exports
def test_a_method_that_fixes_the_number_of_images_is_refused(bank: MemoryBank, tmp_path: Path) -> None:
    class Fixed(MemoryBank):
        def predict(self, images: Tensor) -> mambaad.Prediction:
            found = super().predict(images)
            return mambaad.Prediction(found.anomaly_map.view(len(images), 64, 64), found.score)

    fixed = copy.deepcopy(bank)
    fixed.__class__ = Fixed
    pixels = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    with pytest.raises(ExportError, match="'memory_bank' cannot be written as one graph for any number of images"):
        export(fixed, tmp_path / "b.pt2", pixels, format="torch", repeats=0)
    assert not list(tmp_path.iterdir())


@exports
def test_a_score_within_rounding_of_the_threshold_is_not_called_anomalous(bank: MemoryBank, tmp_path: Path) -> None:
    pixels = torch.randint(256, (2, 64, 64, 3), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)
    images = torch.stack([normalise(image, bank.config.mean, bank.config.std) for image in pixels.numpy()])
    highest = float(bank.predict(images).score.max())
    record = export(bank, tmp_path / "b.pt2", pixels, format="torch", threshold=highest * (1 - 3e-6), repeats=0)
    assert record["threshold"] == highest * (1 - 3e-6)
    _, score, anomalous = torch.export.load(tmp_path / "b.pt2").module()(pixels)
    assert float(score.max()) > record["threshold"]
    assert not anomalous.any()


@exports
def test_without_a_threshold_there_is_no_verdict(bank: MemoryBank, tmp_path: Path) -> None:
    pixels = torch.randint(256, (2, 64, 64, 3), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)
    record = export(bank, tmp_path / "b.pt2", pixels, format="torch", repeats=0)
    assert list(record["outputs"]) == ["anomaly_map", "score"]
    assert "threshold" not in record
    images = torch.stack([normalise(image, bank.config.mean, bank.config.std) for image in pixels.numpy()])
    wanted = bank.predict(images)
    maps, score = torch.export.load(tmp_path / "b.pt2").module()(pixels)
    torch.testing.assert_close(maps, wanted.anomaly_map, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(score, wanted.score, rtol=1e-4, atol=1e-5)


WITHOUT_TORCH = """
import runpy, sys
for name in ("torch", "torchvision", "timm", "scipy", "mambaad"):
    sys.modules[name] = None  # an import of it fails
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@exports
def test_the_script_beside_an_export_scores_files_without_torch(exported: ExportedBank, tmp_path: Path) -> None:
    script = exported.graph.with_name("run_onnx.py")
    assert f"python {script} {exported.graph} IMAGES" in exported.said
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(script), str(exported.graph), *exported.files, "--maps", "maps"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [path for _, _, path in lines] == exported.files
    wanted = exported.wanted
    for (score, verdict, path), s, m in zip(lines, wanted.score, wanted.anomaly_map, strict=True):
        assert float(score) == pytest.approx(float(s), rel=1e-4)
        assert verdict == ("not OK" if s > wanted.score.mean() else "OK")
        written = np.load(tmp_path / "maps" / f"{Path(path).name}.npy")
        np.testing.assert_allclose(written, m.numpy(), rtol=1e-4, atol=1e-4)


@exports
@pytest.mark.parametrize("size", [(64, 64), (100, 37), (20, 150)])
def test_the_script_for_arrays_needs_numpy_alone_and_agrees(
    bank: MemoryBank, exported: ExportedBank, tmp_path: Path, size: tuple[int, int]
) -> None:
    """A few values may be rounded otherwise in the resize, by one of 255."""
    script = exported.graph.with_name(ARRAYS.name)
    assert f"python {script} {exported.graph} FRAMES.npy" in exported.said
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    np.save(tmp_path / "frame.npy", frame)
    Image.fromarray(frame).save(tmp_path / "frame.png")
    call = [sys.executable, "-c", WITHOUT_TORCH.replace('"mambaad"', '"mambaad", "PIL"'), str(script)]
    call += [str(exported.graph), str(tmp_path / "frame.npy")]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    path, score, anomalous = done.stdout.rstrip().split("\t")
    assert path == str(tmp_path / "frame.npy")
    image = load_image(str(tmp_path / "frame.png"), 64, bank.config.mean, bank.config.std)
    assert float(score) == pytest.approx(bank.predict(image[None]).score.item(), rel=2e-2)
    assert anomalous == str(float(score) > exported.wanted.score.mean().item())


@exports
def test_the_script_reads_deep_and_turned_images_as_prediction_does(
    bank: MemoryBank, exported: ExportedBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    camera, preview = (Image.new("RGB", (9, 9), colour) for colour in ("red", "blue"))
    camera.save(tmp_path / "camera.jpg", format="MPO", save_all=True, append_images=[preview])
    files = [*map(str, deep_and_turned(tmp_path)), str(tmp_path / "camera.jpg")]
    wanted = bank.predict(torch.stack([load_image(file, 64, bank.config.mean, bank.config.std) for file in files]))
    monkeypatch.setattr(sys, "argv", [str(RUNNER), str(exported.graph), *files])
    runpy.run_path(str(RUNNER), run_name="__main__")
    found = [float(line.split("\t")[0]) for line in capsys.readouterr().out.splitlines()]
    assert found == pytest.approx(wanted.score.tolist(), rel=1e-4)
    Image.new("F", (8, 8), 0.5).save(tmp_path / "float.tif")
    monkeypatch.setattr(sys, "argv", [str(RUNNER), str(exported.graph), str(tmp_path / "float.tif")])
    with pytest.raises(SystemExit):
        runpy.run_path(str(RUNNER), run_name="__main__")
    assert "float.tif: expected 8 or 16 bits per channel" in capsys.readouterr().err


@exports
def test_the_script_says_what_it_could_not_read_and_goes_on(
    exported: ExportedBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "notes.png").write_text("no image")
    Image.new("RGB", (9, 9)).save(tmp_path / "two.tif", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    bomb = io.BytesIO()
    Image.new("RGB", (9, 9)).save(bomb, "BMP")
    content = bytearray(bomb.getvalue())
    content[18:26] = (60_000).to_bytes(4, "little") * 2  # width and height of the header
    (tmp_path / "bomb.bmp").write_bytes(content)
    Image.new("RGB", (9, 9)).save(tmp_path / "moving.gif")
    wrong = [str(tmp_path / name) for name in ("notes.png", "two.tif", "bomb.bmp", "moving.gif", "")]
    monkeypatch.setattr(sys, "argv", [str(RUNNER), str(exported.graph), *wrong, exported.files[0]])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(RUNNER), run_name="__main__")
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert [line.split("\t")[2] for line in said.out.splitlines()] == [exported.files[0]]
    assert len(said.err.splitlines()) == 5
    assert "two.tif: expected one picture, got 2" in said.err
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / Path(exported.files[0]).name
    maps = ["--maps", str(tmp_path / "maps")]
    monkeypatch.setattr(sys, "argv", [str(RUNNER), str(exported.graph), exported.files[0], str(other), *maps])
    with pytest.raises(SystemExit):
        runpy.run_path(str(RUNNER), run_name="__main__")
    assert "two images have the same name" in capsys.readouterr().err
    assert not (tmp_path / "maps").exists()


@exports
def test_the_script_is_the_package_s_own(
    exported: ExportedBank, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exported.graph.with_name("run_onnx.py").read_bytes() == RUNNER.read_bytes()
    monkeypatch.setattr(sys, "argv", [str(RUNNER), str(exported.graph), *exported.files])
    runpy.run_path(str(RUNNER), run_name="__main__")
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [path for _, _, path in lines] == exported.files
    for (score, verdict, _), s in zip(lines, exported.wanted.score, strict=True):
        assert float(score) == pytest.approx(float(s), rel=1e-4)
        assert verdict == ("not OK" if s > exported.wanted.score.mean() else "OK")


def test_a_torch_whose_exporter_fails_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.6.0+cpu")
    with pytest.raises(ExportError, match=r"torch 2\.6\.0\+cpu cannot export .* install torch 2\.8 or newer"):
        export(mambaad.MambaAD(TINY, weights="random"), tmp_path / "m.onnx", torch.rand(2, 3, 64, 64))
    assert not list(tmp_path.iterdir())
