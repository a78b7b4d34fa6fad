"""The network's settings, and what every method's settings share.  Paper: sections 3.1 to 3.4."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

ScanMethod = Literal["sweep", "scan", "zorder", "zigzag", "hilbert"]
SCAN_METHODS: tuple[str, ...] = get_args(ScanMethod)
Branches = Literal["both", "global", "local"]
LocalConv = Literal["dwconv_1x1", "dwconv"]
Distance = Literal["cosine", "euclidean"]

LATER = {"later": True}
"""Metadata of a field that came after the first records: left out of a record where it has its default, so that the
hashes of those runs stay."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def one_of(name: str, value: object, allowed: tuple[Any, ...]) -> None:
    """Raise ValueError, naming what is allowed, for another value."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def settle_numbers(config: Any) -> None:
    """Make whole numbers in a dataclass's fields of floats floats, as its record has them: equal settings, one hash.

    Raises ValueError for a fraction in a field of whole numbers.
    """
    for place in fields(config):
        value, kind = getattr(config, place.name), str(place.type)
        several = isinstance(value, tuple | list)
        numbers = [number for number in (value if several else (value,)) if type(number) in (int, float)]
        if "float" in kind:
            if int in map(type, numbers):
                settled = tuple(float(v) if type(v) is int else v for v in value) if several else float(value)
                object.__setattr__(config, place.name, settled)
        elif "int" in kind and float in map(type, numbers):
            raise ValueError(f"{place.name} must be whole, got {value}")


def check_normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raise ValueError for anything but three finite means and three positive, finite standard deviations."""
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise ValueError(f"mean must be three finite numbers and std three positive ones, got {mean} and {std}")


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

    # -- anomaly map
    distance: Distance = field(default="cosine", metadata=LATER)
    """Between encoder and decoder features at a position: "cosine" (published, 1 - cosine similarity), or "euclidean"
    (root mean square over the channels), which also sees how strong a feature is."""
    sigma: float = field(default=4.0, metadata=LATER)
    """Of the map's smoothing, in pixels of the network's input."""

    def __post_init__(self) -> None:
        settle_numbers(self)
        for name in ("depths", "local_kernels", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        # as JSON has it, so that a config equals its own record
        object.__setattr__(self, "backbone_kwargs", json.loads(json.dumps(dict(self.backbone_kwargs))))
        check_normalisation(self.mean, self.std)
        one_of("branches", self.branches, get_args(Branches))
        one_of("local_conv", self.local_conv, get_args(LocalConv))
        one_of("distance", self.distance, get_args(Distance))
        one_of("directions", self.directions, (2, 4, 8))
        if isinstance(self.scan, str):
            one_of("scan", self.scan, SCAN_METHODS)
        else:
            if any(int(n) != n for _, n in self.scan):
                raise ValueError(f"scan must give each method a whole number of routes, got {self.scan!r}")
            object.__setattr__(self, "scan", tuple((str(m), int(n)) for m, n in self.scan))
            for method, number in self.scan:
                one_of("scan method", method, SCAN_METHODS)
                one_of(f"directions of {method!r}", number, (2, 4, 8))
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
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma must be positive and finite, got {self.sigma}")
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
