"""Settings: what is refused, and the hash that names a run."""

from dataclasses import replace
from typing import Any, cast

import pytest
from small_run import RUN

from mambaad.config import ModelConfig, RunConfig, run_config_from_dict, to_dict


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
        ({"drop_path": 1.0}, "drop_path must be in"),
        ({"state_size": 0}, "state_size must be positive"),
    ],
)
def test_wrong_settings_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**changes)


def test_misspelt_setting_is_an_error() -> None:
    with pytest.raises(TypeError, match="dephts"):
        ModelConfig(**cast(Any, {"dephts": (2, 2, 2, 2)}))


def test_config_hash_is_of_the_settings_alone() -> None:
    assert RUN.hash == run_config_from_dict(to_dict(RUN)).hash
    assert RUN.hash != replace(RUN, train=replace(RUN.train, lr=2e-3)).hash
    assert RunConfig().hash == RunConfig(model=ModelConfig(depths=cast(Any, [3, 4, 6, 3]))).hash
    with pytest.raises(TypeError, match="unknown"):
        run_config_from_dict({"model": {"unknown": 1}})
