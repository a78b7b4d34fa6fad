"""`mambaad train`: one model on good images, evaluated where there are test images."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from mambaad.cli.options import AddCommand, data_options, device_options, print_metrics
from mambaad.config import (
    METHODS,
    PUBLISHED_WEIGHTS,
    SCAN_METHODS,
    DataConfig,
    MethodConfig,
    ModelConfig,
    RunConfig,
    TrainConfig,
    for_encoder,
    published_recipe,
    small_form,
)
from mambaad.data.image_cache import default_cache_dir
from mambaad.engine.execution import FEATURES

DEFAULT_MODEL = ModelConfig()
DECODER = ("depths", "scan", "directions")


def add(command: AddCommand) -> None:
    """Add the command."""
    _train_options(command("train", _train, "train one model on good images; evaluate it where there are test images"))


def _train_options(sub: argparse.ArgumentParser) -> None:
    data_options(sub)
    device_options(sub)
    sub.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and the run record")
    sub.add_argument("--method", choices=METHODS, default="mambaad", help="what is trained; all methods predict alike")
    encoder = sub.add_argument_group("encoder")
    encoder.add_argument("--backbone", help="timm model name (not given: the method's published one)")
    encoder.add_argument(
        "--encoder-weights",
        help='timm tag, local .safetensors or .pth file, "imagenet_lite0", "embedded" (a small one) or "random" '
        "(not given: the published tag)",
    )
    encoder.add_argument("--pad-type", help='timm padding of some backbones, for example "same"')
    encoder.add_argument("--mean", type=float, nargs=3, default=DEFAULT_MODEL.mean, help="input mean")
    encoder.add_argument("--std", type=float, nargs=3, default=DEFAULT_MODEL.std, help="input standard deviation")
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
    decoder.add_argument("--depths", type=int, nargs=4, help=f"HSS blocks per stage ({DEFAULT_MODEL.depths})")
    decoder.add_argument("--scan", choices=SCAN_METHODS, help=f"scan order ({DEFAULT_MODEL.scan})")
    decoder.add_argument("--directions", type=int, help=f"scan routes: 2, 4 or 8 ({DEFAULT_MODEL.directions})")
    training = sub.add_argument_group("training")
    training.add_argument("--processes", type=int, default=1, help="training processes (cards) that share each batch")
    speed = sub.add_argument_group("speed")
    speed.add_argument("--workers", type=int, default=0, help="processes that read images")
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
        default="off",
        help="run the frozen encoder once per image and keep its features, in full or half precision",
    )
    speed.add_argument("--feature-dir", type=Path, help="folder for them (not given: the device's memory)")
    speed.add_argument("--compile", action="store_true", help="compile fusion and decoder with torch.compile")
    for name, kind, text in (
        ("epochs", int, "passes over the training images"),
        ("steps", int, "optimiser steps; overrules epochs"),
        ("batch-size", int, "images per step"),
        ("lr", float, "peak learning rate"),
        ("weight-decay", float, "weight decay"),
        ("warmup-steps", int, "steps of linear warm-up"),
        ("clip-norm", float, "largest gradient norm"),
        ("seed", int, "seed of everything random"),
        ("precision", str, "32-true or bf16-mixed"),
    ):
        training.add_argument(f"--{name}", type=kind, help=f"{text} (not given: the method's published value)")


def model_config(arguments: argparse.Namespace) -> tuple[ModelConfig | MethodConfig, str, Path | None]:
    """Method and network, name of the encoder weights for the record, and their file if they are local.

    Raises:
        ValueError: options of MambaAD's decoder, or of DeSTSeg, for another method.
        DatasetError: no images in the folder of textures.
    """
    from mambaad.model.encoder_weights import named_encoder, weights_file_name

    weights = str(arguments.encoder_weights or PUBLISHED_WEIGHTS[arguments.method])
    values: dict[str, Any] = {"mean": tuple(arguments.mean), "std": tuple(arguments.std)}
    if arguments.backbone:
        values["backbone"] = arguments.backbone
    if arguments.pad_type:
        values["backbone_kwargs"] = {"pad_type": arguments.pad_type}
    values = named_encoder(weights) or values
    if arguments.textures:
        if arguments.method != "destseg":
            raise ValueError(f"--textures is of destseg, and {arguments.method} paints no anomalies: leave it out")
        from mambaad.baselines.synthetic_anomalies import textures_name

        values = {**values, "textures": textures_name(arguments.textures)}
    decoder = {name: getattr(arguments, name) for name in DECODER if getattr(arguments, name) is not None}
    if arguments.diffusion_weights and arguments.method != "diad":
        raise ValueError(f"--diffusion-weights is of DiAD, and {arguments.method} has no diffusion: leave it out")
    if arguments.method == "diad":
        start = arguments.diffusion_weights
        values |= {"diffusion_weights": weights_file_name(start)} if start else small_form("diad", arguments.side)[0]
    if arguments.method == "mambaad":
        model: ModelConfig | MethodConfig = ModelConfig(**values, **decoder)
    elif decoder:
        raise ValueError(
            f"--{next(iter(decoder))} is of MambaAD's decoder, and {arguments.method} has none: leave it out"
        )
    else:
        model = for_encoder(arguments.method, values, arguments.side)
    is_file = weights.endswith((".safetensors", ".pth", ".pt", ".bin"))
    if not is_file:
        return model, weights, None
    return model, weights_file_name(weights), Path(weights)


def _train(arguments: argparse.Namespace) -> int:
    from mambaad.data import load_dataset
    from mambaad.data.contents import CONTENT_CACHE, contents_hash
    from mambaad.engine.execution import Execution
    from mambaad.engine.run import execute
    from mambaad.engine.train import CHECKPOINT
    from mambaad.files import check_output

    names = Execution.__dataclass_fields__.keys() & vars(arguments).keys()
    execution = Execution(**{name: getattr(arguments, name) for name in names})
    check_output(arguments.out, folder=True)
    samples = load_dataset(arguments.dataset, arguments.data, arguments.categories)
    model, weights, file = model_config(arguments)
    given: dict[str, Any] = {name: getattr(arguments, name, None) for name in TrainConfig.__dataclass_fields__}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.method == "memory_bank" and (unused := sorted(given.keys() - {"seed"})):
        option = unused[0].replace("_", "-")
        raise ValueError(
            f"--{option} is about training in steps, and a memory bank is filled in one pass: leave it out"
        )
    published = bool(arguments.diffusion_weights)
    recipe = published_recipe("diad") if published else small_form(arguments.method, arguments.side)[1]
    run = RunConfig(
        model=model,
        encoder_weights=weights,
        data=DataConfig(
            dataset=arguments.dataset,
            categories=tuple(arguments.categories),
            side=arguments.side,
            index_hash=contents_hash(samples, arguments.data, arguments.out / CONTENT_CACHE),
        ),
        train=replace(recipe, **given),
    )
    record = execute(
        run,
        arguments.out,
        profile="own",
        data_root=arguments.data,
        samples=samples,
        encoder_file=file,
        diffusion_file=arguments.diffusion_weights,
        outputs=arguments.out,
        execution=execution,
    )
    print(f"checkpoint: {arguments.out / 'runs' / f'own_{run.hash}' / CHECKPOINT}\nrecord: {record}")
    print_metrics(json.loads(record.read_text())["metrics"])
    return 0
