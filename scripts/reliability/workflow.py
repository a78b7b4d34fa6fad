"""Kill the study's graph at random moments, run two of them at once, and compare their records with an undisturbed one.

    python scripts/reliability/workflow.py --kills 20 --jobs 2 --out results/reliability/workflow.json

Only some of the study's jobs are run, from drawing the images to the records of their runs, in folders of their own.
SIGKILL goes to the workflow and everything that it started; the same command is then given again, as `make reproduce`
would be, until it finishes. Afterwards two workflows start on one empty folder at the same moment: one of them may end
with a sentence, and the command given once more must find records like those of an undisturbed workflow.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mambaad.engine.environment import code_version
from mambaad.files import write_json
from mambaad.study import plan

ROOT = Path(__file__).resolve().parents[2]
PER_JOB = 4  # runs, as in the Snakefile


def targets(build: Path, jobs: int) -> list[str]:
    """The records of the study's first jobs."""
    runs = list(dict.fromkeys(run for table in plan.TABLES.values() for run in plan.runs("quick", [table])))
    return [f"{build}/results/runs/quick_{run}.json" for run in runs[: PER_JOB * jobs]]


def start(build: Path, jobs: int) -> subprocess.Popen[bytes]:
    """The workflow in a process group of its own; the lock of a killed one is dropped first, as in the Makefile."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--rerun-triggers", "mtime", "--rerun-incomplete"]
    settings = ["--config", "profile=quick", "train=True", f"build={build}", f"results={build}/results"]
    wanted = ["--quiet", "all", "--", *targets(build, jobs)]
    nothing = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, "--unlock", *settings, *wanted], cwd=ROOT, check=False, **nothing)  # type: ignore[call-overload]
    started: subprocess.Popen[bytes] = subprocess.Popen(
        [*command, *settings, *wanted],
        cwd=ROOT,
        start_new_session=True,
        **nothing,  # type: ignore[call-overload]
    )
    return started


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a workflow and its jobs."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True, check=False).stdout:
        time.sleep(0.05)


def found(build: Path, jobs: int) -> dict[str, Any]:
    """The records, without their times and what names the folder."""
    records = {}
    for path in map(Path, targets(build, jobs)):
        record = json.loads(path.read_text(encoding="utf-8"))
        del record["wall_seconds"], record["train"]["seconds_per_step"]
        records[path.name] = record
    return records


def until_finished(build: Path, jobs: int, kills: int, longest: float, chance: random.Random) -> tuple[int, list[int]]:
    """Give the command again and again; how often it was killed, and the exit codes of calls that ended."""
    killed, codes = 0, []
    while True:
        process = start(build, jobs)
        try:
            process.wait(chance.uniform(1, longest) if killed < kills else None)
        except subprocess.TimeoutExpired:
            kill_group(process)
            killed += 1
            continue
        codes.append(process.returncode)
        if process.returncode == 0 or len(codes) == 3:
            return killed, codes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2, help="jobs of the study, of four runs each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="JSON record")
    given = parser.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as place:
        top = Path(place)
        before = time.monotonic()
        _, codes = until_finished(top / "whole", given.jobs, 0, 0, chance)
        usual = time.monotonic() - before
        if codes != [0]:
            print(f"the undisturbed workflow ended with {codes}", file=sys.stderr)
            return 1
        wanted = found(top / "whole", given.jobs)
        record: dict[str, Any] = {
            "kind": "workflow",
            "command": f"python scripts/reliability/workflow.py --kills {given.kills} --jobs {given.jobs} "
            f"--out results/reliability/{given.out.name}",
            "code": [code_version()["commit"] or "unknown"],
            "records": len(wanted),
            "kills": 0,
            "passes": 0,
            "passes_equal": 0,
            "wrong": [],
        }
        while record["kills"] < given.kills:
            build = top / "killed"
            killed, codes = until_finished(build, given.jobs, given.kills - record["kills"], usual / 2, chance)
            record["kills"] += killed
            record["passes"] += 1
            record["passes_equal"] += codes == [0] and found(build, given.jobs) == wanted
            record["wrong"] += [code for code in codes if code]
            shutil.rmtree(build)
            write_json(given.out, record)
            print(f"{record['kills']} kills, {record['passes_equal']} of {record['passes']} equal", file=sys.stderr)
        build = top / "together"
        both = [start(build, given.jobs) for _ in range(2)]
        ended = [process.wait() for process in both]
        _, codes = until_finished(build, given.jobs, 0, 0, chance)
        record["together"] = {
            "exit_codes": ended,
            "afterwards": codes,
            "equal": codes == [0] and found(build, given.jobs) == wanted,
        }
        write_json(given.out, record)
    return 0 if record["passes"] == record["passes_equal"] and record["together"]["equal"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
