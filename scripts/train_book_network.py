"""Train the network that the book's chapters look into, on synthetic images.

    python scripts/train_book_network.py            about twenty minutes on one CPU core

Writes mambaad/assets/book_network.safetensors and .json (what the chapters load) and the record of the run in
results/book/runs.  An interrupted call continues; commit the code first, since a record names its commit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from mambaad import load_checkpoint  # noqa: E402
from mambaad.data.synthetic.generate import SYNTHETIC_DEFECTS, draw  # noqa: E402
from mambaad.engine.execution import Execution  # noqa: E402
from mambaad.engine.run import execute  # noqa: E402
from mambaad.study.book_network import PROFILE, book_network, book_run, save_book_network  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "book", help="folder of the record")
    parser.add_argument("--outputs", type=Path, default=ROOT / "build" / "book_network", help="images and checkpoint")
    args = parser.parse_args()

    run = book_run()
    execution = Execution(device="cpu", threads=1, features="float32")
    checkpoint = args.outputs / "runs" / f"{PROFILE}_{run.hash}" / "checkpoint.pth"
    record = execute(
        run,
        args.results,
        profile=PROFILE,
        outputs=args.outputs,
        execution=execution,
        force=not checkpoint.is_file(),  # the committed record has no weights beside it
    )
    trained = load_checkpoint(checkpoint)
    save_book_network(trained.state_dict(), {"run": run.hash, "script": "scripts/train_book_network.py"})

    drawn = [
        draw(name, run.data.side, split="test", index=9, defect=kinds[0]) for name, kinds in SYNTHETIC_DEFECTS.items()
    ]
    images = trained.normalize(torch.stack([torch.from_numpy(image).permute(2, 0, 1) / 255 for image, _ in drawn]))
    exact, stored = (model.predict(images).anomaly_map for model in (trained, book_network()))
    print(f"{record}\nrounding to float16 moved the maps of four images by at most", end=" ")
    print(f"{float((exact - stored).abs().max() / exact.max()):.1e} of their largest value")


if __name__ == "__main__":
    main()
