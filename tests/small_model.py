"""A network that is quick to build, for the tests of the model."""

from typing import Any

import mambaad
from mambaad.config import ModelConfig

SMALL = {"backbone": "resnet18", "backbone_kwargs": {"channels": (8, 16, 32, 64)}, "depths": (2, 2, 2, 2)}

HYBRID = {"scan": (("sweep", 4), ("hilbert", 4))}


def small(**changes: Any) -> mambaad.MambaAD:
    return mambaad.MambaAD(ModelConfig(**{**SMALL, **changes}), weights="random")
