"""A training step of this version beside one of an earlier version, on one machine and in one run.

    git worktree add build/before 9123599
    gcc -O3 -std=gnu11 -fPIC -shared -pthread -o build/before/mambaad/ops/routed_scan/_native.so \
        build/before/mambaad/ops/routed_scan/native/routed_scan.c
    python scripts/training_step_before.py build/before

9123599 is the version before a step was made cheaper; the compiled scan of both is used.  One process for each side,
one thread, random weights; the sides take turns, step by step, so that a change of the machine's load meets all of
them.  Record: results/benchmarks/step_before_cpu.csv, and the commits of both beside it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import IO, cast

ROOT = Path(__file__).resolve().parents[1]
ENCODERS = {
    "EfficientNet-Lite0": {"backbone": "efficientnet_lite0", "backbone_kwargs": {"pad_type": "same"}},
    "ResNet18": {"backbone": "resnet18"},
}
EVERY_STEP, KEPT = "in every step", "kept"
SIDES = {("before", EVERY_STEP), ("now", EVERY_STEP), ("now", KEPT)}
SIDE, BATCH, DEPTHS = 128, 8, (2, 2, 2, 2)


def serve_steps(tree: Path, encoder: str, features: str) -> None:
    """Make one step of the version at `tree` for every line of stdin, and answer with its milliseconds."""
    sys.path.insert(0, str(tree))
    import torch

    import mambaad
    from mambaad.config import ModelConfig, TrainConfig
    from mambaad.model import MambaAD

    if tree not in Path(mambaad.__file__).parents:
        raise SystemExit(f"mambaad was imported from {mambaad.__file__}, not from {tree}")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train = TrainConfig()
    model = MambaAD(ModelConfig(depths=DEPTHS, **ENCODERS[encoder]), weights="random").train()  # type: ignore[arg-type]
    images = torch.randn(BATCH, 3, SIDE, SIDE)
    if hasattr(model, "optimizers"):
        optimizers, loss_of = model.optimizers(train), model.loss_from_features
    else:  # as the training of 9123599 had it
        from mambaad.schedule import parameter_groups
        from mambaad.train import reconstruction_loss

        optimizers = [torch.optim.AdamW(parameter_groups(model, train.weight_decay), lr=train.lr, betas=train.betas)]

        def loss_of(features: Sequence[torch.Tensor]) -> torch.Tensor:
            return reconstruction_loss(features, model.reconstruct(features))

    kept = model.encode(images)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss_of(kept if features == KEPT else model.encode(images)).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        print(1e3 * (time.perf_counter() - start), flush=True)


def measure(trees: dict[str, Path], encoder: str, repeats: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of `repeats` steps of every side, after three that do not count."""
    children = {
        (version, features): subprocess.Popen(
            [sys.executable, __file__, str(trees[version]), "--serve", encoder, features],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )
        for version, features in sorted(SIDES)
    }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in children}
    for i in range(repeats + 3):
        for key, child in children.items():
            cast(IO[str], child.stdin).write("\n")
            cast(IO[str], child.stdin).flush()
            answer = cast(IO[str], child.stdout).readline()
            if not answer:
                raise SystemExit(f"the steps of {key[0]} ended early; their message stands above")
            if i >= 3:
                times[key].append(float(answer))
    for child in children.values():
        cast(IO[str], child.stdin).close()
        child.wait()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="checkout of the earlier version, its C library built in place")
    parser.add_argument("--repeats", type=int, default=15, help="timed steps of each side")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks", help="folder for the record")
    parser.add_argument("--serve", nargs=2, metavar=("ENCODER", "FEATURES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve_steps(given.before.resolve(), *given.serve)
        return
    if not list((given.before / "mambaad" / "ops" / "routed_scan").glob("_native*.so")):
        raise SystemExit(f"{given.before} has no compiled scan; build it as the head of this script says")

    sys.path.insert(0, str(ROOT))
    import torch

    from mambaad.benchmarks.timing import write_benchmark

    torch.set_num_threads(1)  # what the record says of this process holds for the others
    commit = subprocess.run(
        ["git", "-C", str(given.before), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    rows = []
    for encoder in ENCODERS:
        times = measure({"before": given.before, "now": ROOT}, encoder, given.repeats)
        before = median(times["before", EVERY_STEP])
        for (version, features), found in times.items():
            row = {"encoder": encoder, "version": version, "features": features, "median_ms": median(found)}
            spread = {"min_ms": min(found), "max_ms": max(found), "of_before": median(found) / before}
            rows.append(row | spread)
            print(
                encoder, version, features, f"{median(found):.0f} ms, {median(found) / before:.2f} of before", sep="  "
            )
    facts = {"repeats": given.repeats, "before": commit, "side": SIDE, "batch": BATCH, "depths": list(DEPTHS)}
    print(write_benchmark(given.out / "step_before_cpu.csv", rows, facts, "cpu"))


if __name__ == "__main__":
    main()
