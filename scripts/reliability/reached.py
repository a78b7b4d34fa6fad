"""Lines and branches of the package that the tests go through, by part.

    python scripts/reliability/reached.py --out results/reliability/coverage.json

Needs the extra `dev` (pytest-cov).  The record names the tests, which are those of the default run unless told
otherwise, and whether they passed.  Processes that tests start count (`[tool.coverage.run]` in pyproject.toml).  Lines
that coverage.py leaves out by itself, imports for type checkers and bodies of protocols, are counted apart.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mambaad.engine.environment import code_version
from mambaad.files import write_json

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "lines": "num_statements",
    "lines_reached": "covered_lines",
    "branches": "num_branches",
    "branches_reached": "covered_branches",
    "lines_left_out": "excluded_lines",
}


def by_part(files: dict[str, Any], wanted: list[str]) -> dict[str, dict[str, int]]:
    """Sums over the files of each part of the package, or over the files named."""
    parts: dict[str, dict[str, int]] = {}
    for name, file in sorted(files.items()):
        if wanted and name not in wanted:
            continue
        part = name if wanted else Path(name).parts[1].removesuffix(".py")
        row = parts.setdefault(part, dict.fromkeys(KEYS, 0))
        for key, theirs in KEYS.items():
            row[key] += file["summary"][theirs]
    parts["all"] = {key: sum(row[key] for row in parts.values()) for key in KEYS}
    return parts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", nargs="+", default=["tests"], help="files or folders of tests")
    parser.add_argument("--files", nargs="+", default=[], help="only these files of the package, each by itself")
    parser.add_argument("--out", type=Path, required=True, help="JSON record")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.json"
        command = [sys.executable, "-m", "pytest", "--cov", f"--cov-report=json:{report}", *arguments.tests]
        environment = os.environ | {"COVERAGE_FILE": str(Path(place) / "data")}  # whoever else measures
        passed = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
        files = json.loads(report.read_text())["files"]
    named = {"--tests": arguments.tests, "--files": arguments.files}
    given = [f"{option} {' '.join(values)}" for option, values in named.items() if values]
    write_json(
        arguments.out,
        {
            "kind": "coverage",
            "command": f"python scripts/reliability/reached.py {' '.join(given)} "
            f"--out results/reliability/{arguments.out.name}",
            "tests": arguments.tests,
            "passed": passed,
            "parts": by_part(files, arguments.files),
            "code": [code_version()["commit"] or "unknown"],
        },
    )
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
