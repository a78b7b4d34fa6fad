"""Rows computed from files once and kept as memory maps: what the caches of images and of features have in common.

A store is a folder with one array per part (`NAME.npy`, one row per source file) and `index.json`, which holds the
size and modification time every source had when its row was computed.  Rows whose source has changed are
computed again, and only those.

Building happens in `NAME.part.npy` and `index.part.json` under a lock, and takes its name when it is complete:
a reader never sees a store in the making, an interrupted build resumes, and of several processes one
builds while the others wait.  No file of a store is ever needed: deleting the folder costs time, nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mambaad.data.sample import DatasetError
from mambaad.files import write_text

SAVE_SECONDS = 10.0  # an interruption loses at most this much of a build
GO_WITHOUT = "choose another folder, or go without this cache"

Layout = Mapping[str, tuple[tuple[int, ...], str]]
"""Shape of one row and dtype of every part, by name."""
Fill = Callable[[list[int]], Iterator[tuple[Sequence[int], Sequence[np.ndarray]]]]
"""Rows wanted -> (some of them, one array per part with these rows), until all are there."""
Stamps = list[list[int] | None]
"""(bytes, modification time in ns) of every row's source; None for a row that is not computed yet."""


class CacheError(ValueError):
    """A cache cannot be written or does not fit; the message names the folder or memory and the way out."""


@dataclass(frozen=True)
class RowStore:
    """A finished store; `arrays` are read-only memory maps (rows, *shape), in the layout's order."""

    folder: Path
    arrays: dict[str, np.ndarray]

    def __reduce__(self) -> tuple[Any, ...]:
        # a memory map pickles as the whole array: other processes map the files themselves
        return _attach, (self.folder, list(self.arrays))


def _attach(folder: Path, names: Sequence[str]) -> RowStore:
    return RowStore(folder, {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names})


def open_rows(
    cache_dir: str | Path, label: str, about: Mapping[str, Any], sources: Sequence[Path], layout: Layout, fill: Fill
) -> RowStore:
    """The store of these sources below `cache_dir`; what is missing or outdated is computed by `fill` first.

    Args:
        label: start of the folder's name; the rest is a hash of `about`, `layout` and the sources' paths.
        about: everything beside the sources that the rows depend on, as JSON values.
        sources: the file behind each row.

    Raises:
        DatasetError: a source does not exist.
        CacheError: the folder cannot be written, or has no room.
        Whatever `fill` raises; the rows computed before are kept.
    """
    root = Path(os.path.commonpath([path.absolute().parent for path in sources]))
    names = [path.absolute().relative_to(root).as_posix() for path in sources]
    identity = json.dumps([about, layout, str(root), names], sort_keys=True)
    folder = Path(cache_dir) / f"{label}_{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    stamps = [_stamp(path) for path in sources]
    try:
        found = _read(folder, layout, len(stamps))
        if found is None or found[0] != stamps:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder):
                found = _read(folder, layout, len(stamps))  # another process may have built it in the meantime
                if found is None or found[0] != stamps:
                    _build(folder, layout, stamps, fill, found)
        return _attach(folder, list(layout))
    except OSError as error:
        raise CacheError(f"the cache folder {folder} cannot be used ({error}): {GO_WITHOUT}") from error


def _stamp(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); restore the file or remove it") from error
    return [status.st_size, status.st_mtime_ns]


def _read(folder: Path, layout: Layout, rows: int, part: str = "") -> tuple[Stamps, dict[str, int]] | None:
    """Stamps of a store's rows and where each array begins in its file; None if it is missing or damaged."""
    index = folder / f"index{part}.json"
    if not index.is_file():
        return None
    offsets = {}
    try:
        stamps = json.loads(index.read_text(encoding="utf-8"))["stamps"]
        for name, (shape, dtype) in layout.items():
            array: Any = np.load(folder / f"{name}{part}.npy", mmap_mode="r")  # refuses a file that is too short
            if array.shape != (rows, *shape) or array.dtype != np.dtype(dtype) or len(stamps) != rows:
                raise ValueError(f"{name} has shape {array.shape} and type {array.dtype}")
            offsets[name] = array.offset
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        warnings.warn(f"the cache {folder} is damaged ({error}) and is built again", stacklevel=3)
        return None
    return stamps, offsets


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    import fcntl  # not on every system; only those who write a cache need it

    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the system frees it, however this process ends
        yield


def _build(
    folder: Path, layout: Layout, stamps: Stamps, fill: Fill, finished: tuple[Stamps, dict[str, int]] | None
) -> None:
    begun = _read(folder, layout, len(stamps), ".part") or _begin(folder, layout, len(stamps), finished)
    done, offsets = list(begun[0]), begun[1]
    with ExitStack() as stack:
        # plain writes: on a full disk they are an error, where writing into a memory map would end the process
        files = {name: stack.enter_context((folder / f"{name}.part.npy").open("r+b")) for name in layout}

        def save() -> None:
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
            _write_index(folder, done)

        wanted = [row for row, stamp in enumerate(stamps) if done[row] != stamp]
        for row in wanted:
            done[row] = None
        save()  # before contents change: a build killed from here on leaves no mixture under an old stamp
        saved = time.monotonic()
        try:
            for rows, arrays in fill(wanted):
                for (name, (_, dtype)), values in zip(layout.items(), arrays, strict=True):
                    for row, value in zip(rows, values, strict=True):
                        content = np.ascontiguousarray(value, dtype).tobytes()
                        files[name].seek(offsets[name] + row * len(content))
                        files[name].write(content)
                for row in rows:
                    done[row] = stamps[row]
                if time.monotonic() - saved > SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
        finally:
            save()
    (folder / "index.json").unlink(missing_ok=True)  # from here to the last line the folder holds no store
    for name in layout:
        os.replace(folder / f"{name}.part.npy", folder / f"{name}.npy")
    os.replace(folder / "index.part.json", folder / "index.json")


def _begin(
    folder: Path, layout: Layout, rows: int, finished: tuple[Stamps, dict[str, int]] | None
) -> tuple[Stamps, dict[str, int]]:
    """Empty arrays, or copies of the finished ones, to be filled."""
    (folder / "index.part.json").unlink(missing_ok=True)  # of an earlier build, whose arrays are gone
    needed = rows * row_bytes(layout)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CacheError(f"{folder} needs {gigabytes(needed)}, and {gigabytes(free)} are free there: {GO_WITHOUT}")
    if finished is not None:
        for name in layout:
            shutil.copyfile(folder / f"{name}.npy", folder / f"{name}.part.npy")
        _write_index(folder, finished[0])
        return finished
    offsets = {}
    for name, (shape, dtype) in layout.items():
        path = folder / f"{name}.part.npy"
        array: Any = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=(rows, *shape))
        offsets[name] = array.offset
    stamps: Stamps = [None] * rows
    return stamps, offsets


def _write_index(folder: Path, stamps: Stamps) -> None:
    write_text(folder / "index.part.json", json.dumps({"stamps": stamps}))


def row_bytes(layout: Layout) -> int:
    """Bytes of one row, all parts together."""
    return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in layout.values())


def gigabytes(size: float) -> str:
    """Bytes for people: "1.84 GB"."""
    return f"{size / 1e9:.2f} GB"
