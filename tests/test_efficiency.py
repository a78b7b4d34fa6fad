"""Parameters and FLOPs: the paper's digits, an independent counter, and the model that is really built."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import mambaad
from mambaad import efficiency
from mambaad.config import ModelConfig
from mambaad.efficiency import count

PRINTED = [  # tables 3 and 4; the last two are printed as 251.0 and 268.0
    ({}, 25.7, 8.3),
    ({"branches": "global"}, 22.5, 7.5),
    ({"branches": "local"}, 13.0, 5.0),
    ({"backbone": "resnet18", "depths": (2, 2, 2, 2)}, 14.6, 4.3),
    ({"backbone": "resnet18"}, 20.3, 6.2),
    ({"depths": (2, 2, 2, 2)}, 20.0, 6.5),
    ({"depths": (2, 9, 2, 2)}, 26.1, 7.9),
    ({"backbone": "resnet50"}, 251.4, 60.3),
    ({"backbone": "wide_resnet50_2"}, 267.7, 68.1),
]


@pytest.mark.parametrize(("changes", "params", "flops"), PRINTED)
def test_counts_are_the_papers(changes: dict[str, Any], params: float, flops: float) -> None:
    counted = count(ModelConfig(**changes))
    assert round(counted.params_m, 1) == params
    assert round(counted.flops_g, 1) == flops


def test_the_main_model_to_three_digits() -> None:
    counted = count()
    assert round(counted.params_m, 3) == 25.655
    assert round(counted.flops_g, 3) == 8.300
    assert round(counted.boxes["decoder"]["einsum_flops_g"], 3) == 1.527
    assert [round(counted.boxes[box]["params_m"], 3) for box in ("encoder", "half_fpn")] == [8.170, 1.458]
    assert round(counted.boxes["decoder"]["params_m"] + counted.table_params_m, 3) == 16.026
    assert sum(box["flops_g"] for box in counted.boxes.values()) == pytest.approx(counted.flops_g)


def test_the_plain_decoder_of_table_2() -> None:
    counted = count(ModelConfig(branches="global", scan="sweep", directions=2))
    assert round(counted.params_m - counted.table_params_m, 2) == 18.65
    assert round(counted.flops_g, 2) == 6.38


def test_parameters_are_those_of_the_model_built() -> None:
    config = ModelConfig(backbone="mobilenetv2_050", depths=(2, 2, 2, 2), directions=4, branches="local")
    model = mambaad.MambaAD(config, weights="random")
    assert count(config, 64).params_m * 1e6 == pytest.approx(sum(p.numel() for p in model.parameters()))


@pytest.mark.parametrize("changes", [{}, {"branches": "local"}, {"branches": "global", "directions": 2}])
def test_multiplications_are_those_that_torch_counts_while_the_model_runs(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ModelConfig(backbone="resnet18", depths=(2, 2, 2, 2), **changes)
    model = mambaad.MambaAD(config, weights="random").eval()
    model.set_scan_backend("reference")  # its recurrence has no matrix product that torch would count
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.randn(1, 3, 64, 64))
    monkeypatch.setattr(efficiency, "NORM_FLOPS", {})  # torch counts no norms, and two FLOPs a multiplication
    assert count(config, 64).flops_g * 1e9 == pytest.approx(counter.get_total_flops() / 2, rel=1e-9)


def test_flops_grow_linearly_with_the_number_of_pixels() -> None:
    assert count(side=512).flops_g == pytest.approx(4 * count(side=256).flops_g)


def test_a_side_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="must be 64, 128, 256"):
        count(side=192)
