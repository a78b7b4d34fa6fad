"""Train on single categories with nothing but their folder, and with the recipes that one would try instead; time both.

    python scripts/own_parts_defaults.py --data ../shared/data screw bottle metal_plate glassfiber pcb
    python scripts/own_parts_defaults.py --data ../shared/data metal_plate --recipes "half an hour"

Every recipe is one call of `mambaad train` in a process of its own, one after the other on an otherwise idle machine;
the seconds are those of the whole call, from start to the last file, and none with --beside, where other work runs on
the machine.  With --outputs a call that was interrupted goes on, and has no seconds.  Records, one per category:
results/own_parts/defaults/<category>.json; what is measured anew replaces what was there.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from own_parts_ablation import FOLDERS

from mambaad.files import write_json
from mambaad.study.own_parts import METRICS

RECIPES: dict[str, list[str]] = {
    # name: options beside --data and --out
    "no option": [],
    "half an hour": ["--minutes", "30"],
    "half an hour, network at 128 pixels": ["--preset", "laptop", "--minutes", "30"],
    "laptop_fine, one thread": ["--preset", "laptop_fine", "--threads", "1"],
    "memory bank alone": ["--method", "memory_bank"],
    "recipe of version 0.1's first README": [
        *("--preset", "paper", "--encoder-weights", "embedded", "--depths", "2", "2", "2", "2", "--side", "128"),
        *("--steps", "300", "--batch-size", "8", "--lr", "1e-3", "--warmup-steps", "20", "--clip-norm", "10"),
    ],
}

LONG = tuple(name for name in RECIPES if "half an hour" in name or "fine" in name)


def train(data: Path, out: Path, options: list[str], beside: bool) -> dict[str, Any]:
    """One call: seconds, settings' hash, metrics and threads.  Raises CalledProcessError where it fails."""
    command = [sys.executable, "-m", "mambaad", "train", "--data", str(data), "--out", str(out), *options]
    known = {path.name for path in (out / "runs").glob("*.json")}
    begun = out.exists() and any(out.iterdir())  # then these seconds are not those of the whole
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    records = list((out / "runs").glob("*.json"))
    written = [path for path in records if path.name not in known] or records
    if len(written) != 1:
        raise SystemExit(f"{out} holds records of {len(written)} settings; name another folder as --outputs")
    (path,) = written
    record = json.loads(path.read_text(encoding="utf-8"))
    metrics = record["metrics"]["exact"]["mean"]
    return {
        "options": options,
        "seconds": None if beside or begun else round(seconds),
        "hash": record["hash"],
        "steps": record["config"]["train"]["steps"],
        "environment": record["environment"],
        "metrics": {name: metrics[name] for name in ("image_auroc", "pixel_auroc", *METRICS)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", nargs="*", default=[], choices=[*FOLDERS, []])
    parser.add_argument("--data", type=Path, required=True, help="folder of mvtec/ and other/")
    parser.add_argument("--out", type=Path, default=Path("results/own_parts/defaults"))
    parser.add_argument(
        "--recipes",
        nargs="+",
        default=[name for name in RECIPES if name not in LONG],
        choices=RECIPES,
        help="what to measure (not given: all but what takes half an hour)",
    )
    parser.add_argument("--outputs", type=Path, help="folder that keeps what the calls write (not given: none does)")
    parser.add_argument("--beside", action="store_true", help="other work runs on the machine: record no seconds")
    given = parser.parse_args()
    for category in given.categories or FOLDERS:
        path = given.out / f"{category}.json"
        record: dict[str, Any] = {"category": category, "recipes": {}}
        if path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
        for name in given.recipes:
            with tempfile.TemporaryDirectory() as place:
                folder = re.sub(r"\W+", "_", name)
                out = given.outputs / category / folder if given.outputs else Path(place)
                images = given.data / FOLDERS[category] / category
                record["recipes"][name] = train(images, out, RECIPES[name], given.beside)
            write_json(path, record)
            done = record["recipes"][name]
            print(
                category,
                name,
                "no time" if done["seconds"] is None else f"{done['seconds']} s",
                done["metrics"],
                sep="  ",
                flush=True,
            )


if __name__ == "__main__":
    main()
