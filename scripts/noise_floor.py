"""How far mAD moves when nothing that matters is changed: seeds, threads, and the order of the training images.

    python scripts/noise_floor.py            15 runs of the quick profile, about five minutes on one idle core

Writes one record per run to results/noise_floor/<what>/runs; those that exist are not made again.  The page of
evidence shows them; commit the code first, since a record names its commit.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from mambaad.config import RunConfig  # noqa: E402
from mambaad.data import load_dataset  # noqa: E402
from mambaad.engine.execution import Execution  # noqa: E402
from mambaad.engine.run import data_folder, execute  # noqa: E402
from mambaad.study.noise_floor import FOLDER, ORDERS, SEEDS  # noqa: E402
from mambaad.study.profiles import quick_base  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=ROOT / "results" / FOLDER, help="folder of the records")
    parser.add_argument("--outputs", type=Path, default=ROOT / "build" / FOLDER, help="images and checkpoints")
    args = parser.parse_args()

    base = quick_base()
    samples = load_dataset(base.data.dataset, data_folder(base.data, None, args.outputs), base.data.categories)

    def make(what: str, run: RunConfig, threads: int, order: int = 0) -> None:
        given = list(samples)
        if order:
            random.Random(order).shuffle(given)  # other images meet in a batch; weights and noise begin the same
        record = execute(
            run,
            args.results / what,
            profile="quick",
            samples=given,
            data_root=data_folder(base.data, None, args.outputs),
            outputs=args.outputs / what,
            execution=Execution(device="cpu", threads=threads),
        )
        print(record)

    runs = {seed: dataclasses.replace(base, train=dataclasses.replace(base.train, seed=seed)) for seed in SEEDS}
    first = runs[SEEDS[0]]
    make("again", first, 1)
    for seed in SEEDS:
        make("seeds", runs[seed], 1)
        make("threads", runs[seed], 2)
    for order in ORDERS:
        make(f"order_{order}", first, 1, order)


if __name__ == "__main__":
    main()
