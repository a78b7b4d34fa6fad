"""What autoencoder, denoiser and guide are made of.  Axes: see the package."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 32
"""Of every GroupNorm: widths are multiples of it."""


def conv3x3(channels: int, out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, stride, padding=1)


def zeroed(module: nn.Module) -> Any:
    """The module with all its parameters 0: what it stands in adds nothing at first."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ResidualBlock(nn.Module):
    """Two convolutions; the time embedding is added between them, per channel."""

    def __init__(self, channels: int, out: int, embedding: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(GROUPS, channels), nn.SiLU(), conv3x3(channels, out))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out))
        self.out_layers = nn.Sequential(nn.GroupNorm(GROUPS, out), nn.SiLU(), nn.Identity(), zeroed(conv3x3(out, out)))
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Float[Tensor, "B C h w"], embedding: Float[Tensor, "B E"]) -> Float[Tensor, "B C2 h w"]:
        inner = self.in_layers(x) + self.emb_layers(embedding)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(inner)


class Products(nn.Module):
    """The two matrix products of attention; a module, so that they can be counted."""

    def forward(
        self, q: Float[Tensor, "B n L d"], k: Float[Tensor, "B n T d"], v: Float[Tensor, "B n T d"]
    ) -> Float[Tensor, "B n L d"]:
        return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Multi-head attention of tokens to themselves or to a context."""

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Identity())
        self.products = Products()

    def forward(self, x: Float[Tensor, "B L C"], context: Float[Tensor, "B T D"]) -> Float[Tensor, "B L C"]:
        q, k, v = (
            t.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for t in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        return self.to_out(self.products(q, k, v).transpose(1, 2).flatten(2))


class GatedGELU(nn.Module):
    """Half of a linear layer's outputs, times the GELU of the other half."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * out)

    def forward(self, x: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C2"]:
        values, gate = self.proj(x).chunk(2, dim=-1)
        return values * F.gelu(gate)


class FeedForward(nn.Module):
    """Fourfold width and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GatedGELU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "B L C"]) -> Float[Tensor, "B L C"]:
        return self.net(x)


class TransformerLayer(nn.Module):
    """Self-attention, attention to the context, feed-forward; each normalises its input and is added to it."""

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.attn1 = Attention(width, width, heads)
        self.attn2 = Attention(width, context, heads)
        self.ff = FeedForward(width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Float[Tensor, "B L C"], context: Float[Tensor, "B T D"]) -> Float[Tensor, "B L C"]:
        normalised = self.norm1(x)
        x = x + self.attn1(normalised, normalised)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer layer over all positions of a map, added to the map."""

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerLayer(width, context, heads)])
        self.proj_out = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Float[Tensor, "B C h w"], context: Float[Tensor, "B T D"]) -> Float[Tensor, "B C h w"]:
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for layer in self.transformer_blocks:
            tokens = layer(tokens, context)
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))


class Downsample(nn.Module):
    """Half the side, by a convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = conv3x3(channels, channels, stride=2)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h2 w2"]:
        return self.op(x)


class Upsample(nn.Module):
    """Twice the side: every position repeated, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h2 w2"]:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def run(layers: nn.Module, x: Tensor, embedding: Float[Tensor, "B E"], context: Float[Tensor, "B T D"]) -> Tensor:
    """One block's layers in their order, each with what it needs besides the map."""
    for layer in layers.children():
        if isinstance(layer, ResidualBlock):
            x = layer(x, embedding)
        elif isinstance(layer, SpatialTransformer):
            x = layer(x, context)
        else:
            x = layer(x)
    return x


def sinusoids(t: Float[Tensor, " B"], width: int) -> Float[Tensor, "B E"]:
    """A time as cosines, then sines, of wavelengths that grow from 2 pi to 10000 times that."""
    half = width // 2
    frequencies = 10_000.0 ** (-torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = t[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
