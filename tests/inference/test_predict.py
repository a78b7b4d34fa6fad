"""Scores, maps, overlays, gallery and metrics of image files; broken files and interruptions."""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any, Never

import numpy as np
import pytest
import torch
from PIL import Image

import mambaad
from mambaad import cli
from mambaad.config import ModelConfig
from mambaad.data import DatasetError
from mambaad.data.datasets.mvtec_ad import of_other_formats
from mambaad.data.transforms import load_image
from mambaad.engine.lock import LOCK, locked
from mambaad.inference import predict as predict_module
from mambaad.inference.ground_truth import find_truth, measure
from mambaad.inference.image_files import find_images
from mambaad.inference.predict import WATCHED, Outcome, predict_files, score_files
from mambaad.inference.threshold import Threshold, calibrate, store_threshold
from mambaad.metrics import evaluate_protocols

SMALL = ModelConfig(
    backbone="resnet18", backbone_kwargs={"channels": (8, 16, 32, 64)}, depths=(2, 2, 2, 2), scan="sweep", directions=2
)


@pytest.fixture(scope="module")
def model() -> mambaad.MambaAD:
    torch.manual_seed(1)
    return mambaad.MambaAD(SMALL, weights="random").eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of several sizes and modes, two of one stem, one broken."""
    folder = tmp_path / "in"
    (folder / "a").mkdir(parents=True)
    Image.new("RGB", (80, 50), "red").save(folder / "a" / "one.png")
    noise = np.random.default_rng(0).integers(0, 256, (1500, 700), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "two.jpg")
    Image.new("RGB", (1, 3), "blue").save(folder / "two.bmp")
    (folder / "three.png").write_bytes(b"no image")
    return folder


def predict(model: mambaad.MambaAD, folder: Path, out: Path, **options: Any) -> Outcome:
    images = find_images(folder, exclude=out)
    return predict_files(model, images, out, root=folder, side=64, device="cpu", progress=False, **options)


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "scores.csv").open(newline="", encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def written(out: Path) -> list[str]:
    """What a call leaves in its folder for the user."""
    return sorted(p.name for p in out.iterdir() if not p.name.startswith("."))


def test_every_image_has_a_score_a_map_and_an_overlay_and_a_broken_one_its_reason(
    model: mambaad.MambaAD, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = predict(model, folder, out, batch_size=2)
    rows = table(out)
    assert list(rows) == sorted(["a/one.png", "three.png", "two.bmp", "two.jpg"])
    assert [path.name for path in done.failed] == ["three.png"]
    assert rows["three.png"]["score"] == ""
    assert "three.png" in rows["three.png"]["error"]
    assert [row.score for row in done.rows] == sorted((row.score for row in done.rows), reverse=True)
    for row in done.rows:
        image = load_image(row.path, 64, SMALL.mean, SMALL.std)
        wanted = model.predict(image[None]).anomaly_map[0].numpy()
        np.testing.assert_allclose(np.load(out / "maps" / f"{row.name}.npy"), wanted, atol=1e-5)
        assert np.float32(rows[row.name]["score"]) == np.load(out / "maps" / f"{row.name}.npy").max()
        assert rows[row.name]["anomalous"] == ""
    for name, size in (("a/one.png", (80, 50)), ("two.jpg", (478, 1024)), ("two.bmp", (1, 3))):
        with Image.open(out / "overlays" / f"{name}.jpg") as overlay:
            assert overlay.size == size
    page = (out / "gallery.html").read_text()
    assert page.count("<li data-name=") == 3
    assert "1 not read" in page
    assert written(out) == ["gallery.html", "maps", "overlays", "scores.csv"]
    assert [p.name for p in out.rglob(".*")] == [LOCK]


def test_the_output_is_no_input_of_the_next_call(model: mambaad.MambaAD, folder: Path) -> None:
    predict(model, folder, folder / "out")
    before = table(folder / "out")
    predict(model, folder, folder / "out")
    assert table(folder / "out") == before


def test_masks_and_earlier_overlays_are_no_images_and_those_below_the_output_are(folder: Path) -> None:
    for own in ("ground_truth/scratch", "overlays/a", "maps"):
        (folder / own).mkdir(parents=True)
        Image.new("L", (8, 8)).save(folder / own / "one_mask.png")
    assert [p.name for p in find_images(folder, exclude=folder)] == ["one.png", "three.png", "two.bmp", "two.jpg"]
    assert find_images(folder / "a", exclude=folder) == [folder / "a" / "one.png"]


def test_overlays_of_another_call_are_no_images(model: mambaad.MambaAD, folder: Path) -> None:
    predict(model, folder, folder / "out")
    predict(model, folder, folder / "other")
    assert table(folder / "other") == table(folder / "out")


def test_links_to_folders_are_followed_and_every_image_is_found_once(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    (outside / "deep").mkdir(parents=True)
    Image.new("L", (8, 8)).save(outside / "deep" / "far.png")
    (outside / "back").symlink_to(folder)
    (folder / "line").symlink_to(outside)
    (folder / "same").symlink_to(outside)
    (folder / "0").symlink_to(folder / "a")
    (outside / "deep").rename(folder / ".kept")
    (outside / "deep").symlink_to(folder / ".kept")
    names = [p.relative_to(folder).as_posix() for p in find_images(folder)]
    assert names == ["a/one.png", "line/deep/far.png", "three.png", "two.bmp", "two.jpg"]


def test_a_folder_that_goes_away_during_a_look_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "b").mkdir()
    scan = os.scandir

    def without_b(path: str) -> object:
        if Path(path).name == "b":
            raise FileNotFoundError(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", without_b)
    assert len(find_images(folder)) == 4


def test_the_scores_of_a_watched_folder_are_not_replaced(model: mambaad.MambaAD, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / WATCHED).write_text("{}")
    with pytest.raises(ValueError, match="holds the scores of a watched folder, which would be lost"):
        predict(model, folder, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [WATCHED]


def test_two_calls_do_not_write_into_one_folder_at_once(model: mambaad.MambaAD, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(model, folder, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with locked(out), pytest.raises(ValueError, match=r"is in use by process .* choose another output folder"):
        predict(model, folder / "a", out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    predict(model, folder / "a", out)
    assert list(table(out)) == ["one.png"]


def test_photographs_of_other_formats_are_told(tmp_path: Path) -> None:
    assert of_other_formats(tmp_path) == ""
    for name in ("a/one.HEIC", "two.heic", "three.gif", "four.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert of_other_formats(tmp_path) == (
        "left out, since their formats are not read: .gif (1), .heic (2); save them as PNG or JPEG"
    )


def test_a_file_name_is_no_formula_in_a_spreadsheet(model: mambaad.MambaAD, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "=cmd.png")
    predict(model, folder, tmp_path / "out", gallery=0, overlays=False)
    assert set(table(tmp_path / "out")) == {"'=cmd.png"}


@pytest.mark.parametrize("maps", ["npy", "tiff"])
def test_a_name_too_long_for_a_suffix_does_not_cost_the_other_scores(
    model: mambaad.MambaAD, folder: Path, tmp_path: Path, maps: str
) -> None:
    longest, too_long = f"{'é' * 123}.png", f"{'é' * 124}.png"  # 250 and 252 bytes
    for name in (longest, too_long):
        Image.new("RGB", (8, 8)).save(folder / name)
    done = predict(model, folder, tmp_path / "out", maps=maps)
    assert {path.name for path in done.failed} == {too_long, "three.png"}
    rows = table(tmp_path / "out")
    assert rows[longest]["score"]
    assert "its name has 252 bytes" in rows[too_long]["error"]


def test_maps_as_tiff_or_not_at_all_change_no_score(model: mambaad.MambaAD, folder: Path, tmp_path: Path) -> None:
    predict(model, folder, tmp_path / "npy", gallery=0)
    predict(model, folder, tmp_path / "tiff", maps="tiff", gallery=1)
    predict(model, folder, tmp_path / "none", maps="none", overlays=False)
    assert table(tmp_path / "npy") == table(tmp_path / "tiff") == table(tmp_path / "none")
    with Image.open(tmp_path / "tiff" / "maps" / "a" / "one.png.tiff") as image:
        assert image.mode == "F"
        np.testing.assert_array_equal(np.asarray(image), np.load(tmp_path / "npy" / "maps" / "a" / "one.png.npy"))
    assert written(tmp_path / "none") == ["gallery.html", "scores.csv"]
    assert not (tmp_path / "npy" / "gallery.html").exists()
    assert "the 1 most anomalous of 3 images" in (tmp_path / "tiff" / "gallery.html").read_text()
    assert "href=" not in (tmp_path / "none" / "gallery.html").read_text()


def test_the_threshold_calls_images_anomalous_and_belongs_to_one_side(
    model: mambaad.MambaAD, folder: Path, tmp_path: Path
) -> None:
    scores, failed = score_files(model, find_images(folder), 64, device="cpu", progress=False)
    assert (len(scores), len(failed)) == (3, 1)
    middle = sorted(scores.values())[1]
    predict(model, folder, tmp_path / "o", threshold=Threshold.given(middle, 64))
    assert sorted(row["anomalous"] for row in table(tmp_path / "o").values()) == ["", "0", "0", "1"]
    with pytest.raises(ValueError, match="of side 96 and the images would be scored at side 64: use --side 96"):
        predict(model, folder, tmp_path / "o", threshold=Threshold.given(middle, 96))


def test_an_interrupted_call_leaves_the_earlier_scores(
    model: mambaad.MambaAD, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    predict(model, folder, out)
    wanted = table(out)

    def interrupt(*_: object) -> Never:
        raise KeyboardInterrupt

    for name in ("overlay", "save_map"):
        with monkeypatch.context() as patch:
            patch.setattr(predict_module, name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                predict(model, folder, out)
        assert table(out) == wanted
        assert [p.name for p in out.iterdir() if p.name.startswith(".")] == [LOCK]
    predict(model, folder, out)
    assert table(out) == wanted


def test_wrong_arguments_are_refused(model: mambaad.MambaAD, folder: Path, tmp_path: Path) -> None:
    for options, message in (
        ({"maps": "png"}, "maps must be one of npy, tiff, none"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            predict(model, folder, tmp_path / "o", **options)
    with pytest.raises(ValueError, match=r"two images would be written as one\.png"):
        predict_files(model, [folder / "a" / "one.png", folder / "one.png"], tmp_path / "o", side=64)
    with pytest.raises(DatasetError, match="does not exist"):
        find_images(tmp_path / "nowhere")


def test_a_damaged_checkpoint_gives_no_scores(folder: Path, tmp_path: Path) -> None:
    broken = mambaad.MambaAD(SMALL, weights="random")
    broken.decoder.get_parameter("stages.0.0.merge.weight").data.fill_(float("nan"))
    with pytest.raises(ValueError, match="the checkpoint is damaged"):
        predict(broken, folder, tmp_path / "o")
    assert not (tmp_path / "o" / "scores.csv").exists()


# -- ground truth
@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """The layout of a test set: test/<kind>, ground_truth/<kind>, both spellings of a mask's name."""
    parts = tmp_path / "parts"
    generator = np.random.default_rng(1)
    for kind, names in (("good", "abc"), ("scratch", "de"), ("dent", "f")):
        (parts / "test" / kind).mkdir(parents=True)
        for name in names:
            pixels = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(parts / "test" / kind / f"{name}.png")
            if kind != "good":
                (parts / "ground_truth" / kind).mkdir(parents=True, exist_ok=True)
                mask = np.zeros((64, 64), dtype=np.uint8)
                mask[10:20, 5 : 9 + len(name)] = 255
                suffix = "" if kind == "dent" else "_mask"
                Image.fromarray(mask).save(parts / "ground_truth" / kind / f"{name}{suffix}.png")
    return parts


