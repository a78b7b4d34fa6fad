"""Tiles of large photographs and regions: what is covered, how tiles are joined, and what does not count."""

import csv
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import mambaad
from mambaad import cli
from mambaad.config import ModelConfig
from mambaad.data import DatasetError
from mambaad.data.tiles import Tiling, starts, write_tiles
from mambaad.inference.image_files import find_images
from mambaad.inference.predict import predict_files, score_files
from mambaad.inference.threshold import Threshold, calibrate
from mambaad.inference.tiles import check_shape, inside, region_hash, tiled_map

SMALL = ModelConfig(
    backbone="resnet18", backbone_kwargs={"channels": (8, 16, 32, 64)}, depths=(2, 2, 2, 2), scan="sweep", directions=2
)
sizes = st.integers(8, 90)
tilings = st.builds(Tiling, st.integers(8, 40), st.floats(0, 0.9))


def red(tiles: np.ndarray) -> np.ndarray:
    """A stand-in for a network: the red channel."""
    return tiles[..., 0].astype(np.float32)


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# -- where tiles lie
@given(length=sizes, tiling=tilings)
def test_tiles_cover_every_pixel_and_overlap_as_asked(length: int, tiling: Tiling) -> None:
    found = starts(length, tiling)
    assert found[0] == 0
    assert found[-1] == max(0, length - tiling.tile)
    step = max(1, int(tiling.tile * (1 - tiling.overlap)))
    assert all(0 < after - before <= step for before, after in pairwise(found))


# -- how maps are joined
@given(height=sizes, width=sizes, tiling=tilings)
def test_a_map_that_looks_at_single_pixels_does_not_depend_on_the_tiles(
    height: int, width: int, tiling: Tiling
) -> None:
    pixels = photograph(height, width)
    np.testing.assert_allclose(tiled_map(pixels, tiling.tile, tiling, red), pixels[..., 0], rtol=1e-6)


@given(height=sizes, width=sizes, tiling=tilings, constant=st.floats(-9, 9))
def test_adding_a_constant_to_every_tile_adds_it_to_the_whole(
    height: int, width: int, tiling: Tiling, constant: float
) -> None:
    def uneven(tiles: np.ndarray) -> np.ndarray:
        return red(tiles) / (1 + red(tiles).mean(axis=(1, 2), keepdims=True))  # depends on the whole tile

    pixels = photograph(height, width)
    plain = tiled_map(pixels, tiling.tile, tiling, uneven)
    moved = tiled_map(pixels, tiling.tile, tiling, lambda tiles: uneven(tiles) + np.float32(constant))
    np.testing.assert_allclose(moved, plain + constant, atol=1e-5)


def test_no_seam_shows_between_tiles_that_disagree() -> None:
    values = iter([0.0, 1.0])

    def one_value_each(tiles: np.ndarray) -> np.ndarray:
        return np.full(tiles.shape[:3], next(values), dtype=np.float32)

    joined = tiled_map(photograph(32, 48), 32, Tiling(32, 0.5), one_value_each, batch_size=1)[0]
    assert (joined[:16] == 0).all()
    assert (joined[32:] == 1).all()
    assert np.diff(joined).max() < 1.5 / 16  # over 16 shared pixels
    assert (np.diff(joined) >= 0).all()


def test_tiles_of_another_size_than_the_network_are_resized_and_back() -> None:
    seen = []

    def watched(tiles: np.ndarray) -> np.ndarray:
        seen.append(tiles.shape)
        return red(tiles)

    flat = np.full((100, 130, 3), 7, dtype=np.uint8)
    found = tiled_map(flat, 64, Tiling(50, 0.2), watched, batch_size=4)
    assert found.shape == (100, 130)
    np.testing.assert_allclose(found, 7, rtol=1e-6)
    assert {shape[1:] for shape in seen} == {(64, 64, 3)}
    assert max(shape[0] for shape in seen) == 4


@pytest.mark.parametrize(("tile", "overlap"), [(7, 0.2), (16385, 0.2), (10**30, 0.2), (64, -0.1), (64, 0.95)])
def test_tilings_that_make_no_sense_are_refused(tile: int, overlap: float) -> None:
    with pytest.raises(ValueError, match=r"a tile must have|tiles must overlap"):
        Tiling(tile, overlap)


