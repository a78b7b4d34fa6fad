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


def test_letters_are_those_of_the_chapters_and_numbers_have_their_plural(boxes: dict[str, Any]) -> None:
    assert boxes["in_proj"]["equation"].startswith("u, z =")
    assert boxes["conv"]["equation"] == "u ← SiLU(conv₃ₓ₃(u))"
    assert ">u</text>" in network_svg()
    assert boxes["stage4"]["equation"].endswith("1 LSS module of 3 HSS blocks")
    assert boxes["stage8"]["equation"].endswith("2 LSS modules of 3 HSS blocks")


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
