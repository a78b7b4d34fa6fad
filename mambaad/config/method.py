"""What the settings of every method but MambaAD share."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mambaad.config.model import IMAGENET_MEAN, IMAGENET_STD, check_normalisation, one_of, settle_numbers


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """What every method has: its name and a frozen encoder."""

    method: str = ""
    backbone: str = ""
    """timm model name; any CNN with features at the method's strides."""
    backbone_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Extra keyword arguments for timm, for example ``{"pad_type": "same"}``."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Channel means the encoder was trained with, images in 0..1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Channel standard deviations the encoder was trained with."""

    def __post_init__(self) -> None:
        settle_numbers(self)
        one_of("method", self.method, (type(self).method,))
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_normalisation(self.mean, self.std)
        object.__setattr__(self, "backbone_kwargs", json.loads(json.dumps(dict(self.backbone_kwargs))))


def check_rates(config: MethodConfig, *names: str) -> None:
    """Raise ValueError for a multiple of the learning rate that is not positive and finite."""
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {getattr(config, name)}")


def positive(config: MethodConfig, *names: str) -> None:
    """Raise ValueError for a field below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be positive, got {getattr(config, name)}")
