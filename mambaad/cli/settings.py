"""The settings of `mambaad train`, from a preset, a YAML file and options; later ones win.

A file holds what a record holds, in YAML or JSON, all of it or a part::

    preset: laptop                  # what the rest starts from
    paths: {data: my_parts, out: outputs/my_parts}
    model: {method: mambaad, depths: [2, 2, 2, 2]}
    train: {lr: 0.0025}
    minutes: 10                     # in place of train: {steps: 600}
    fpr: 0.01
    execution: {threads: 2}

A run's record is such a file.  Keys that are not known are errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mambaad.cli.model_options import DECODER, with_options
from mambaad.cli.settings_file import EXECUTION, means_mambaad, merged, read_settings
from mambaad.config import Preset, RunConfig, default_preset, method_of, preset, to_dict
from mambaad.engine.execution import Execution


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is to be trained, how it is carried out, where its files lie."""

    preset: str
    run: RunConfig
    fpr: float
    """Share of good images to be above the threshold."""
    minutes: float | None = None
    """Time for training and evaluation; None: the run's own steps."""
    dataset: str | None = None
    """The layout of the images, if it was named; None: to be recognised."""
    execution: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Execution` that were set."""
    data: Path | None = None
    out: Path | None = None
    encoder_file: Path | None = None
    reason: str = field(default="", compare=False)
    """Why the preset was chosen."""
    own_batch: bool = field(default=False, compare=False)
    """Whether an option names the batch size, or a file another one than the preset's: a printed file names it, too."""

    def as_yaml(self) -> str:
        """A file that gives the same settings again."""
        paths = {name: str(path) for name, path in (("data", self.data), ("out", self.out)) if path is not None}
        # fields that a record leaves out at their default, too: a preset may have another value
        parts = {name: to_dict(asdict(getattr(self.run, name))) for name in ("model", "data", "train")}
        values = {"preset": self.preset, "paths": paths, **to_dict(self.run), **parts}
        values["model"] = {"method": method_of(self.run.model), **parts["model"]}
        values["data"] = {name: values["data"][name] for name in ("categories", "side")}
        if self.dataset is not None:
            values["data"]["dataset"] = self.dataset
        if self.encoder_file is not None:
            values["encoder_weights"] = str(self.encoder_file)
        if self.minutes is not None:
            values["minutes"] = self.minutes
            values["train"] = {k: v for k, v in values["train"].items() if k not in ("steps", "epochs")}
        values["fpr"] = self.fpr
        values["execution"] = {name: str(v) if isinstance(v, Path) else v for name, v in self.execution.items()}
        return yaml.safe_dump(
            {k: v for k, v in values.items() if v != {}}, sort_keys=False, default_flow_style=None, allow_unicode=True
        )


def settle(arguments: argparse.Namespace) -> Settings:
    """The settings that a command line asks for.

    Raises:
        ValueError: a file that cannot be read, unknown keys, values that are not allowed, options that do not apply.
    """
    values = {} if arguments.config is None else read_settings(arguments.config)
    base, reason = _preset(arguments, values)
    chosen = arguments.method or values.get("model", {}).get("method")
    if chosen is None and (means_mambaad(values) or any(getattr(arguments, name) is not None for name in DECODER)):
        chosen = "mambaad"
    base = base if chosen is None else base.with_method(chosen)
    run = base.run if arguments.config is None else merged(base.run, values, arguments.config)
    run, file = with_options(run, arguments)
    paths = values.get("paths", {})
    where = {n: arg if (arg := getattr(arguments, n)) is not None else paths.get(n) for n in ("data", "out")}
    return Settings(
        preset=base.name,
        reason=reason,
        run=run,
        fpr=_rate(arguments, values),
        minutes=_minutes(arguments, values),
        dataset=arguments.dataset or values.get("data", {}).get("dataset"),
        execution=_execution(base, run, arguments, values),
        encoder_file=file,
        own_batch=arguments.batch_size is not None or run.train.batch_size != base.run.train.batch_size,
        **{name: None if path is None else Path(path) for name, path in where.items()},
    )


def _preset(arguments: argparse.Namespace, values: Mapping[str, Any]) -> tuple[Preset, str]:
    """The preset to start from, and why it is this one."""
    if arguments.preset is not None:
        return preset(arguments.preset), "--preset"
    if values.get("preset") is not None:
        return preset(values["preset"]), str(arguments.config)
    from mambaad.device import resolve_device

    asked = arguments.device or values.get("execution", {}).get("device") or "auto"
    device = str(resolve_device(asked))
    found = "no CUDA device" if asked == "auto" and not device.startswith("cuda") else f"device {device}"
    return default_preset(device), found


def _execution(
    base: Preset, run: RunConfig, arguments: argparse.Namespace, values: Mapping[str, Any]
) -> dict[str, Any]:
    from mambaad.baselines import keeps_features

    execution: dict[str, Any] = {}
    if base.features != "off" and keeps_features(run.model):
        execution["features"] = base.features
    execution |= values.get("execution", {})
    options = {name: getattr(arguments, name, None) for name in EXECUTION}
    # a flag that was not given is False; a number may be 0, which equals it
    execution |= {name: value for name, value in options.items() if not (value is None or value is False)}
    Execution(**execution)
    return execution


def _rate(arguments: argparse.Namespace, values: Mapping[str, Any]) -> float:
    from mambaad.inference.threshold import DEFAULT_RATE, check_rate

    rate = values.get("fpr") if arguments.fpr is None else arguments.fpr
    rate = DEFAULT_RATE if rate is None else rate
    check_rate(rate)
    return rate


def _minutes(arguments: argparse.Namespace, values: Mapping[str, Any]) -> float | None:
    """The time that was named last; steps or epochs among the options overrule a file's."""
    named = [name for name in ("steps", "epochs") if getattr(arguments, name) is not None]
    if arguments.minutes is not None and named:
        raise ValueError(f"--minutes is in place of --{named[0]}: leave one of them out")
    minutes = values.get("minutes") if arguments.minutes is None and not named else arguments.minutes
    if minutes is not None and not minutes > 0:
        raise ValueError(f"minutes must be positive, got {minutes:g}")
    return minutes
