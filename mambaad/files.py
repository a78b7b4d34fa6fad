"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: str | Path, *, sync: bool = True, suffix: str | None = None) -> Iterator[Path]:
    """A temporary name beside `path` to write to; at the end of the block the file takes its place.

    If the block raises, what was written is removed and `path` stays as it was. Missing folders are made.

        with atomic_path("scores.npy") as temporary:
            np.save(temporary, scores)

    Args:
        sync: bring the content to the disk before it takes its place, so that not even a power failure leaves an empty
            file; needless for what can be made again at once.
        suffix: of the temporary name, for writers that go by it; None: that of `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path, suffix)
    try:
        yield temporary
        put_in_place(temporary, path, sync=sync)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_sibling(path: Path, suffix: str | None = None) -> Path:
    """A hidden name in the folder of `path` that no other process or thread takes; by default with its suffix."""
    return path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.tmp{path.suffix if suffix is None else suffix}")


def is_temporary(path: Path) -> bool:
    """Whether a name is one of `temporary_sibling`; hidden files of others are not ours to remove."""
    return re.match(r"\.\d+-[0-9a-f]+\.tmp", path.name) is not None


def put_in_place(temporary: Path, path: Path, *, sync: bool = True) -> None:
    """Move a finished file to its name, in one step for every reader."""
    if sync:
        _sync(temporary)
    os.replace(temporary, path)
    if sync:
        with suppress(OSError):  # not every system opens folders
            _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_output(path: str | Path, *, folder: bool = False) -> None:
    """Raise ValueError where a file, or a `folder` of files, could not be written: told before the work, not after it.

    Writes nothing.
    """
    path = Path(path)
    if path.exists() and path.is_dir() != folder:
        raise ValueError(f"{path} is a {'file: name a folder' if folder else 'folder: name a file'} to write to")
    place = path if folder else path.parent
    place = next((p for p in (place, *place.absolute().parents) if p.exists()), place)
    if not place.is_dir():
        raise ValueError(f"{path} cannot be written: {place} is a file; name another place")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(f"{path} cannot be written: {place} may only be read; name another place, or allow writing")


def write_text(path: str | Path, text: str) -> Path:
    """UTF-8 text, written atomically; returns the path."""
    # without its suffix: who was killed here leaves nothing that a search for *.json or *.csv would find
    with atomic_path(path, suffix="") as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
    return Path(path)


def write_json(path: str | Path, value: Mapping[str, Any]) -> Path:
    """JSON with NaN as null, written atomically; returns the path.  Raises ValueError for infinite values."""
    return write_text(path, json.dumps(_nan_to_none(value), indent=1, allow_nan=False) + "\n")


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _nan_to_none(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_to_none(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return None
        raise ValueError(f"JSON cannot hold {value}")
    return value
