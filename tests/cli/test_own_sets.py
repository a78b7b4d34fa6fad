"""One's own parts on the command line: several categories, tiles, and a threshold set again after the training."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import write_mvtec_ad
from PIL import Image
from small_model import small

from mambaad import Detector, cli, save_checkpoint
from mambaad.data import load_dataset
from mambaad.data.validate import check_dataset
from mambaad.inference.threshold import BY_CATEGORY, KEY, calibrate, stored_threshold, stored_thresholds
from mambaad.model.checkpoint import TRAINING_FILES, read_checkpoint

BANK = ["--preset", "laptop", "--method", "memory_bank", "--side", "64", "--encoder-weights", "embedded"]


def photographs(folder: Path, count: int, seed: int, side: int = 64) -> Path:
    """Good images: noise."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        pixels = random.integers(0, 90, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}_{number:02}.png")
    return folder


def train(data: Path, out: Path, *options: str) -> Path:
    """A memory bank; returns its checkpoint."""
    assert cli.main(["train", "--data", str(data), "--out", str(out), *BANK, "--device", "cpu", *options]) == 0
    (checkpoint,) = out.glob("runs/*/checkpoint.pth")
    return checkpoint


def test_a_threshold_that_was_set_later_is_left_by_the_same_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs(tmp_path / "parts" / "train" / "good", 12, 0)
    checkpoint = train(tmp_path / "parts", tmp_path / "out")
    trained = stored_threshold(read_checkpoint(checkpoint))
    more = photographs(tmp_path / "more", 9, 1)
    calibrated = ["calibrate", "--weights", str(tmp_path / "out"), "--data", str(more), "--fpr", "0.1"]
    assert cli.main([*calibrated, "--device", "cpu"]) == 0
    later = stored_threshold(read_checkpoint(checkpoint))
    assert later is not None
    assert later != trained
    for options in ([], ["--fpr", "0.2"]):
        capsys.readouterr()
        train(tmp_path / "parts", tmp_path / "out", *options)
        assert (
            f"{later.note}\nset by mambaad calibrate after the training, and left as it is" in capsys.readouterr().out
        )
        assert stored_threshold(read_checkpoint(checkpoint)) == later


def test_a_threshold_that_was_set_later_is_told_where_no_image_was_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs(tmp_path / "parts" / "train" / "good", 2, 0)
    checkpoint = train(tmp_path / "parts", tmp_path / "out")
    assert "no threshold: no good images were held out" in capsys.readouterr().out
    more = photographs(tmp_path / "more", 9, 1)
    assert cli.main(["calibrate", "--weights", str(checkpoint), "--data", str(more), "--device", "cpu"]) == 0
    later = stored_threshold(read_checkpoint(checkpoint))
    assert later is not None
    capsys.readouterr()
    train(tmp_path / "parts", tmp_path / "out")
    said = capsys.readouterr().out
    assert f"{later.note}\nset by mambaad calibrate after the training, and left as it is" in said
    assert "no threshold" not in said


def test_a_checkpoint_that_was_removed_is_told_and_made_again_without_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs(tmp_path / "parts" / "train" / "good", 6, 0)
    checkpoint = train(tmp_path / "parts", tmp_path / "out")
    checkpoint.unlink()
    capsys.readouterr()
    call = ["train", "--data", str(tmp_path / "parts"), "--out", str(tmp_path / "out"), *BANK, "--device", "cpu"]
    assert cli.main(call) == 0
    said = capsys.readouterr().out
    assert f"checkpoint: {checkpoint} is no longer there: remove the record to train again" in said
    assert "threshold" not in said.partition("record: ")[2]
    (record,) = (tmp_path / "out" / "runs").glob("*.json")
    record.unlink()
    assert train(tmp_path / "parts", tmp_path / "out") == checkpoint


def test_what_is_left_out_and_why_a_training_ended_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = photographs(tmp_path / "parts" / "train" / "good", 6, 0)
    (good / "phone.heic").write_bytes(b"a photograph")
    network = ["--method", "mambaad", "--depths", "2", "2", "2", "2", "--directions", "2", "--scan", "sweep"]
    short = ["--batch-size", "1", "--steps", "40", "--lr", "1e-12", "--patience", "1", "--holdout", "0.3"]
    train(tmp_path / "parts", tmp_path / "out", *network, *short)
    said = capsys.readouterr()
    assert "left out, since their formats are not read: .heic (1); save them as PNG or JPEG" in said.err
    assert "steps: the loss of the images held out had not fallen in 1 check\n" in said.out
    (record,) = (tmp_path / "out" / "runs").glob("*.json")
    assert f"stopped after {json.loads(record.read_text())['train']['steps']} of 40 steps" in said.out


def test_the_same_training_with_another_rate_sets_the_threshold_anew(tmp_path: Path) -> None:
    photographs(tmp_path / "parts" / "train" / "good", 40, 0)
    checkpoint = train(tmp_path / "parts", tmp_path / "out", "--holdout", "0.3", "--fpr", "0.5")
    first = stored_threshold(read_checkpoint(checkpoint))
    train(tmp_path / "parts", tmp_path / "out", "--holdout", "0.3", "--fpr", "0.2")
    second = stored_threshold(read_checkpoint(checkpoint))
    assert first is not None
    assert second is not None
    assert second.value > first.value


