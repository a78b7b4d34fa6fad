"""Training on cached encoder features: the same losses, in memory or on disk, resumed or not; and torch.compile."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_run import MODEL, RUN
from torch import Tensor

from mambaad.config import RunConfig
from mambaad.data import Sample, load_dataset
from mambaad.data.image_set import ImageSet
from mambaad.data.row_store import CacheError
from mambaad.data.synthetic.generate import write_synthetic
from mambaad.engine import feature_cache as features
from mambaad.engine import train
from mambaad.engine.execution import Execution, check_compiler
from mambaad.engine.feature_cache import FeatureCache, as_features, cache_features, free_memory
from mambaad.engine.train import train_run
from mambaad.model import MambaAD, load_checkpoint, reconstruction_loss

CPU = torch.device("cpu")
BF16 = replace(RUN, train=replace(RUN.train, precision="bf16-mixed"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("set") / "data", side=64, train=9, test=3, categories=("gear",))


@pytest.fixture(scope="module")
def model() -> MambaAD:
    torch.manual_seed(3)
    return MambaAD(MODEL, weights="random").eval()


@pytest.fixture
def images(drawn: Path) -> ImageSet:
    good = [sample for sample in load_dataset("synthetic", drawn) if sample.split == "train"]
    return ImageSet(good, 64, MODEL.mean, MODEL.std)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batch sizes of every encoder call from here on."""
    calls: list[int] = []
    original = MambaAD.encode

    def spy(self: MambaAD, batch: Tensor) -> Any:
        calls.append(len(batch))
        return original(self, batch)

    monkeypatch.setattr(MambaAD, "encode", spy)
    return calls


def run_once(drawn: Path, run: RunConfig = RUN, out: Path | str | None = None, **options: Any) -> train.TrainResult:
    execution = Execution(device="cpu", progress=False, **options)
    return train_run(run, load_dataset("synthetic", drawn, run.data.categories), out=out, execution=execution)


def losses(result: train.TrainResult) -> list[float]:
    return [loss for _, loss in result.loss]


def cached(model: MambaAD, images: ImageSet, kept: str = "float32", **options: Any) -> FeatureCache:
    return cache_features(model, images, kept, device=CPU, progress=False, batch_size=4, **options)


# -- the cache itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("kept", ["float32", "float16"])
def test_cached_features_are_the_encoders(
    model: MambaAD, images: ImageSet, tmp_path: Path, kept: str, on_disk: bool
) -> None:
    cache = cached(model, images, kept, folder=tmp_path if on_disk else None)
    assert len(cache) == 9
    wanted = model.encode(torch.stack([images[i][0] for i in (7, 2, 2)]))
    got = as_features(cache.__getitems__([7, 2, 2]), CPU)
    for a, b, c in zip(got, wanted, cache[7], strict=True):
        assert a.dtype == torch.float32
        assert c.dtype == getattr(torch, kept)
        assert a.shape == b.shape
        assert a.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(c.float(), a[0].permute(1, 2, 0))
        # rounding to 11 significant bits, and the order of sums, which depends on the batch
        torch.testing.assert_close(a, b, rtol=2**-11 if kept == "float16" else 1e-6, atol=1e-6)


@given(st.floats(-65504, 65504, width=32))
def test_float16_rounds_as_stated(value: float) -> None:
    error = abs(float(torch.tensor(value, dtype=torch.float32).half()) - value)
    assert error <= (2**-11 * abs(value) if abs(value) >= 2**-14 else 2**-25)


