"""`mambaad predict --watch`: images are scored as they come into a folder."""

from __future__ import annotations

import argparse


def watch(arguments: argparse.Namespace) -> int:
    """Score the images of a folder as they come, and print a line for each."""
    from mambaad.baselines import load_method
    from mambaad.inference.threshold import (
        Threshold,
        stored_side,
        stored_threshold,
        stored_thresholds,
        threshold_for,
    )
    from mambaad.inference.watch import watch_folder
    from mambaad.inference.weights_hub import resolve, sha256
    from mambaad.model.checkpoint import read_checkpoint

    if arguments.ground_truth is not None:
        raise ValueError("--ground-truth is for a folder that is complete: leave it out, or --watch")
    if arguments.tile is not None or arguments.region is not None:
        raise ValueError("--watch scores whole images: leave out --tile and --region, or --watch")
    if not arguments.images.is_dir():
        raise ValueError(f"--watch goes on with a folder, got {arguments.images}: name a folder, or leave out --watch")
    path = resolve(arguments.weights)
    content = read_checkpoint(path)
    side = stored_side(content) if arguments.side is None else arguments.side
    threshold, by_category = stored_threshold(content), stored_thresholds(content)
    if arguments.threshold is not None:
        threshold, by_category = Threshold.given(arguments.threshold, side), {}
    for used in filter(None, (threshold, *by_category.values())):
        used.check_side(side)
    rows = watch_folder(
        load_method(content),
        arguments.images,
        arguments.out,
        side=side,
        threshold_of=lambda image: threshold_for(image.absolute(), by_category, threshold),
        made_with={
            "checkpoint": sha256(path),
            "threshold": None if threshold is None else threshold.value,
            "thresholds": {category: own.value for category, own in by_category.items()},
        },
        maps=arguments.maps,
        overlays=not arguments.no_overlays,
        batch_size=arguments.batch_size,
        device=arguments.device,
        interval=arguments.watch,
    )
    note = "no threshold, so no verdicts and no overlays" if threshold is None else threshold.note
    print(f"watching {arguments.images}, Ctrl-C ends it; {note}", flush=True)
    for row in rows:
        verdict = {None: "", True: "not OK", False: "OK"}[row.anomalous]
        shown = "not read" if row.score is None else f"{row.score:.4f} {verdict}"
        print(f"{shown:16}{row.error or row.name}", flush=True)
    return 0
