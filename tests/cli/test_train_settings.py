"""Where the settings of `mambaad train` come from: preset, file, options; and what a run without any of them leaves."""

import argparse
import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from mambaad import cli
from mambaad.cli import parser
from mambaad.cli.settings import Settings, settle
from mambaad.config import (
    ModelConfig,
    RunConfig,
    method_of,
    preset,
    published_recipe,
    run_config_from_dict,
    small_form,
)
from mambaad.config.methods import DeSTSegConfig, DiADConfig, UniADConfig
from mambaad.inference.threshold import Threshold, stored_threshold, stored_thresholds, threshold_for
from mambaad.model.checkpoint import read_checkpoint


def settings(*words: str) -> Settings:
    arguments: argparse.Namespace = parser().parse_args(["train", "--device", "cpu", *words])
    return settle(arguments)


def test_without_options_a_cpu_takes_the_laptop_preset() -> None:
    found = settings()
    assert found.preset == "laptop"
    assert found.run == preset("laptop").run
    assert found.execution == {"features": preset("laptop").features, "device": "cpu"}


def test_the_paper_s_preset_is_the_published_run_on_any_device() -> None:
    assert settings("--preset", "paper").run == RunConfig()


def test_options_overrule_the_preset_and_nothing_else_changes() -> None:
    found = settings("--preset", "paper", "--depths", "2", "2", "2", "2", "--steps", "7", "--side", "128").run
    assert found.model == ModelConfig(depths=(2, 2, 2, 2))
    assert (found.train.steps, found.data.side) == (7, 128)
    assert settings("--preset", "paper", "--epochs", "3").run.train.steps is None
    other = settings("--preset", "paper", "--encoder-weights", "embedded").run
    assert other.model.backbone != ModelConfig().backbone


def test_a_file_is_overruled_by_options_and_comes_back_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "preset: paper\npaths: {out: here}\nmodel: {depths: [2, 2, 2, 2]}\ntrain: {steps: 9, lr: 0.001}\n"
        "execution: {threads: 2}\n"
    )
    found = settings("--config", str(file), "--steps", "8", "--data", "parts")
    assert found.run.model == ModelConfig(depths=(2, 2, 2, 2))
    assert (found.run.train.steps, found.run.train.lr) == (8, 0.001)
    assert (found.data, found.out) == (Path("parts"), Path("here"))
    assert found.execution["threads"] == 2
    again = tmp_path / "again.yaml"
    again.write_text(found.as_yaml())
    assert settings("--config", str(again)) == found
    file.write_text("model: {method: uniad}\n")
    assert method_of(settings("--config", str(file)).run.model) == "uniad"


