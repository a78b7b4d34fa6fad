"""What changes a preset, by the names that a file of settings has: from a file, from a run's record, from options."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mambaad.config import (
    METHOD_CONFIGS,
    METHODS,
    PUBLISHED_WEIGHTS,
    DataConfig,
    ModelConfig,
    RunConfig,
    TrainConfig,
    preset,
)
from mambaad.config.model import one_of
from mambaad.config.parse import parse
from mambaad.engine.execution import Execution

T = TypeVar("T")
DECODER = ("depths", "scan", "directions")
"""Options about MambaAD's decoder, which other methods do not have."""
ENCODER = ("backbone", "backbone_kwargs", "mean", "std")
"""Fields of the encoder, in every method's settings."""


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where the images lie, and where the results go."""

    data: str | None = None
    out: str | None = None


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a file or a command line changes of a preset; what it does not name is None or empty."""

    preset: str | None = None
    paths: Paths = Paths()
    execution: dict[str, Any] = field(default_factory=dict)
    """Fields of `Execution`."""
    model: dict[str, Any] = field(default_factory=dict)
    """`method`, and fields of the method's settings."""
    encoder_weights: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    """Fields of `DataConfig`."""
    train: dict[str, Any] = field(default_factory=dict)
    """Fields of `TrainConfig`."""
    minutes: float | None = None
    """In place of steps and epochs."""
    fpr: float | None = None

    @property
    def method(self) -> str | None:
        """The method that is named, or meant: what only MambaAD's decoder has means MambaAD."""
        means_mambaad = any(name in self.model for name in DECODER)
        return self.model.get("method", "mambaad" if means_mambaad else None)

    @property
    def length(self) -> str | None:
        """What names the length of the training in steps or passes: "steps", "epochs" or None."""
        return next((name for name in ("steps", "epochs") if self.train.get(name) is not None), None)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Takes numbers as JSON and people write them, 1e-05 without a point, which PyYAML takes for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def of_file(path: Path) -> Changes:
    """A file of settings, or a run's record.  Raises ValueError, naming the file and the key."""
    try:
        values = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, Mapping):
        found = "an empty file" if values is None else type(values).__name__
        raise ValueError(f"{path}: expected keys such as preset, data, train; got {found}")
    if "schema" in values and isinstance(values.get("config"), Mapping):
        return _of_record(values, path)
    if isinstance(values.get("paths"), Mapping):
        parsed(Paths, values["paths"], f"{path}: paths")
    changes = parsed(Changes, values, f"{path}")
    parsed(Execution, changes.execution, f"{path}: execution")
    if changes.minutes is not None and changes.length:
        raise ValueError(f"{path}: minutes are in place of {changes.length}: name one of them")
    return changes


def of_options(arguments: argparse.Namespace) -> Changes:
    """The options of `mambaad train` that were given.  Raises ValueError for two that exclude each other."""

    def named(*names: str) -> dict[str, Any]:
        values = {name: getattr(arguments, name, None) for name in names}
        # a flag that was not given is False; a number may be 0, which equals it
        return {name: value for name, value in values.items() if not (value is None or value is False or value == [])}

    model = named("method", *DECODER, "backbone", "mean", "std")
    if arguments.pad_type:
        model["backbone_kwargs"] = {"pad_type": arguments.pad_type}
    changes = Changes(
        **named("preset", "encoder_weights", "minutes", "fpr"),
        paths=Paths(**{name: str(path) for name, path in named("data", "out").items()}),
        execution=named(*names_of(Execution)),
        model=model,
        data=named(*names_of(DataConfig)),
        train=named(*names_of(TrainConfig)),
    )
    if changes.minutes is not None and changes.length:
        raise ValueError(f"--minutes is in place of --{changes.length}: leave one of them out")
    return changes


def both(file: Changes, options: Changes) -> Changes:
    """A file's changes, and options that overrule it one by one."""
    found: dict[str, Any] = {}
    for name in names_of(Changes):
        first, second = getattr(file, name), getattr(options, name)
        if isinstance(first, Paths):
            found[name] = Paths(data=second.data or first.data, out=second.out or first.out)
        elif isinstance(first, dict):
            found[name] = first | second
        else:
            found[name] = first if second is None else second
    if options.length:
        found["minutes"] = None
    return Changes(**found)


def _of_record(record: Mapping[str, Any], path: Path) -> Changes:
    """A record's settings: all of them, as what it leaves out has the dataclass's value and not the preset's."""
    changes = parsed(Changes, record["config"], f"{path}: config")
    model = dict(changes.model)
    method = model.get("method", "mambaad")
    one_of("method", method, METHODS)
    if method == "mambaad":
        model.pop("method", None)
    kind: Any = METHOD_CONFIGS.get(method, ModelConfig)
    run = replace(
        RunConfig(),
        model=parsed(kind, model, f"{path}: config: model"),
        encoder_weights=changes.encoder_weights or PUBLISHED_WEIGHTS[method],
        data=parsed(DataConfig, changes.data, f"{path}: config: data"),
        train=parsed(TrainConfig, changes.train, f"{path}: config: train"),
    )
    execution = parsed(Changes, {"execution": record.get("execution", {})}, f"{path}").execution
    laptop = record.get("profile") == "own" and run.encoder_weights == preset("laptop").run.encoder_weights
    return Changes(
        preset="laptop" if laptop else "paper",
        model={"method": method, **asdict(run.model)},
        encoder_weights=run.encoder_weights,
        data=asdict(run.data),
        train=asdict(run.train),
        execution={name: v for name in ("threads", "features") if (v := execution.get(name)) is not None},
    )


def parsed(kind: type[T], values: Any, where: str = "") -> T:
    """`parse`, whose errors say where the values stand."""
    try:
        return parse(kind, values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from error


def names_of(kind: Any) -> tuple[str, ...]:
    """The names of a dataclass's fields."""
    return tuple(field.name for field in fields(kind))
