"""`mambaad train`: one model on good images, evaluated where there are test images, with a threshold."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from mambaad.cli.options import AddCommand, data_options, device_options, print_metrics
from mambaad.config import METHODS, PRESETS, SCAN_METHODS, method_of
from mambaad.config.presets import FINE_MINUTES
from mambaad.data.image_cache import default_cache_dir
from mambaad.engine.execution import FEATURES

TRAINING = (
    ("epochs", int, "passes over the training images"),
    ("steps", int, "optimiser steps; overrules epochs"),
    ("batch-size", int, "images per step"),
    ("lr", float, "peak learning rate"),
    ("weight-decay", float, "weight decay"),
    ("warmup-steps", int, "steps of linear warm-up"),
    ("clip-norm", float, "largest gradient norm"),
    ("seed", int, "seed of everything random"),
    ("precision", str, "32-true or bf16-mixed"),
    ("holdout", float, "share of the good images that is kept for the threshold and not trained on"),
    ("patience", int, "checks of the held-out images' loss without progress that end training early"),
)


def add(command: AddCommand) -> None:
    """Add the command."""
    _train_options(command("train", _train, "train one model on good images; evaluate it where there are test images"))


def _train_options(sub: argparse.ArgumentParser) -> None:
    data_options(sub, required=False, side="the preset's; with a memory bank beside MambaAD it is the bank's")
    device_options(sub)
    sub.add_argument("--out", type=Path, help="folder for the checkpoint and the run record")
    named = "; ".join(f"{preset.name}: {preset.purpose}" for preset in PRESETS.values())
    sub.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        help=f"{named} (not given: paper on a CUDA device, else laptop, "
        f"or laptop_fine with {FINE_MINUTES} --minutes or more)",
    )
    sub.add_argument("--config", type=Path, help="YAML file of settings, or a record; options overrule its values")
    sub.add_argument("--print-config", action="store_true", help="print such a file with all settings, and stop")
    sub.add_argument("--method", choices=METHODS, help="what is trained (not given: the preset's)")
    sub.set_defaults(device=None)
    encoder = sub.add_argument_group("encoder (nothing given: the preset's)")
    encoder.add_argument("--backbone", help="timm model name (not given: the method's published one)")
    encoder.add_argument(
        "--encoder-weights",
        help='timm tag, local .safetensors or .pth file, "imagenet_lite0", "embedded" (a small one) or "random" '
        "(not given: the published tag)",
    )
    encoder.add_argument("--pad-type", choices=["same", "valid"], help="timm padding of some backbones")
    encoder.add_argument("--mean", type=float, nargs=3, help="input mean (not given: ImageNet's)")
    encoder.add_argument("--std", type=float, nargs=3, help="input standard deviation (not given: ImageNet's)")
    diffusion = sub.add_argument_group("diffusion (method diad)")
    diffusion.add_argument(
        "--diffusion-weights",
        type=Path,
        help="Stable Diffusion 1.x, a .safetensors or torch file: the published size starts from it "
        "(not given: a reduced network, trained from nothing)",
    )
    anomalies = sub.add_argument_group("synthetic anomalies (method destseg)")
    anomalies.add_argument(
        "--textures", type=Path, help="folder of images, such as DTD's (not given: procedural textures)"
    )
    decoder = sub.add_argument_group("decoder (method mambaad)")
    decoder.add_argument("--depths", type=int, nargs=4, help="HSS blocks per stage (not given: the preset's)")
    decoder.add_argument("--scan", choices=SCAN_METHODS, help="scan order (not given: the preset's)")
    decoder.add_argument("--directions", type=int, help="scan routes: 2, 4 or 8 (not given: the preset's)")
    training = sub.add_argument_group("training")
    training.add_argument("--minutes", type=float, help="time for training and evaluation, in place of steps")
    training.add_argument("--fpr", type=float, help="share of good images to be above the threshold (not given: 0.01)")
    training.add_argument("--processes", type=int, help="training processes (cards) that share each batch (default: 1)")
    speed = sub.add_argument_group("speed")
    speed.add_argument("--workers", type=int, help="processes that read images (not given: none)")
    speed.add_argument(
        "--image-cache",
        type=Path,
        nargs="?",
        const=default_cache_dir(),
        help="folder that keeps decoded and resized images between runs (named without a folder: the user's cache)",
    )
    speed.add_argument(
        "--features",
        choices=FEATURES,
        help="run the frozen encoder once per image and keep its features, in full or half precision (not given: "
        "the preset's)",
    )
    speed.add_argument("--feature-dir", type=Path, help="folder for them (not given: the device's memory)")
    speed.add_argument("--compile", action="store_true", help="compile fusion and decoder with torch.compile")
    for name, kind, text in TRAINING:
        training.add_argument(f"--{name}", type=kind, help=f"{text} (not given: the preset's)")


def _train(arguments: argparse.Namespace) -> int:
    from mambaad.cli.settings import settle
    from mambaad.data import DatasetError, load_dataset
    from mambaad.data.contents import CONTENT_CACHE, contents_hash
    from mambaad.data.datasets.mvtec_ad import of_other_formats
    from mambaad.data.detect import guess_layout
    from mambaad.data.row_store import CacheError
    from mambaad.engine.budget import with_budget
    from mambaad.engine.execution import Execution
    from mambaad.engine.optim import batch_that_fits
    from mambaad.engine.processes import is_first
    from mambaad.engine.records import write_record
    from mambaad.engine.result import CHECKPOINT
    from mambaad.engine.run import execute
    from mambaad.files import check_output
    from mambaad.inference.held_out import calibrate_run, notes, set_later

    settings = settle(arguments)
    if arguments.print_config:
        print(settings.as_yaml(), end="")
        return 0
    for name in ("data", "out"):
        if getattr(settings, name) is None:
            raise ValueError(f"--{name} is missing: name a folder, or paths: {name} in the file of --config")
    data, out, run = Path(str(settings.data)), Path(str(settings.out)), settings.run
    check_output(out, folder=True)
    try:
        dataset = settings.dataset or guess_layout(data)
    except DatasetError as error:
        raise DatasetError(f"{error}; or name the layout with --dataset") from error
    samples = load_dataset(dataset, data, run.data.categories)
    if (left := of_other_formats(data)) and is_first():
        print(f"{data}: {left}", file=sys.stderr)
    index = contents_hash(samples, data, out / CONTENT_CACHE)
    run = replace(run, data=replace(run.data, dataset=dataset, index_hash=index))
    execution = Execution(**{"threads": None} | dict(settings.execution))
    given = settings.own_batch or method_of(run.model) == "memory_bank"
    batch = run.train.batch_size if given else batch_that_fits(run, samples, execution.processes)
    if batch != run.train.batch_size:
        if is_first():
            print(f"batch size: {batch} (not {run.train.batch_size}: there are fewer training images)")
        run = replace(run, train=replace(run.train, batch_size=batch))
    if settings.minutes is not None:
        run = with_budget(run, samples, settings.minutes, out, execution, settings.encoder_file)
    if is_first():
        print(f"preset: {settings.preset} ({settings.reason})")
        if settings.minutes is not None:
            print(f"steps: {run.train.steps} (in {settings.minutes:g} min)")
        print(f"settings:\n{replace(settings, run=run, dataset=dataset, minutes=None).as_yaml()}", flush=True)
    carry_out = partial(
        execute,
        run,
        out,
        profile="own",
        data_root=data,
        samples=samples,
        encoder_file=settings.encoder_file,
        diffusion_file=arguments.diffusion_weights,
        outputs=out,
    )
    try:
        record = carry_out(execution=execution)
    except CacheError as error:
        if execution.features == "off" or arguments.features is not None:
            raise
        print(f"features are not kept, training is slower: {error}", file=sys.stderr)
        execution = replace(execution, features="off")
        record = carry_out(execution=execution)
    checkpoint = out / "runs" / f"own_{run.hash}" / CHECKPOINT
    there = checkpoint.is_file()
    print(f"checkpoint: {checkpoint}{'' if there else ' is no longer there: remove the record to train again'}")
    print(f"record: {record}")
    content = json.loads(record.read_text(encoding="utf-8"))
    if run.train.patience is not None and run.train.steps and content["train"]["steps"] < run.train.steps:
        print(
            f"stopped after {content['train']['steps']} of {run.train.steps} steps: the loss of the images held out "
            f"had not fallen in {run.train.patience} check{'s' * (run.train.patience > 1)}"
        )
    print_metrics(content["metrics"])
    if not there:
        return 0
    if (later := set_later(checkpoint)) is not None:
        print(f"\n{later.note}\nset by mambaad calibrate after the training, and left as it is")
        return 0
    found = {}
    if run.train.holdout:
        found = content.get("thresholds", {})
        if found.get("rate") != settings.fpr:
            found = calibrate_run(checkpoint, run, samples, rate=settings.fpr, execution=execution)
            content["thresholds"] = found
            write_record(record, content)
    without = (
        "no threshold: no good images were held out to set it from; "
        f"mambaad calibrate --weights {checkpoint} --data GOOD_IMAGES sets one"
    )
    print("", *(notes(found) or [without]), sep="\n")
    return 0
