"""The threshold: what it promises about good images, what it says of too few, and how a checkpoint keeps it."""

import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mambaad
from mambaad import cli
from mambaad.config import ModelConfig
from mambaad.data import DatasetError
from mambaad.inference.threshold import (
    Threshold,
    above,
    calibrate,
    check_good_alone,
    store_threshold,
    stored_side,
    stored_threshold,
)
from mambaad.model import CheckpointError
from mambaad.model.checkpoint import TRAINING_FILES, read_checkpoint

SMALL = ModelConfig(
    backbone="resnet18", backbone_kwargs={"channels": (8, 16, 32, 64)}, depths=(2, 2, 2, 2), scan="sweep", directions=2
)


@pytest.fixture(scope="module")
def model() -> mambaad.MambaAD:
    torch.manual_seed(1)
    return mambaad.MambaAD(SMALL, weights="random").eval()


@given(n=st.integers(1, 60), rate=st.sampled_from([0.01, 0.05, 0.1, 1 / 3, 0.5]))
def test_of_exchangeable_images_at_most_the_rate_lies_above(n: int, rate: float) -> None:
    """Every one of n + 1 equally likely ranks of the new image, counted: no simulation."""
    ranks = range(1, n + 2)
    above = 0
    for new in ranks:
        threshold = calibrate([r for r in ranks if r != new], rate, side=64)
        above += new > threshold.value
    assert above / (n + 1) == pytest.approx(threshold.supported_rate)
    # it is the smallest such score: one more image above it would be too many
    assert (above + 1) / (n + 1) > rate or above == n
    if (n + 1) * rate >= 1 - 1e-9:
        assert above / (n + 1) <= rate + 1e-9
        assert "are expected above it" in threshold.note
    else:
        assert above == 1
        assert f"{n} images support a rate of" in threshold.note


@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=50), rate=st.floats(0.001, 0.999))
def test_the_threshold_is_one_of_the_scores_and_the_order_does_not_matter(scores: list[float], rate: float) -> None:
    threshold = calibrate(scores, rate, side=64)
    assert threshold.value in scores
    assert calibrate(scores[::-1], rate, side=64) == threshold
    assert np.mean(np.array(scores) > threshold.value) <= rate
    assert threshold.median == pytest.approx(np.median(scores))


def test_a_hundredth_needs_ninety_nine_images() -> None:
    assert calibrate(range(99), 0.01, side=64).note.endswith("at most 0.01 of good images are expected above it")
    few = calibrate(range(20), 0.01, side=64)
    assert few.value == 19
    assert few.note.endswith("20 images support a rate of 0.0476 at best, for 0.01 calibrate with 99 or more")
    assert calibrate(range(99), 0.29, side=64).value == 70  # 100 * 0.29 is 28.999999999999996
    assert calibrate(range(199), 0.01, side=64).value == 197  # 198 is the one above it


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, math.nan])
def test_wrong_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibrate([1.0], rate, side=64)


def test_scores_that_give_no_threshold_are_refused() -> None:
    with pytest.raises(ValueError, match="got none"):
        calibrate([], side=64)
    with pytest.raises(ValueError, match="the checkpoint is damaged"):
        calibrate([0.1, math.nan], side=64)
    with pytest.raises(ValueError, match="finite number"):
        Threshold.given(math.inf, 64)
    assert "not calibrated" in Threshold.given(0.5, 64).note


def test_a_checkpoint_keeps_its_threshold_and_everything_else(model: mambaad.MambaAD, tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    mambaad.save_checkpoint(path, model, {"run": {"data": {"side": 96}}})
    assert stored_threshold(read_checkpoint(path)) is None
    assert stored_side(read_checkpoint(path)) == 96
    threshold = calibrate([0.1, 0.2, 0.3], 0.5, side=64)
    assert store_threshold(path, threshold) == path
    content = read_checkpoint(path)
    assert stored_threshold(content) == threshold
    assert stored_side(content) == 64
    assert content["run"] == {"data": {"side": 96}}
    loaded = mambaad.load_checkpoint(path)
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in model.state_dict().items())
    assert os.listdir(tmp_path) == ["c.pth"]
    assert stored_side({}) == 256
    with pytest.raises(CheckpointError, match="calibrate again"):
        stored_threshold({"threshold": {"valu": 1}})


def test_a_published_file_is_left_as_it_is(model: mambaad.MambaAD, tmp_path: Path) -> None:
    path = tmp_path / "published.pth"
    torch.save(model.state_dict(), path)  # no "format": not written by this project
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="another file with --out"):
        store_threshold(path, calibrate([0.1], side=64))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("parts/test", "defective ones among them"),
        ("parts/train/good", "images of the training"),
        ("parts/train", "images of the training"),
        ("parts/test/scratch", "defective by their place"),
        ("parts/ground_truth/scratch", "test images or masks"),
        ("parts", "holds the folders test, train"),
    ],
)
def test_images_that_are_not_good_and_unseen_are_refused(folder: str, message: str, tmp_path: Path) -> None:
    images = [tmp_path / "parts" / name / "0.png" for name in ("test/good", "test/scratch", "train/good")]
    images.append(tmp_path / "parts" / "ground_truth" / "scratch" / "0.png")
    for image in images:
        image.parent.mkdir(parents=True)
    below = [image for image in images if image.is_relative_to(tmp_path / folder)]
    if folder == "parts":
        below = below[:3]
    with pytest.raises(DatasetError, match=message):
        check_good_alone(tmp_path / folder, below)
    check_good_alone(tmp_path / "parts" / "test" / "good", images[:1])


