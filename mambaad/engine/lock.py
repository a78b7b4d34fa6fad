"""One process at a time works on a folder of a run, or of predictions.

The system holds the lock and lets go of it when the process ends, however it ends: no lock is ever stale.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mambaad.files import is_temporary, write_text

LOCK, HOLDER = ".lock", ".holder"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, made if it is not there; clear away what writers left behind that were killed.

    Raises ValueError, naming host and process, if another process holds the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            holder = (folder / HOLDER).read_text(encoding="utf-8")
        except OSError:
            holder = "another process"
        raise ValueError(
            f"{folder} is in use by {holder}: wait for it to end, or choose another output folder"
        ) from None
    try:
        for left in filter(is_temporary, folder.iterdir()):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        write_text(folder / HOLDER, f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()
