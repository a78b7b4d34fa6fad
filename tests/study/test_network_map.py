"""The network map: every box of the drawing is described, and the numbers add up to the library's count."""

import re
from typing import Any

import pytest

from mambaad.config import ModelConfig
from mambaad.efficiency import count
from mambaad.study.network_map import STRIDES, network_boxes, network_svg
from mambaad.study.published_numbers import repository_root


@pytest.fixture(scope="module")
def boxes() -> dict[str, Any]:
    return network_boxes()


def test_every_box_of_the_drawing_is_described(boxes: dict[str, Any]) -> None:
    drawn = re.findall(r'data-box="(\w+)"', network_svg())
    assert sorted(drawn) == sorted(boxes)
    for box in boxes.values():
        assert (repository_root() / box["file"]).exists()


@pytest.mark.parametrize("key", ["params_m", "flops_g"])
def test_stages_sum_to_the_decoder(boxes: dict[str, Any], key: str) -> None:
    decoder = count(ModelConfig()).boxes["decoder"][key]
    assert sum(boxes[f"stage{stride}"][key] for stride in STRIDES) == pytest.approx(decoder)


def test_parts_of_an_lss_module_sum_to_the_finest_stage(boxes: dict[str, Any]) -> None:
    parts = sum(boxes[name]["params_m"] for name in ("hss", "local5", "local7", "merge"))
    expand = 128 * 256 + 2 * 64  # the patch expansion: a linear layer and a norm
    assert parts + expand / 1e6 == pytest.approx(boxes["stage4"]["params_m"])
    block = sum(boxes[name]["params_m"] for name in ("norm", "in_proj", "conv", "scan", "gate", "out_proj"))
    assert 3 * block == pytest.approx(boxes["hss"]["params_m"])
