"""Presets: the paper's is what is published, a laptop's needs no network, and the hashes of earlier runs stay."""

import json
from pathlib import Path

import pytest

from mambaad.config import (
    METHODS,
    PRESETS,
    DataConfig,
    ModelConfig,
    RunConfig,
    TrainConfig,
    default_preset,
    method_of,
    preset,
    published_recipe,
    run_config_from_dict,
    to_dict,
)
from mambaad.model.encoder_weights import named_encoder

RECORDS = sorted((Path(__file__).resolve().parents[1] / "results").rglob("runs/*.json"))


def test_the_paper_s_preset_is_the_published_run() -> None:
    assert preset("paper").run == RunConfig(model=ModelConfig(), train=TrainConfig())
    assert preset("paper").features == "off"


def test_a_card_takes_the_published_settings_and_nothing_else_does() -> None:
    assert default_preset("cuda:1").name == default_preset("cuda").name == "paper"
    assert default_preset("cpu").name == default_preset("mps").name == "laptop"
    assert default_preset("cpu", minutes=10).name == "laptop"
    assert default_preset("cpu", minutes=30).name == "laptop_fine"
    assert default_preset("cuda", minutes=30).name == "paper"
    with pytest.raises(ValueError, match="preset must be one of 'paper', 'laptop', 'laptop_fine'; got 'desk'"):
        preset("desk")


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_a_preset_has_every_method(name: str, method: str) -> None:
    of_method = preset(name).with_method(method)
    assert method_of(of_method.run.model) == method
    assert run_config_from_dict(to_dict(of_method.run)) == of_method.run
    if name != "paper":
        assert of_method.run.encoder_weights == "imagenet_lite0"
    else:
        assert of_method.run.train == published_recipe(method)
    for field, value in (named_encoder(of_method.run.encoder_weights) or {}).items():
        assert getattr(of_method.run.model, field) == value, "the encoder sees images as its weights did"
    run = of_method.on(DataConfig(dataset="folder", categories=("nuts",)))
    assert run.data == DataConfig(dataset="folder", categories=("nuts",), side=of_method.run.data.side)


def test_later_settings_leave_the_hashes_of_earlier_runs() -> None:
    assert RECORDS
    for path in RECORDS:
        record = json.loads(path.read_text())
        assert run_config_from_dict(record["config"]).hash == record["hash"]
    assert "holdout" not in to_dict(TrainConfig())
    assert to_dict(TrainConfig(holdout=0.1))["holdout"] == 0.1
    with pytest.raises(ValueError, match="needs a holdout"):
        TrainConfig(patience=3)
    with pytest.raises(ValueError, match="holdout must be in"):
        TrainConfig(holdout=0.9)
