"""The latent autoencoder: an image of S pixels to a Gaussian over latents of S / f, and back.  Axes: see the package.

One level per multiplier; the side halves after all levels but the last: f = 2 ** (levels - 1).
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mambaad.baselines.diad.blocks import GROUPS, Products, Upsample, conv3x3
from mambaad.config import DiADConfig

EPS = 1e-6
LOG_VARIANCE = (-30.0, 20.0)
"""Log variances are cut to this range."""
FIRST_LOG_VARIANCE = -6.0


class Gaussian(NamedTuple):
    """A diagonal Gaussian over latents."""

    mean: Float[Tensor, "B 4 h h"]
    log_variance: Float[Tensor, "B 4 h h"]

    def sample(self, noise: Float[Tensor, "B 4 h h"]) -> Float[Tensor, "B 4 h h"]:
        """The latents that standard normal noise stands for."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def divergence(self) -> Float[Tensor, ""]:
        """Kullback-Leibler divergence from the standard normal: summed over a latent, mean over the batch."""
        each = self.mean.square() + self.log_variance.exp() - 1 - self.log_variance
        return 0.5 * each.flatten(1).sum(1).mean()


class Block(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels, eps=EPS)
        self.conv1 = conv3x3(channels, out)
        self.norm2 = nn.GroupNorm(GROUPS, out, eps=EPS)
        self.conv2 = conv3x3(out, out)
        self.nin_shortcut = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C2 h w"]:
        inner = self.conv1(F.silu(self.norm1(x)))
        return self.nin_shortcut(x) + self.conv2(F.silu(self.norm2(inner)))


class PixelAttention(nn.Module):
    """Attention of one head among all positions, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, eps=EPS)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))
        self.products = Products()

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        normalised = self.norm(x)
        q, k, v = (
            conv(normalised).flatten(2).transpose(1, 2)[:, None].contiguous() for conv in (self.q, self.k, self.v)
        )
        found = self.products(q, k, v)[:, 0].transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.proj_out(found)


class Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = Block(channels, channels)
        self.attn_1 = PixelAttention(channels)
        self.block_2 = Block(channels, channels)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        return self.block_2(self.attn_1(self.block_1(x)))


class PaddedDownsample(nn.Module):
    """Half the side, by a convolution of stride 2; zeros are added at the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h2 w2"]:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """Blocks at one side, and the way to the next level, if there is one."""

    def __init__(self, channels: int, out: int, blocks: int, *, down: bool = False, up: bool = False) -> None:
        super().__init__()
        self.block = nn.ModuleList(Block(out if i else channels, out) for i in range(blocks))
        self.downsample = PaddedDownsample(out) if down else nn.Identity()
        self.upsample = Upsample(out) if up else nn.Identity()

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C2 h2 w2"]:
        for block in self.block:
            x = block(x)
        return self.upsample(self.downsample(x))


class Encoder(nn.Module):
    """Image -> parameters of the Gaussian."""

    def __init__(self, config: DiADConfig) -> None:
        super().__init__()
        widths = [config.autoencoder_width * m for m in config.autoencoder_multipliers]
        self.conv_in = conv3x3(3, config.autoencoder_width)
        channels = config.autoencoder_width
        levels = []
        for i, width in enumerate(widths):
            levels.append(Level(channels, width, config.autoencoder_blocks, down=i < len(widths) - 1))
            channels = width
        self.down = nn.ModuleList(levels)
        self.mid = Middle(channels)
        self.norm_out = nn.GroupNorm(GROUPS, channels, eps=EPS)
        self.conv_out = conv3x3(channels, 2 * config.latent_channels)

    def forward(self, images: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B 8 h h2"]:
        x = self.conv_in(images)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latent -> image; levels are numbered from the image's side, and run from the latent's."""

    def __init__(self, config: DiADConfig) -> None:
        super().__init__()
        widths = [config.autoencoder_width * m for m in config.autoencoder_multipliers]
        channels = widths[-1]
        self.conv_in = conv3x3(config.latent_channels, channels)
        self.mid = Middle(channels)
        levels = []
        for i, width in reversed(list(enumerate(widths))):
            levels.append(Level(channels, width, config.autoencoder_blocks + 1, up=i > 0))
            channels = width
        self.up = nn.ModuleList(levels[::-1])
        self.norm_out = nn.GroupNorm(GROUPS, channels, eps=EPS)
        self.conv_out = conv3x3(channels, 3)

    def forward(self, latents: Float[Tensor, "B 4 h h2"]) -> Float[Tensor, "B 3 S S2"]:
        x = self.mid(self.conv_in(latents))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Autoencoder(nn.Module):
    """Images to Gaussians over latents, latents to images; latents are not scaled here."""

    def __init__(self, config: DiADConfig) -> None:
        super().__init__()
        latent = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * latent, 2 * latent, 1)
        self.post_quant_conv = nn.Conv2d(latent, latent, 1)
        # Trained from nothing, it would spend its first hundreds of steps on getting heard above its own noise.
        bias: Any = self.quant_conv.bias
        nn.init.constant_(bias[latent:], FIRST_LOG_VARIANCE)

    def encode(self, images: Float[Tensor, "B 3 S S2"]) -> Gaussian:
        mean, log_variance = self.quant_conv(self.encoder(images)).chunk(2, dim=1)
        return Gaussian(mean, log_variance.clamp(*LOG_VARIANCE))

    def decode(self, latents: Float[Tensor, "B 4 h h2"]) -> Float[Tensor, "B 3 S S2"]:
        return self.decoder(self.post_quant_conv(latents))
