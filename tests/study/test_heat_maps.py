"""Maps of one defect by every method: from the checkpoints there are, of the largest defect."""

from pathlib import Path

import pytest

from mambaad.baselines import build_method
from mambaad.model import save_checkpoint
from mambaad.study import method_costs
from mambaad.study.heat_maps import checkpoints, heat_maps
from mambaad.study.profiles import quick_methods


def test_the_methods_whose_checkpoints_are_there_are_drawn(tmp_path: Path) -> None:
    assert heat_maps(tmp_path, "gear") is None
    run = quick_methods()["rd4ad"]
    save_checkpoint(
        tmp_path / "runs" / f"quick_{run.hash}" / "checkpoint.pth", build_method(run.model, run.encoder_weights)
    )
    assert list(checkpoints(tmp_path)) == ["RD4AD"]
    figure = heat_maps(tmp_path, "gear")
    assert figure is not None
    assert [ax.get_title() for ax in figure.axes][:3] == ["image", "defect", "RD4AD"]
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 1, 0]


def test_costs_say_when_nothing_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    method_costs.costs(tmp_path)
    assert "Markdown" in capsys.readouterr().out


def test_times_are_told_in_two_digits() -> None:
    assert [method_costs.two_digits(v) for v in (1137.0, 240.09, 5.352, 0.47154)] == [1100, 240, 5.4, 0.47]
