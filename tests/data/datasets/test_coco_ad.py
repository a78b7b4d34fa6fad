"""COCO-AD: which images each split holds, masks that equal the segments, and an index that is built once."""

import builtins
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import layouts
import numpy as np
import pytest
from numpy.typing import NDArray

from mambaad.data import DatasetError, Sample, counts, index_hash, load_dataset
from mambaad.data.datasets import coco_ad
from mambaad.data.pixels import read_mask

pytest.importorskip("pycocotools", reason="needs pycocotools (the extra coco): masks are drawn with it")
pytest.importorskip("cv2", reason="needs OpenCV (the extra coco): masks are drawn with it")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMBAAD_CACHE", str(tmp_path / "cache"))


def names(samples: list[Sample], split: str) -> dict[int, str]:
    return {int(s.image.stem): s.defect for s in samples if s.split == split}


def test_splits_by_hand(tmp_path: Path) -> None:
    root = layouts.write_coco(tmp_path / "coco")
    loaded = [load_dataset(f"coco{i}", root) for i in range(4)]
    # 11 shows a person (split 0); 12 class 20 (split 1); 13 classes 79 and 20 (splits 3 and 1); 14 nothing known
    assert [set(names(s, "train")) for s in loaded] == [{12, 13}, {11}, {11, 12, 13}, {11, 12}]
    assert [names(s, "test") for s in loaded] == [
        {1: "held_out", 2: "good"},
        {1: "held_out", 2: "good"},
        {1: "good", 2: "good"},
        {1: "good", 2: "held_out"},
    ]
    assert list(counts(loaded[3])) == ["coco3"]
    assert all((s.mask is not None) == s.is_defect for samples in loaded for s in samples)


def test_masks_are_the_union_of_the_held_out_segments(tmp_path: Path) -> None:
    root = layouts.write_coco(tmp_path / "coco")
    masks = [next((s.mask for s in load_dataset(f"coco{i}", root) if s.mask), None) for i in range(4)]
    expected = np.zeros((10, 16), dtype=bool)
    expected[3:9, 2:7] = expected[0:3, 10:13] = expected[:, 0] = True  # outlines included
    first, second, third, fourth = masks
    assert first is not None
    assert second is not None
    assert fourth is not None
    assert np.array_equal(read_mask(first), expected)
    assert read_mask(second).all()
    assert third is None
    assert read_mask(fourth).sum() == 25


def test_compressed_run_lengths_and_bare_polygons() -> None:
    from pycocotools import mask as codec

    inside = np.zeros((10, 16), dtype=np.uint8)
    inside[2:5, 7:9] = 1
    packed = codec.encode(np.asfortranarray(inside))
    text = {"size": packed["size"], "counts": packed["counts"].decode()}
    assert np.array_equal(coco_ad._union([text], 10, 16) > 0, inside > 0)
    assert not coco_ad._union([[[1.0, 1.0, 2.0, 2.0]], []], 10, 16).any()


@pytest.mark.parametrize(
    ("polygon", "expected"),
    [
        # corners are cut, not rounded: 1.9 lies in column 1; the outline counts
        ([1.9, 1.0, 3.9, 1.0, 3.9, 2.99, 1.9, 2.99], [(y, x) for y in (1, 2) for x in (1, 2, 3)]),
        ([2, 1, 2, 1, 4, 1], [(1, x) for x in (2, 3, 4)]),  # no area, an outline all the same
        ([14, 8, 40, 8, 40, 40, 14, 40], [(y, x) for y in (8, 9) for x in (14, 15)]),  # cut off at the border
        ([1, 1, 3, 1, 3, 3, 1, 3, 7], [(y, x) for y in (1, 2, 3) for x in (1, 2, 3)]),  # half a corner too many
    ],
)
def test_polygons_are_filled_as_the_authors_fill_them(polygon: list[float], expected: list[tuple[int, int]]) -> None:
    drawn = coco_ad._union([[polygon]], 10, 16)
    assert [tuple(map(int, at)) for at in np.argwhere(drawn)] == expected


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own array class
def test_polygons_hold_those_of_pycocotools_and_little_more() -> None:
    from pycocotools import mask as codec

    rng = np.random.default_rng(0)
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        around = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(8, 18, (9, 1)) + 24
        polygon = around.ravel().tolist()
        theirs = codec.decode(codec.merge(codec.frPyObjects([polygon], 48, 48))) > 0
        ours = coco_ad._union([[polygon]], 48, 48) > 0
        grown = np.zeros_like(theirs)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                grown |= np.roll(theirs, (dy, dx), (0, 1))
        assert (ours & ~grown).sum() <= 6, "sharp corners alone reach further"
        assert (theirs & ~ours).sum() <= 6, "cut corners lie up to a pixel to the left"
        assert ours.sum() > theirs.sum()


def test_the_index_is_built_once_and_again_for_other_annotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = layouts.write_coco(tmp_path / "coco")
    first = load_dataset("coco0", root)
    built = []
    original = coco_ad.build_index

    def watched(*arguments: Any, **options: Any) -> Any:
        built.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(coco_ad, "build_index", watched)
    assert load_dataset("coco0", root) == first
    assert load_dataset("coco3", root)
    assert not built
    index = root / coco_ad.INDEX_FOLDER / coco_ad.INDEX_FILE
    whole = json.loads(index.read_text())
    kinds: list[Any] = [None, [], whole | {"splits": 3}, whole | {"splits": [{}]}]
    for damaged in kinds:
        index.write_text(json.dumps(damaged))
        assert load_dataset("coco0", root) == first
        assert built, damaged
        built.clear()
    before = index_hash(first, root)

    path = root / coco_ad.ANNOTATIONS["val"]
    objects = [*layouts.COCO_VAL, (2, 5, [layouts.rectangle(0, 0, 4, 4)])]
    path.write_text(json.dumps(layouts.coco_annotations(objects, (1, 2, 3))))
    second = load_dataset("coco0", root)
    assert len(built) == 1
    assert names(second, "test") == {1: "held_out", 2: "held_out"}
    assert index_hash(second, root) != before


