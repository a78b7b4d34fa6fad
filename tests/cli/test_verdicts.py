"""What `mambaad predict`, `watch`, `calibrate` and `evaluate` print, and a training whose features cannot be kept."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from small_model import small

from mambaad import cli, save_checkpoint
from mambaad.cli import predict
from mambaad.cli.options import print_metrics
from mambaad.data.row_store import CacheError
from mambaad.inference.threshold import BY_CATEGORY, KEY, calibrate


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A network of random weights with a threshold of its own for one category."""
    own = {name: asdict(calibrate([value] * 3, 0.3, side=64)) for name, value in (("all", 0.0), ("gear", 9.0))}
    path = tmp_path / "c.pth"
    save_checkpoint(
        path,
        small(scan="sweep", directions=2),
        {"run": {"data": {"side": 64}}, KEY: own["all"], BY_CATEGORY: {"gear": own["gear"]}},
    )
    return path


def test_the_most_anomalous_images_are_printed_and_the_others_counted(
    drawn: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predict, "VERDICTS", 4)
    words = ["predict", str(drawn / "gear" / "test"), "--weights", str(checkpoint), "--out", str(tmp_path / "o")]
    words += ["--device", "cpu", "--threads", "1", "--maps", "none", "--no-overlays", "--gallery", "0"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    shown = [float(score) for score in re.findall(r"^OK +(\S+)  \S+$", said, flags=re.MULTILINE)]
    assert len(shown) == 4
    assert shown == sorted(shown, reverse=True)
    assert "... and 2 with lower scores\n0 of 6 not OK\n" in said
    assert "gear: threshold 9 from 3 good images at side 64" in said
    assert "gallery: " not in said


def test_a_threshold_by_hand_replaces_those_of_all_categories(
    drawn: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(drawn / "gear" / "test"), "--weights", str(checkpoint), "--out", str(tmp_path / "o")]
    assert cli.main([*words, "--device", "cpu", "--threshold", "-1", "--maps", "none"]) == 0
    said = capsys.readouterr().out
    assert "6 of 6 not OK\nthreshold -1 as given: not calibrated\n" in said
    assert f"gallery: {tmp_path / 'o' / 'gallery.html'}" in said


def test_the_thresholds_that_images_were_compared_with_are_printed(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {name: asdict(calibrate([value] * 3, 0.3, side=64)) for name, value in (("gear", 9.0), ("bolt", 8.0))}
    weights, photo = tmp_path / "c.pth", tmp_path / "photos" / "0.png"
    values = {KEY: asdict(calibrate([7.0] * 3, 0.3, side=64)), BY_CATEGORY: own}
    save_checkpoint(weights, small(scan="sweep", directions=2), {"run": {"data": {"side": 64}}, **values})
    photo.parent.mkdir()
    photo.write_bytes(next((drawn / "gear" / "test" / "good").iterdir()).read_bytes())
    words = ["--weights", str(weights), "--device", "cpu"]
    quiet = ["--out", str(tmp_path / "o"), "--maps", "none", "--no-overlays", "--gallery", "0"]
    for images, printed in ((photo.parent, "threshold 7 "), (drawn / "gear" / "test", "gear: threshold 9 ")):
        assert cli.main(["predict", str(images), *words, *quiet]) == 0
        said = [line for line in capsys.readouterr().out.splitlines() if "threshold " in line]
        assert len(said) == 1
        assert said[0].startswith(printed)
    assert cli.main(["calibrate", "--data", str(photo.parent), *words]) == 0
    assert "it replaces the thresholds of single categories, which were of other images: gear, bolt;" in (
        capsys.readouterr().out
    )
    assert cli.main(["calibrate", "--data", str(photo.parent), *words]) == 0
    assert "replaces" not in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "defined"), [("good", False), ("defective", True)])
