"""The locality-enhanced state space module.  Paper: section 3.2, figure 2 (b); ablations: tables 3 and 7.

Axes: B batch, H = W side in tokens, C width.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mambaad.model.hss import HSSBlock


class Pointwise(nn.Conv2d):
    """1 x 1 convolution with the parameters of nn.Conv2d, computed as a matrix product over channels.

    Tokens come channels last here, where torch's own 1 x 1 convolution copies them or takes a slow path on the CPU.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(width_in, width_out, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H W"]:
        y = F.linear(rearrange(x, "b c h w -> b h w c"), self.weight.flatten(1), self.bias)
        return rearrange(y, "b h w c -> b c h w")


class _Standardize(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) over H and W.  Few passes, whatever the layout; differentiable once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        y = x - x.mean((2, 3), keepdim=True)
        scale = y.square().mean((2, 3), keepdim=True).add_(eps).rsqrt_()
        y *= scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        y, scale = ctx.saved_tensors
        along = (dy * y).mean((2, 3), keepdim=True)
        return torch.addcmul(dy - dy.mean((2, 3), keepdim=True), y, along, value=-1).mul_(scale), None


class InstanceNorm(nn.InstanceNorm2d):
    """nn.InstanceNorm2d without affine part and running statistics, which leaves tokens channels last.

    torch's own brings them channels first, and the depthwise convolution behind it then takes several times as long.
    """

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return _Standardize.apply(x, self.eps)


def conv_norm_act(width: int, kernel: int = 1, depthwise: bool = False) -> nn.Sequential:
    """Convolution, InstanceNorm (no affine part, no running statistics), SiLU; keeps the size.

    The depthwise convolution has no bias; that of a pointwise one is cancelled by the norm and kept for parity.
    """
    conv = (
        nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        if depthwise
        else Pointwise(width, width)
    )
    return nn.Sequential(conv, InstanceNorm(width), nn.SiLU())


def local_branch(width: int, kernel: int, kind: str) -> nn.Sequential:
    """A local branch: 1x1, depthwise kernel x kernel, 1x1 ("dwconv_1x1"), or the depthwise part alone ("dwconv")."""
    depthwise = conv_norm_act(width, kernel, depthwise=True)
    if kind == "dwconv":
        return nn.Sequential(depthwise)
    return nn.Sequential(conv_norm_act(width), depthwise, conv_norm_act(width))


class LSSModule(nn.Module):
    """A global branch of HSS blocks beside local convolution branches, merged by a 1x1 convolution, plus the input.

    With the global branch alone there is nothing to merge, and the 1x1 convolution is left out.
    """

    def __init__(
        self,
        width: int,
        hss_blocks: int,
        scan: tuple[tuple[str, int], ...],
        *,
        state_size: int = 16,
        branches: str = "both",
        local_kernels: tuple[int, ...] = (5, 7),
        local_conv: str = "dwconv_1x1",
        skip: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.skip = skip
        self.hss = nn.ModuleList()
        self.local = nn.ModuleList()
        if branches != "local":
            self.hss.extend(HSSBlock(width, scan, state_size, drop_path) for _ in range(hss_blocks))
        if branches != "global":
            self.local.extend(local_branch(width, kernel, local_conv) for kernel in local_kernels)
        merged = width * (len(self.local) + (len(self.hss) > 0))
        self.merge = Pointwise(merged, width) if len(self.local) else nn.Identity()

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        outputs = []
        if len(self.hss):
            y = x
            for block in self.hss:
                y = block(y)
            outputs.append(rearrange(y, "b h w c -> b c h w"))
        image = rearrange(x, "b h w c -> b c h w")
        outputs += [branch(image) for branch in self.local]
        out = rearrange(self.merge(torch.cat(outputs, dim=1)), "b c h w -> b h w c")
        return out + x if self.skip else out
