"""The Mamba decoder: four stages from stride 32 up to stride 4.  Paper: section 3.1, figure 2 (a).

Axes: B batch, H = W side in tokens, C width.
"""

from collections.abc import Sequence
from itertools import pairwise

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mambaad.config import ModelConfig
from mambaad.model.lss import LSSModule


class PatchExpand(nn.Module):
    """Doubles the side: Linear to four tokens of the wanted width, rearranged 2 x 2, LayerNorm."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width_in, 4 * width_out, bias=False)
        self.norm = nn.LayerNorm(width_out)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H2 W2 C2"]:
        return self.norm(rearrange(self.expand(x), "b h w (p q c) -> b (h p) (w q) c", p=2, q=2))


def decoder_widths(channels: Sequence[int]) -> tuple[int, int, int, int]:
    """Stage widths 2*c3, c3, c2, c1 for encoder channels c1, c2, c3 at strides 4, 8, 16."""
    c1, c2, c3 = channels
    return 2 * c3, c3, c2, c1


class Decoder(nn.Module):
    """Stages of LSS modules; the outputs of the last three are compared with the encoder's features."""

    def __init__(self, config: ModelConfig, channels: Sequence[int]) -> None:
        super().__init__()
        widths = decoder_widths(channels)
        self.expands = nn.ModuleList(PatchExpand(a, b) for a, b in pairwise(widths))
        last = sum(config.depths) - 1
        rates = [config.drop_path * (1 - i / last) for i in range(last + 1)]
        self.stages = nn.ModuleList()
        first = 0
        for width, depth in zip(widths, config.depths, strict=True):
            sizes = config.lss_sizes(depth)
            # As the published code has it: all HSS blocks of module i get the i-th rate of the stage's slice,
            # so the rates of a stage's later blocks are never used.
            self.stages.append(
                nn.Sequential(
                    *(
                        LSSModule(
                            width,
                            blocks,
                            config.scan_methods,
                            state_size=config.state_size,
                            branches=config.branches,
                            local_kernels=config.local_kernels,
                            local_conv=config.local_conv,
                            skip=config.skip,
                            drop_path=rates[first + i],
                        )
                        for i, blocks in enumerate(sizes)
                    )
                )
            )
            first += depth
        self.apply(_init_weights)

    def forward(self, x: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """Fused features at stride 32 -> features at strides 4, 8, 16, channels first."""
        x = self.stages[0](rearrange(x, "b c h w -> b h w c"))
        outputs = []
        for expand, stage in zip(self.expands, self.stages[1:], strict=True):
            x = stage(expand(x))
            outputs.append(rearrange(x, "b h w c -> b c h w"))
        return outputs[::-1]


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
