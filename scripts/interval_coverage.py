"""How often the evidence's 95 % intervals hold the true difference, by simulation.

    python scripts/interval_coverage.py            a minute on one core

Writes results/real_v1/interval_coverage.json, which the page of evidence quotes; commit the code first, since the file
names its commit.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from mambaad.engine.environment import environment  # noqa: E402
from mambaad.files import write_json  # noqa: E402
from mambaad.study.evidence import coverage, protocol  # noqa: E402

if __name__ == "__main__":
    to = ROOT / "results" / protocol.NAME / coverage.FILE
    found = {"draws": coverage.DRAWS, "simulated": coverage.simulated()}
    write_json(to, {**found, "environment": environment("cpu")})
    print(coverage.sentence(found["simulated"]))  # type: ignore[arg-type]
