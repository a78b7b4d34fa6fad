"""The denoiser: Stable Diffusion's U-Net.  Axes: see the package.

Its encoder half and middle block are a class of their own, since the guide is a second one of it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mambaad.baselines.diad.blocks import (
    GROUPS,
    Downsample,
    ResidualBlock,
    SpatialTransformer,
    Upsample,
    conv3x3,
    run,
    sinusoids,
)
from mambaad.config import DiADConfig


class EncoderHalf(nn.Module):
    """Time embedding, input blocks and middle block.

    Input block 0 is a convolution; then, level by level, residual blocks (with a transformer where `attention` names
    the level's factor) and, but for the last level, a halving of the side, each a block of its own.
    """

    def __init__(self, config: DiADConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = 4 * config.width
        self.time_embed = nn.Sequential(
            nn.Linear(config.width, self.embedding), nn.SiLU(), nn.Linear(self.embedding, self.embedding)
        )
        blocks = [nn.Sequential(conv3x3(config.latent_channels, config.width))]
        channels = config.width
        self.widths = [channels]
        """Channels of every input block's output."""
        last = len(config.multipliers) - 1
        for level, multiplier in enumerate(config.multipliers):
            for _ in range(config.blocks):
                blocks.append(nn.Sequential(*self.pair(channels, multiplier * config.width, 2**level)))
                channels = multiplier * config.width
                self.widths.append(channels)
            if level < last:
                blocks.append(nn.Sequential(Downsample(channels)))
                self.widths.append(channels)
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = nn.Sequential(
            ResidualBlock(channels, channels, self.embedding),
            SpatialTransformer(channels, config.context_width, config.heads),
            ResidualBlock(channels, channels, self.embedding),
        )

    def pair(self, channels: int, out: int, factor: int) -> list[nn.Module]:
        """A residual block, and a transformer if the config wants one where the side is divided by `factor`."""
        layers: list[nn.Module] = [ResidualBlock(channels, out, self.embedding)]
        if factor in self.config.attention:
            layers.append(SpatialTransformer(out, self.config.context_width, self.config.heads))
        return layers

    def embed(self, t: Float[Tensor, " B"]) -> Float[Tensor, "B E"]:
        """The time embedding."""
        return self.time_embed(sinusoids(t, self.config.width))

    def encode(
        self,
        latents: Float[Tensor, "B 4 h h2"],
        embedding: Float[Tensor, "B E"],
        context: Float[Tensor, "B T D"],
        hint: Float[Tensor, "B C h h2"] | None = None,
    ) -> list[Tensor]:
        """The output of every input block, and last that of the middle block.

        Args:
            hint: added to the output of input block 0.
        """
        found: list[Tensor] = []
        x: Tensor = latents
        for block in self.input_blocks:
            x = run(block, x, embedding, context)
            if hint is not None and not found:
                x = x + hint
            found.append(x)
        return [*found, run(self.middle_block, x, embedding, context)]


class UNet(EncoderHalf):
    """Noisy latents and their time -> the noise in them.

    Output blocks run from the smallest side; each takes the output of the one before, joined with an input block's.
    """

    def __init__(self, config: DiADConfig) -> None:
        super().__init__(config)
        skips = list(self.widths)
        channels = skips[-1]
        blocks = []
        for level, multiplier in reversed(list(enumerate(config.multipliers))):
            for i in range(config.blocks + 1):
                layers = self.pair(channels + skips.pop(), multiplier * config.width, 2**level)
                channels = multiplier * config.width
                if level and i == config.blocks:
                    layers.append(Upsample(channels))
                blocks.append(nn.Sequential(*layers))
        self.output_blocks = nn.ModuleList(blocks)
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, channels), nn.SiLU(), conv3x3(channels, config.latent_channels))

    def forward(
        self,
        latents: Float[Tensor, "B 4 h h2"],
        t: Float[Tensor, " B"],
        context: Float[Tensor, "B T D"],
        controls: Sequence[Tensor] = (),
    ) -> Float[Tensor, "B 4 h h2"]:
        """The noise in the latents.

        Args:
            controls: what a guide adds: the last to the middle block's output, those before it to the outputs of as
                many input blocks, from the last one backwards.
        """
        encoder = [*self.time_embed.parameters(), *self.input_blocks.parameters(), *self.middle_block.parameters()]
        trained = any(parameter.requires_grad for parameter in encoder)
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            embedding = self.embed(t)
            *skips, x = self.encode(latents, embedding, context)
        if controls:
            *controls, middle = controls
            x = x + middle
            first = len(skips) - len(controls)
            skips[first:] = [skip + control for skip, control in zip(skips[first:], controls, strict=True)]
        for block in self.output_blocks:
            x = run(block, torch.cat([x, skips.pop()], dim=1), embedding, context)
        return self.out(x)