def test_ground_truth_beside_the_images_gives_the_metrics(model: mambaad.MambaAD, parts: Path, tmp_path: Path) -> None:
    images = find_images(parts / "test")
    truth = find_truth(images, parts / "test")
    assert truth is not None
    assert [s.defect for s in truth] == ["dent", "good", "good", "good", "scratch", "scratch"]
    assert truth == [s if s.category == "parts" else None for s in truth]
    out = tmp_path / "o"
    threshold = calibrate([0.0], side=64)  # everything is above it
    predict_files(model, images, out, root=parts / "test", side=64, threshold=threshold, truth=truth, progress=False)
    found = json.loads((out / "metrics.json").read_text())
    maps = np.stack([np.load(out / "maps" / f"{s.defect}/{s.image.name}.npy") for s in truth])
    masks = np.stack(
        [np.zeros((64, 64), bool) if s.mask is None else np.asarray(Image.open(s.mask)) > 0 for s in truth]
    )
    for protocol, wanted in evaluate_protocols(maps, masks, [s.is_defect for s in truth]).items():
        assert found[protocol]["categories"]["parts"] == pytest.approx(wanted, nan_ok=True)
        assert found[protocol]["mean"] == pytest.approx(wanted, nan_ok=True)
    assert found["threshold"] == {
        "value": 0.0,
        "false_positive_rate": 1.0,
        "good_images": 3,
        "true_positive_rate": 1.0,
        "defective_images": 3,
    }


