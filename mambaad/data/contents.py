"""What files hold, by hash: a photograph that was edited and kept its size is another photograph.

Reading a data set to hash it costs as much as reading it to train, so hashes are kept in a file beside the run's
outputs, by path, size, modification time and inode.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from mambaad.data.sample import INDEX_FOLDER, DatasetError, Sample
from mambaad.files import write_text

CONTENT_CACHE = ".contents.json"
SETTLED_NS = 2 * 10**9  # a file changed less than two seconds ago may change again without another time


def content_hashes(paths: Sequence[Path], cache: str | Path | None = None) -> list[str]:
    """First 16 hex digits of the SHA-256 of every file.

    Args:
        cache: file that keeps the hashes of files that did not change since; made if it is not there, and done without
            where it cannot be written.

    Raises DatasetError for a file that cannot be read.
    """
    known = _read(cache)
    found: dict[str, list[object]] = {}
    for path in paths:
        try:
            status = path.stat()
            stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
            entry = known.get(str(path))
            if not (isinstance(entry, list) and entry[:3] == stamp and len(entry) == 4):
                with path.open("rb") as file:
                    entry = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()[:16]]
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error.strerror}); restore the file or remove it") from error
        found[str(path)] = entry
    now = time.time_ns()
    settled = {name: e for name, e in found.items() if isinstance(e[1], int) and now - e[1] > SETTLED_NS}
    if cache is not None and not settled.items() <= known.items():
        with suppress(OSError, UnicodeEncodeError):
            write_text(cache, json.dumps(known | settled))
    return [str(found[str(path)][3]) for path in paths]


def contents_hash(samples: Iterable[Sample], root: str | Path, cache: str | Path | None = None) -> str:
    """As `mambaad.data.index_hash`, with what the files hold in place of their sizes.

    Raises DatasetError for a file that cannot be read.
    """
    root = Path(root)
    files = {path for sample in samples for path in (sample.image, sample.mask) if path is not None}
    drawn = [path for path in files if INDEX_FOLDER in path.parts]  # by the library, see `index_hash`
    others = [path for path in files if INDEX_FOLDER not in path.parts]
    lines = ["/".join(path.parts[path.parts.index(INDEX_FOLDER) :]) for path in drawn]
    hashes = content_hashes(others, cache)
    lines += [f"{path.relative_to(root).as_posix()} {found}" for path, found in zip(others, hashes, strict=True)]
    text = "\n".join(sorted(lines))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _read(cache: str | Path | None) -> dict[str, list[object]]:
    if cache is None:
        return {}
    try:
        content = json.loads(Path(cache).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
