"""Two processes in one folder, and what a killed writer leaves there."""

import subprocess
import sys
from pathlib import Path

import pytest

from mambaad.engine.lock import HOLDER, locked

HOLD = "import sys\nfrom pathlib import Path\nfrom mambaad.engine.lock import locked\n" + (
    "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
)


def test_a_second_process_is_told_who_holds_the_folder_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=f"is in use by process {other.pid} on "), locked(tmp_path):
            pass
        other.kill()
    with locked(tmp_path):
        assert (tmp_path / HOLDER).is_file()
    assert not (tmp_path / HOLDER).exists()


def test_what_killed_writers_left_is_cleared_away_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".123-abcd.tmp.pt").write_bytes(b"half")
    (tmp_path / ".123-ef01.tmp" / "a").mkdir(parents=True)
    (tmp_path / ".123-ef01.tmp" / "a" / "map.npy").write_bytes(b"half")
    for name in ("checkpoint.pth", ".notes.tmp"):
        (tmp_path / name).write_bytes(b"whole")
    with locked(tmp_path):
        assert not list(tmp_path.glob(".123-*"))
    for name in ("checkpoint.pth", ".notes.tmp"):
        assert (tmp_path / name).read_bytes() == b"whole"