def test_named_ground_truth_has_the_folders_of_the_images(parts: Path) -> None:
    images = find_images(parts / "test")
    beside = find_truth(images, parts / "test")
    named = find_truth(images, parts / "test", parts / "ground_truth")
    assert beside is not None
    assert named is not None
    assert [(s.image, s.defect, s.mask) for s in named] == [(s.image, s.defect, s.mask) for s in beside]
    assert {s.category for s in named} == {"all"}
    (parts / "ground_truth" / "scratch" / "d_mask.png").unlink()
    with pytest.raises(DatasetError, match=r"no mask d_mask.png in .*scratch; add it"):
        find_truth(images, parts / "test", parts / "ground_truth")
    with pytest.raises(DatasetError, match="a folder of masks was expected"):
        find_truth(images, parts / "test", parts / "nowhere")


def test_folders_that_tell_nothing_are_no_ground_truth(folder: Path, parts: Path) -> None:
    assert find_truth(find_images(folder), folder) is None
    (parts / "ground_truth").rename(parts / "elsewhere")
    assert find_truth(find_images(parts / "test"), parts / "test") is None


def test_a_mask_belongs_to_the_image_of_its_whole_name(parts: Path) -> None:
    scratch, masks = parts / "test" / "scratch", parts / "ground_truth" / "scratch"
    for name in ("part", "part.1", "a1", "a[1]"):
        Image.new("L", (8, 8)).save(scratch / f"{name}.png")
        Image.new("L", (8, 8)).save(masks / f"{name}.png")
    truth = find_truth(find_images(scratch), scratch)
    assert truth is not None
    assert len(truth) == 6
    for sample in truth:
        assert sample.mask is not None
        assert sample.mask.stem.removesuffix("_mask") == sample.image.stem
    for twice in (masks / "part.bmp", scratch / "a1.jpg"):
        Image.new("L", (8, 8)).save(twice)
        with pytest.raises(DatasetError, match=rf"{twice.name}.* have one name, .* rename one of them"):
            find_truth(find_images(scratch), scratch)
        twice.unlink()


