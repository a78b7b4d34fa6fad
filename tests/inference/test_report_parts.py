"""Parts of the report that a single run does not show: kinds of loss curves, and sections that are left out."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_model import small

from mambaad.data import Sample
from mambaad.data.tiles import Tiling
from mambaad.inference import report_page
from mambaad.inference.charts import loss_chart
from mambaad.inference.pages import histogram
from mambaad.inference.predict import predict_files, score_files
from mambaad.inference.weights_hub import check


def points(chart: str) -> list[list[float]]:
    drawn = re.search(r'class="mb-path" d="M([^"]*)"', chart)
    assert drawn is not None
    return [[float(value) for value in point.split()] for point in drawn[1].split("L")]


def test_a_loss_that_falls_far_is_drawn_on_a_logarithmic_axis() -> None:
    far = loss_chart([[1, 100.0], [2, 10.0], [3, 1.0]])
    assert "logarithmic axis" in far
    assert points(far) == [[0, 10], [500, 95], [1000, 180]]  # equal factors, equal distances
    near = loss_chart([[10, 4.0], [30, 2.0]])
    assert "logarithmic" not in near
    assert points(near) == [[0, 10], [1000, 95]]  # from zero: half the loss, half the height
    assert points(loss_chart([[5, 3.0]])) == [[0, 10]]


def test_training_is_told_as_the_method_trains() -> None:
    def told(loss: list[list[float]]) -> str:
        report: Any = SimpleNamespace(record={"train": {"loss": loss, "steps": 7}})
        return report_page._training(report)

    assert "This method learns in one pass, without a loss." in told([])
    assert "Loss over 7 steps, from 3 to 0.5 " in told([[1, 3.0], [7, 0.5]])


def test_without_pictures_there_is_no_section_of_them() -> None:
    assert report_page._pictures("Worst misses", [], "below", "above") == ""


def test_images_that_cannot_be_read_have_reasons_and_no_scores(tmp_path: Path) -> None:
    broken = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path in broken:
        path.write_bytes(b"no image")
    model = small(scan="sweep", directions=2)
    scores, failed = score_files(model, broken, 64, device="cpu", batch_size=2)
    assert scores == {}
    assert sorted(failed) == broken
    assert all(path.name in reason for path, reason in failed.items())


def test_metrics_of_tiles_and_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    model, images = small(scan="sweep", directions=2), [tmp_path / "a" / "1.png", tmp_path / "b" / "1.png"]
    truth = [Sample(image, "nut", "test") for image in images]
    with pytest.raises(ValueError, match="maps of tiles have many: leave out the truth"):
        predict_files(model, images, tmp_path / "o", root=tmp_path, side=64, tiling=Tiling(64, 0.25), truth=truth)
    with pytest.raises(ValueError, match=r"two images would be written as 1\.png: name the folder above"):
        predict_files(model, images, tmp_path / "o", root=tmp_path / "c", side=64)
    assert not (tmp_path / "o").exists()


def test_before_the_first_use_there_is_nothing_to_compare_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMBAAD_PINS", str(tmp_path / "none.json"))
    (tmp_path / "w.pth").write_bytes(b"weights")
    assert check("mvtec", tmp_path / "w.pth") is None


@pytest.mark.parametrize("score", [0.0, 12.3456789, -3e-12, 2e7, 1e300])
def test_equal_scores_have_a_histogram_whose_line_lies_inside(score: float) -> None:
    drawn = histogram([[score] * 3, []], score)
    found = re.search(r'data-low="(.*?)" data-high="(.*?)" x1="(.*?)"', drawn)
    assert found is not None
    low, high, x = map(float, found.groups())
    assert low < high
    assert x == 0