def test_a_record_is_a_file_of_settings() -> None:
    for record in sorted((Path(__file__).parents[2] / "results" / "runs").glob("quick_*.json"))[:3]:
        wanted = run_config_from_dict(json.loads(record.read_text())["config"])
        assert settings("--config", str(record)).run == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian: {steps: 3}", "unknown key 'trian'; known are preset, paths, execution, model"),
        ("train: {step: 3}", "train: unknown key 'step'; known are epochs, steps"),
        ("execution: {thread: 3}", "execution: unknown key 'thread'"),
        ("model: [1]", "model: Input should be an object, got [1]"),
        ("just words", "expected keys such as preset"),
        ("train: {steps: -3}", "steps must be at least 1"),
        ("preset: desk", "preset must be one of"),
        ("a: [", "cannot be read as YAML"),
        ("", "expected keys such as preset, data, train; got an empty file"),
        ("train: {steps: two}", "train: steps: Input should be a valid integer, got 'two'"),
        ("execution: {threads: two}", "execution: threads: Input should be a valid integer, got 'two'"),
        ("paths: {data: 3}", "paths: data: Input should be a valid string, got 3"),
        ("encoder_weights: [1]", "encoder_weights: Input should be a valid string, got [1]"),
        ("minutes: soon", "minutes: Input should be a valid number, got 'soon'"),
        ("fpr: 2", "the false-positive rate must be between 0 and 1"),
        ("{minutes: 3, train: {steps: 5}}", "minutes are in place of steps: name one of them"),
        ("{preset: laptop, model: {network: {depth: 3}}}", "model: network: unknown key 'depth'"),
    ],
)
def test_a_wrong_file_is_refused_by_its_key(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        settings("--config", str(file))


def test_missing_folders_and_options_that_do_not_apply_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert "--data is missing" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert cli.main(["train", "--device", "cpu", "--out", str(tmp_path), "--data", str(tmp_path / "empty")]) == 2
    assert "the folder is empty" in capsys.readouterr().err
    assert cli.main(["train", "--method", "memory_bank", "--device", "cpu", "--steps", "3"]) == 2
    assert "filled in one pass" in capsys.readouterr().err


def test_print_config_is_yaml_that_is_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--device", "cpu", "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["train"]["holdout"] == preset("laptop").run.train.holdout


def test_training_sets_a_threshold_and_prediction_gives_verdicts(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    call = ["train", "--data", str(drawn), "--out", str(out), "--method", "memory_bank", "--side", "64"]
    call += ["--encoder-weights", "embedded", "--device", "cpu", "--fpr", "0.25"]
    assert cli.main(call) == 0
    printed = capsys.readouterr().out
    assert "preset: laptop" in printed
    assert re.search(r"gear: threshold .* from 3 good images at side 64: .* of 2 good test images above it", printed)
    (checkpoint,) = out.glob("runs/own_*/checkpoint.pth")
    content = read_checkpoint(checkpoint)
    own = stored_thresholds(content)["gear"]
    assert own == stored_threshold(content)
    (record,) = out.glob("runs/own_*.json")
    recorded = json.loads(record.read_text())
    assert recorded["config"]["data"]["dataset"] == "synthetic"  # recognised, not named
    assert recorded["thresholds"]["categories"]["gear"]["threshold"]["value"] == own.value
    assert recorded["thresholds"]["categories"]["gear"]["false_positives"]["images"] == 2
    predict = ["predict", str(drawn / "gear" / "test"), "--weights", str(checkpoint), "--out", str(tmp_path / "p")]
    assert cli.main([*predict, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    verdicts = re.findall(r"^(OK|not OK) +(\S+)  \S+$", printed, flags=re.MULTILINE)
    assert len(verdicts) == 6
    assert all((verdict == "not OK") == (float(score) > own.value) for verdict, score in verdicts)


def test_an_image_has_the_threshold_of_its_folder_s_category() -> None:
    one, other, rest = (Threshold.given(value, 64) for value in (0.1, 0.2, 0.3))
    both = {"nut": one, "bolt": other}
    assert threshold_for("parts/nut/test/bolt/3.png", both, rest) is other
    assert threshold_for("parts/nut/3.png", both, rest) is one
    assert threshold_for("parts/3.png", both, rest) is rest
    assert threshold_for("parts/3.png", {"nut": one}, rest) is one


# -- options that only some methods have


def test_textures_belong_to_the_method_that_paints_anomalies(tmp_path: Path) -> None:
    (tmp_path / "dtd").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "dtd" / "a.png")
    own = ["--textures", str(tmp_path / "dtd")]
    for encoder in ([], ["--backbone", "resnet18", "--encoder-weights", "random"]):
        found = settings("--preset", "paper", "--method", "destseg", *own, *encoder)
        assert isinstance(found.run.model, DeSTSegConfig)
        assert found.run.model.textures.startswith("dtd@")
        assert found.execution["textures"] == tmp_path / "dtd"
    with pytest.raises(ValueError, match="--textures is of destseg, and uniad paints no anomalies"):
        settings("--preset", "paper", "--method", "uniad", *own)


def test_diffusion_starts_from_the_weights_named_or_is_a_small_one(tmp_path: Path) -> None:
    file = tmp_path / "sd.safetensors"
    file.write_bytes(b"weights")
    own = ["--diffusion-weights", str(file)]
    encoder = ["--backbone", "resnet18", "--encoder-weights", "random"]
    for other in ([], encoder):
        published = settings("--preset", "paper", "--method", "diad", *own, *other).run
        reduced = settings("--preset", "paper", "--method", "diad", *other).run
        assert isinstance(published.model, DiADConfig)
        assert isinstance(reduced.model, DiADConfig)
        assert published.model.diffusion_weights.startswith("sd.safetensors@")
        assert published.train == published_recipe("diad")
        assert reduced.model.diffusion_weights == ""
        assert reduced.model.width < published.model.width
        assert reduced.train == small_form("diad", reduced.data.side)[1]
    with pytest.raises(ValueError, match="--diffusion-weights is of DiAD, and rd4ad has no diffusion"):
        settings("--preset", "paper", "--method", "rd4ad", *own)


def test_a_local_encoder_is_named_by_its_hash_and_comes_back_from_the_file(tmp_path: Path) -> None:
    weights = tmp_path / "encoder.pth"
    weights.write_bytes(b"weights")
    found = settings("--preset", "paper", "--backbone", "resnet18", "--encoder-weights", str(weights))
    assert found.encoder_file == weights
    assert found.run.encoder_weights.startswith("encoder.pth@")
    again = tmp_path / "again.yaml"
    again.write_text(found.as_yaml())
    assert settings("--config", str(again)) == found


def test_pad_type_mean_and_standard_deviation_are_the_encoder_s(tmp_path: Path) -> None:
    words = ["--backbone", "tf_efficientnet_lite0", "--pad-type", "same", "--mean", "0.1", "0.2", "0.3"]
    model = settings("--preset", "paper", *words, "--std", "0.4", "0.5", "0.6").run.model
    assert model.backbone_kwargs == {"pad_type": "same"}
    assert (model.mean, model.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_uniad_s_network_follows_the_side_of_the_images() -> None:
    model = settings("--preset", "paper", "--method", "uniad", "--side", "128").run.model
    assert isinstance(model, UniADConfig)
    assert model.side == 128
