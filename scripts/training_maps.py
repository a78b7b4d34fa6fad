"""Record what the book's small network sees in one defective image while it learns.

    python scripts/training_maps.py                 about twenty minutes on one CPU core

Trains the run of scripts/train_book_network.py once more, with the same settings and seed, looks at the book's example
and its good twin after some of the steps, and writes results/book/training_maps.json.  The shipped weights stay as they
are; how far the last map is from theirs is part of the file.  An interrupted call continues; commit the code first,
since the file names its commit.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, cast

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from mambaad.config import to_dict  # noqa: E402
from mambaad.data import load_dataset  # noqa: E402
from mambaad.engine.environment import environment  # noqa: E402
from mambaad.engine.execution import Execution, pinned_threads  # noqa: E402
from mambaad.engine.run import data_folder  # noqa: E402
from mambaad.engine.train import train_run  # noqa: E402
from mambaad.files import write_json  # noqa: E402
from mambaad.model import MambaAD  # noqa: E402
from mambaad.study.book_network import EXAMPLE_INDEX, book_network, book_run, example_image, untrained_network  # noqa: E402
from mambaad.study.training_maps import STEPS, look, to_json  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--to", type=Path, default=ROOT / "results" / "book" / "training_maps.json", help="the file")
    parser.add_argument("--outputs", type=Path, default=ROOT / "build" / "training_maps", help="images and checkpoints")
    args = parser.parse_args()

    run, example = book_run(), example_image()
    execution = Execution(device="cpu", threads=1, features="float32")
    root = data_folder(run.data, None, args.outputs)
    samples = load_dataset(run.data.dataset, root, run.data.categories)
    kept = args.outputs / "points.json"
    earlier = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    points: list[dict[str, Any]] = earlier["points"] if earlier.get("hash") == run.hash else []

    def watch(method: Any, step: int, is_last: bool) -> None:
        if step not in STEPS and not is_last:
            return
        model = cast(MambaAD, method).eval()
        with torch.random.fork_rng():
            seen = look(model, example, step)
        model.train()
        points[:] = [point for point in points if point["step"] < step] + [to_json(seen)]
        write_json(kept, {"hash": run.hash, "points": points})

    with pinned_threads(execution.threads):
        if not points:
            points.append(to_json(look(untrained_network(), example, 0)))
        trained = train_run(run, samples, out=args.outputs / "run", execution=execution, watch=watch)
        shipped = look(book_network(), example, run.train.steps or 0)
        side = run.data.side
        last = look(cast(MambaAD, trained.model), example, trained.steps).anomaly_map("image", side)
        away = float((last - shipped.anomaly_map("image", side)).abs().max() / last.max())
        ran_on = environment("cpu")
    about = {
        "script": "scripts/training_maps.py",
        "run": run.hash,
        "config": to_dict(run),
        "seed": run.train.seed,
        "environment": ran_on,
        "image": {"words": example.words, "side": side, "index": EXAMPLE_INDEX},
        "from_shipped": {"largest_difference_of_the_map": away, "score": shipped.scores["image"]},
        "loss": [list(point) for point in trained.loss],
        "points": points,
    }
    print(write_json(args.to, about))
    print(f"the last map is within {away:.1e} of its largest value of that of the shipped weights")


if __name__ == "__main__":
    main()
