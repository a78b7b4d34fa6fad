"""Settings of the other methods of tables 1 and 6, and of the memory bank; the defaults are the published ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mambaad.config.model import IMAGENET_MEAN, IMAGENET_STD, one_of


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
        one_of("method", self.method, (type(self).method,))
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "backbone_kwargs", json.loads(json.dumps(dict(self.backbone_kwargs))))


@dataclass(frozen=True, kw_only=True)
class RD4ADConfig(MethodConfig):
    """Reverse distillation (Deng and Li, CVPR 2022)."""

    method: str = "rd4ad"
    backbone: str = "wide_resnet50_2"
    block: Literal["bottleneck", "basic"] = "bottleneck"
    """Residual blocks of embedding and decoder: those of WideResNet50, or those of ResNet18 and ResNet34."""
    embedding_blocks: int = 3
    """Blocks of the one-class embedding, at stride 32."""
    decoder_blocks: tuple[int, int, int] = (3, 4, 6)
    """Blocks of the decoder's stages at strides 16, 8, 4."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "decoder_blocks", tuple(self.decoder_blocks))
        one_of("block", self.block, ("bottleneck", "basic"))
        if self.embedding_blocks < 1 or len(self.decoder_blocks) != 3 or min(self.decoder_blocks) < 1:
            raise ValueError(
                "embedding_blocks must be positive and decoder_blocks three positive counts, "
                f"got {self.embedding_blocks} and {self.decoder_blocks}"
            )


@dataclass(frozen=True, kw_only=True)
class UniADConfig(MethodConfig):
    """A unified transformer (You et al., NeurIPS 2022)."""

    method: str = "uniad"
    backbone: str = "tf_efficientnet_b4"
    side: int = 256
    """Side of the images in pixels: the position tables have one entry per row and column of tokens (stride 16)."""
    width: int = 256
    heads: int = 8
    layers: int = 4
    """Of the encoder, and again of the decoder."""
    feedforward: int = 1024
    dropout: float = 0.1
    jitter: float = 20.0
    """Strength of the noise on the tokens in training; 0: none."""
    neighbours: int | None = None
    """n of the neighbour mask: a token sees none within n // 2 rows and columns; None: half the tokens' side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.side % 32 or self.side < 64:
            raise ValueError(f"side must be a multiple of 32 from 64 on, got {self.side}")
        if self.width % (2 * self.heads):
            raise ValueError(f"width must be divisible by twice the heads, got {self.width} and {self.heads}")


@dataclass(frozen=True, kw_only=True)
class SimpleNetConfig(MethodConfig):
    """A discriminator of noisy features (Liu et al., CVPR 2023)."""

    method: str = "simplenet"
    backbone: str = "wide_resnet50_2"
    width: int = 1536
    """Of a patch's description, and of the projection."""
    hidden: int = 1024
    """Of the discriminator."""
    noise: float = 0.015
    """Standard deviation that turns a good description into a false one."""
    margin: float = 0.5
    discriminator_lr: float = 2.0
    """Learning rate of the discriminator in multiples of the projection's."""


@dataclass(frozen=True, kw_only=True)
class MemoryBankConfig(MethodConfig):
    """Nearest neighbours among the features of good images, after PatchCore (Roth et al., CVPR 2022)."""

    method: str = "memory_bank"
    backbone: str = "wide_resnet50_2"
    entries: int = 8192
    """Positions kept, drawn at random from all good images; if there are fewer, all of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.entries < 1:
            raise ValueError(f"entries must be positive, got {self.entries}")


METHOD_CONFIGS: dict[str, type[MethodConfig]] = {
    config.method: config for config in (RD4ADConfig, UniADConfig, SimpleNetConfig, MemoryBankConfig)
}
PUBLISHED_WEIGHTS: dict[str, str] = {
    "mambaad": "resnet34.bt_in1k",
    "rd4ad": "wide_resnet50_2.racm_in1k",
    "uniad": "tf_efficientnet_b4.ns_jft_in1k",
    "simplenet": "wide_resnet50_2.tv_in1k",
    "memory_bank": "wide_resnet50_2.racm_in1k",
}
"""timm tags of the encoders' weights: the benchmark's; the memory bank's is a choice."""
BASIC_BLOCKS: dict[str, dict[str, Any]] = {
    "resnet18": {"block": "basic", "embedding_blocks": 2, "decoder_blocks": (2, 2, 2)},
    "resnet34": {"block": "basic", "embedding_blocks": 3, "decoder_blocks": (3, 4, 6)},
}
"""RD4AD's student mirrors its teacher, where that is a ResNet of basic blocks."""
METHODS: tuple[str, ...] = ("mambaad", *METHOD_CONFIGS)
"""Every method by name."""


def method_of(config: Any) -> str:
    """The method that settings are of."""
    return str(getattr(config, "method", "mambaad"))
