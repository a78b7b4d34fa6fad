"""The detector in Python: scikit-learn's conventions, every kind of input, thresholds, and files."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.exceptions
import torch
from layouts import deep_and_turned, save
from PIL import Image
from sklearn.base import clone, is_outlier_detector
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

import mambaad
from mambaad import cli
from mambaad.config import method_of
from mambaad.config.presets import preset
from mambaad.data import DatasetError
from mambaad.data.tiles import Tiling, write_tiles
from mambaad.inference.detector import Detector, NotFittedError
from mambaad.inference.inputs import as_rgb
from mambaad.inference.predict import score_files


def bank(**parameters: Any) -> Detector:
    """The quickest kind."""
    return Detector("laptop", method="memory_bank", side=64, device="cpu", progress=False, **parameters)


def good_images(count: int, seed: int = 0) -> np.ndarray:
    """Dark noise."""
    return np.random.default_rng(seed).integers(0, 60, (count, 70, 50, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts") / "train" / "good"
    folder.mkdir(parents=True)
    for number, image in enumerate(good_images(18)):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    return folder.parents[1]


@pytest.fixture(scope="module")
def detector(photographs: Path) -> Detector:
    return mambaad.fit(photographs, **bank().get_params())


@pytest.fixture(scope="module")
def bright() -> np.ndarray:
    image = good_images(1, seed=5)[0]
    image[20:40, 10:30] = 255
    return image


def test_good_images_are_inliers_and_a_bright_patch_is_an_outlier_where_it_lies(
    detector: Detector, photographs: Path, bright: np.ndarray
) -> None:
    # a bank remembers what it was fitted on, and the threshold is the largest score of what was held out
    assert (detector.predict(photographs / "train" / "good") == 1).all()
    assert detector.predict(np.stack([good_images(18)[0], bright])).tolist() == [1, -1]
    (anomaly_map,) = detector.anomaly_map(bright)
    assert anomaly_map.shape == (64, 64)
    y, x = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
    assert 20 * 64 / 70 - 4 <= y <= 40 * 64 / 70 + 4
    assert 10 * 64 / 50 - 4 <= x <= 30 * 64 / 50 + 4


def test_scores_have_scikit_learns_signs(detector: Detector, bright: np.ndarray) -> None:
    images = np.stack([*good_images(2, seed=7), bright])
    scores, decisions = detector.score_samples(images), detector.decision_function(images)
    assert scores.argmin() == 2
    np.testing.assert_allclose(decisions, scores - detector.offset_)
    assert (np.where(decisions < 0, -1, 1) == detector.predict(images)).all()
    assert detector.threshold_ is not None
    assert detector.offset_ == pytest.approx(-detector.threshold_.value, rel=1e-4)


def test_a_score_within_rounding_of_the_threshold_is_good_as_for_the_command(
    detector: Detector, bright: np.ndarray
) -> None:
    (score,) = -detector.score_samples(bright)
    other = copy.copy(detector).set_threshold(score * (1 - 1e-6))
    assert other.threshold_ is not None
    assert not other.threshold_.exceeded_by(score)
    assert other.predict(bright).tolist() == [1]
    assert other.set_threshold(score * (1 - 1e-4)).predict(bright).tolist() == [-1]


def test_every_kind_of_input_gives_the_same_scores_as_the_command_line(detector: Detector, tmp_path: Path) -> None:
    arrays = good_images(3, seed=11)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, array in zip(paths, arrays, strict=True):
        Image.fromarray(array).save(path)
    opened = [Image.fromarray(array) for array in arrays]
    found, _ = score_files(detector.model_, paths, 64, device="cpu", progress=False)
    scores = [-found[path] for path in paths]
    for images in (tmp_path, str(tmp_path), paths, [str(path) for path in paths], arrays, list(arrays), opened):
        np.testing.assert_allclose(detector.score_samples(images), scores, rtol=1e-4)
    for one in (paths[0], arrays[0], opened[0]):
        np.testing.assert_allclose(detector.score_samples(one), scores[:1], rtol=1e-4)
    grey = arrays[0, :, :, 0]
    coloured = np.stack([grey] * 3, axis=-1)
    np.testing.assert_allclose(detector.score_samples(grey), detector.score_samples(coloured), rtol=1e-4)


def test_deep_and_turned_images_in_memory_are_read_as_files_are(detector: Detector, tmp_path: Path) -> None:
    for path in deep_and_turned(tmp_path):
        with Image.open(path) as opened:
            np.testing.assert_array_equal(as_rgb(opened), as_rgb(path))
            np.testing.assert_allclose(detector.score_samples(opened), detector.score_samples(path), rtol=1e-6)
    with pytest.raises(DatasetError, match="an image in memory: expected 8-bit or 16-bit values, got mode 'F'"):
        detector.predict(Image.new("F", (8, 8), 0.5))


def test_arrays_whose_axes_could_be_read_otherwise_are_refused(detector: Detector) -> None:
    """Sliced along the first axis, each of them would be many grey images."""
    coloured = good_images(1)[0]
    transparent = np.dstack([coloured, coloured[..., :1]])
    for array in (transparent, coloured[..., :1], coloured.transpose(2, 0, 1), np.stack([coloured[..., 0]] * 5)):
        for ask in (detector.score_samples, bank().fit):
            with pytest.raises(ValueError, match=r"must be uint8, \(H, W, 3\) or \(H, W\), got .*; several are a list"):
                ask(array)
    greys = [image[..., 0] for image in good_images(5)]
    assert detector.score_samples(greys).shape == (5,)


def test_images_beside_a_folder_of_good_ones_are_not_trained_on(tmp_path: Path) -> None:
    for name in ("train/Good/0.png", "preview.png"):
        save(tmp_path / "parts" / name, good_images(1)[0])
    with pytest.raises(DatasetError, match="train/good holds no images"):
        bank().fit(tmp_path / "parts")
    (tmp_path / "parts/train").rename(tmp_path / "parts/other")
    (tmp_path / "parts/other").rename(tmp_path / "parts/Train")
    with pytest.raises(DatasetError, match="rename Train to train"):
        bank().fit(tmp_path / "parts")


def test_folders_with_and_without_a_layout_and_images_in_memory_give_one_detector(
    detector: Detector, photographs: Path
) -> None:
    query = good_images(2, seed=9)
    for images in (photographs / "train" / "good", sorted((photographs / "train" / "good").iterdir())):
        other = bank().fit(images)
        assert other.threshold_ is not None
        assert other.threshold_.images == 5
    np.testing.assert_allclose(bank().fit(photographs).score_samples(query), detector.score_samples(query), rtol=1e-4)
    in_memory = [bank(seed=42).fit(good_images(18)) for _ in range(2)]
    assert in_memory[0].threshold_ == in_memory[1].threshold_, "the same images are held out"
    np.testing.assert_array_equal(in_memory[0].score_samples(query), in_memory[1].score_samples(query))


def test_it_is_written_and_read_with_its_threshold(detector: Detector, bright: np.ndarray, tmp_path: Path) -> None:
    loaded = Detector.load(detector.save(tmp_path / "parts.pth"), device="cpu")
    assert (loaded.side_, loaded.threshold_) == (64, detector.threshold_)
    np.testing.assert_array_equal(loaded.score_samples(bright), detector.score_samples(bright))
    assert loaded.predict(bright).tolist() == [-1]


def test_thresholds_are_set_by_hand_and_from_other_good_images(photographs: Path, bright: np.ndarray) -> None:
    detector = bank().fit(photographs)
    assert detector.set_threshold(1e9).predict(bright).tolist() == [1]
    detector.calibrate(good_images(9, seed=8))
    assert detector.threshold_ is not None
    assert detector.threshold_.images == 9
    assert detector.predict(bright).tolist() == [-1]


def test_files_that_it_was_fitted_on_set_no_threshold(
    detector: Detector, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen, copied = sorted((photographs / "train" / "good").iterdir()), tmp_path / "photos"
    copied.mkdir()
    (copied / "another_name.png").write_bytes(seen[0].read_bytes())
    weights = detector.save(tmp_path / "parts.pth")
    for asked in (detector, Detector.load(weights, device="cpu")):
        before = asked.threshold_
        for images in (photographs / "train" / "good", [str(seen[3])], copied):
            with pytest.raises(DatasetError, match="images were trained on, among them"):
                asked.calibrate(images)
        assert asked.threshold_ == before
    assert cli.main(["calibrate", "--weights", str(weights), "--data", str(copied), "--device", "cpu"]) == 2
    assert "1 of 1 images were trained on" in capsys.readouterr().err


def test_photographs_whose_tiles_it_was_fitted_on_set_no_threshold(tmp_path: Path) -> None:
    for number, image in enumerate(good_images(3)):
        save(tmp_path / f"photographs/{number}.png", image)
    write_tiles(tmp_path / "photographs", tmp_path / "tiles", Tiling(40), progress=False)
    fitted = bank().fit(tmp_path / "tiles")
    for asked in (fitted, Detector.load(fitted.save(tmp_path / "tiles.pth"), device="cpu")):
        with pytest.raises(DatasetError, match="3 of 3 images were trained on"):
            asked.calibrate(tmp_path / "photographs")


def test_two_images_are_too_few_for_a_threshold(bright: np.ndarray) -> None:
    detector = bank().fit(good_images(2))
    assert detector.score_samples(bright).shape == (1,)
    with pytest.raises(NotFittedError, match="no good image was held out: fit on more images, or call set_threshold"):
        detector.predict(bright)


def test_parameters_follow_scikit_learn() -> None:
    detector = bank(fpr=0.1)
    copy = clone(detector)
    assert copy is not detector
    assert copy.get_params() == detector.get_params()
    assert copy.set_params(fpr=0.2, seed=3).get_params() == detector.get_params() | {"fpr": 0.2, "seed": 3}
    assert repr(Detector(steps=5)) == "Detector(steps=5)"
    with pytest.raises(ValueError, match="no parameter 'speed'; it has preset, method"):
        detector.set_params(speed=1)
    for ask in (detector.predict, detector.score_samples, detector.anomaly_map):
        with pytest.raises(NotFittedError, match="call fit with good images"):
            ask(good_images(1))
    with pytest.raises(NotFittedError):
        detector.save("nowhere.pth")


def test_it_is_a_step_of_scikit_learns_pipelines(bright: np.ndarray) -> None:
    good = good_images(18)
    pipeline = make_pipeline(bank())
    with pytest.raises(sklearn.exceptions.NotFittedError):
        check_is_fitted(pipeline)
    pipeline.fit(good)
    check_is_fitted(pipeline)
    assert is_outlier_detector(pipeline)
    assert pipeline.predict(np.stack([good[0], bright])).tolist() == [1, -1]
    assert pipeline.score_samples(bright[None]).shape == pipeline.decision_function(bright[None]).shape == (1,)
    found = cross_val_score(make_pipeline(bank()), good, np.ones(18), cv=2, scoring="accuracy", error_score="raise")
    assert found.shape == (2,)


def test_no_images_have_no_scores_and_no_maps(detector: Detector) -> None:
    assert detector.score_samples([]).shape == detector.predict([]).shape == (0,)
    maps = detector.anomaly_map([])
    assert maps.shape == (0, 64, 64)
    assert maps.dtype == np.float32


def test_defaults_are_the_presets() -> None:
    run = Detector(device="cpu", progress=False)._run([])
    assert method_of(run.model) == method_of(preset("laptop").run.model)
    assert (run.model, run.data.side) == (preset("laptop").run.model, preset("laptop").run.data.side)
    changed = Detector(device="cpu", method="mambaad", steps=7, seed=1)._run([])
    assert (method_of(changed.model), changed.train.steps, changed.train.seed) == ("mambaad", 7, 1)
    published = Detector("paper", device="cpu")._run([])
    assert published.train.holdout == 0.1, "without images held out there would be no threshold"


def test_a_network_is_trained_too(photographs: Path, bright: np.ndarray) -> None:
    torch.manual_seed(0)
    detector = bank().set_params(method="mambaad", steps=2).fit(photographs)
    assert isinstance(detector.model_, mambaad.MambaAD)
    assert detector.decision_function(bright).shape == (1,)


def test_what_is_no_image_is_refused(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"an image must be uint8, \(H, W, 3\) or \(H, W\), got float64"):
        detector.predict(np.zeros((4, 4, 3)))
    with pytest.raises(DatasetError, match="does not exist"):
        detector.predict(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="got none"):
        bank().fit([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError):
        bank().fit(tmp_path / "empty")
    with pytest.raises(ValueError, match="false-positive rate"):
        bank(fpr=2).fit(good_images(3))
