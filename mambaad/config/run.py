"""A run's settings, as plain frozen dataclasses: the network, the data, the training.

Its hash names the run everywhere (records, tables, notebooks): two table rows with the same settings are the same run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mambaad.config.diad import DIAD_FACTOR_8, DIAD_REDUCED
from mambaad.config.methods import (
    BASIC_BLOCKS,
    METHOD_CONFIGS,
    METHODS,
    PUBLISHED_WEIGHTS,
    MethodConfig,
)
from mambaad.config.model import LATER, ModelConfig, one_of, settle_numbers

Protocol = Literal["exact", "paper"]

SIDES = range(64, 1024 + 1, 32)
"""Sides of the square network input, in pixels: the encoder and the first decoder stage divide them by 32."""

MOST = 10**9
"""Of steps, epochs and images in a batch: more is a slip of the hand."""
MOST_SEED = 2**63 - 1 - MOST
"""Epochs and processes are added to it, and torch's generators take 64 bits."""

SIDES_IN_WORDS = f"a multiple of {SIDES.step} from {SIDES[0]} to {SIDES[-1]}"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and how large.

    Example:
        >>> DataConfig(dataset="mvtec_ad", categories=("bottle",), side=256).side
        256
    """

    dataset: str = "synthetic"
    """A name in `mambaad.data.DATASETS`, such as "synthetic", "mvtec_ad", "folder"."""
    categories: tuple[str, ...] = ()
    """Categories to use, in this order; empty: all of them."""
    side: int = 256
    """Side of the square network input, in pixels."""
    index_hash: str = ""
    """Hash of the files of a data set on disk: relative paths and contents, or paths and sizes; empty for the synthetic
    set."""
    synthetic_seed: int = 0
    """Seed of the synthetic set."""
    synthetic_train: int = 40
    """Good training images per synthetic category."""
    synthetic_test: int = 24
    """Test images per synthetic category; a third of them good."""

    def __post_init__(self) -> None:
        settle_numbers(self)
        if isinstance(self.categories, str):
            raise ValueError(f"categories must be a list of names, got {self.categories!r}")
        object.__setattr__(self, "categories", tuple(self.categories))
        if self.side not in SIDES:
            raise ValueError(f"side must be {SIDES_IN_WORDS} pixels, got {self.side}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Optimiser, schedule and length. The defaults are the paper's (section 4.1).

    Example:
        >>> TrainConfig(steps=600, batch_size=8).lr
        0.005
    """

    epochs: int = 500
    """Passes over the training images; ignored if `steps` is set."""
    steps: int | None = None
    """Optimiser steps; None: from `epochs`."""
    batch_size: int = 16
    lr: float = 5e-3
    """Peak learning rate (published code: 0.005 * batch / 16)."""
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 0
    """Steps of linear warm-up."""
    decay_at: float = 0.8
    """Fraction of the steps after which the learning rate is multiplied by `decay`."""
    decay: float = 0.1
    clip_norm: float = 5.0
    """Largest gradient norm."""
    seed: int = 42
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Lightning Fabric's precision name."""
    holdout: float = field(default=0.0, metadata=LATER)
    """Share of each category's good images that is not trained on: a threshold needs images that were not seen."""
    patience: int | None = field(default=None, metadata=LATER)
    """Checks of the loss of the images held out, without progress, after which training ends; None: it runs to its
    last step."""

    def __post_init__(self) -> None:
        settle_numbers(self)
        object.__setattr__(self, "betas", tuple(self.betas))
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1 or None, got {self.steps}")
        for name in ("epochs", "batch_size", "steps", "warmup_steps"):
            if (getattr(self, name) or 0) > MOST:
                raise ValueError(f"{name} must be at most {MOST}, got {getattr(self, name)}")
        if not (0 < self.lr < math.inf and 0 < self.clip_norm < math.inf):
            raise ValueError(f"lr and clip_norm must be positive, got {self.lr} and {self.clip_norm}")
        if not 0 <= self.holdout <= 0.5:
            raise ValueError(f"holdout must be in [0, 0.5], got {self.holdout}")
        if self.patience is not None and (self.patience < 1 or not self.holdout):
            raise ValueError(f"patience must be at least 1 and needs a holdout, got {self.patience} and {self.holdout}")
        if not 0 <= self.weight_decay < math.inf or not 0 <= self.decay < math.inf:
            raise ValueError(f"weight_decay and decay must not be negative, got {self.weight_decay} and {self.decay}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must not be negative, got {self.warmup_steps}")
        if not 0 <= self.seed <= MOST_SEED:
            raise ValueError(f"seed must be from 0 to {MOST_SEED}, got {self.seed}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas}")
        if not 0 < self.decay_at <= 1:
            raise ValueError(f"decay_at must be in (0, 1], got {self.decay_at}")
        one_of("precision", self.precision, ("32-true", "bf16-mixed"))


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run with its evaluation.

    Example:
        >>> run = RunConfig(train=TrainConfig(steps=600))
        >>> run.hash == RunConfig(train=TrainConfig(steps=600)).hash
        True
        >>> run.hash == RunConfig(train=TrainConfig(steps=601)).hash
        False
    """

    model: ModelConfig | MethodConfig = field(default_factory=ModelConfig)
    """The method and its network: MambaAD's `ModelConfig`, or the settings of another method."""
    encoder_weights: str = PUBLISHED_WEIGHTS["mambaad"]
    """A timm tag, "imagenet_lite0", "embedded", "random", or the name of a local file (the record has its hash)."""
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON form."""
        return config_hash(self)


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values (tuples become lists); fields marked `LATER` are left out at their default."""
    return json.loads(json.dumps(_plain(config)))


