"""Every method from the command line: trained, calibrated, evaluated, predicting; what does not apply is refused."""

import csv
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mambaad import cli
from mambaad.config import METHODS
from mambaad.inference.export import fits

OTHERS = [name for name in METHODS if name != "mambaad"]
SLOW_GRAPH = ("uniad", "destseg", "mambaad_bank", "memory_bank", "diad")
"""A memory bank is exported by this command in tests/inference/test_export.py, too."""


def train(method: str, drawn: Path, out: Path, *options: str) -> int:
    steps = () if method == "memory_bank" else ("--steps", "2", "--batch-size", "4")
    common = ["--data", str(drawn), "--categories", "gear", "--side", "64", "--device", "cpu"]
    encoder = ["--encoder-weights", "embedded"]
    return cli.main(["train", *common, "--method", method, "--out", str(out), *encoder, *steps, *options])


@pytest.fixture(scope="module")
def trained(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a method's run, trained at the first call; not to be written into."""

    @functools.cache
    def once(method: str) -> Path:
        out = tmp_path_factory.mktemp(method) / "out"
        assert train(method, drawn, out) == 0
        return out

    return once


@pytest.mark.parametrize("method", OTHERS)
def test_a_method_goes_from_training_to_a_verdict(
    method: str, drawn: Path, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(trained(method), tmp_path / "out")
    (checkpoint,) = tmp_path.glob("out/runs/own_*/checkpoint.pth")
    (record,) = tmp_path.glob("out/runs/own_*.json")
    recorded = json.loads(record.read_text())
    assert recorded["config"]["model"]["method"] == method
    metrics = tmp_path / "metrics.json"
    options = ["--weights", str(checkpoint), "--side", "64"]
    data = ["--data", str(drawn), "--categories", "gear"]
    assert cli.main(["evaluate", *options, *data, "--out", str(metrics), "--device", "cpu"]) == 0
    assert json.loads(metrics.read_text())["exact"]["mean"] == pytest.approx(recorded["metrics"]["exact"]["mean"])
    good = drawn / "gear" / "test" / "good"
    assert cli.main(["calibrate", *options, "--data", str(good), "--fpr", "0.5", "--device", "cpu"]) == 0
    assert cli.main(["predict", str(good), *options, "--out", str(tmp_path / "p"), "--device", "cpu"]) == 0
    with (tmp_path / "p" / "scores.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list(good.glob("*.png")))
    assert (tmp_path / "p" / "gallery.html").is_file()


@pytest.mark.skipif(not fits(), reason="needs torch 2.8 or newer, whose exporter writes operators of other domains")
@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW_GRAPH else ()) for name in OTHERS],
)
def test_every_method_is_exported(
    method: str, trained: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint,) = trained(method).glob("runs/own_*/checkpoint.pth")
    capsys.readouterr()
    code = cli.main(["export", "--weights", str(checkpoint), "--side", "64", "--out", str(tmp_path / "m.onnx")])
    assert code == 0, capsys.readouterr().err
    assert (tmp_path / "m.onnx").is_file()


@pytest.mark.parametrize(
    ("method", "option", "message"),
    [
        ("uniad", ["--depths", "2", "2", "2", "2"], "--depths is of MambaAD's decoder, and uniad has none"),
        ("memory_bank", ["--steps", "5"], "--steps is about training in steps"),
        ("memory_bank", ["--compile"], "leave out processes and compile"),
        ("rd4ad", ["--compile"], "compile is for MambaAD only"),
        (
            "rd4ad",
            ["--backbone", "resnet18", "--encoder-weights", "resnet34.bt_in1k"],
            "not of the backbone 'resnet18'",
        ),
    ],
)
def test_options_of_another_method_are_refused(
    method: str, option: list[str], message: str, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(method, drawn, tmp_path, *option) == 2
    assert message in capsys.readouterr().err
