"""`mambaad evaluate`, `mambaad predict` and `mambaad calibrate`: what a checkpoint makes of images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambaad.cli.options import SIDE, WEIGHTS, AddCommand, data_options, device_options, set_threads
from mambaad.cli.outcome import print_measured, print_thresholds
from mambaad.cli.watch import watch

if TYPE_CHECKING:
    from mambaad.data.tiles import Tiling

OVERLAP = 0.25  # of tiles
VERDICTS = 20  # lines printed, of the most anomalous images; all are in scores.csv


def add(command: AddCommand) -> None:
    """Add the three commands."""
    evaluate = command("evaluate", _evaluate, "metrics of a checkpoint (ours or a published one) on a data set")
    evaluate.add_argument("--weights", required=True, help=WEIGHTS)
    data_options(evaluate, side="the checkpoint's")
    device_options(evaluate)
    evaluate.add_argument("--out", type=Path, help="JSON file for the metrics")

    predict = command("predict", _predict, "anomaly scores, maps, overlays and a gallery of images")
    predict.add_argument("images", type=Path, help="an image, or a folder of images")
    predict.add_argument("--weights", required=True, help=WEIGHTS)
    predict.add_argument("--out", type=Path, required=True, help="folder for scores.csv, maps, overlays, gallery.html")
    predict.add_argument("--side", type=int, help=SIDE)
    _tile_options(predict)
    predict.add_argument("--threshold", type=float, help="score above which an image is anomalous (not given: stored)")
    predict.add_argument(
        "--ground-truth",
        type=Path,
        help="folder of masks with the same folders as the images: writes metrics.json (not given: the folder "
        "ground_truth beside a folder test, if the images lie in one)",
    )
    predict.add_argument("--maps", default="npy", choices=["npy", "tiff", "none"], help="float32 maps, as files")
    predict.add_argument("--no-overlays", action="store_true", help="write no images with their maps")
    predict.add_argument(
        "--gallery", type=int, default=1000, help="most anomalous images in gallery.html; 0: no gallery"
    )
    predict.add_argument("--batch-size", type=int, default=8, help="images per call of the network")
    predict.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=1.0,
        metavar="SECONDS",
        help="go on with new images as they come into the folder, looking every so many seconds (1), until Ctrl-C; "
        "without gallery and metrics",
    )
    device_options(predict)

    calibrate = command("calibrate", _calibrate, "set the threshold of a checkpoint from good images")
    calibrate.add_argument("--weights", required=True, help=WEIGHTS)
    calibrate.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder of further good images, neither trained on nor used to report false positives",
    )
    calibrate.add_argument("--fpr", type=float, default=0.01, help="share of good images to be above it at most")
    calibrate.add_argument("--side", type=int, help=SIDE)
    _tile_options(calibrate)
    calibrate.add_argument("--out", type=Path, help="checkpoint to write (not given: the threshold is stored in place)")
    calibrate.add_argument("--batch-size", type=int, default=8, help="images per call of the network")
    device_options(calibrate)


def _tile_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--tile", type=int, help="side in pixels of overlapping tiles to predict large images in (not given: no tiles)"
    )
    sub.add_argument(
        "--overlap", type=float, help=f"share of a tile that the next one overlaps (not given: {OVERLAP}; needs --tile)"
    )
    sub.add_argument("--region", type=Path, help="mask file that is above 0 where images count (not given: everywhere)")


def _tiling(arguments: argparse.Namespace) -> Tiling | None:
    from mambaad.data.tiles import Tiling

    if arguments.tile is not None:
        return Tiling(arguments.tile, OVERLAP if arguments.overlap is None else arguments.overlap)
    if arguments.overlap is not None:
        raise ValueError(f"--overlap {arguments.overlap:g} is of tiles, and there are none: give --tile, too")
    return None


def _evaluate(arguments: argparse.Namespace) -> int:
    from mambaad.baselines import load_method
    from mambaad.data import load_dataset
    from mambaad.data.detect import guess_layout
    from mambaad.engine.evaluate import evaluate_samples
    from mambaad.engine.execution import Execution
    from mambaad.files import check_output, write_json
    from mambaad.inference.threshold import stored_side
    from mambaad.inference.weights_hub import published_by, resolve
    from mambaad.model.checkpoint import read_checkpoint

    execution = Execution(device=arguments.device, threads=arguments.threads)
    if arguments.out:
        check_output(arguments.out)
    path = resolve(arguments.weights)
    published = published_by(arguments.weights)
    content = read_checkpoint(path)
    dataset = arguments.dataset or (published.name if published else guess_layout(arguments.data))
    samples = load_dataset(dataset, arguments.data, arguments.categories)
    side = stored_side(content) if arguments.side is None else arguments.side
    results = evaluate_samples(load_method(content), samples, side, execution)
    print_measured(results)
    if arguments.out:
        print(f"written: {write_json(arguments.out, results)}")
    if published is not None and dataset == published.name:
        _print_beside_paper(dataset, results, whole=not arguments.categories)
    return 0


def _print_beside_paper(loader: str, results: Mapping[str, Any], whole: bool) -> None:
    """The paper's values beside ours; the mean only where it is over all categories."""
    try:
        from mambaad.study.published_weights import beside_paper

        frame = beside_paper(loader, results)
    except (ImportError, FileNotFoundError) as error:
        print(f"the paper's values are not shown: {error}", file=sys.stderr)
        return
    print(f"\n{loader}, protocol paper: published values | published weights, evaluated here | difference")
    for category, rows in frame.groupby("category", sort=False):
        if category != "mean" or whole:
            for row in rows.itertuples():
                print(f"{category:16} {row.metric:13} {row.paper:8.1f} | {row.ours:8.2f} | {row.difference:+8.2f}")


