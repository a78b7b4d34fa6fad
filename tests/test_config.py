"""Settings: what is refused, and the hash that names a run."""

import math
from dataclasses import replace
from typing import Any, cast

import pytest
from small_run import RUN

from mambaad.config import (
    DataConfig,
    ModelConfig,
    RunConfig,
    TrainConfig,
    UniADConfig,
    run_config_from_dict,
    to_dict,
)
from mambaad.config.parse import parse


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": (2, 5, 2, 2)}, "depth 5 does not split"),
        ({"depths": (2, 2, 2)}, "four positive block counts"),
        ({"branches": "none"}, "branches must be one of"),
        ({"local_conv": "conv"}, "local_conv must be one of"),
        ({"local_kernels": (4,)}, "odd and positive"),
        ({"local_kernels": (5, 5)}, "distinct"),
        ({"scan": "spiral"}, "scan must be one of"),
        ({"directions": 6}, "directions must be one of"),
        ({"scan": (("sweep", 4), ("hilbert", 2))}, "add up to directions=8"),
        ({"scan": (("sweep", 4), ("sweep", 4))}, "each method once"),
        ({"scan": (("hilbert", 8.9),)}, "whole number of routes"),
        ({"drop_path": 1.0}, "drop_path must be in"),
        ({"state_size": 0}, "state_size must be positive"),
        ({"state_size": 16.0}, "state_size must be whole"),
        ({"depths": (3, 4, 6.0, 3)}, "depths must be whole"),
        ({"sigma": math.inf}, "sigma must be positive and finite"),
    ],
)
def test_wrong_settings_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**changes)


def test_equal_settings_have_one_hash() -> None:
    """A file has 0 where a program has 0.0."""
    whole = RunConfig(
        model=ModelConfig(drop_path=0, mean=(0, 0.5, 1)), train=TrainConfig(weight_decay=0, betas=(0, 1 - 1e-3))
    )
    same = RunConfig(
        model=ModelConfig(drop_path=0.0, mean=(0.0, 0.5, 1.0)), train=TrainConfig(weight_decay=0.0, betas=(0.0, 0.999))
    )
    assert whole.hash == same.hash == run_config_from_dict(to_dict(whole)).hash
    assert parse(ModelConfig, to_dict(whole.model)) == whole.model
    assert RunConfig(model=UniADConfig(jitter=20)).hash == RunConfig(model=UniADConfig(jitter=20.0)).hash
    for kind, values in (
        (TrainConfig, {"steps": 2.5}),
        (TrainConfig, {"batch_size": 16.0}),
        (DataConfig, {"side": 256.0}),
    ):
        with pytest.raises(ValueError, match="must be whole"):
            kind(**cast(Any, values))


def test_a_name_is_no_list_of_categories() -> None:
    with pytest.raises(ValueError, match="categories must be a list of names, got 'bottle'"):
        DataConfig(categories=cast(Any, "bottle"))


def test_misspelt_setting_is_an_error() -> None:
    with pytest.raises(TypeError, match="dephts"):
        ModelConfig(**cast(Any, {"dephts": (2, 2, 2, 2)}))


def test_config_hash_is_of_the_settings_alone() -> None:
    assert RUN.hash == run_config_from_dict(to_dict(RUN)).hash
    assert RUN.hash != replace(RUN, train=replace(RUN.train, lr=2e-3)).hash
    assert RunConfig().hash == RunConfig(model=ModelConfig(depths=cast(Any, [3, 4, 6, 3]))).hash
    with pytest.raises(TypeError, match="unknown"):
        run_config_from_dict({"model": {"unknown": 1}})
