"""`mambaad evaluate` and `mambaad predict`: what a checkpoint makes of images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mambaad.cli.options import AddCommand, data_options, device_options, print_metrics, set_threads


def add(command: AddCommand) -> None:
    """Add both commands."""
    evaluate = command("evaluate", _evaluate, "metrics of a checkpoint (ours or a published one) on a data set")
    evaluate.add_argument("--weights", type=Path, required=True, help="checkpoint file")
    data_options(evaluate)
    device_options(evaluate)
    evaluate.add_argument("--out", type=Path, help="JSON file for the metrics")

    predict = command("predict", _predict, "anomaly scores, maps and overlays of images")
    predict.add_argument("images", type=Path, help="an image, or a folder of images")
    predict.add_argument("--weights", type=Path, required=True, help="checkpoint file")
    predict.add_argument("--out", type=Path, required=True, help="folder for scores.csv, maps/ and overlays/")
    predict.add_argument("--side", type=int, default=256, help="side of the network input in pixels")
    device_options(predict)


def _evaluate(arguments: argparse.Namespace) -> int:
    from mambaad.data import load_dataset
    from mambaad.evaluate import evaluate_samples
    from mambaad.model import load_checkpoint
    from mambaad.records import write_json

    set_threads(arguments)
    model = load_checkpoint(arguments.weights)
    samples = load_dataset(arguments.dataset, arguments.data, arguments.categories)
    results = evaluate_samples(model, samples, arguments.side, arguments.device)
    print_metrics(results)
    if arguments.out:
        print(f"written: {write_json(arguments.out, results)}")
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from mambaad.model import load_checkpoint
    from mambaad.predict import find_images, predict_files

    set_threads(arguments)
    images = find_images(arguments.images)
    model = load_checkpoint(arguments.weights)
    failed = predict_files(
        model, images, arguments.out, root=arguments.images, side=arguments.side, device=arguments.device
    )
    print(f"{len(images) - len(failed)} images scored: {arguments.out / 'scores.csv'}")
    for path in failed:
        print(f"not read: {path}", file=sys.stderr)
    return 1 if failed else 0
