"""The semantic-guided network: it sees the image, and tells the denoiser what it is.  Paper: section 3.2.

Axes: see the package.  A copy of the denoiser's encoder half, trained where the denoiser's is not; the image enters
behind input block 0, and its outputs are added to the denoiser's.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mambaad.baselines.diad.blocks import conv3x3, zeroed
from mambaad.baselines.diad.denoiser import EncoderHalf
from mambaad.config import DiADConfig


class Fusion(nn.Module):
    """Spatial feature fusion: the outputs at the smallest side take up those at twice that side.

    Each target becomes SiLU(target + the sum over the sources of SiLU(InstanceNorm(convolution of stride 2))).
    The published network starts with zeros in these convolutions and in the ones that make the sources.  Then neither
    gets a gradient, and the fusion stays as it is: `tests/baselines/test_diad.py` shows it.
    """

    def __init__(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        super().__init__()
        self.into = nn.ModuleList(
            nn.ModuleList(zeroed(nn.Conv2d(source, target, 3, stride=2, padding=1, bias=False)) for source in sources)
            for target in targets
        )

    def forward(self, sources: Sequence[Tensor], targets: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, c, 2h, 2h) and (B, c', h, h) -> the fused targets, h above 1."""
        fused = []
        for convs, target in zip(self.into, targets, strict=True):
            for conv, source in zip(convs.children(), sources, strict=True):
                target = target + F.silu(F.instance_norm(conv(source)))
            fused.append(F.silu(target))
        return fused


class SemanticGuide(EncoderHalf):
    """Noisy latents, their time and the image -> what to add to the denoiser's outputs."""

    def __init__(self, config: DiADConfig) -> None:
        super().__init__(config)
        self.input_hint_block = hint_block(config)
        self.zero_convs = nn.ModuleList(nn.Sequential(zeroed(nn.Conv2d(c, c, 1))) for c in self.widths)
        self.middle_block_out = nn.Sequential(zeroed(nn.Conv2d(self.widths[-1], self.widths[-1], 1)))
        per_level = config.blocks + 1
        self.sources, self.targets = slice(-2 * per_level, -per_level), slice(-per_level, None)
        """Which input blocks' outputs the fusion takes, and which it changes."""
        self.fusion = Fusion(self.widths[self.sources], self.widths[self.targets])

    def forward(
        self,
        latents: Float[Tensor, "B 4 h h2"],
        t: Float[Tensor, " B"],
        context: Float[Tensor, "B T D"],
        images: Float[Tensor, "B 3 S S2"],
    ) -> list[Tensor]:
        """One map per input block, and last that of the middle block."""
        *found, middle = self.encode(latents, self.embed(t), context, self.input_hint_block(images))
        controls = [conv(x) for conv, x in zip(self.zero_convs, found, strict=True)]
        controls[self.targets] = self.fusion(controls[self.sources], controls[self.targets])
        return [*controls, self.middle_block_out(middle)]

    def used(self, controls: Sequence[Tensor]) -> list[Tensor]:
        """The controls that the method uses: those at the smallest side."""
        return list(controls[-(self.config.blocks + 2) :])


def hint_block(config: DiADConfig) -> nn.Sequential:
    """Image -> a map of the latent's side: convolutions in pairs, the second of each pair halving the side."""
    layers: list[nn.Module] = [conv3x3(3, config.hint_widths[0]), nn.SiLU()]
    for width, wider in zip(config.hint_widths, config.hint_widths[1:], strict=False):
        layers += [conv3x3(width, width), nn.SiLU(), conv3x3(width, wider, stride=2), nn.SiLU()]
    return nn.Sequential(*layers, zeroed(conv3x3(config.hint_widths[-1], config.width)))


def copy_encoder_half(guide: SemanticGuide, denoiser: EncoderHalf) -> None:
    """Fill the guide's encoder half from the denoiser's."""
    with torch.no_grad():
        for part in ("time_embed", "input_blocks", "middle_block"):
            getattr(guide, part).load_state_dict(getattr(denoiser, part).state_dict())