def test_no_threshold_is_set_on_photographs_whose_tiles_were_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs(tmp_path / "large", 4, 0, side=128)
    assert cli.main(["data", "tile", str(tmp_path / "large"), "--out", str(tmp_path / "tiles"), "--tile", "64"]) == 0
    checkpoint = train(tmp_path / "tiles", tmp_path / "out")
    call = ["calibrate", "--weights", str(checkpoint), "--tile", "64", "--device", "cpu", "--data"]
    capsys.readouterr()
    assert cli.main([*call, str(tmp_path / "large")]) == 2
    assert "4 of 4 images were trained on" in capsys.readouterr().err
    assert len(read_checkpoint(checkpoint)[TRAINING_FILES]) > 4
    assert cli.main([*call, str(photographs(tmp_path / "others", 4, 1, side=128))]) == 0


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A checkpoint whose category "bolt" calls everything anomalous, "nut" nothing; all together: everything."""
    values = {name: asdict(calibrate([value] * 3, 0.3, side=64)) for name, value in (("bolt", 0.0), ("nut", 9.0))}
    extra = {"run": {"data": {"side": 64}}, KEY: values["bolt"], BY_CATEGORY: values}
    save_checkpoint(tmp_path / "two" / "c.pth", small(scan="sweep", directions=2), extra)
    return tmp_path / "two" / "c.pth"


def test_gallery_and_metrics_call_images_anomalous_as_the_list_does(
    two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_mvtec_ad(tmp_path / "set")
    for category, wrong in (("bolt", 1.0), ("nut", 0.0)):
        out = tmp_path / category
        call = ["predict", str(root / category / "test"), "--weights", str(two), "--out", str(out), "--device", "cpu"]
        assert cli.main([*call, "--maps", "none", "--no-overlays"]) == 0
        said = int(3 * wrong)
        assert f"{said} of 3 not OK" in capsys.readouterr().out
        page = (out / "gallery.html").read_text(encoding="utf-8")
        assert f"{said} above the threshold of their category (bolt, nut); drawn, and for other images: thresh" in page
        measured = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["threshold"]
        assert (measured["false_positive_rate"], measured["true_positive_rate"]) == (wrong, wrong)


def test_an_exported_graph_says_that_it_knows_no_categories(
    two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def export(*arguments: Any, **options: Any) -> dict[str, Any]:
        given.update(options)
        compared = {"max_difference_map": 0, "max_difference_score": 0, "largest_map_value": 1}
        return {"compared": compared, "milliseconds_per_image": None, "bytes": 0, "sha256": "", "library": None}

    monkeypatch.setattr("mambaad.inference.export.export", export)
    assert cli.main(["export", "--weights", str(two), "--format", "torch", "--out", str(tmp_path / "g.pt2")]) == 0
    assert "that of all images together, as it knows no categories: bolt, nut" in capsys.readouterr().out
    assert given["threshold"] == 0.0


def test_a_bank_s_checkpoint_is_verified_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photographs(tmp_path / "parts" / "train" / "good", 8, 0)
    checkpoint = train(tmp_path / "parts", tmp_path / "out", "--holdout", "0")
    assert cli.main(["weights", "verify", str(checkpoint)]) == 0
    assert "network   method memory_bank, encoder" in capsys.readouterr().out


def test_a_detector_is_read_from_the_folder_of_a_training(two: Path) -> None:
    threshold = Detector.load(two.parent, device="cpu").threshold_
    assert threshold is not None
    assert threshold.value == 0.0, "of all images together"
    assert set(stored_thresholds(read_checkpoint(two))) == {"bolt", "nut"}


def test_evaluate_recognises_the_layout(two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_mvtec_ad(tmp_path / "set")
    for data in (root, root / "nut"):
        assert cli.main(["evaluate", "--weights", str(two), "--data", str(data), "--device", "cpu"]) == 0
        assert "protocol exact" in capsys.readouterr().out


def test_own_categories_need_no_masks_if_none_has_any(tmp_path: Path) -> None:
    root = write_mvtec_ad(tmp_path / "set")
    for folder in root.glob("*/ground_truth"):
        shutil.rmtree(folder)
    assert sum(sample.is_defect for sample in load_dataset("mvtec_ad", root)) == 4
    report = check_dataset(None, root, progress=False)
    assert report.ok
    assert "4 defective images have no ground truth" in report.notes[0]


@pytest.mark.parametrize(
    ("options", "share"),
    [([], 0.1), (["--dataset", "mvtec_ad"], 0.0), (["--preset", "paper"], 0.0), (["--holdout", "0"], 0)],
)
def test_own_parts_get_a_threshold_with_the_published_settings_too(
    options: list[str], share: float, holdout_without_preset: Callable[..., float]
) -> None:
    """Where there is a CUDA device the preset is "paper", which holds nothing back."""
    assert holdout_without_preset(*options) == share


@pytest.fixture
def holdout_without_preset(monkeypatch: pytest.MonkeyPatch) -> Callable[..., float]:
    from mambaad.cli import parser, settings
    from mambaad.config import preset

    monkeypatch.setattr(settings, "default_preset", lambda device, minutes: preset("paper"))
    return lambda *words: settings.settle(parser().parse_args(["train", *words])).run.train.holdout
