"""Settings of DiAD, as published and at a size that a CPU can train."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mambaad.config.method import MethodConfig, check_rates, positive

MOST_STEPS = 100_000
"""Of the noise schedule, which is computed when the network is built."""


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
        positive(self, "autoencoder_blocks", "blocks", "latent_channels", "heads", "context_tokens", "context_width")
        for name in ("autoencoder_multipliers", "multipliers", "attention", "hint_widths"):
            if min(getattr(self, name), default=1) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.latent_scale is not None and not 0 < self.latent_scale < math.inf:
            raise ValueError(f"latent_scale must be positive, or null, got {self.latent_scale}")
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
        if not 0 < self.sampling_steps < self.steps <= MOST_STEPS or self.steps % self.sampling_steps:
            raise ValueError(
                f"sampling_steps must be positive and divide steps, which are more and at most {MOST_STEPS}, "
                f"got {self.sampling_steps} and {self.steps}"
            )
        check_rates(self, "autoencoder_lr")
        if not 0 <= self.autoencoder_share < 1:
            raise ValueError(f"autoencoder_share must be in [0, 1), got {self.autoencoder_share}")


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