def _predict(arguments: argparse.Namespace) -> int:
    from mambaad.baselines import load_method
    from mambaad.data import DatasetError
    from mambaad.files import check_output
    from mambaad.inference.ground_truth import find_truth
    from mambaad.inference.image_files import find_images
    from mambaad.inference.predict import predict_files
    from mambaad.inference.threshold import Threshold, stored_side, stored_threshold, stored_thresholds
    from mambaad.inference.weights_hub import resolve
    from mambaad.model.checkpoint import read_checkpoint

    set_threads(arguments)
    check_output(arguments.out, folder=True)
    tiling = _tiling(arguments)
    if arguments.watch is not None:
        return watch(arguments)
    images = find_images(arguments.images, exclude=arguments.out)
    _tell_other_formats(arguments.images)
    content = read_checkpoint(resolve(arguments.weights))
    side = stored_side(content) if arguments.side is None else arguments.side
    threshold, by_category = stored_threshold(content), stored_thresholds(content)
    if arguments.threshold is not None:
        threshold, by_category = Threshold.given(arguments.threshold, side, arguments.tile or 0), {}
    try:
        if tiling is not None and arguments.ground_truth is not None:
            raise DatasetError("--ground-truth measures maps of whole images: leave out --tile")
        truth = None if tiling else find_truth(images, arguments.images, arguments.ground_truth)
    except DatasetError as error:
        if arguments.ground_truth is not None:
            raise
        truth = None  # nobody asked for the metrics
        print(f"no metrics: {error}", file=sys.stderr)
    done = predict_files(
        load_method(content),
        images,
        arguments.out,
        root=arguments.images,
        side=side,
        tiling=tiling,
        region=arguments.region,
        threshold=threshold,
        by_category=by_category,
        truth=truth,
        maps=arguments.maps,
        overlays=not arguments.no_overlays,
        gallery=arguments.gallery,
        batch_size=arguments.batch_size,
        device=arguments.device,
    )
    tiles = "" if tiling is None else f" in tiles of {tiling.tile} pixels"
    images_scored = f"{len(done.rows)} image{'s' * (len(done.rows) != 1)} scored"
    print(f"{images_scored} at side {side}{tiles}: {arguments.out / 'scores.csv'}")
    if threshold is None:
        print("no threshold: mambaad calibrate sets one from good images")
    else:
        for row in done.rows[:VERDICTS]:
            print(f"{'not OK' if row.anomalous else 'OK':6}  {row.score:.6g}  {row.name}")
        if len(done.rows) > VERDICTS:
            print(f"... and {len(done.rows) - VERDICTS} with lower scores")
        print(f"{sum(bool(row.anomalous) for row in done.rows)} of {len(done.rows)} not OK")
        print_thresholds([row.path for row in done.rows], by_category, threshold)
    if arguments.gallery and done.rows:
        print(f"gallery: {arguments.out / 'gallery.html'}")
    if done.metrics is not None:
        print_measured(
            {protocol: done.metrics[protocol] for protocol in ("exact", "paper") if protocol in done.metrics}
        )
        print(f"metrics: {arguments.out / 'metrics.json'}")
    return _report_failed(done.failed)


def _calibrate(arguments: argparse.Namespace) -> int:
    from mambaad.baselines import load_method
    from mambaad.data import DatasetError
    from mambaad.data.pixels import read_mask
    from mambaad.files import check_output
    from mambaad.inference.image_files import find_images
    from mambaad.inference.predict import score_files
    from mambaad.inference.threshold import (
        calibrate,
        check_good_alone,
        check_rate,
        check_unseen,
        store_threshold,
        stored_side,
        stored_thresholds,
    )
    from mambaad.inference.tiles import region_hash
    from mambaad.inference.weights_hub import resolve
    from mambaad.model.checkpoint import read_checkpoint

    set_threads(arguments)
    check_rate(arguments.fpr)
    tiling = _tiling(arguments)
    region = region_hash(None if arguments.region is None else read_mask(arguments.region))
    check_output(arguments.out or resolve(arguments.weights))
    images = find_images(arguments.data)
    _tell_other_formats(arguments.data)
    check_good_alone(arguments.data, images)
    path = resolve(arguments.weights)
    content = read_checkpoint(path)
    if "format" not in content and arguments.out is None:
        raise DatasetError(f"{path} is a published checkpoint and is left as it is: name another file with --out")
    check_unseen(content, images)
    side = stored_side(content) if arguments.side is None else arguments.side
    scores, failed = score_files(
        load_method(content),
        images,
        side,
        tiling=tiling,
        region=arguments.region,
        batch_size=arguments.batch_size,
        device=arguments.device,
    )
    if failed:
        code = _report_failed(failed)
        print("no threshold is stored: restore these files or take them away", file=sys.stderr)
        return code
    threshold = calibrate(list(scores.values()), arguments.fpr, side=side, tiling=tiling, region=region)
    written = store_threshold(path, threshold, arguments.out)
    print(f"{threshold.note}\nstored in {written}")
    if dropped := stored_thresholds(content):
        print(
            f"it replaces the thresholds of single categories, which were of other images: {', '.join(dropped)}; "
            "images of every category are now compared with this one"
        )
    return 0


def _tell_other_formats(folder: Path) -> None:
    from mambaad.data.datasets.mvtec_ad import of_other_formats

    if folder.is_dir() and (left := of_other_formats(folder)):
        print(f"{folder}: {left}", file=sys.stderr)


def _report_failed(failed: Mapping[Path, str]) -> int:
    for reason in failed.values():
        print(f"not read: {reason}", file=sys.stderr)
    return 1 if failed else 0
