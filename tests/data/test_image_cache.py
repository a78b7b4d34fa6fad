"""The image cache on disk: the same tensors as from the files, and never an outdated or half-written one."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mambaad.data import DatasetError, Sample, row_store
from mambaad.data import image_cache as image_cache_module
from mambaad.data.image_cache import ImageCache, default_cache_dir, open_image_cache
from mambaad.data.image_set import ImageSet
from mambaad.data.row_store import CacheError

SIDE = 32
NORM = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def draw(path: Path, seed: int, side: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    return path


def write_mask(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.random.default_rng(seed).integers(0, 2, (10, 10), dtype=np.uint8) * 255
    Image.fromarray(np.kron(mask, np.ones((4, 4), dtype=np.uint8))).save(path)
    return path


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Four good images and three defective ones, two of them with masks."""
    root = tmp_path / "set"
    good = [Sample(draw(root / "train" / f"{i}.png", i), "nut", "train") for i in range(4)]
    bad = [draw(root / "test" / "bent" / f"{i}.png", 10 + i) for i in range(3)]
    masks = [write_mask(root / "mask" / "0.png", 0), None, write_mask(root / "mask" / "2.png", 2)]
    return good + [Sample(p, "nut", "test", "bent", m) for p, m in zip(bad, masks, strict=True)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file that is decoded from here on."""
    seen: list[Path] = []
    for name in ("read_rgb", "read_mask"):
        original = getattr(image_cache_module, name)

        def spy(path: Path, *rest: Any, original: Callable[..., Any] = original) -> Any:
            seen.append(Path(path))
            return original(path, *rest)

        monkeypatch.setattr(image_cache_module, name, spy)
    return seen


def open_quietly(samples: list[Sample], cache_dir: Path) -> ImageCache:
    return open_image_cache(samples, SIDE, cache_dir, progress=False)


def items(samples: list[Sample], cache: Path | bool) -> list[tuple[Tensor, Tensor, int]]:
    data = ImageSet(samples, SIDE, *NORM, cache=cache, progress=False)
    return [data[i] for i in range(len(data))]


def assert_same_as_files(samples: list[Sample], cache: Path | bool) -> None:
    for (image, mask, i), (image_2, mask_2, j) in zip(items(samples, cache), items(samples, False), strict=True):
        assert i == j
        assert torch.equal(image, image_2)
        assert mask.dtype == mask_2.dtype == torch.bool
        assert torch.equal(mask, mask_2)


def files_of(cache_dir: Path, label: str) -> Path:
    (folder,) = cache_dir.glob(f"{label}_*")
    return folder


def test_cached_tensors_equal_decoded_ones(samples: list[Sample], tmp_path: Path) -> None:
    assert_same_as_files(samples, tmp_path / "cache")  # built
    assert_same_as_files(samples, tmp_path / "cache")  # read back
    assert any(mask.any() for _, mask, _ in items(samples, tmp_path / "cache"))
    left = {p.name for p in files_of(tmp_path / "cache", "images").iterdir()}
    assert left == {"pixels.npy", "index.json", "lock"}


def test_tensors_from_the_cache_can_be_written_into_without_spoiling_it(samples: list[Sample], tmp_path: Path) -> None:
    for image, mask, _ in items(samples, tmp_path / "cache"):
        image.zero_()
        mask.fill_(True)
    assert_same_as_files(samples, tmp_path / "cache")


def test_a_second_opening_decodes_nothing(samples: list[Sample], tmp_path: Path, decoded: list[Path]) -> None:
    open_quietly(samples, tmp_path / "cache")
    assert sorted(decoded) == sorted([s.image for s in samples] + [s.mask for s in samples if s.mask])
    decoded.clear()
    open_quietly(samples, tmp_path / "cache")
    assert decoded == []


@pytest.mark.parametrize("change", ["size", "time", "mask time"])
def test_a_changed_file_is_decoded_again_and_no_other(
    samples: list[Sample], tmp_path: Path, decoded: list[Path], change: str
) -> None:
    open_quietly(samples, tmp_path / "cache")
    decoded.clear()
    changed = samples[4].mask if change == "mask time" else samples[2].image
    assert changed is not None
    before = changed.stat()
    if change == "size":
        draw(changed, 99, side=50)
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    assert_same_as_files(samples, tmp_path / "cache")
    assert decoded == [changed]


def test_other_samples_or_sides_are_another_cache(samples: list[Sample], tmp_path: Path, decoded: list[Path]) -> None:
    open_quietly(samples[:3], tmp_path / "cache")
    decoded.clear()
    assert_same_as_files(samples[1:4], tmp_path / "cache")
    assert len(decoded) == 3
    open_image_cache(samples[:3], 2 * SIDE, tmp_path / "cache", progress=False)
    assert len(decoded) == 6


def test_other_pixels_by_a_new_rule_are_another_cache(
    samples: list[Sample], tmp_path: Path, decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_quietly(samples[:3], tmp_path / "cache")
    monkeypatch.setattr(image_cache_module, "PIXEL_RULE", image_cache_module.PIXEL_RULE + 1)
    decoded.clear()
    open_quietly(samples[:3], tmp_path / "cache")
    assert len(decoded) == 3


@pytest.mark.parametrize("damage", ["truncated", "empty", "removed", "another array", "index"])
def test_a_damaged_store_is_refused_and_built_again(
    samples: list[Sample], tmp_path: Path, decoded: list[Path], damage: str
) -> None:
    open_quietly(samples, tmp_path / "cache")
    folder = files_of(tmp_path / "cache", "images")
    array = folder / "pixels.npy"
    if damage == "truncated":
        os.truncate(array, array.stat().st_size - 1)
    elif damage == "empty":
        os.truncate(array, 0)
    elif damage == "removed":
        array.unlink()
    elif damage == "another array":
        np.save(array, np.zeros((7, SIDE, SIDE), dtype=np.uint8))
    else:
        (folder / "index.json").write_text('{"rows": []}')
    decoded.clear()
    with pytest.warns(UserWarning, match="is damaged .* and is built again"):
        open_quietly(samples, tmp_path / "cache")
    assert len(decoded) == 7
    assert_same_as_files(samples, tmp_path / "cache")


def test_a_broken_image_is_named_and_the_rest_is_kept(
    samples: list[Sample], tmp_path: Path, decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache_module, "_CHUNK", 2)
    broken = samples[3].image
    content = broken.read_bytes()
    broken.write_bytes(content[:100])
    with pytest.raises(DatasetError, match=f"{broken.name}: cannot be read as an image"):
        open_quietly(samples[:4], tmp_path / "cache")
    folder = files_of(tmp_path / "cache", "images")
    assert not (folder / "index.json").exists()
    broken.write_bytes(content)
    decoded.clear()
    open_quietly(samples[:4], tmp_path / "cache")
    assert decoded == [samples[2].image, broken]  # the first two rows were there
    assert_same_as_files(samples[:4], tmp_path / "cache")


@pytest.mark.slow
def test_a_build_killed_without_warning_goes_on(samples: list[Sample], tmp_path: Path) -> None:
    """A process that dies at its second chunk leaves no store, and what it had saved is not decoded again."""
    code = f"""
import os, sys
from pathlib import Path
from mambaad.data import Sample, row_store, image_cache
from mambaad.data.image_cache import open_image_cache
image_cache._CHUNK, row_store.SAVE_SECONDS = 2, 0.0
read, count = image_cache.read_rgb, []
def dying(path, upright):
    count.append(path)
    if len(count) > 2:
        os._exit(9)
    return read(path, upright)
image_cache.read_rgb = dying
samples = [Sample(Path(p), "nut", "train") for p in sys.argv[1:]]
open_image_cache(samples, {SIDE}, {str(tmp_path / "cache")!r}, progress=False)
"""
    paths = [str(s.image) for s in samples[:4]]
    assert subprocess.run([sys.executable, "-c", code, *paths], check=False).returncode == 9
    folder = files_of(tmp_path / "cache", "images")
    stamps = json.loads((folder / "index.part.json").read_text())["stamps"]
    assert [stamp is None for stamp in stamps] == [False, False, True, True]
    assert not (folder / "index.json").exists()
    plain = [Sample(s.image, "nut", "train") for s in samples[:4]]
    assert_same_as_files(plain, tmp_path / "cache")


def test_a_rebuild_that_dies_never_shows_the_old_stamp_with_new_pixels(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies after writing a row and before noting so; then the source goes back to its old content and time,
    and another one changes, so that the build goes on."""
    open_quietly(samples[:4], tmp_path / "cache")
    path = samples[1].image
    content, before = path.read_bytes(), path.stat()
    draw(path, 99, side=50)
    write_index, notes = row_store._write_index, []

    def dies(folder: Path, stamps: row_store.Stamps) -> None:
        notes.append(list(stamps))
        if len(notes) == 3:  # the copied store, the row to be written, the row written
            raise KeyboardInterrupt
        write_index(folder, stamps)

    monkeypatch.setattr(row_store, "_write_index", dies)
    with pytest.raises(KeyboardInterrupt):
        open_quietly(samples[:4], tmp_path / "cache")
    monkeypatch.undo()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(samples[2].image, ns=(1, 1))
    assert_same_as_files(samples[:4], tmp_path / "cache")


@pytest.mark.filterwarnings("ignore:the cache .* is damaged")
def test_a_build_killed_twice_never_takes_empty_rows_for_done(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First between the arrays' and the index's move into place, then before the new build notes anything."""
    replace, write_index = os.replace, row_store._write_index

    def dies_at_the_index(source: Path, target: Path) -> None:
        if target.name == "index.json":
            raise KeyboardInterrupt
        replace(source, target)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    for name, value in (("os.replace", dies_at_the_index), ("_write_index", dies)):
        owner = row_store if name == "_write_index" else row_store.os
        monkeypatch.setattr(owner, name.removeprefix("os."), value)
        with pytest.raises(KeyboardInterrupt):
            open_quietly(samples[:3], tmp_path / "cache")
        monkeypatch.setattr(owner, name.removeprefix("os."), replace if owner is not row_store else write_index)
    assert_same_as_files(samples[:3], tmp_path / "cache")


def test_two_processes_build_one_cache(samples: list[Sample], tmp_path: Path) -> None:
    """Both start at once; together they decode every file exactly once, and both read the same pixels."""
    go = tmp_path / "go"
    code = f"""
import sys, time
from pathlib import Path
from mambaad.data import Sample, image_cache
from mambaad.data.image_cache import open_image_cache
read, count = image_cache.read_rgb, []
def slow(path, upright):
    count.append(path)
    time.sleep(0.05)
    return read(path, upright)
image_cache.read_rgb = slow
samples = [Sample(Path(p), "nut", "train") for p in sys.argv[1:]]
print("ready", flush=True)
while not Path({str(go)!r}).exists():
    time.sleep(0.01)
cache = open_image_cache(samples, {SIDE}, {str(tmp_path / "cache")!r}, progress=False)
print(len(count), int(cache.images.arrays["pixels"].sum(dtype="int64")))
"""
    command = [sys.executable, "-c", code, *(str(s.image) for s in samples)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert all(p.stdout is not None and p.stdout.readline() == "ready\n" for p in running)
    go.touch()
    results = [p.communicate(timeout=60)[0].split() for p in running]
    assert sorted(int(count) for count, _ in results) == [0, len(samples)]
    assert len({total for _, total in results}) == 1
    plain = [Sample(s.image, "nut", "train") for s in samples]
    assert_same_as_files(plain, tmp_path / "cache")


def test_workers_map_the_files_instead_of_receiving_the_pixels(samples: list[Sample], tmp_path: Path) -> None:
    data = ImageSet(samples, SIDE, *NORM, cache=tmp_path / "cache", progress=False)
    sent = pickle.dumps(data)
    assert len(sent) < SIDE * SIDE * 3
    assert torch.equal(pickle.loads(sent)[4][0], data[4][0])
    loader = torch.utils.data.DataLoader(data, batch_size=4, num_workers=1)
    batches = [batch for batch, _, _ in loader]
    assert torch.equal(torch.cat(batches), torch.stack([data[i][0] for i in range(7)]))


def test_a_finished_cache_in_a_read_only_folder_is_read(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_quietly(samples, tmp_path / "cache")

    def refuse(*_: object, **__: object) -> Never:
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert_same_as_files(samples, tmp_path / "cache")


def test_a_folder_that_cannot_be_written_is_one_sentence(samples: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CacheError, match=r"the cache folder .* cannot be used .*: choose another folder, or"):
        open_quietly(samples, tmp_path / "file")


def test_too_little_room_is_told_before_anything_is_decoded(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[Path]
) -> None:
    usage = row_store.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(row_store.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(CacheError, match=r"needs 0.00 GB, and 0.00 GB are free there: choose another folder"):
        open_quietly(samples, tmp_path / "cache")
    assert decoded == []


def test_a_disk_that_fills_up_meanwhile_is_an_error_and_no_crash(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/full refuses every write as a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    opened = Path.open

    def full(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        return opened(Path("/dev/full") if mode == "r+b" else self, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", full)
    monkeypatch.setattr(row_store.os, "fsync", lambda _: None)  # which the device has not
    with pytest.raises(CacheError, match=r"No space left on device.*choose another folder"):
        open_quietly(samples, tmp_path / "cache")


def test_a_file_that_is_gone_is_named(samples: list[Sample], tmp_path: Path) -> None:
    open_quietly(samples, tmp_path / "cache")
    samples[1].image.unlink()
    with pytest.raises(DatasetError, match=r"train/1.png: cannot be read \(No such file"):
        open_quietly(samples, tmp_path / "cache")
    with pytest.raises(DatasetError, match="at least one sample"):
        open_quietly([], tmp_path / "cache")


def test_the_default_folder_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MAMBAAD_CACHE", raising=False)
    assert default_cache_dir() == tmp_path / ".cache" / "mambaad" / "images"
    monkeypatch.setenv("MAMBAAD_CACHE", "~/elsewhere")
    assert default_cache_dir() == tmp_path / "elsewhere"


def test_items_of_a_cached_set_decode_nothing(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason for it all: the work that is saved, counted and not timed."""
    cached = ImageSet(samples, SIDE, *NORM, cache=tmp_path / "cache", progress=False)
    direct = ImageSet(samples, SIDE, *NORM, cache=False)
    opened = []
    original = Image.open

    def count(file: Path, *rest: Any, **options: Any) -> Any:
        opened.append(Path(file))
        return original(file, *rest, **options)

    monkeypatch.setattr(Image, "open", count)
    for i in range(len(samples)):
        cached[i]
    assert opened == []
    for i in range(len(samples)):
        direct[i]
    assert sorted(opened) == sorted(path for s in samples for path in (s.image, s.mask) if path is not None)