def _plain(config: Any) -> Any:
    if not dataclasses.is_dataclass(config):
        return config
    values = {f.name: (f, getattr(config, f.name)) for f in dataclasses.fields(config)}
    return {
        name: _plain(value) for name, (f, value) in values.items() if not ("later" in f.metadata and value == f.default)
    }


def config_hash(config: Any) -> str:
    """First 12 hex digits of the SHA-256 of a config's sorted, compact JSON."""
    text = json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_config_from_dict(values: Mapping[str, Any]) -> RunConfig:
    """The inverse of `to_dict` for a `RunConfig`.

    Raises:
        TypeError: unknown fields.
        ValueError: an unknown method, or a value that is not allowed.
    """
    parts: dict[str, Callable[..., Any]] = {"model": model_config, "data": DataConfig, "train": TrainConfig}
    return RunConfig(**{k: parts[k](**v) if k in parts else v for k, v in values.items()})


def model_config(**values: Any) -> ModelConfig | MethodConfig:
    """A method's settings from plain values; without `method` they are MambaAD's.  Raises as `run_config_from_dict`."""
    method = values.get("method", "mambaad")
    one_of("method", method, METHODS)
    if method == "mambaad":  # its settings do not hold the name
        values.pop("method", None)
    return ModelConfig(**values) if method == "mambaad" else METHOD_CONFIGS[method](**values)


RECIPES: dict[str, TrainConfig] = {
    "mambaad": TrainConfig(),
    "rd4ad": TrainConfig(epochs=100, lr=5e-3, weight_decay=0.0, betas=(0.5, 0.999)),
    "uniad": TrainConfig(epochs=100, batch_size=8, lr=1e-4),
    "simplenet": TrainConfig(epochs=100, batch_size=32, lr=1e-4, weight_decay=1e-2, decay=1.0),
    "destseg": TrainConfig(epochs=100, batch_size=32, lr=0.4, decay=1.0),
    "diad": TrainConfig(epochs=100, batch_size=12, lr=1e-5, weight_decay=1e-2, decay=1.0),
    "memory_bank": TrainConfig(epochs=1),
    "mambaad_bank": TrainConfig(steps=1000, batch_size=8, lr=2.5e-3, warmup_steps=20, holdout=0.1),
}
"""How each method is trained in the multi-class benchmark; the memory bank takes of it the seed alone, DeSTSeg's
momentum is the first of the betas, and DiAD's is its own paper's but for the epochs. MambaAD with a bank is not
published: its recipe is the one its evidence is of."""


def published_recipe(method: str) -> TrainConfig:
    """A method's published recipe.  Raises ValueError for an unknown method."""
    one_of("method", method, METHODS)
    return RECIPES[method]


def small_form(method: str, side: int) -> tuple[Mapping[str, Any], TrainConfig]:
    """What a method is where a CPU trains it: changes to its settings, and its recipe.

    Published methods stay as they are but for DiAD, which is reduced, and starts without published weights.
    Raises ValueError for an unknown method.
    """
    if method != "diad":
        return {}, published_recipe(method)
    changes = DIAD_REDUCED | (DIAD_FACTOR_8 if side >= 128 else {})
    return changes, TrainConfig(steps=1600, batch_size=8, lr=1e-3, weight_decay=1e-2, clip_norm=1.0)


def for_encoder(method: str, encoder: Mapping[str, Any], side: int) -> MethodConfig:
    """A method's settings with another encoder: what depends on it follows.

    Args:
        method: any but MambaAD.
        encoder: `backbone`, `backbone_kwargs`, `mean` and `std`, as far as they differ from the published ones.
        side: of the images, in pixels.

    Raises:
        ValueError: an unknown method.
    """
    one_of("method", method, tuple(METHOD_CONFIGS))
    values = dict(encoder)
    if method == "uniad":
        values["side"] = side
    if method == "rd4ad" and values.get("backbone") in BASIC_BLOCKS:
        values |= BASIC_BLOCKS[values["backbone"]]
    return METHOD_CONFIGS[method](**values)
