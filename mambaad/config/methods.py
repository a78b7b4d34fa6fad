"""Settings of the other methods of tables 1 and 6, and of the memory bank; the defaults are the published ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mambaad.config.model import IMAGENET_MEAN, IMAGENET_STD, ModelConfig, check_normalisation, one_of


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
        check_normalisation(self.mean, self.std)
        object.__setattr__(self, "backbone_kwargs", json.loads(json.dumps(dict(self.backbone_kwargs))))


def positive(config: MethodConfig, *names: str) -> None:
    """Raise ValueError for a field below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be positive, got {getattr(config, name)}")


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
        if not 0 <= self.dropout < 1 or self.jitter < 0 or (self.neighbours or 0) < 0:
            raise ValueError(
                "dropout must be in [0, 1), jitter and neighbours not negative, "
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


@dataclass(frozen=True, kw_only=True)
class DiADConfig(MethodConfig):
    """Latent diffusion guided by the image (He et al., AAAI 2024); `small_form` is one that a CPU can train."""

    method: str = "diad"
    backbone: str = "resnet50"
    autoencoder_width: int = 128
    autoencoder_multipliers: tuple[int, ...] = (1, 2, 4, 4)
    """Of the width, one per level; the side halves between levels."""
    autoencoder_blocks: int = 2
    """Residual blocks per level of the encoder; the decoder has one more."""
    latent_channels: int = 4
    latent_scale: float | None = 0.18215
    """Factor of the latents; None: one over their deviation in the autoencoder's last training step."""
    sample_latents: bool = True
    """Whether a latent is drawn from the encoder's Gaussian, or its mean."""
    width: int = 320
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    """Of the denoiser's and the guide's width, one per level."""
    blocks: int = 2
    """Residual blocks per level; the decoder half has one more."""
    attention: tuple[int, ...] = (1, 2, 4)
    """Transformers where the latent's side is divided by these factors, and in the middle."""
    heads: int = 8
    context_tokens: int = 77
    context_width: int = 768
    learned_context: bool = False
    """Whether the text's context is trained, or constant."""
    hint_widths: tuple[int, ...] = (16, 32, 96, 256)
    """Channels of the guide's first convolutions, one per level of the autoencoder."""
    steps: int = 1000
    """Of the noise schedule."""
    sampling_steps: int = 10
    autoencoder_share: float = 0.25
    """Share of the training steps, the first, in which the autoencoder is trained, and nothing else."""
    autoencoder_lr: float = 18.0
    """Learning rate of the autoencoder in multiples of the diffusion's."""
    train_encoder_half: bool = False
    """Whether the denoiser's encoder half is trained, too."""
    noise_seed: int = 0
    """Of the noise in prediction, the same for every image."""
    diffusion_weights: str = ""
    """Name of a file of Stable Diffusion's weights to start from; empty: none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("autoencoder_multipliers", "multipliers", "attention", "hint_widths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("autoencoder_width", "width"):
            if getattr(self, name) % 32 or getattr(self, name) < 32:
                raise ValueError(f"{name} must be a multiple of 32, got {getattr(self, name)}")
        if len(self.hint_widths) != len(self.autoencoder_multipliers):
            raise ValueError(
                "hint_widths must have one entry per autoencoder level, "
                f"got {len(self.hint_widths)} for {len(self.autoencoder_multipliers)}"
            )
        if self.width % self.heads or len(self.multipliers) < 2:
            raise ValueError(
                "width must be divisible by the heads, and there must be two multipliers or more, "
                f"got {self.width}, {self.heads} and {self.multipliers}"
            )
        if not 0 < self.sampling_steps < self.steps:
            raise ValueError(
                f"sampling_steps must be positive and less than steps, got {self.sampling_steps} and {self.steps}"
            )
        if not 0 <= self.autoencoder_share < 1:
            raise ValueError(f"autoencoder_share must be in [0, 1), got {self.autoencoder_share}")


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
DIAD_REDUCED: dict[str, Any] = {
    "autoencoder_width": 32,
    "autoencoder_multipliers": (1, 2, 2),
    "autoencoder_blocks": 1,
    "latent_scale": None,
    "sample_latents": False,
    "width": 64,
    "multipliers": (1, 2, 4),
    "blocks": 1,
    "attention": (2, 4),
    "heads": 4,
    "context_tokens": 1,
    "context_width": 64,
    "learned_context": True,
    "hint_widths": (16, 32, 64),
    "steps": 200,
    "autoencoder_share": 0.3,
    "autoencoder_lr": 1.0,
}
"""DiAD with all its parts, small enough to be trained from nothing on a CPU, for images of 64 pixels; a choice of this
project."""
DIAD_FACTOR_8: dict[str, Any] = {"autoencoder_multipliers": (1, 2, 2, 2), "hint_widths": (16, 32, 64, 64)}
"""What changes from 128 pixels on: latents of an eighth of the image's side, as published."""
METHODS: tuple[str, ...] = ("mambaad", *METHOD_CONFIGS)
"""Every method by name."""


def method_of(config: Any) -> str:
    """The method that settings are of."""
    return str(getattr(config, "method", "mambaad"))
