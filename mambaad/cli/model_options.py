"""What the options of `mambaad train` change of a run: its encoder, its decoder, its recipe; the rest stays."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from mambaad.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PUBLISHED_WEIGHTS,
    MethodConfig,
    ModelConfig,
    RunConfig,
    TrainConfig,
    for_encoder,
    method_of,
    published_recipe,
    small_form,
)

DECODER = ("depths", "scan", "directions")
ENCODER = ("backbone", "backbone_kwargs", "mean", "std")
"""Fields of the encoder, in every method's settings."""
WEIGHTS_FILES = (".safetensors", ".pth", ".pt", ".bin")


def with_options(run: RunConfig, arguments: argparse.Namespace) -> tuple[RunConfig, Path | None]:
    """The run with the options that were given, and the file of its encoder's weights if that is a local one.

    Raises:
        ValueError: options of MambaAD's decoder, or of training in steps, for a method without; options that name
            another encoder than its weights do.
    """
    data = {"dataset": arguments.dataset, "side": arguments.side, "categories": arguments.categories or None}
    run = replace(run, data=replace(run.data, **given(data)))
    model, weights, file = model_config(run, arguments)
    if _starts_diad(method_of(model), arguments):
        # without weights to start from, the published size cannot be trained
        recipe = published_recipe("diad") if arguments.diffusion_weights else small_form("diad", run.data.side)[1]
        run = replace(run, train=replace(recipe, holdout=run.train.holdout))
    train = given({f.name: getattr(arguments, f.name, None) for f in fields(TrainConfig)})
    if method_of(model) == "memory_bank" and (unused := sorted(train.keys() - {"seed", "holdout"})):
        option = unused[0].replace("_", "-")
        raise ValueError(
            f"--{option} is about training in steps, and a memory bank is filled in one pass: leave it out, or name "
            "another --method"
        )
    if "epochs" in train and "steps" not in train:
        train["steps"] = None
    return replace(run, model=model, encoder_weights=weights, train=replace(run.train, **train)), file


def model_config(run: RunConfig, arguments: argparse.Namespace) -> tuple[ModelConfig | MethodConfig, str, Path | None]:
    """Method and network, name of the encoder weights for the record, and their file if they are local."""
    from mambaad.model.encoder_weights import weights_file_name

    model, method = run.model, method_of(run.model)
    decoder = given({name: getattr(arguments, name) for name in DECODER})
    start = arguments.diffusion_weights
    _check_method(method, decoder, arguments)
    if _starts_diad(method, arguments):
        encoder = {name: getattr(model, name) for name in ENCODER}
        model = for_encoder("diad", encoder | _diffusion(start, run.data.side), run.data.side)
    named = given({name: getattr(arguments, name) for name in ("backbone", "mean", "std")})
    if arguments.pad_type:
        named["backbone_kwargs"] = {"pad_type": arguments.pad_type}
    weights = str(arguments.encoder_weights or _weights_for(run, named.get("backbone")))
    changes: dict[str, Any] = {}
    if named or arguments.encoder_weights is not None:
        _check_encoder(weights, named)
        changes = encoder_changes(model, "" if weights == run.encoder_weights else weights, named)
    if arguments.textures:
        changes["textures"] = _textures(arguments.textures)
    if method == "uniad":
        changes["side"] = run.data.side
    if method == "mambaad_bank":
        changes |= {"network": replace(model.network, **decoder)} if decoder else {}  # type: ignore[union-attr]
    else:
        changes |= decoder
    model = replace(model, **changes) if changes else model
    is_file = weights.endswith(WEIGHTS_FILES)
    return (model, weights_file_name(weights), Path(weights)) if is_file else (model, weights, None)


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


def _check_encoder(weights: str, named: Mapping[str, Any]) -> None:
    from mambaad.model.encoder_weights import named_encoder

    own = named_encoder(weights)
    for name, value in named.items():
        if own is None or value == (list(own[name]) if isinstance(value, list) else own[name]):
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


def _check_method(method: str, decoder: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    """Raise ValueError for options of another method."""
    if decoder and method not in ("mambaad", "mambaad_bank"):
        raise ValueError(
            f"--{next(iter(decoder))} is of MambaAD's decoder, and {method} has none: leave it out, or say "
            "--method mambaad"
        )
    if arguments.diffusion_weights and method != "diad":
        raise ValueError(f"--diffusion-weights is of DiAD, and {method} has no diffusion: leave it out")
    if arguments.textures and method != "destseg":
        raise ValueError(f"--textures is of destseg, and {method} paints no anomalies: leave it out")


def _starts_diad(method: str, arguments: argparse.Namespace) -> bool:
    """Whether DiAD's size follows from the weights it starts from, and not from a file of settings."""
    return method == "diad" and (arguments.diffusion_weights is not None or arguments.config is None)


def _textures(folder: Path) -> str:
    from mambaad.baselines.synthetic_anomalies import textures_name

    return textures_name(folder)


def _diffusion(start: Path | None, side: int) -> dict[str, Any]:
    """DiAD in its published size, from a file of Stable Diffusion's weights, or reduced."""
    from mambaad.model.encoder_weights import weights_file_name

    return {"diffusion_weights": weights_file_name(start)} if start else dict(small_form("diad", side)[0])


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}
