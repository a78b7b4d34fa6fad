"""The synthetic set: the same everywhere, masks exact, defects visible, good images no toy."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mambaad.data import DatasetError, counts, load_dataset
from mambaad.data.synthetic import generate as synthetic
from mambaad.data.synthetic.generate import MANIFEST, SYNTHETIC_CATEGORIES, SYNTHETIC_DEFECTS, draw, write_synthetic

KINDS = [(category, kind) for category, kinds in SYNTHETIC_DEFECTS.items() for kind in kinds]


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_two_textures_two_objects_and_enough_kinds() -> None:
    assert set(SYNTHETIC_DEFECTS) == set(SYNTHETIC_CATEGORIES) == {"fabric", "perforated", "gear", "resistor"}
    assert len({kind for _, kind in KINDS}) >= 4
    assert all(len(kinds) >= 3 for kinds in SYNTHETIC_DEFECTS.values())


@pytest.mark.parametrize("side", [64, 96])
@pytest.mark.parametrize(("category", "kind"), KINDS)
def test_masks_are_exactly_where_the_defect_changed_the_picture(category: str, kind: str, side: int) -> None:
    for index in range(3):
        good, empty = draw(category, side, split="test", index=index)
        image, mask = draw(category, side, split="test", index=index, defect=kind)
        change = np.abs(image.astype(int) - good).max(axis=-1)
        assert not empty.any()
        assert np.array_equal(image[~mask], good[~mask])
        assert change[mask].min() >= 18  # of 255: each marked pixel is visibly another
        assert np.median(change[mask]) >= 25
        assert 0.005 <= mask.mean() <= 0.08


@pytest.mark.parametrize("category", SYNTHETIC_CATEGORIES)
def test_drawing_depends_on_every_argument_and_on_nothing_else(category: str) -> None:
    kind = SYNTHETIC_DEFECTS[category][0]
    base: dict[str, Any] = {"seed": 3, "split": "test", "index": 5, "defect": kind}
    image, mask = draw(category, 64, **base)
    np.random.seed(7)  # noqa: NPY002 - a foreign seed must not matter
    again, same = draw(category, 64, **base)
    assert np.array_equal(image, again)
    assert np.array_equal(mask, same)
    changes: list[dict[str, Any]] = [{"seed": 4}, {"split": "train"}, {"index": 6}]
    for change in (*changes, {"defect": SYNTHETIC_DEFECTS[category][1]}):
        assert not np.array_equal(image, draw(category, 64, **(base | change))[0])


@pytest.mark.parametrize("category", SYNTHETIC_CATEGORIES)
def test_another_side_shows_the_same_part(category: str) -> None:
    """Averaged down, the large drawing is the small one; sides that do not divide evenly differ a little."""
    kind = SYNTHETIC_DEFECTS[category][0]
    small, small_mask = draw(category, 64, index=1, defect=kind)
    large, large_mask = draw(category, 256, index=1, defect=kind)
    down = large.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(down - small).mean() < 1
    share = large_mask.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert small_mask[share > 0.9].mean() > 0.9
    assert not small_mask[share == 0].any()
    odd, _ = draw(category, 80, index=1, defect=kind)
    odd = np.asarray(Image.fromarray(odd).resize((64, 64), Image.Resampling.BOX))
    assert np.abs(odd - small.astype(float)).mean() < 10


def test_known_pixels() -> None:
    """Means of fixed drawings, so that a change of the drawing is noticed (then count up synthetic.VERSION)."""
    means = {c: round(float(draw(c, 64, index=0)[0].mean()), 1) for c in SYNTHETIC_CATEGORIES}
    assert means == pytest.approx(KNOWN_MEANS, abs=0.25)


KNOWN_MEANS = {"fabric": 120.0, "perforated": 138.7, "gear": 105.2, "resistor": 141.8}


def test_a_mean_image_does_not_solve_it() -> None:
    """Image AU-ROC of the largest difference from the mean training image stays far below 95."""
    from sklearn.metrics import roc_auc_score

    results = []
    for category in SYNTHETIC_CATEGORIES:
        mean = np.mean([draw(category, 64, index=k)[0] for k in range(10)], axis=0)
        kinds = SYNTHETIC_DEFECTS[category]
        test = [draw(category, 64, split="test", index=k, defect=(["good", *kinds])[k % 5])[0] for k in range(15)]
        scores = [np.abs(image - mean).max() for image in test]
        results.append(roc_auc_score([k % 5 > 0 for k in range(15)], scores))
    assert np.mean(results) < 0.9


def test_written_in_mvtec_layout_and_reused(tmp_path: Path) -> None:
    root = write_synthetic(tmp_path / "set", 32, seed=1, train=2, test=7)
    samples = load_dataset("synthetic", root)
    assert counts(samples) == {c: {"train": 2, "test_good": 2, "test_defect": 5} for c in SYNTHETIC_CATEGORIES}
    for sample in samples:
        if sample.is_defect:
            assert sample.mask is not None
            assert set(np.unique(np.asarray(Image.open(sample.mask)))) == {0, 255}
    image, mask = draw("gear", 32, seed=1, split="test", index=2, defect="scratch")
    assert np.array_equal(np.asarray(Image.open(root / "gear/test/scratch/000.png")), image)
    assert np.array_equal(np.asarray(Image.open(root / "gear/ground_truth/scratch/000_mask.png")) > 0, mask)

    stamps = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert write_synthetic(root, 32, seed=1, train=2, test=7) == root
    assert stamps == {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert files(write_synthetic(tmp_path / "twin", 32, seed=1, train=2, test=7)) == files(root)


def test_categories_can_be_chosen(tmp_path: Path) -> None:
    root = write_synthetic(tmp_path / "set", 32, train=1, test=3, categories=("gear",))
    assert list(counts(load_dataset("synthetic", root))) == ["gear"]
    assert json.loads((root / MANIFEST).read_text())["categories"] == ["gear"]


def test_another_set_or_foreign_files_are_not_replaced(tmp_path: Path) -> None:
    root = write_synthetic(tmp_path / "set", 32, train=1, test=3, categories=("gear",))
    before = files(root)
    with pytest.raises(DatasetError, match=r"set: expected an empty folder or the synthetic set .*'seed': 1"):
        write_synthetic(root, 32, seed=1, train=1, test=3, categories=("gear",))
    assert files(root) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    with pytest.raises(DatasetError, match=r"mine: expected an empty folder .*found other files"):
        write_synthetic(tmp_path / "mine", 32)
    (tmp_path / "empty").mkdir()
    assert write_synthetic(tmp_path / "empty", 32, train=1, test=0, categories=("gear",)).joinpath(MANIFEST).is_file()


def test_several_writers_at_once_agree(tmp_path: Path) -> None:
    """All find no set, all draw one; one moves it into place, the others use it and clean up after themselves."""
    barrier = threading.Barrier(3)

    def write(_: int) -> Path:
        barrier.wait()
        return write_synthetic(tmp_path / "set", 32, train=2, test=6, categories=("gear",))

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(write, range(3))) == [tmp_path / "set"] * 3
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    alone = write_synthetic(tmp_path / "alone", 32, train=2, test=6, categories=("gear",))
    assert files(tmp_path / "set") == files(alone)


def test_a_quicker_writer_wins_and_one_with_another_set_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small: dict[str, Any] = {"train": 1, "test": 3, "categories": ("gear",)}
    finished, calls = synthetic._finished, []

    def looked_too_early(root: Path, manifest: dict[str, Any]) -> bool:
        calls.append(root)
        return finished(root, manifest) if len(calls) > 1 else False

    root = write_synthetic(tmp_path / "set", 32, **small)
    before = files(root)
    monkeypatch.setattr(synthetic, "_finished", looked_too_early)
    assert write_synthetic(root, 32, **small) == root
    assert len(calls) == 2
    calls.clear()
    with pytest.raises(DatasetError, match="expected an empty folder or the synthetic set"):
        write_synthetic(root, 32, seed=1, **small)
    assert files(root) == before
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path / "set", 32, train=2, test=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"categories": ("bottle",)}, "no synthetic category bottle; available: fabric, perforated, gear, resistor"),
        ({"train": 0}, "train of at least 1"),
        ({"side": 8}, "side must be at least 16 pixels, got 8"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        write_synthetic(tmp_path / "set", **({"side": 32} | arguments))
    assert not list(tmp_path.iterdir())


def test_wrong_defect() -> None:
    with pytest.raises(DatasetError, match="gear has no defect 'bent'; available: scratch, spot, missing, colour"):
        draw("gear", 32, defect="bent")
    with pytest.raises(DatasetError, match="no synthetic category 'screw'"):
        draw("screw", 32)
