"""What the options of the encoder, and a part of a file, leave of the preset: everything that they do not name."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mambaad.cli import parser
from mambaad.cli.settings import Settings, settle
from mambaad.config import IMAGENET_MEAN, MambaADBankConfig, ModelConfig, RD4ADConfig, preset
from mambaad.model.encoder_weights import named_encoder

LAPTOP: Any = preset("laptop").run.model


def settings(*words: str) -> Settings:
    arguments: argparse.Namespace = parser().parse_args(["train", "--device", "cpu", *words])
    return settle(arguments)


def of_file(folder: Path, text: str, *words: str) -> Any:
    file = folder / "run.yaml"
    file.write_text(text)
    return settings("--config", str(file), *words).run.model


def test_weights_that_are_named_leave_the_network_of_the_preset() -> None:
    assert settings("--encoder-weights", "imagenet_lite0").run == preset("laptop").run
    found = settings("--encoder-weights", "random").run
    assert (found.model, found.encoder_weights) == (LAPTOP, "random")
    embedded: Any = settings("--encoder-weights", "embedded").run.model
    assert embedded == replace(LAPTOP, **(named_encoder("embedded") or {}))
    assert embedded.network.depths == (2, 2, 2, 2)


def test_another_backbone_brings_its_own_normalisation_and_leaves_the_rest() -> None:
    for words in (["--encoder-weights", "resnet18.a1_in1k"], ["--backbone", "resnet18", "--encoder-weights", "random"]):
        model: Any = settings(*words).run.model
        assert isinstance(model, MambaADBankConfig)
        assert (model.backbone, model.backbone_kwargs, model.mean) == ("resnet18", {}, IMAGENET_MEAN)
        assert model.network.depths == (2, 2, 2, 2)
    run = settings("--method", "mambaad", "--backbone", "resnet34").run
    assert run.encoder_weights == "resnet34.bt_in1k"
    assert run.model == ModelConfig(depths=(2, 2, 2, 2))
    student: Any = settings("--method", "rd4ad", "--backbone", "resnet18", "--encoder-weights", "random").run.model
    assert isinstance(student, RD4ADConfig)
    assert (student.block, student.decoder_blocks) == ("basic", (2, 2, 2))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backbone", "resnet18"], "come with backbone efficientnet_lite0, got --backbone resnet18"),
        (["--mean", "0.5", "0.5", "0.5"], "come with mean 0.498039 0.498039 0.498039, got --mean 0.5 0.5 0.5"),
        (["--encoder-weights", "embedded", "--std", "1", "1", "1"], "'embedded' come with std"),
        (["--pad-type", "valid"], "come with backbone_kwargs same, got --pad-type valid: leave --pad-type out"),
    ],
)
def test_weights_that_name_their_network_refuse_another(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(*words)
    assert settings("--backbone", "efficientnet_lite0", "--pad-type", "same").run == preset("laptop").run


def test_a_file_s_part_of_a_network_leaves_the_rest(tmp_path: Path) -> None:
    assert of_file(tmp_path, "model: {network: {drop_path: 0.0}}") == replace(
        LAPTOP, network=replace(LAPTOP.network, drop_path=0.0)
    )
    own = "model: {entries: 99, bank_share: 0.5}"
    assert of_file(tmp_path, own, "--encoder-weights", "embedded") == replace(
        LAPTOP, entries=99, bank_share=0.5, **(named_encoder("embedded") or {})
    )
    assert of_file(tmp_path, "encoder_weights: embedded").backbone == (named_encoder("embedded") or {})["backbone"]
    assert of_file(tmp_path, "model: {backbone: resnet18}").backbone_kwargs == {}


def test_depths_are_the_bank_s_network_s_where_the_method_is_named(tmp_path: Path) -> None:
    depths = ["--depths", "2", "2", "4", "2"]
    model: Any = settings("--method", "mambaad_bank", *depths).run.model
    assert model == replace(LAPTOP, network=replace(LAPTOP.network, depths=(2, 2, 4, 2)))
    assert of_file(tmp_path, "model: {method: mambaad_bank, depths: [2, 2, 4, 2]}") == model
    assert settings(*depths).run.model == replace(LAPTOP.network, depths=(2, 2, 4, 2))


def test_a_file_may_name_mambaad_as_its_method(tmp_path: Path) -> None:
    found = of_file(tmp_path, "preset: laptop\nmodel: {method: mambaad, depths: [2, 2, 4, 2]}")
    assert found == replace(LAPTOP.network, depths=(2, 2, 4, 2))
    assert of_file(tmp_path, "model: {depths: [2, 2, 4, 2]}") == found
