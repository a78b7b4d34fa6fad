"""The harness of scripts/reliability on a few runs: killed training ends in the same weights and the same record."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).parents[2] / "scripts" / "reliability" / "kills.py"


@pytest.mark.parametrize(
    ("processes", "signal"),
    [
        (1, "KILL"),
        pytest.param(2, "KILL", marks=pytest.mark.slow),
        pytest.param(2, "TERM", marks=pytest.mark.slow),
    ],
)
def test_killed_runs_end_as_if_nothing_had_happened(processes: int, signal: str, tmp_path: Path) -> None:
    out = tmp_path / "kills.json"
    options = ["--kills", "2", "--processes", str(processes), "--signal", signal, "--out", str(out), "--seed", "1"]
    done = subprocess.run([sys.executable, str(KILLS), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert record["kills"] >= 2
    assert record["runs_equal"] == record["runs"] >= 1
    assert record["wrong"] == []
