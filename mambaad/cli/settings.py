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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from mambaad.cli.model_options import changed, with_options
from mambaad.cli.settings_file import Changes, both, of_file, of_options
from mambaad.config import Preset, RunConfig, default_preset, method_of, preset, to_dict
from mambaad.config.presets import HELD_OUT
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
    from mambaad.baselines import keeps_features
    from mambaad.inference.threshold import DEFAULT_RATE, check_rate

    file = Changes() if arguments.config is None else of_file(arguments.config)
    options = of_options(arguments)
    _check_beside(file, options, arguments.config)
    changes = both(file, options)
    base, reason = _preset(arguments, changes)
    base = base if changes.method is None else base.with_method(changes.method)
    run, encoder_file = with_options(changed(base.run, file, str(arguments.config)), options, arguments)
    if changes.preset is None and changes.data.get("dataset") is None and "holdout" not in changes.train:
        # one's own parts need a threshold, which the published recipe has not
        run = replace(run, train=replace(run.train, holdout=max(run.train.holdout, HELD_OUT)))
    rate = DEFAULT_RATE if changes.fpr is None else changes.fpr
    check_rate(rate)
    if changes.minutes is not None and not changes.minutes > 0:
        raise ValueError(f"minutes must be positive, got {changes.minutes:g}")
    features = {"features": base.features} if base.features != "off" and keeps_features(run.model) else {}
    execution = features | changes.execution
    Execution(**execution)
    return Settings(
        preset=base.name,
        reason=reason,
        run=run,
        fpr=rate,
        minutes=changes.minutes,
        dataset=changes.data.get("dataset"),
        execution=execution,
        encoder_file=encoder_file,
        own_batch="batch_size" in options.train or run.train.batch_size != base.run.train.batch_size,
        data=None if changes.paths.data is None else Path(changes.paths.data),
        out=None if changes.paths.out is None else Path(changes.paths.out),
    )


def _check_beside(file: Changes, options: Changes, path: Path | None) -> None:
    """Raise ValueError for a preset or a method beside a file that holds the values of another one."""
    again = "print a new file with --print-config, or name only what differs from the preset in the file"
    if options.preset is not None and file.preset not in (None, options.preset) and (file.model or file.train):
        raise ValueError(
            f"{path} holds the values of the preset {file.preset!r}, which would overrule those of --preset "
            f"{options.preset}: {again}"
        )
    method = options.model.get("method")
    if method is not None and file.method not in (None, method) and len(file.model) > 1:
        raise ValueError(f"{path} holds the model of the method {file.method!r}, not of --method {method}: {again}")


def _preset(arguments: argparse.Namespace, changes: Changes) -> tuple[Preset, str]:
    """The preset to start from, and why it is this one."""
    if changes.preset is not None:
        return preset(changes.preset), "--preset" if arguments.preset is not None else str(arguments.config)
    from mambaad.device import resolve_device

    asked = changes.execution.get("device") or "auto"
    device = str(resolve_device(asked))
    found = "no CUDA device" if asked == "auto" and not device.startswith("cuda") else f"device {device}"
    base = default_preset(device, changes.minutes)
    return base, f"{found}, {changes.minutes:g} minutes" if base.name == "laptop_fine" else found