def test_folders_are_seen_at_every_depth(tmp_path: Path) -> None:
    image = tmp_path / "photos" / "monday" / "train" / "0.png"
    image.parent.mkdir(parents=True)
    with pytest.raises(DatasetError, match="holds the folders train"):
        check_good_alone(tmp_path / "photos", [image])


def test_links_to_images_count_where_the_links_are(tmp_path: Path) -> None:
    store, good = tmp_path / "train" / "0.png", tmp_path / "photos" / "good" / "0.png"
    for path in (store, good):
        path.parent.mkdir(parents=True)
    store.touch()
    good.symlink_to(store)
    check_good_alone(tmp_path / "photos", [good])
    check_good_alone(good, [good])
    good.parent.rename(tmp_path / "photos" / "test")
    with pytest.raises(DatasetError, match="holds the folders test"):
        check_good_alone(tmp_path / "photos", [tmp_path / "photos" / "test" / "0.png"])


def test_thresholds_of_before_there_were_tiles_are_of_whole_images() -> None:
    older = {
        key: value
        for key, value in asdict(calibrate([0.1], side=64)).items()
        if key not in ("tile", "overlap", "region")
    }
    read = stored_threshold({"threshold": older})
    assert read is not None
    assert read.tile == 0
    read.check_side(64, None, "a mask")  # of which it knows nothing


def test_calibrate_command(model: mambaad.MambaAD, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    good = tmp_path / "parts" / "test" / "good"
    good.mkdir(parents=True)
    for k in range(4):
        Image.new("RGB", (40 + k, 50), (40 * k, 100, 100)).save(good / f"{k}.png")
    weights = tmp_path / "c.pth"
    mambaad.save_checkpoint(weights, model)
    call = ["calibrate", "--weights", str(weights), "--side", "64", "--device", "cpu", "--data"]
    assert cli.main([*call, str(good), "--fpr", "0.25"]) == 0
    assert "from 4 good images at side 64: at most 0.25 of good images" in capsys.readouterr().out
    threshold = stored_threshold(read_checkpoint(weights))
    assert threshold is not None
    assert (threshold.images, threshold.rate) == (4, 0.25)
    (good / "broken.png").write_bytes(b"no image")
    assert cli.main([*call, str(good), "--out", str(tmp_path / "other.pth")]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("not read: ") == 1
    assert "no threshold is stored: restore these files or take them away" in captured.err
    assert not (tmp_path / "other.pth").exists()
    assert stored_threshold(read_checkpoint(weights)) == threshold
    assert cli.main([*call, str(tmp_path / "parts")]) == 2
    assert "holds the folders test" in capsys.readouterr().err
    assert cli.main([*call, str(good), "--fpr", "1"]) == 2
    assert "between 0 and 1" in capsys.readouterr().err


def test_images_of_the_training_are_refused_under_any_name(
    model: mambaad.MambaAD, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    from mambaad.data.contents import content_hashes

    seen, unseen = tmp_path / "seen.png", tmp_path / "photos" / "0.png"
    unseen.parent.mkdir()
    Image.new("RGB", (40, 50), (1, 2, 3)).save(seen)
    Image.new("RGB", (40, 50), (1, 2, 4)).save(unseen)
    weights = tmp_path / "c.pth"
    mambaad.save_checkpoint(weights, model, {TRAINING_FILES: content_hashes([seen])})
    call = ["calibrate", "--weights", str(weights), "--side", "64", "--device", "cpu", "--data", str(unseen.parent)]
    assert cli.main(call) == 0
    (unseen.parent / "another_name.png").write_bytes(seen.read_bytes())
    assert cli.main(call) == 2
    assert "1 of 2 images were trained on, among them" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage", [3, [], {"value": "0.5"}, {"value": 0.5, "side": 10**9}, {"side": -64}, {"side": True}, {"images": 1.5}]
)
def test_a_damaged_threshold_is_refused(damage: dict[str, Any]) -> None:
    whole = asdict(calibrate([0.1, 0.2, 0.3], 0.5, side=64))
    assert stored_threshold({"threshold": whole}) is not None
    values = whole | damage if isinstance(damage, dict) else damage
    with pytest.raises(CheckpointError, match="the checkpoint's threshold cannot be read"):
        stored_threshold({"threshold": values})


def test_rounding_does_not_flip_the_verdict() -> None:
    """Scores of the same image differ by about 1e-7 with the batch: one on the threshold is not above it."""
    threshold = calibrate([0.1, 0.2, 0.3], 0.01, side=64)
    assert not threshold.exceeded_by(0.3 + 6e-8)
    assert threshold.exceeded_by(0.3001)
    assert not above(0.0, 0.0)
    assert above(-0.1, -0.2)