def test_images_that_define_no_metric_get_no_table_of_nan(
    drawn: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, defined: bool
) -> None:
    test = drawn / "gear" / "test"
    folder = next(f for f in sorted(test.iterdir()) if (f.name == "good") == (kind == "good"))
    words = ["--weights", str(checkpoint), "--out", str(tmp_path / "o"), "--device", "cpu", "--maps", "none"]
    assert cli.main(["predict", str(next(folder.iterdir())), *words]) == 0
    said = capsys.readouterr().out
    assert "nan" not in said
    why = "image metrics need good and defective images, pixel metrics need masks of defects"
    assert (f"- is not defined: {why}" if defined else f"no metrics: {why}") in said
    assert ("protocol exact" in said) == defined


def test_watching_a_file_is_refused_before_anything_is_said(
    drawn: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((drawn / "gear" / "test" / "good").iterdir())
    words = ["predict", str(image), "--weights", str(checkpoint), "--out", str(tmp_path / "o"), "--watch"]
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"--watch goes on with a folder, got {image}" in said.err


def test_masks_measure_whole_images_only(
    drawn: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(drawn / "gear" / "test"), "--weights", str(checkpoint), "--out", str(tmp_path / "o")]
    words += ["--device", "cpu", "--tile", "64", "--ground-truth", str(drawn / "gear" / "ground_truth")]
    assert cli.main(words) == 2
    assert "--ground-truth measures maps of whole images: leave out --tile" in capsys.readouterr().err


def test_a_published_file_is_not_written_into(
    drawn: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mambaad.model.checkpoint.read_checkpoint", lambda path: {"net": {}})
    before = checkpoint.read_bytes()
    words = ["calibrate", "--weights", str(checkpoint), "--data", str(drawn / "gear" / "test" / "good")]
    assert cli.main(words) == 2
    assert "is a published checkpoint and is left as it is: name another file with --out" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before


def test_values_that_are_not_defined_are_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    print_metrics(
        {"exact": {"mean": {"mad": 50.0, "pixel_ap": None}, "categories": {"gear": {"mad": 1, "pixel_ap": None}}}}
    )
    *_, gear, mean = capsys.readouterr().out.splitlines()
    assert gear.split() == ["gear", "1.00", "-"]
    assert mean.split() == ["mean", "50.00", "-"]


# -- training whose features do not fit


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each attempt to train would do with the features; those that keep them fail."""
    tried: list[str] = []

    def execute(*_: Any, execution: Any, **__: Any) -> Path:
        tried.append(execution.features)
        if execution.features != "off":
            raise CacheError("the features need more memory than there is")
        raise ValueError("trained without them")

    monkeypatch.setattr("mambaad.engine.run.execute", execute)
    return tried


def test_features_that_do_not_fit_are_left_out_unless_they_were_asked_for(
    drawn: Path, tmp_path: Path, attempts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", str(drawn), "--out", str(tmp_path / "out"), "--device", "cpu", "--preset", "laptop"]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "features are not kept, training is slower: the features need more memory" in said
    assert said.endswith("mambaad train: trained without them\n")
    assert attempts == [attempts[0], "off"]
    assert attempts[0] != "off"
    attempts.clear()
    assert cli.main([*words, "--features", "float32"]) == 2
    assert attempts == ["float32"]
    assert capsys.readouterr().err.endswith("mambaad train: the features need more memory than there is\n")


def test_a_layout_that_is_not_recognised_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    assert cli.main(["train", "--data", str(tmp_path / "images"), "--out", str(tmp_path / "o"), "--device", "cpu"]) == 2
    assert "or name the layout with --dataset" in capsys.readouterr().err


def test_data_check_prints_what_it_found_and_says_by_its_code_whether_all_is_well(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", "check", str(drawn), "--dataset", "synthetic", "--json", "--quick"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    copy = tmp_path / "copy" / "train" / "good"
    copy.mkdir(parents=True)
    (copy / "broken.png").write_bytes(b"no image")
    assert cli.main(["data", "check", str(tmp_path / "copy"), "--dataset", "folder"]) == 1
    assert "broken.png" in capsys.readouterr().out