def test_features_that_float16_cannot_hold_are_refused(
    model: MambaAD, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = MambaAD.encode
    monkeypatch.setattr(MambaAD, "encode", lambda self, batch: [1e6 * scale for scale in encode(self, batch)])
    with pytest.raises(CacheError, match=r"features reach .*, and float16 ends at 65504: keep float32"):
        cached(model, images, "float16")
    assert len(cached(model, images, "float32")) == 9


def test_a_folder_is_reused_by_the_same_encoder_and_images_alone(
    model: MambaAD, images: ImageSet, tmp_path: Path, encoded: list[int]
) -> None:
    cached(model, images, folder=tmp_path)
    assert sum(encoded) == 9
    encoded.clear()
    cached(model, images, folder=tmp_path)
    assert encoded == []
    torch.manual_seed(4)
    others = {
        "weights": (MambaAD(MODEL, weights="random"), images, {}),
        "mean": (model, ImageSet(images.samples, 64, (0.1, 0.2, 0.3), MODEL.std), {}),
        "standard deviation": (model, ImageSet(images.samples, 64, MODEL.mean, (0.1, 0.2, 0.3)), {}),
        "images": (model, ImageSet(images.samples[:5], 64, MODEL.mean, MODEL.std), {}),
        "precision": (model, images, {"precision": "bf16-mixed"}),
        "turned as EXIF says": (
            model,
            ImageSet([replace(s, upright=False) for s in images.samples], 64, MODEL.mean, MODEL.std),
            {},
        ),
    }
    for name, (other, those, options) in others.items():
        encoded.clear()
        cached(other, those, folder=tmp_path, **options)
        assert sum(encoded) == len(those), name
    encoded.clear()
    cached(model, images, "float16", folder=tmp_path)
    assert sum(encoded) == 9


def test_only_images_that_changed_are_encoded_again(
    model: MambaAD, drawn: Path, tmp_path: Path, encoded: list[int]
) -> None:
    good = [sample for sample in load_dataset("synthetic", drawn) if sample.split == "train"]
    copies = []
    for sample in good:
        copy = tmp_path / "set" / sample.image.name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(sample.image.read_bytes())
        copies.append(Sample(copy, "gear", "train"))
    cached(model, ImageSet(copies, 64, MODEL.mean, MODEL.std), folder=tmp_path / "features")
    encoded.clear()
    copies[1].image.write_bytes(good[5].image.read_bytes())
    os.utime(copies[1].image, ns=(1, 1))
    again = cached(model, ImageSet(copies, 64, MODEL.mean, MODEL.std), folder=tmp_path / "features")
    assert encoded == [1]
    for changed, other in zip(again[1], again[5], strict=True):
        torch.testing.assert_close(changed, other, rtol=1e-6, atol=1e-6)


def test_too_little_memory_names_the_bytes_and_the_way_out(
    model: MambaAD, images: ImageSet, monkeypatch: pytest.MonkeyPatch, encoded: list[int]
) -> None:
    c1, c2, c3 = model.encoder.channels
    needed = 9 * 4 * (16 * 16 * c1 + 8 * 8 * c2 + 4 * 4 * c3)
    monkeypatch.setattr(features, "free_memory", lambda device: int(needed / features.MEMORY_SHARE) - 10)
    with pytest.raises(CacheError, match=f"9 images need {needed} bytes .*: choose float16, a folder on disk, or no"):
        cached(model, images)
    assert encoded == []
    assert len(cached(model, images, "float16")) == 9
    with pytest.raises(CacheError, match=f"need {2 * needed} bytes .*: choose a folder on disk, or none"):
        cached(model, images, "float16", sharers=4)


def test_free_memory_is_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_memory(CPU)
    assert 1e7 < free < 1e15
    monkeypatch.setattr(Path, "is_file", lambda self: False)  # a system without /proc
    assert free <= free_memory(CPU) < 1e15


def test_unknown_kinds_are_refused(model: MambaAD, images: ImageSet, drawn: Path) -> None:
    with pytest.raises(ValueError, match="kept as float32 or float16, got 'int8'"):
        cached(model, images, "int8")
    with pytest.raises(ValueError, match="features must be one of off, float32, float16, got 'yes'"):
        run_once(drawn, features="yes")


# -- training on it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [False, True])
def test_training_on_float32_features_has_the_same_losses(
    drawn: Path, tmp_path: Path, encoded: list[int], on_disk: bool
) -> None:
    plain = run_once(drawn)
    encoded.clear()
    result = run_once(drawn, features="float32", feature_dir=tmp_path if on_disk else None)
    assert sum(encoded) == 9  # every image once, however many steps
    np.testing.assert_allclose(losses(result), losses(plain), rtol=1e-5)
    assert result.execution["features"] == "float32"
    assert result.execution["features_in"] == ("folder" if on_disk else "memory")
    assert plain.execution["features"] == "off"


def test_training_on_float16_features_converges_alike(drawn: Path) -> None:
    """Only the first losses can be compared one by one: this small network's training amplifies any rounding, even a
    relative change of the features by 1e-6, to several percent of the loss within ten steps."""
    longer = replace(RUN, train=replace(RUN.train, steps=25, lr=3e-3))
    plain, rounded = losses(run_once(drawn, longer)), losses(run_once(drawn, longer, features="float16"))
    assert rounded != plain  # or float16 was not in use
    assert rounded[0] == pytest.approx(plain[0], rel=1e-3)
    assert np.mean(rounded[-5:]) == pytest.approx(np.mean(plain[-5:]), rel=0.15)
    assert rounded[-1] < 0.5 * rounded[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_image_cache_and_workers_change_nothing(drawn: Path, tmp_path: Path, workers: int) -> None:
    plain = run_once(drawn)
    result = run_once(drawn, image_cache=tmp_path, workers=workers)
    assert result.loss == plain.loss
    assert result.execution["image_cache"] is True
    assert list(tmp_path.glob("images_64px_*/pixels.npy"))
    assert run_once(drawn, features="float32", feature_dir=tmp_path, workers=workers).execution["workers"] == workers


def test_an_interrupted_run_on_features_continues_to_the_same_weights(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_once(drawn, features="float32")
    calls = []

    def interrupt(*pair: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return reconstruction_loss(*pair)

    monkeypatch.setattr("mambaad.model.mambaad.reconstruction_loss", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_once(drawn, features="float32", out=tmp_path)
    monkeypatch.undo()
    continued = run_once(drawn, features="float32", out=tmp_path)
    assert continued.loss == whole.loss
    assert all(torch.equal(a, b) for a, b in zip(continued.model.parameters(), whole.model.parameters(), strict=True))


def test_bfloat16_training_is_close_and_keeps_the_scan_in_float32(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mambaad.model import hss

    seen: dict[str, set[torch.dtype]] = {"scan": set(), "encoder": set()}
    scan, encode = hss.SS2D.scan_routes, MambaAD.encode

    def spy_scan(self: hss.SS2D, *args: Any) -> Tensor:
        y = scan(self, *args)
        seen["scan"].add(y.dtype)
        return y

    def spy_encode(self: MambaAD, batch: Tensor) -> list[Tensor]:
        out = encode(self, batch)
        seen["encoder"].add(out[0].dtype)
        return out

    monkeypatch.setattr(hss.SS2D, "scan_routes", spy_scan)
    monkeypatch.setattr(MambaAD, "encode", spy_encode)
    result = run_once(drawn, BF16)
    assert seen == {"scan": {torch.float32}, "encoder": {torch.bfloat16}}
    assert all(parameter.dtype == torch.float32 for parameter in result.model.parameters())
    monkeypatch.undo()
    plain = run_once(drawn)
    # Training amplifies the rounding step by step, by how much depends on the processor.
    np.testing.assert_allclose(losses(result)[0], losses(plain)[0], rtol=2e-3)
    np.testing.assert_allclose(losses(result), losses(plain), rtol=0.1)
    assert losses(result) != losses(plain)
    # the cached features are those of the same precision
    np.testing.assert_allclose(losses(run_once(drawn, BF16, features="float32"))[0], losses(result)[0], rtol=5e-3)


# -- torch.compile ----------------------------------------------------------------------------------------------------


def test_without_a_compiler_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, drawn: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler, and none was found: install g\+\+, or go without"):
        run_once(drawn, compile=True)
    monkeypatch.setattr("mambaad.engine.execution.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs Triton on CUDA devices: install triton"):
        check_compiler(torch.device("cuda"))


def test_compile_wraps_the_reconstruction_and_leaves_the_model_alone(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torch.compile replaced by a counter: what is compiled, what is saved, what evaluation calls."""
    compiled: list[str] = []
    calls: list[int] = []

    def fake(function: Callable[..., Any], **_: object) -> Callable[..., Any]:
        compiled.append(function.__name__)

        def run(*args: Any) -> Any:
            calls.append(1)
            return function(*args)

        return run

    monkeypatch.setattr(torch, "compile", fake)
    plain = run_once(drawn)
    result = run_once(drawn, compile=True, features="float32", out=tmp_path)
    assert (compiled, len(calls)) == (["reconstruct"], 6)
    assert result.execution["compiled"] is True
    np.testing.assert_allclose(losses(result), losses(plain), rtol=1e-5)
    result.model.predict(torch.zeros(1, 3, 64, 64))
    assert len(calls) == 6
    saved = torch.load(tmp_path / "checkpoint.pth", weights_only=True)["state_dict"]
    assert list(saved) == list(plain.model.state_dict())
    load_checkpoint(tmp_path / "checkpoint.pth")


@pytest.mark.slow
@pytest.mark.parametrize("branches", ["local", "both"])
def test_compiled_training_has_the_same_losses(drawn: Path, tmp_path: Path, branches: str) -> None:
    """In a process of its own: signatures are not checked there, and compilers warn."""
    code = f"""
import json, sys
from dataclasses import replace
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
from test_features import RUN, losses, run_once
drawn, out, branches = sys.argv[1:]
run = replace(RUN, model=replace(RUN.model, branches=branches, drop_path=0.0), train=replace(RUN.train, steps=3))
plain, compiled = (run_once(drawn, run, compile=c, out=f"{{out}}/{{c}}") for c in (False, True))
same_keys = list(plain.model.state_dict()) == list(compiled.model.state_dict())
print(json.dumps([losses(plain), losses(compiled), same_keys]))
"""
    command = [sys.executable, "-c", code, str(drawn), str(tmp_path), branches]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    plain, compiled, same_keys = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(compiled, plain, rtol=1e-4)
    assert same_keys
    assert not any("_orig_mod" in key for key in load_checkpoint(tmp_path / "True" / "checkpoint.pth").state_dict())


@pytest.mark.slow
def test_two_processes_train_on_one_folder_of_features(drawn: Path, tmp_path: Path) -> None:
    """Both train on the same shares as without the cache: the losses agree."""
    code = f"""
import json, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
from test_features import losses, run_once
kind, folder = sys.argv[1:]
result = run_once({str(drawn)!r}, processes=2, features=kind, feature_dir=folder or None)
if result.is_main:
    print("losses", json.dumps(losses(result)))
"""
    script = tmp_path / "run.py"  # a file: the program is started again for the second process
    script.write_text(code)
    found = []
    for kind, folder in (("off", ""), ("float32", ""), ("float32", str(tmp_path / "features"))):
        command = [sys.executable, str(script), kind, folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("losses ")]
        found.append(json.loads(line.removeprefix("losses ")))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-5)
    assert len(list((tmp_path / "features").glob("features_64px_float32_*/index.json"))) == 1