def test_links_to_images_have_the_ground_truth_of_their_folder(parts: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    wanted = find_truth(find_images(parts / "test"), parts / "test")
    for number, image in enumerate(find_images(parts / "test")):
        image.rename(store / f"{number}.png")
        image.symlink_to(store / f"{number}.png")
    assert find_truth(find_images(parts / "test"), parts / "test") == wanted


def test_rates_name_the_thresholds_that_they_are_of(model: mambaad.MambaAD, parts: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    for name in "ab":
        shutil.copytree(parts, both / name)
    low, high = (Threshold.given(value, 64) for value in (0.0, 9.0))
    truth = find_truth(find_images(both), both)

    def measured(**thresholds: Any) -> dict[str, Any]:
        done = predict(model, both, tmp_path / "o", truth=truth, overlays=False, gallery=0, **thresholds)
        assert done.metrics is not None
        return dict(done.metrics["threshold"])

    found = measured(threshold=high, by_category={"a": low, "b": low})
    assert (found["value"], found["false_positive_rate"]) == (0.0, 1.0)
    found = measured(threshold=high, by_category={"a": low, "b": high})
    assert "value" not in found
    assert found["values"] == {"a": 0.0, "b": 9.0}
    assert (found["false_positive_rate"], found["good_images"], found["true_positive_rate"]) == (0.5, 6, 0.5)
    assert measured(threshold=high, by_category={"b": low, "c": low})["values"] == {"b": 0.0, "": 9.0}


def test_where_no_image_can_be_read_the_reasons_are_told(
    model: mambaad.MambaAD, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for image in find_images(parts / "test"):
        image.write_bytes(b"no image")
    weights, out = tmp_path / "c.pth", tmp_path / "o"
    mambaad.save_checkpoint(weights, model, {"run": {"data": {"side": 64}}})
    call = ["predict", str(parts / "test"), "--weights", str(weights), "--device", "cpu", "--out", str(out)]
    assert cli.main(call) == 1
    assert capsys.readouterr().err.count("not read: ") == 6
    assert written(out) == ["scores.csv"]
    assert all(row["error"] for row in table(out).values())


def test_large_categories_are_measured_from_histograms(parts: Path) -> None:
    truth = find_truth(find_images(parts / "test"), parts / "test")
    assert truth is not None
    generator = np.random.default_rng(2)
    maps = {s.image: generator.random((64, 64), dtype=np.float32) for s in truth}
    score = {image: float(own.max()) for image, own in maps.items()}.__getitem__
    exact = measure(truth, 64, maps.__getitem__, score)
    streamed = measure(truth, 64, maps.__getitem__, score, exact_bytes=0)
    for name, value in exact["exact"]["mean"].items():
        assert streamed["exact"]["mean"][name] == pytest.approx(value, abs=0.05)


# -- the command
def test_predict_command(
    model: mambaad.MambaAD, folder: Path, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "c.pth"
    mambaad.save_checkpoint(weights, model, {"run": {"data": {"side": 64}}})
    call = ["predict", "--weights", str(weights), "--device", "cpu", "--out", str(tmp_path / "o")]
    assert cli.main([*call, str(folder)]) == 1
    captured = capsys.readouterr()
    assert "3 images scored at side 64" in captured.out
    assert "no threshold" in captured.out
    assert captured.err.count("not read: ") == 1
    store_threshold(weights, calibrate([0.0] * 3, 0.3, side=64))
    assert cli.main([*call, str(parts / "test")]) == 0
    captured = capsys.readouterr()
    assert "6 of 6 not OK\nthreshold 0 from 3 good images" in captured.out
    assert "protocol exact" in captured.out
    assert (tmp_path / "o" / "metrics.json").is_file()
    mask = parts / "ground_truth" / "scratch" / "d_mask.png"
    mask.write_bytes(b"no image")
    assert cli.main([*call, str(parts / "test")]) == 2
    assert "cannot be read as a mask" in capsys.readouterr().err
    assert written(tmp_path / "o") == ["gallery.html", "maps", "overlays", "scores.csv"]
    mask.unlink()
    assert cli.main([*call, str(parts / "test")]) == 0
    assert "no metrics: " in capsys.readouterr().err
    assert cli.main([*call, str(parts / "test"), "--ground-truth", str(parts / "ground_truth")]) == 2
    assert "no mask d_mask.png" in capsys.readouterr().err
    one = next((parts / "test" / "good").glob("*.png"))
    assert cli.main([*call, str(one), "--threshold", "9", "--maps", "none", "--no-overlays", "--gallery", "0"]) == 0
    assert "0 of 1 not OK\nthreshold 9 as given" in capsys.readouterr().out
    assert list(table(tmp_path / "o")) == [one.name]
    assert cli.main([*call, str(folder), "--side", "96"]) == 2
    assert "calibrate again with --side 96" in capsys.readouterr().err
    assert cli.main([*call, str(folder), "--weights", "mvtecc"]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert os.listdir(tmp_path / "o")


def test_images_of_the_folder_one_stands_in_know_their_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("test/good", "ground_truth"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "test" / "good" / "a.png")
    monkeypatch.chdir(tmp_path / "test" / "good")
    (sample,) = find_truth([Path("a.png")], ".") or []
    assert not sample.is_defect
