"""Everything that can be set, as plain frozen dataclasses.

A run is a `RunConfig`: the network, the data, the training.  Its hash names the run everywhere
(records, tables, notebooks): two table rows with the same settings are the same run.
A misspelt field is a `TypeError`, a wrong value a `ValueError` that names the allowed ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

ScanMethod = Literal["sweep", "scan", "zorder", "zigzag", "hilbert"]
SCAN_METHODS: tuple[str, ...] = get_args(ScanMethod)
Branches = Literal["both", "global", "local"]
LocalConv = Literal["dwconv_1x1", "dwconv"]
Protocol = Literal["exact", "paper"]
SIDES = range(64, 1024 + 1, 32)
"""Sides of the square network input, in pixels: the encoder and the first decoder stage divide them by 32."""

SIDES_IN_WORDS = f"a multiple of {SIDES.step} from {SIDES[0]} to {SIDES[-1]}"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _one_of(name: str, value: object, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network (paper: sections 3.1 to 3.4) with every ablation as a field.

    The defaults are the paper's main model.

    Example:
        >>> ModelConfig().depths
        (3, 4, 6, 3)
        >>> ModelConfig(scan="sweep", directions=2).scan
        'sweep'
    """

    # -- encoder
    backbone: str = "resnet34"
    """timm model name; any CNN with features at strides 4, 8 and 16."""
    backbone_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Extra keyword arguments for timm, for example ``{"pad_type": "same"}``."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Channel means the encoder was trained with, images in 0..1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Channel standard deviations the encoder was trained with."""

    # -- decoder
    depths: tuple[int, ...] = (3, 4, 6, 3)
    """HSS blocks per decoder stage, deepest (stride 32) first."""
    hss_per_lss: int | None = None
    """HSS blocks per LSS module (M in table 7). None: 3 where the depth divides by 3, else 2."""
    branches: Branches = "both"
    """Branches of the LSS module: "both", "global" (HSS only) or "local" (convolutions only)."""
    local_kernels: tuple[int, ...] = (5, 7)
    """Side of each local branch's depthwise convolution, in the order of concatenation."""
    local_conv: LocalConv = "dwconv_1x1"
    """"dwconv_1x1": 1x1, depthwise, 1x1 (the paper's); "dwconv": the depthwise convolution alone."""
    skip: bool = True
    """Add the LSS module's input to its output."""
    drop_path: float = 0.2
    """Stochastic depth of the first HSS block; falls linearly to 0 at the last."""

    # -- scan
    scan: str | tuple[tuple[str, int], ...] = "hilbert"
    """A scan method, or several with the number of their routes, as in ``(("sweep", 4), ("hilbert", 4))``."""
    directions: int = 8
    """Scan routes K: 2, 4 or 8. With several methods, their sum."""
    state_size: int = 16
    """State size N of the state space model."""

    def __post_init__(self) -> None:
        for name in ("depths", "local_kernels", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        # as JSON has it, so that a config equals its own record
        object.__setattr__(self, "backbone_kwargs", json.loads(json.dumps(dict(self.backbone_kwargs))))
        _one_of("branches", self.branches, get_args(Branches))
        _one_of("local_conv", self.local_conv, get_args(LocalConv))
        _one_of("directions", self.directions, (2, 4, 8))
        if isinstance(self.scan, str):
            _one_of("scan", self.scan, SCAN_METHODS)
        else:
            object.__setattr__(self, "scan", tuple((str(m), int(n)) for m, n in self.scan))
            for method, number in self.scan:
                _one_of("scan method", method, SCAN_METHODS)
                _one_of(f"directions of {method!r}", number, (2, 4, 8))
            methods = [m for m, _ in self.scan]
            if not methods or len(set(methods)) != len(methods):
                raise ValueError(f"scan must name each method once, got {self.scan!r}")
            if sum(n for _, n in self.scan) != self.directions:
                raise ValueError(f"the directions of {self.scan!r} must add up to directions={self.directions}")
        if len(self.depths) != 4 or any(d < 1 for d in self.depths):
            raise ValueError(f"depths must be four positive block counts, deepest stage first; got {self.depths}")
        for depth in self.depths:
            self.lss_sizes(depth)
        if self.branches != "global":
            if not self.local_kernels or len(set(self.local_kernels)) != len(self.local_kernels):
                raise ValueError(f"local_kernels must be distinct and not empty, got {self.local_kernels}")
            if any(k < 1 or k % 2 == 0 for k in self.local_kernels):
                raise ValueError(f"local_kernels must be odd and positive, got {self.local_kernels}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be in [0, 1), got {self.drop_path}")
        if self.state_size < 1:
            raise ValueError(f"state_size must be positive, got {self.state_size}")

    def lss_sizes(self, depth: int) -> tuple[int, ...]:
        """HSS blocks of each LSS module in a stage of `depth` HSS blocks, e.g. 6 -> (3, 3)."""
        size = self.hss_per_lss
        if size is None:
            size = 3 if depth % 3 == 0 else 2
        if size < 1 or depth % size:
            rule = "3 or 2" if self.hss_per_lss is None else f"hss_per_lss={size}"
            raise ValueError(f"depth {depth} does not split into LSS modules: it must be divisible by {rule}")
        return (size,) * (depth // size)

    @property
    def scan_methods(self) -> tuple[tuple[str, int], ...]:
        """The scan as (method, number of its routes) pairs."""
        return ((self.scan, self.directions),) if isinstance(self.scan, str) else self.scan

    @property
    def scan_text(self) -> str:
        """The scan in words: "hilbert 8", "sweep 4 + hilbert 4"."""
        return scan_text(self.scan_methods)


def scan_text(methods: Iterable[tuple[str, int]]) -> str:
    """(method, directions) pairs in words: "sweep 4 + hilbert 4"."""
    return " + ".join(f"{method} {directions}" for method, directions in methods)


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
    """Hash of the files of a data set on disk (relative paths and sizes); empty for the synthetic set."""
    synthetic_seed: int = 0
    """Seed of the synthetic set."""
    synthetic_train: int = 40
    """Good training images per synthetic category."""
    synthetic_test: int = 24
    """Test images per synthetic category; a third of them good."""

    def __post_init__(self) -> None:
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1 or None, got {self.steps}")
        if self.lr <= 0 or self.clip_norm <= 0:
            raise ValueError(f"lr and clip_norm must be positive, got {self.lr} and {self.clip_norm}")
        if not 0 < self.decay_at <= 1:
            raise ValueError(f"decay_at must be in (0, 1], got {self.decay_at}")
        _one_of("precision", self.precision, ("32-true", "bf16-mixed"))


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

    model: ModelConfig = field(default_factory=ModelConfig)
    encoder_weights: str = "resnet34.bt_in1k"
    """A timm tag, "imagenet_lite0", "embedded", "random", or the name of a local file (the record has its hash)."""
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON form."""
        return config_hash(self)


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def config_hash(config: Any) -> str:
    """First 12 hex digits of the SHA-256 of a config's sorted, compact JSON."""
    text = json.dumps(to_dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_config_from_dict(values: Mapping[str, Any]) -> RunConfig:
    """The inverse of `to_dict` for a `RunConfig`; unknown fields raise TypeError."""
    parts = {"model": ModelConfig, "data": DataConfig, "train": TrainConfig}
    return RunConfig(**{k: parts[k](**v) if k in parts else v for k, v in values.items()})
