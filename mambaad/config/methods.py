"""Settings of the other methods of tables 1 and 6, and of the memory bank; the defaults are the published ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mambaad.config.diad import DiADConfig
from mambaad.config.method import MethodConfig, check_rates, positive
from mambaad.config.model import ModelConfig, one_of


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
        positive(self, "width", "heads", "layers", "feedforward")
        if not 0 <= self.dropout < 1 or not 0 <= self.jitter < math.inf or (self.neighbours or 0) < 0:
            raise ValueError(
                "dropout must be in [0, 1), jitter finite and not negative, neighbours not negative, "
                f"got {self.dropout}, {self.jitter} and {self.neighbours}"
            )
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

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "width", "hidden")
        check_rates(self, "discriminator_lr")


@dataclass(frozen=True, kw_only=True)
class DeSTSegConfig(MethodConfig):
    """A student that sees through synthetic anomalies, and a segmentation network (Zhang et al., CVPR 2023)."""

    method: str = "destseg"
    backbone: str = "resnet18"
    student: str = "resnet18"
    """timm model name of the student's encoder, trained from random weights; any CNN with features at stride 32."""
    width: int = 256
    """Of the segmentation network."""
    student_share: float = 0.2
    """Share of the steps in which the student learns; then the segmentation network does."""
    residual_lr: float = 0.25
    """Learning rate of the segmentation's residual blocks in multiples of the student's."""
    head_lr: float = 0.025
    """Learning rate of the segmentation's head in multiples of the student's."""
    textures: str = "procedural"
    """Of the synthetic anomalies: "procedural", or name@hash of a folder of images; the published ones are DTD's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.student_share < 1:
            raise ValueError(f"student_share must be between 0 and 1, got {self.student_share}")
        positive(self, "width")
        check_rates(self, "residual_lr", "head_lr")
        if not self.textures or "/" in self.textures or "\\" in self.textures:
            raise ValueError(f'textures must be "procedural" or the name@hash of a folder, got {self.textures!r}')


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


Part = Literal["cosine", "euclidean", "bank"]


@dataclass(frozen=True, kw_only=True)
class MambaADBankConfig(MethodConfig):
    """MambaAD and a memory bank, their maps added: this library's own, for a short training on a CPU."""

    method: str = "mambaad_bank"
    backbone: str = "efficientnet_lite0"
    network: ModelConfig = field(default_factory=ModelConfig)
    """MambaAD's settings; its encoder is the one above."""
    network_side: int = 128
    """Side of the images that the network sees, in pixels: larger ones are shrunk for it. The bank sees them whole."""
    entries: int = 8192
    """Positions that the bank keeps."""
    parts: tuple[Part, ...] = ("cosine", "euclidean", "bank")
    """Of the anomaly map: two distances between encoder and decoder features, and the distance to the bank."""
    bank_share: float = 2 / 3
    """Of the bank in the map; the other parts share the rest evenly."""
    sigma: float = 4.0
    """Of the map's smoothing, in pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        values = self.network if isinstance(self.network, Mapping) else vars(self.network)
        encoder = {name: getattr(self, name) for name in ("backbone", "backbone_kwargs", "mean", "std")}
        object.__setattr__(self, "network", ModelConfig(**{**values, **encoder}))
        object.__setattr__(self, "parts", tuple(self.parts))
        for part in self.parts:
            one_of("part of the map", part, get_args(Part))
        if "bank" not in self.parts or len(set(self.parts)) != len(self.parts):
            raise ValueError(f"parts must name 'bank' and each part once, got {self.parts}")
        if not 0 < self.bank_share <= 1:
            raise ValueError(f"bank_share must be above 0 and at most 1, got {self.bank_share}")
        if self.entries < 1 or not self.sigma > 0:
            raise ValueError(f"entries and sigma must be positive, got {self.entries} and {self.sigma}")


OWN_METHODS = ("mambaad_bank",)
"""Methods that nobody published: no part of the study."""
METHOD_CONFIGS: dict[str, type[MethodConfig]] = {
    config.method: config
    for config in (
        *(RD4ADConfig, UniADConfig, SimpleNetConfig, DeSTSegConfig, DiADConfig),
        *(MemoryBankConfig, MambaADBankConfig),
    )
}
PUBLISHED_WEIGHTS: dict[str, str] = {
    "mambaad": "resnet34.bt_in1k",
    "rd4ad": "wide_resnet50_2.racm_in1k",
    "uniad": "tf_efficientnet_b4.ns_jft_in1k",
    "simplenet": "wide_resnet50_2.tv_in1k",
    "destseg": "resnet18.a1_in1k",
    "diad": "resnet50.a1_in1k",
    "memory_bank": "wide_resnet50_2.racm_in1k",
    "mambaad_bank": "imagenet_lite0",
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
