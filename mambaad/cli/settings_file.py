"""Files of settings for `mambaad train`, and runs' records as such: read, checked by their keys, merged into a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import yaml

from mambaad.cli.model_options import DECODER, ENCODER, encoder_changes
from mambaad.config import (
    METHOD_CONFIGS,
    METHODS,
    PUBLISHED_WEIGHTS,
    DataConfig,
    MambaADBankConfig,
    MethodConfig,
    ModelConfig,
    RunConfig,
    TrainConfig,
    method_of,
    preset,
)
from mambaad.config.model import one_of
from mambaad.config.parse import parse, shortened
from mambaad.engine.execution import Execution

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
KEYS = ("preset", "paths", "execution", *PARTS, "minutes", "fpr")


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Takes numbers as JSON and people write them, 1e-05 without a point, which PyYAML takes for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_settings(path: Path) -> dict[str, Any]:
    """A file of settings, or a run's record.  Raises ValueError, naming the file and the key."""
    try:
        values = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, Mapping):
        found = "an empty file" if values is None else type(values).__name__
        raise ValueError(f"{path}: expected keys such as preset, data, train; got {found}")
    values = dict(values)
    if "schema" in values and isinstance(values.get("config"), Mapping):
        values = _of_record(values, path)
    _refuse_unknown(values, KEYS, f"{path}")
    for name, allowed in {"paths": ("data", "out"), "execution": EXECUTION}.items():
        _refuse_unknown(_mapping(values.setdefault(name, {}), name, path), allowed, f"{path}: {name}")
    for name in ("model", "data", "train"):
        _mapping(values.setdefault(name, {}), name, path)
    _check_single_values(values, path)
    _parsed(Execution, values["execution"], f"{path}: execution")
    if values.get("minutes") is not None and (both := [n for n in ("steps", "epochs") if n in values["train"]]):
        raise ValueError(f"{path}: minutes are in place of {both[0]}: name one of them")
    return values


def means_mambaad(values: Mapping[str, Any]) -> bool:
    """Whether a file names no method, but what MambaAD's decoder alone has."""
    return any(name in values.get("model", {}) for name in DECODER)


def merged(run: RunConfig, values: Mapping[str, Any], path: Path) -> RunConfig:
    """The run with a file's settings in place of its own.  Raises ValueError, naming the file and the key."""
    _refuse_unknown(values["model"], ("method", *_names(run.model)), f"{path}: model")
    for name, part in (("data", run.data), ("train", run.train)):
        _refuse_unknown(values[name], _names(part), f"{path}: {name}")
    train = dict(values["train"])
    if "epochs" in train and "steps" not in train:
        train["steps"] = None
    return replace(
        run,
        model=_merged_model(run.model, values, path),
        encoder_weights=values.get("encoder_weights") or run.encoder_weights,
        data=_parsed(type(run.data), asdict(run.data) | dict(values["data"]), f"{path}: data"),
        train=_parsed(TrainConfig, asdict(run.train) | train, f"{path}: train"),
    )


def _merged_model(model: ModelConfig | MethodConfig, values: Mapping[str, Any], path: Path) -> Any:
    own = dict(values["model"])
    if method_of(model) == "mambaad":
        own.pop("method", None)
    weights = values.get("encoder_weights") or ""
    if weights or "backbone" in own:
        named = {name: own[name] for name in ENCODER if name in own}
        own = encoder_changes(model, weights, named) | own
    if isinstance(model, MambaADBankConfig) and "network" in own:
        network = _mapping(own["network"], "model: network", path)
        _refuse_unknown(network, _names(model.network), f"{path}: model: network")
        own["network"] = asdict(model.network) | dict(network)
    return _parsed(type(model), asdict(model) | own, f"{path}: model")


def _of_record(record: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A record's settings: all of them, as what it leaves out has the dataclass's value and not the preset's."""
    config = {"model": {}, "data": {}, "train": {}, **record["config"]}
    _refuse_unknown(config, PARTS, f"{path}: config")
    model = dict(_mapping(config["model"], "config: model", path))
    method = model.get("method", "mambaad")
    one_of("method", method, METHODS)
    if method == "mambaad":
        model.pop("method", None)
    run = replace(
        RunConfig(),
        model=_parsed(METHOD_CONFIGS.get(method, ModelConfig), model, f"{path}: config: model"),
        encoder_weights=config.get("encoder_weights") or PUBLISHED_WEIGHTS[method],
        data=_parsed(DataConfig, config["data"], f"{path}: config: data"),
        train=_parsed(TrainConfig, config["train"], f"{path}: config: train"),
    )
    execution = _mapping(record.get("execution", {}), "execution", path)
    laptop = record.get("profile") == "own" and run.encoder_weights == preset("laptop").run.encoder_weights
    return {
        "preset": "laptop" if laptop else "paper",
        **asdict(run),
        "model": {"method": method, **asdict(run.model)},
        "execution": {name: v for name in ("threads", "features") if (v := execution.get(name)) is not None},
    }


def _check_single_values(values: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError for a text or a number that is none."""
    for name in ("data", "out"):
        _check_text(values["paths"].get(name), f"{path}: paths: {name} must be a folder's path")
    _check_text(values.get("encoder_weights"), f"{path}: encoder_weights must be a name or a file's path")
    for name in ("minutes", "fpr"):
        value = values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{path}: {name} must be a number, got {shortened(value)}")


def _check_text(value: Any, message: str) -> None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{message}, got {shortened(value)}")


def _parsed(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    try:
        return parse(kind, values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _names(part: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(part))


def _mapping(value: Any, name: str, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}: {name} must hold keys with values, got {shortened(value)}")
    return value


def _refuse_unknown(values: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    unknown = [str(key) for key in values if key not in allowed]
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(dict.fromkeys(allowed))}")