def test_masks_belong_to_their_annotations(tmp_path: Path) -> None:
    """The same images with another outline: no mask of the old annotations may be taken for a new one."""
    root = layouts.write_coco(tmp_path / "coco")
    before = load_dataset("coco3", root)
    objects = [*layouts.COCO_VAL[:3], (2, 79, [layouts.rectangle(4, 4, 14.125, 8)])]
    (root / coco_ad.ANNOTATIONS["val"]).write_text(json.dumps(layouts.coco_annotations(objects, (1, 2, 3))))
    after = load_dataset("coco3", root)
    assert [s.image for s in after] == [s.image for s in before]
    assert [read_mask(s.mask).sum() for s in (*before, *after) if s.mask] == [25, 55]
    assert index_hash(after, root) != index_hash(before, root)


def test_an_interrupted_build_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = layouts.write_coco(tmp_path / "coco")
    drawn = []
    original = coco_ad._save

    def save(pixels: NDArray[Any], path: Path) -> None:
        drawn.append(path)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        original(pixels, path)

    monkeypatch.setattr(coco_ad, "_save", save)
    with pytest.raises(KeyboardInterrupt):
        load_dataset("coco0", root)
    assert not (root / "mambaad_index" / coco_ad.INDEX_FILE).exists()
    assert len(load_dataset("coco0", root)) == 4
    assert len(drawn) == 4, "3 masks, one of them tried twice"
    assert drawn[0] not in drawn[1:]


def test_lost_masks_are_drawn_again(tmp_path: Path) -> None:
    root = layouts.write_coco(tmp_path / "coco")
    samples = load_dataset("coco3", root)
    lost = next(s.mask for s in samples if s.mask)
    content = lost.read_bytes()
    lost.unlink()
    assert load_dataset("coco3", root) == samples
    assert lost.read_bytes() == content


def test_a_root_that_cannot_be_written_gets_its_index_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = layouts.write_coco(tmp_path / "a" / "coco")
    closed = layouts.write_coco(tmp_path / "b" / "coco")
    here = load_dataset("coco0", written)
    monkeypatch.setattr(os, "access", lambda *_: False)
    there = load_dataset("coco0", closed)
    assert not (closed / "mambaad_index").exists()
    mask = next(s.mask for s in there if s.mask)
    assert mask.is_relative_to(tmp_path / "cache")
    assert read_mask(mask).any()
    assert index_hash(there, closed) == index_hash(here, written), "the hash does not tell where the masks lie"
    assert load_dataset("coco0", closed) == there


def _rewrite(part: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    def breakage(root: Path) -> None:
        path = root / coco_ad.ANNOTATIONS[part]
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return breakage


ERRORS = {
    "no images": (lambda root: shutil.rmtree(root / "val2017"), r"val2017: not there, expected train2017, val2017"),
    "no annotations": (lambda root: (root / coco_ad.ANNOTATIONS["train"]).unlink(), "train2017.json: not there"),
    "broken": (
        lambda root: (root / coco_ad.ANNOTATIONS["val"]).write_text("{"),
        "expected COCO's instance annotations",
    ),
    "no category": (_rewrite("val", lambda c: c.pop("categories")), "instance annotations, got KeyError"),
    "79 classes": (_rewrite("train", lambda c: c["categories"].pop(1)), "the 80 classes of COCO 2017, got 79"),
    "81 classes": (
        _rewrite("train", lambda c: c["categories"].append({"id": 99})),
        "the 80 classes of COCO 2017, got 81",
    ),
    "image gone": (
        lambda root: (root / "val2017/000000000002.jpg").unlink(),
        r"000000000002\.jpg: no such file, but .*instances_val2017",
    ),
}


@pytest.mark.parametrize("what", ERRORS)
def test_errors(tmp_path: Path, what: str) -> None:
    root = layouts.write_coco(tmp_path / "coco")
    ERRORS[what][0](root)
    with pytest.raises(DatasetError, match=ERRORS[what][1]):
        load_dataset("coco0", root)


def test_the_category_of_a_split_is_its_name(tmp_path: Path) -> None:
    root = layouts.write_coco(tmp_path / "coco")
    assert load_dataset("coco1", root, ("coco1",)) == load_dataset("coco1", root)
    with pytest.raises(DatasetError, match="no category person; available: coco1"):
        load_dataset("coco1", root, ("person",))


def test_a_full_disk_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Never:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(coco_ad, "_save", full)
    with pytest.raises(DatasetError, match=r"cannot be written there .*No space left.*MAMBAAD_CACHE"):
        load_dataset("coco0", layouts.write_coco(tmp_path / "coco"))


@pytest.mark.parametrize("package", ["pycocotools", "cv2"])
def test_without_a_package_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    root = layouts.write_coco(tmp_path / "coco")
    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith(package):
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    remedy = rf"{package} is not installed; install both with pip install 'mambaad\[coco\]'"
    with pytest.raises(DatasetError, match=remedy):
        load_dataset("coco0", root)
    monkeypatch.undo()
    monkeypatch.setenv("MAMBAAD_CACHE", str(tmp_path / "cache"))
    expected = load_dataset("coco0", root)
    monkeypatch.setattr(builtins, "__import__", without)
    assert load_dataset("coco0", root) == expected, "an index that is there needs neither"
