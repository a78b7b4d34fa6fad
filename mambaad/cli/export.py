"""`mambaad export`: a checkpoint as a graph for other runtimes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mambaad.cli.options import AddCommand, set_threads


def add(command: AddCommand) -> None:
    """Add the command."""
    sub = command("export", _export, "write a checkpoint as an ONNX or torch.export graph, compared with PyTorch")
    sub.add_argument(
        "--weights",
        required=True,
        help="checkpoint file, folder that was --out of mambaad train, or the name of published weights",
    )
    sub.add_argument(
        "--format",
        default="onnx",
        choices=["onnx", "onnx_native", "onnx_unrolled", "torch"],
        help="onnx: standard operators; onnx_native: as fast as PyTorch, for onnxruntime on processors like this one, "
        "with a library beside; onnx_unrolled: for runtimes without ONNX's operator Scan, such as OpenVINO; torch: "
        "torch.export's .pt2",
    )
    sub.add_argument("--out", type=Path, required=True, help="file to write; its record is written beside as .json")
    sub.add_argument("--side", type=int, help="side of the graph's images in pixels (not given: the checkpoint's)")
    sub.add_argument(
        "--images", type=Path, help="image or folder to compare on, 3 images of it (not given: random noise)"
    )
    sub.add_argument(
        "--input",
        default="uint8",
        choices=["uint8", "float"],
        help="what the graph takes: uint8 is 0 to 255, (B, S, S, 3), as images are read; float 0 to 1, (B, 3, S, S)",
    )
    sub.add_argument("--repeats", type=int, default=5, help="timed calls for the record; 0 times nothing")
    sub.add_argument("--threads", type=int, help="CPU threads (not given: torch's choice)")


def _export(arguments: argparse.Namespace) -> int:
    import numpy as np
    import torch

    from mambaad.baselines import load_method
    from mambaad.data.pixels import read_rgb, resize_rgb
    from mambaad.files import atomic_path, check_output
    from mambaad.inference.export import ARRAYS, RUNNER, export
    from mambaad.inference.image_files import find_images
    from mambaad.inference.threshold import stored_side, stored_threshold, stored_thresholds
    from mambaad.inference.weights_hub import resolve
    from mambaad.model import check_side
    from mambaad.model.checkpoint import read_checkpoint

    set_threads(arguments)
    check_output(arguments.out)
    content = read_checkpoint(resolve(arguments.weights))
    side = stored_side(content) if arguments.side is None else arguments.side
    model = load_method(content)
    check_side(model.config, side, side)
    threshold = stored_threshold(content)
    if threshold is not None and (threshold.side != side or threshold.tile or threshold.region):
        belongs = f"tiles of {threshold.tile} pixels" if threshold.tile else f"images of {threshold.side} pixels"
        belongs += " in a region" if threshold.region else ""
        print(f"no threshold in the graph: the checkpoint's belongs to {belongs}, the graph takes images of {side}")
        threshold = None
    elif threshold is not None and len(own := stored_thresholds(content)) > 1:
        print(f"the graph's threshold is that of all images together, as it knows no categories: {', '.join(own)}")
    facts: dict[str, Any] = {"checkpoint": str(Path(arguments.weights).name)}
    if arguments.images is None:
        images = torch.randint(256, (3, side, side, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    else:
        found = find_images(arguments.images)
        # spread over the folder: its first images are often all of one kind
        chosen = [found[i * (len(found) - 1) // 2] for i in range(3)]
        images = torch.from_numpy(np.stack([resize_rgb(read_rgb(path), side) for path in chosen]))
    if arguments.input == "float":
        images = images.permute(0, 3, 1, 2).float() / 255
    record = export(
        model,
        arguments.out,
        images,
        format=arguments.format,
        threshold=None if threshold is None else threshold.value,
        facts=facts,
        repeats=arguments.repeats,
    )
    compared, times = record["compared"], record["milliseconds_per_image"]
    print(
        f"written: {arguments.out} ({record['bytes'] / 2**20:.1f} MiB, sha256 {record['sha256'][:12]}), "
        f"record {arguments.out}.json\n"
        f"largest difference from PyTorch: map {compared['max_difference_map']:.2g}, "
        f"score {compared['max_difference_score']:.2g}; largest map value {compared['largest_map_value']:.3g}"
    )
    if record["library"] is not None:
        print(f"the compiled scan, which belongs to the graph: {arguments.out.with_name(record['library']['file'])}")
    if arguments.format != "torch":
        scripts = {RUNNER: ("onnxruntime, numpy and pillow", "IMAGES")}
        if arguments.input == "uint8":
            scripts[ARRAYS] = ("onnxruntime and numpy", "FRAMES.npy")
        for script, (needed, what) in scripts.items():
            runner = arguments.out.with_name(script.name)
            with atomic_path(runner) as temporary:
                temporary.write_bytes(script.read_bytes())
            print(f"without torch, with {needed}: python {runner} {arguments.out} {what}")
    if times:
        print(
            f"milliseconds per image, {times['threads']} threads: PyTorch {times['pytorch']:.0f}, "
            f"exported {times['exported']:.0f}"
        )
    return 0