# -- tiles as files
def test_good_photographs_are_written_as_the_tiles_that_prediction_sees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for name, height, width in (("a.png", 50, 90), ("b.png", 20, 64)):
        Image.fromarray(photograph(height, width)).save(tmp_path / "in" / name)
    call = ["data", "tile", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--tile", "32", "--overlap", "0"]
    assert cli.main(call) == 0
    assert "8 tiles of 32 pixels" in capsys.readouterr().out
    seen: list[NDArray[Any]] = []

    def watched(tiles: NDArray[Any]) -> NDArray[Any]:
        seen.extend(tiles)
        return red(tiles)

    for name in ("a.png", "b.png"):
        pixels = np.asarray(Image.open(tmp_path / "in" / name))
        tiled_map(pixels, 32, Tiling(32, 0), watched)
    written = {np.asarray(Image.open(path)).tobytes() for path in (tmp_path / "out" / "train" / "good").glob("*.png")}
    assert written == {tile.tobytes() for tile in seen}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="expected photographs of good parts"):
        write_tiles(tmp_path / "empty", tmp_path / "out", Tiling(32))
    with pytest.raises(DatasetError, match="holds images already: name another folder"):
        write_tiles(tmp_path / "in", tmp_path / "out", Tiling(16))


# -- regions
@given(seed=st.integers(0, 99))
def test_nothing_outside_a_region_counts(seed: int) -> None:
    generator = np.random.default_rng(seed)
    anomaly_map = generator.normal(size=(20, 30)).astype(np.float32)
    region = np.zeros((20, 30), dtype=bool)
    region[4:12, 10:25] = True
    found = inside(region, anomaly_map)
    anomaly_map[~region] = 99
    np.testing.assert_array_equal(inside(region, anomaly_map), found)
    np.testing.assert_array_equal(found[region], anomaly_map[region])
    assert found.max() == anomaly_map[region].max()
    assert (found[~region] == anomaly_map[region].min()).all()


def test_a_region_is_resized_to_the_map_and_may_not_be_empty() -> None:
    anomaly_map = np.arange(16.0, dtype=np.float32).reshape(4, 4)
    left = np.zeros((40, 80), dtype=bool)
    left[:, :40] = True
    np.testing.assert_array_equal(inside(left, anomaly_map)[:, :2], anomaly_map[:, :2])
    assert inside(left, anomaly_map)[:, 2:].max() == 0
    with pytest.raises(ValueError, match="the region has no pixel"):
        inside(np.zeros((9, 9), dtype=bool), anomaly_map)


# -- files and the command
@pytest.fixture(scope="module")
def model() -> mambaad.MambaAD:
    torch.manual_seed(1)
    return mambaad.MambaAD(SMALL, weights="random").eval()


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(photograph(64, 64)).save(folder / "network_size.png")
    Image.fromarray(photograph(100, 150, 1)).save(folder / "large.png")
    return folder


def scores(out: Path) -> dict[str, float]:
    with (out / "scores.csv").open(newline="", encoding="utf-8") as file:
        return {row["image"]: float(row["score"]) for row in csv.DictReader(file)}


def test_an_image_of_the_networks_size_is_unchanged_and_a_large_one_has_a_map_of_its_own_size(
    model: mambaad.MambaAD, photographs: Path, tmp_path: Path
) -> None:
    images = find_images(photographs)
    for name, tiling in (("whole", None), ("tiles", Tiling(64, 0.5))):
        predict_files(model, images, tmp_path / name, side=64, tiling=tiling, device="cpu", progress=False)
    whole, tiles = (tmp_path / name / "maps" for name in ("whole", "tiles"))
    # but for rounding: the two calls put the image into batches of other sizes
    one, same = (np.load(maps / "network_size.png.npy") for maps in (tiles, whole))
    np.testing.assert_allclose(one, same, rtol=2e-6)
    assert np.load(tiles / "large.png.npy").shape == (100, 150)
    assert np.load(whole / "large.png.npy").shape == (64, 64)
    assert scores(tmp_path / "tiles")["large.png"] == pytest.approx(np.load(tiles / "large.png.npy").max(), rel=1e-6)
    found, _ = score_files(model, images, 64, tiling=Tiling(64, 0.5), device="cpu", progress=False)
    assert {path.name: pytest.approx(score) for path, score in found.items()} == scores(tmp_path / "tiles")


def test_a_threshold_belongs_to_its_tiles(model: mambaad.MambaAD, photographs: Path, tmp_path: Path) -> None:
    whole = Threshold.given(0.5, 64)
    with pytest.raises(ValueError, match=r"the threshold is of whole images .* calibrate again with the same --tile"):
        predict_files(model, find_images(photographs), tmp_path, side=64, threshold=whole, tiling=Tiling(64))


