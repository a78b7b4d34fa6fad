"""A run with changes from a file or from options: its encoder, its network, its recipe; what is not named stays."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mambaad.cli.settings_file import DECODER, ENCODER, Changes, parsed
from mambaad.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PUBLISHED_WEIGHTS,
    MambaADBankConfig,
    MethodConfig,
    ModelConfig,
    RunConfig,
    for_encoder,
    method_of,
    published_recipe,
    small_form,
)

WEIGHTS_FILES = (".safetensors", ".pth", ".pt", ".bin")


def changed(run: RunConfig, changes: Changes, where: str = "") -> RunConfig:
    """The run with changes, whose method is the run's.

    Args:
        where: what an error names before the key, such as a file.

    Raises:
        ValueError: unknown keys, values that are not allowed.
    """
    head = f"{where}: " if where else ""
    train = ({"steps": None} if changes.length == "epochs" else {}) | changes.train
    weights = changes.encoder_weights or _weights_for(run, changes.model.get("backbone"))
    return replace(
        run,
        model=_changed_model(run, changes, weights, f"{head}model"),
        encoder_weights=weights,
        data=parsed(type(run.data), asdict(run.data) | changes.data, f"{head}data" if where else ""),
        train=parsed(type(run.train), asdict(run.train) | train, f"{head}train" if where else ""),
    )


def _changed_model(run: RunConfig, changes: Changes, weights: str, where: str) -> ModelConfig | MethodConfig:
    own, model = dict(changes.model), run.model
    if method_of(model) == "mambaad":
        own.pop("method", None)
    named = {name: own[name] for name in ENCODER if name in own}
    own = encoder_changes(model, "" if weights == run.encoder_weights else weights, named) | own
    if isinstance(model, MambaADBankConfig):
        decoder = {name: own.pop(name) for name in DECODER if name in own}
        network = own.get("network", {})
        if isinstance(network, Mapping):
            own["network"] = asdict(model.network) | dict(network) | decoder
            parsed(ModelConfig, own["network"], f"{where}: network")
    return parsed(type(model), asdict(model) | own, where)


def with_options(run: RunConfig, options: Changes, arguments: argparse.Namespace) -> tuple[RunConfig, Path | None]:
    """The run with the options that were given, and the file of its encoder's weights if that is a local one.

    Raises:
        ValueError: options of MambaAD's decoder, or of training in steps, for a method without; options that name
            another encoder than its weights do.
    """
    from mambaad.model.encoder_weights import weights_file_name

    method, side = method_of(run.model), options.data.get("side", run.data.side)
    _check_method(method, options, arguments)
    _check_encoder(run, options)
    if method == "diad" and (arguments.diffusion_weights is not None or arguments.config is None):
        run = _diad(run, arguments.diffusion_weights, side)
    run = changed(run, options)
    fitted: dict[str, Any] = {"side": side} if method == "uniad" else {}
    if arguments.textures:
        from mambaad.baselines.synthetic_anomalies import textures_name

        fitted["textures"] = textures_name(arguments.textures)
    run = replace(run, model=replace(run.model, **fitted)) if fitted else run
    if not run.encoder_weights.endswith(WEIGHTS_FILES):
        return run, None
    file = Path(run.encoder_weights)
    return replace(run, encoder_weights=weights_file_name(file)), file


def encoder_changes(model: ModelConfig | MethodConfig, weights: str, named: Mapping[str, Any]) -> dict[str, Any]:
    """What of a method's settings another encoder changes: the fields named, and what follows from them.

    Args:
        weights: of the encoder, if they change; those that name their own network bring its fields.
        named: `backbone`, `backbone_kwargs`, `mean` and `std`, as far as they were named.
    """
    from mambaad.model.encoder_weights import named_encoder

    start: dict[str, Any] = named_encoder(weights) or {}
    backbone = named.get("backbone")
    if not start and backbone is None and "." in weights and not weights.endswith(WEIGHTS_FILES) and "@" not in weights:
        backbone = weights.split(".")[0]  # a timm tag
    if not start and backbone not in (None, model.backbone):
        start = {"backbone": backbone, "backbone_kwargs": {}, "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    changes = start | dict(named)
    method = method_of(model)
    if method == "rd4ad" and changes.get("backbone", model.backbone) != model.backbone:
        fresh = for_encoder(method, {"backbone": changes["backbone"]}, 0)
        changes |= {name: getattr(fresh, name) for name in ("block", "embedding_blocks", "decoder_blocks")}
    return changes


def _weights_for(run: RunConfig, backbone: str | None) -> str:
    """The run's weights; where they are another network's than the one named, the published ones if they are its."""
    published = PUBLISHED_WEIGHTS[method_of(run.model)]
    others = backbone not in (None, run.model.backbone)
    return published if others and published.split(".")[0] == backbone else run.encoder_weights


def _check_encoder(run: RunConfig, options: Changes) -> None:
    """Raise ValueError for options that name another encoder than its weights do."""
    from mambaad.model.encoder_weights import named_encoder

    weights = options.encoder_weights or _weights_for(run, options.model.get("backbone"))
    own = named_encoder(weights)
    for name, value in options.model.items():
        if own is None or name not in ENCODER or value == (list(own[name]) if isinstance(value, list) else own[name]):
            continue
        option = {"backbone_kwargs": "pad-type"}.get(name, name)
        raise ValueError(
            f"the encoder weights {weights!r} come with {name} {_words(own[name])}, got --{option} {_words(value)}: "
            f"leave --{option} out, or name other --encoder-weights"
        )


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(map(str, value.values())) or "none"
    return value if isinstance(value, str) else " ".join(f"{number:g}" for number in value)


def _check_method(method: str, options: Changes, arguments: argparse.Namespace) -> None:
    """Raise ValueError for options of another method."""
    decoder = [name for name in DECODER if name in options.model]
    if decoder and method not in ("mambaad", "mambaad_bank"):
        raise ValueError(
            f"--{decoder[0]} is of MambaAD's decoder, and {method} has none: leave it out, or say --method mambaad"
        )
    if method == "memory_bank" and (unused := sorted(options.train.keys() - {"seed", "holdout"})):
        option = unused[0].replace("_", "-")
        raise ValueError(
            f"--{option} is about training in steps, and a memory bank is filled in one pass: leave it out, or name "
            "another --method"
        )
    if arguments.diffusion_weights and method != "diad":
        raise ValueError(f"--diffusion-weights is of DiAD, and {method} has no diffusion: leave it out")
    if arguments.textures and method != "destseg":
        raise ValueError(f"--textures is of destseg, and {method} paints no anomalies: leave it out")


def _diad(run: RunConfig, weights: Path | None, side: int) -> RunConfig:
    """DiAD in its published size, which starts from a file of Stable Diffusion's weights, or reduced."""
    from mambaad.model.encoder_weights import weights_file_name

    small, recipe = small_form("diad", side)
    encoder = {name: getattr(run.model, name) for name in ENCODER}
    size = {"diffusion_weights": weights_file_name(weights)} if weights else dict(small)
    # without weights to start from, the published size cannot be trained
    recipe = published_recipe("diad") if weights else recipe
    model = for_encoder("diad", encoder | size, side)
    return replace(run, model=model, train=replace(recipe, holdout=run.train.holdout))
