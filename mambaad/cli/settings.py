"""The settings of `mambaad train`, from a preset, a YAML file and options; later ones win.

A file holds what a record holds, in YAML or JSON, all of it or a part::

    preset: laptop                  # what the rest starts from
    paths: {data: my_parts, out: outputs/my_parts}
    model: {method: mambaad, depths: [2, 2, 2, 2]}
    train: {steps: 600, lr: 0.0025}
    execution: {threads: 2}

A run's record is such a file.  Keys that are not known are errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from mambaad.config import (
    PUBLISHED_WEIGHTS,
    MethodConfig,
    ModelConfig,
    Preset,
    RunConfig,
    TrainConfig,
    default_preset,
    for_encoder,
    method_of,
    preset,
    published_recipe,
    run_config_from_dict,
    small_form,
    to_dict,
)

DECODER = ("depths", "scan", "directions")
ENCODER = ("backbone", "encoder_weights", "pad_type", "mean", "std")
WEIGHTS_FILES = (".safetensors", ".pth", ".pt", ".bin")
PARTS = ("model", "encoder_weights", "data", "train")
EXECUTION = (
    "device",
    "threads",
    "workers",
    "processes",
    "image_cache",
    "features",
    "feature_dir",
    "compile",
    "textures",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is to be trained, how it is carried out, where its files lie."""

    preset: str
    run: RunConfig
    dataset: str | None = None
    """The layout of the images, if it was named; None: to be recognised."""
    execution: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Execution` that were set."""
    data: Path | None = None
    out: Path | None = None
    encoder_file: Path | None = None

    def as_yaml(self) -> str:
        """A file that gives the same settings again."""
        paths = {name: str(path) for name, path in (("data", self.data), ("out", self.out)) if path is not None}
        values = {"preset": self.preset, "paths": paths, **to_dict(self.run)}
        values["data"] = {name: values["data"][name] for name in ("categories", "side")}
        if self.dataset is not None:
            values["data"]["dataset"] = self.dataset
        if self.encoder_file is not None:
            values["encoder_weights"] = str(self.encoder_file)
        values["execution"] = {name: str(v) if isinstance(v, Path) else v for name, v in self.execution.items()}
        return yaml.safe_dump({k: v for k, v in values.items() if v != {}}, sort_keys=False, default_flow_style=None)


def settle(arguments: argparse.Namespace) -> Settings:
    """The settings that a command line asks for.

    Raises:
        ValueError: a file that cannot be read, unknown keys, values that are not allowed, options that do not apply.
    """
    values = {} if arguments.config is None else read_settings(arguments.config)
    device = arguments.device or values.get("execution", {}).get("device") or "auto"
    base = _preset(arguments.preset or values.get("preset"), device)
    chosen = arguments.method or values.get("model", {}).get("method")
    if chosen is None and _mambaad_s_own(arguments, values):
        chosen = "mambaad"
    base = base if chosen is None else base.with_method(chosen)
    run = _merged(base.run, values, arguments.config)
    run, file = with_options(run, arguments)
    from mambaad.baselines import keeps_features

    execution = {"features": base.features} if base.features != "off" and keeps_features(run.model) else {}
    execution |= values.get("execution", {})
    execution |= {n: v for n in EXECUTION if (v := getattr(arguments, n, None)) not in (None, False)}
    paths = values.get("paths", {})
    where = {n: arg if (arg := getattr(arguments, n)) is not None else paths.get(n) for n in ("data", "out")}
    return Settings(
        preset=base.name,
        run=run,
        dataset=arguments.dataset or values.get("data", {}).get("dataset"),
        execution=execution,
        encoder_file=file,
        **{name: None if path is None else Path(path) for name, path in where.items()},
    )


def _preset(name: str | None, device: str) -> Preset:
    if name is not None:
        return preset(name)
    from mambaad.device import resolve_device

    return default_preset(str(resolve_device(device)))


def _mambaad_s_own(arguments: argparse.Namespace, values: Mapping[str, Any]) -> bool:
    """Whether something is set that only a trained decoder has, so that MambaAD is meant."""
    return any(getattr(arguments, name) is not None for name in DECODER)


def read_settings(path: Path) -> dict[str, Any]:
    """A file of settings, or a run's record.  Raises ValueError, naming the file and the key."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, Mapping):
        raise ValueError(f"{path}: expected keys such as preset, data, train; got {type(values).__name__}")
    values = dict(values)
    if "schema" in values and isinstance(values.get("config"), Mapping):  # a record: its settings, and its threads
        threads = values.get("execution", {}).get("threads")
        # what a record leaves out has the value of the dataclass, which is the published one
        values = {"preset": "paper", **values["config"], "execution": {} if threads is None else {"threads": threads}}
    known = {"paths": ("data", "out"), "execution": EXECUTION}
    _refuse_unknown(values, ("preset", *known, *PARTS), f"{path}")
    for name, allowed in known.items():
        _refuse_unknown(_mapping(values.setdefault(name, {}), name, path), allowed, f"{path}: {name}")
    for name in ("model", "data", "train"):
        _mapping(values.setdefault(name, {}), name, path)
    return values


def _mapping(value: Any, name: str, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}: {name} must hold keys with values, got {value!r}")
    return value


def _refuse_unknown(values: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    unknown = [str(key) for key in values if key not in allowed]
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(allowed)}")


def _merged(run: RunConfig, values: Mapping[str, Any], path: Path | None) -> RunConfig:
    if path is None:
        return run
    merged = to_dict(run)
    for name, part in (("model", run.model), ("data", run.data), ("train", run.train)):
        _refuse_unknown(values[name], tuple(f.name for f in fields(part)), f"{path}: {name}")
        merged[name] = merged[name] | dict(values[name])
    try:
        return run_config_from_dict(merged | {k: values[k] for k in ("encoder_weights",) if k in values})
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from error


def with_options(run: RunConfig, arguments: argparse.Namespace) -> tuple[RunConfig, Path | None]:
    """The run with the options that were given, and the file of its encoder's weights if that is a local one.

    Raises:
        ValueError: options of MambaAD's decoder, or of training in steps, for a method without.
    """
    data = {"dataset": arguments.dataset, "side": arguments.side, "categories": arguments.categories or None}
    run = replace(run, data=replace(run.data, **_given(data)))
    model, weights, file = model_config(run, arguments)
    if method_of(model) == "diad" and (arguments.diffusion_weights or arguments.config is None):
        # without weights to start from, the published size cannot be trained
        recipe = published_recipe("diad") if arguments.diffusion_weights else small_form("diad", run.data.side)[1]
        run = replace(run, train=replace(recipe, holdout=run.train.holdout))
    train = _given({f.name: getattr(arguments, f.name, None) for f in fields(TrainConfig)})
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
    from mambaad.model.encoder_weights import named_encoder, weights_file_name

    method = method_of(run.model)
    decoder = _given({name: getattr(arguments, name) for name in DECODER})
    if decoder and method != "mambaad":
        raise ValueError(
            f"--{next(iter(decoder))} is of MambaAD's decoder, and {method} has none: leave it out, or say "
            "--method mambaad"
        )
    start = arguments.diffusion_weights
    if start and method != "diad":
        raise ValueError(f"--diffusion-weights is of DiAD, and {method} has no diffusion: leave it out")
    if arguments.textures and method != "destseg":
        raise ValueError(f"--textures is of destseg, and {method} paints no anomalies: leave it out")
    if all(getattr(arguments, name) is None for name in ENCODER):
        model = replace(run.model, **decoder) if decoder else run.model
        if arguments.textures:
            model = replace(model, textures=_textures(arguments.textures))  # type: ignore[call-arg]
        if method == "uniad":
            model = replace(model, side=run.data.side)  # type: ignore[call-arg]
        if method == "diad" and (start or arguments.config is None):
            encoder = {name: getattr(model, name) for name in ("backbone", "backbone_kwargs", "mean", "std")}
            model = for_encoder("diad", encoder | _diffusion(start, run.data.side), run.data.side)
        weights = run.encoder_weights
        is_file = weights.endswith(WEIGHTS_FILES)  # named in a file of settings
        return (model, weights_file_name(weights), Path(weights)) if is_file else (model, weights, None)
    weights = str(arguments.encoder_weights or PUBLISHED_WEIGHTS[method])
    values = _given({name: getattr(arguments, name) for name in ("backbone", "mean", "std")})
    if arguments.pad_type:
        values["backbone_kwargs"] = {"pad_type": arguments.pad_type}
    values = named_encoder(weights) or values
    if arguments.textures:
        values["textures"] = _textures(arguments.textures)
    if method == "diad":
        values |= _diffusion(start, run.data.side)
    if method == "mambaad":
        fresh: ModelConfig | MethodConfig = ModelConfig()
        encoder = {name: getattr(fresh, name) for name in ("backbone", "backbone_kwargs", "mean", "std")}
        fresh = replace(run.model, **{**encoder, **values, **decoder})
    else:
        fresh = for_encoder(method, values, run.data.side)
    if not weights.endswith(WEIGHTS_FILES):
        return fresh, weights, None
    return fresh, weights_file_name(weights), Path(weights)


def _textures(folder: Path) -> str:
    from mambaad.baselines.synthetic_anomalies import textures_name

    return textures_name(folder)


def _diffusion(start: Path | None, side: int) -> dict[str, Any]:
    """DiAD in its published size, from a file of Stable Diffusion's weights, or reduced."""
    from mambaad.model.encoder_weights import weights_file_name

    return {"diffusion_weights": weights_file_name(start)} if start else dict(small_form("diad", side)[0])


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