def test_a_threshold_belongs_to_its_overlap_and_region() -> None:
    mask = np.arange(12).reshape(3, 4) > 5
    own, other = region_hash(mask), region_hash(mask.T)
    assert region_hash(None) == ""
    tiles = Tiling(64, 0.25)
    whole, masked = calibrate([0.1], side=64), calibrate([0.1], side=64, region=own)
    tiled = calibrate([0.1], side=64, tiling=tiles)
    whole.check_side(64)
    masked.check_side(64, None, own)
    tiled.check_side(64, tiles)
    for threshold, tiling, region, message in (
        (whole, None, own, "set without a region mask .* scored with one: predict without --region, calibrate again"),
        (masked, None, "", "set with a region mask .* scored without one: predict with the same mask as --region"),
        (masked, None, other, "scored with another one"),
        (tiled, Tiling(64, 0.5), "", "tiles that overlap by 0.25 .* overlap by 0.5: use --overlap 0.25"),
    ):
        with pytest.raises(ValueError, match=message):
            threshold.check_side(64, tiling, region)
    for known_less in (Threshold.given(0.5, 64, 64), replace(tiled, overlap=None, region=None)):
        known_less.check_side(64, Tiling(64, 0.5), own)
    assert "in a region" in masked.note
    assert "region" not in whole.note


@pytest.mark.parametrize("tiling", [None, Tiling(64)])
def test_a_region_of_another_shape_than_the_image_is_refused(
    model: mambaad.MambaAD,
    photographs: Path,
    tmp_path: Path,
    tiling: Tiling | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    region = tmp_path / "region.png"
    Image.new("L", (50, 50), 255).save(region)
    fits, stretched = photographs / "network_size.png", photographs / "large.png"
    score_files(model, [fits], 64, tiling=tiling, region=region, device="cpu", progress=False)
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = [tmp_path / "broken.png", fits, stretched]
    monkeypatch.setattr(model, "predict", lambda _: pytest.fail("it began"))
    with pytest.raises(ValueError, match="has 150 x 100 pixels and the region mask 50 x 50, which is another shape"):
        score_files(model, images, 64, tiling=tiling, region=region, device="cpu", progress=False)
    check_shape(np.ones((480, 640), dtype=bool), 1023, 768, "rounded")


def test_predict_command_with_tiles_and_a_region(
    model: mambaad.MambaAD, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, region, out = tmp_path / "c.pth", tmp_path / "region.png", tmp_path / "o"
    mambaad.save_checkpoint(weights, model, {"run": {"data": {"side": 64}}})
    mask = np.zeros((100, 150), dtype=np.uint8)
    mask[50:] = 255
    Image.fromarray(mask).save(region)
    call = ["--weights", str(weights), "--device", "cpu", "--tile", "64", "--overlap", "0.25", "--region", str(region)]
    (photographs / "network_size.png").unlink()  # of another shape than the region
    assert cli.main(["calibrate", "--data", str(photographs), *call]) == 0
    assert cli.main(["predict", str(photographs), "--out", str(out), *call]) == 0
    assert "in tiles of 64 pixels" in capsys.readouterr().out
    found = np.load(out / "maps" / "large.png.npy")
    assert (found[:49] == found[50:].min()).all()
    assert scores(out)["large.png"] == pytest.approx(found[50:].max(), rel=1e-6)
    assert cli.main(["predict", str(photographs), "--out", str(out), *call[:4]]) == 2
    assert "calibrate again with the same --tile" in capsys.readouterr().err
    assert cli.main(["predict", str(photographs), "--out", str(out), *call[:-2]]) == 2
    assert "set with a region mask and the images would be scored without one" in capsys.readouterr().err
    assert cli.main(["predict", str(photographs), "--out", str(out), *call, "--overlap", "0.5"]) == 2
    assert "use --overlap 0.25, or calibrate again with --overlap 0.5" in capsys.readouterr().err
    assert cli.main(["predict", str(photographs), "--out", str(out), *call[:-2], "--threshold", "1"]) == 0
    capsys.readouterr()
    for command in (["predict", str(photographs), "--out", str(out)], ["calibrate", "--data", str(photographs)]):
        assert cli.main([*command, *call[:4], "--overlap", "5"]) == 2
        assert "--overlap 5 is of tiles, and there are none: give --tile, too" in capsys.readouterr().err
    assert cli.main(["predict", str(photographs), "--out", str(out), *call, "--watch"]) == 2
    assert "--watch scores whole images" in capsys.readouterr().err
