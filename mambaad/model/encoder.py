"""The frozen ImageNet encoder.  Paper: section 3.1 and table 4.

Features at strides 4, 8 and 16, or others, of any timm CNN that has them; what comes after the last is not built.
Always in eval mode and without gradient, also while the decoder trains.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mambaad.model.encoder_weights import load_weights

STRIDES = (4, 8, 16)


class Encoder(nn.Module):
    """timm CNN cut after the last feature, by default at stride 16.

    Args:
        backbone: timm model name without tag.
        weights: timm tag ("resnet34.bt_in1k"), a .safetensors or .pth file, "embedded", or "random".
        backbone_kwargs: passed on to timm.
        strides: of the features, in ascending order.

    Raises:
        ValueError: the backbone is unknown to timm or has no features at these strides.
        EncoderWeightsError: see `load_weights`.
    """

    def __init__(
        self,
        backbone: str,
        weights: str | Path = "random",
        backbone_kwargs: Mapping[str, Any] | None = None,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.strides = tuple(strides)
        self.net = build_net(backbone, dict(backbone_kwargs or {}), self.strides)
        info = self.net.feature_info
        self.channels: tuple[int, ...] = tuple(info.channels())
        load_weights(self.net, backbone, weights)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Encoder":
        """Stays in eval mode: its BatchNorm statistics are ImageNet's."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 S S"]) -> list[Tensor]:
        """Normalised images -> features (B, c, S/stride, S/stride), one per stride; by default
        (B, c1, S/4, S/4), (B, c2, S/8, S/8), (B, c3, S/16, S/16).  Raises as `check_batch`."""
        check_batch(images)
        return list(self.net(images))


def check_batch(images: Tensor) -> None:
    """Raise ValueError for anything but a batch of normalised RGB images."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        got = f"{images.dtype} of shape {tuple(images.shape)}".removeprefix("torch.")
        raise ValueError(f"images must be normalised floats of shape (B, 3, S, S), got {got}")


TAKEN = frozenset(
    {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "features_only"}
    | {"out_indices", "output_stride", "in_chans", "scriptable", "exportable"}
)
"""Of timm's keyword arguments, those that a checkpoint's settings must not set: files, downloads, and what `Encoder`
decides."""


def build_net(backbone: str, kwargs: dict[str, Any], strides: tuple[int, ...]) -> Any:
    """timm's network with random weights, cut after the last feature.  Raises ValueError as `Encoder`."""
    import timm  # takes seconds; only who builds an encoder waits for it

    if not timm.is_model(backbone) or "." in backbone:
        raise ValueError(
            f"backbone must be a timm model name without a weights tag, such as 'resnet34'; got {backbone!r}"
        )
    if taken := sorted(TAKEN & kwargs.keys()):
        raise ValueError(
            f"backbone_kwargs must not hold {', '.join(taken)}: the encoder sets them, and its weights have a name"
        )
    with torch.device("meta"):
        try:
            probe: Any = timm.create_model(backbone, features_only=True, **kwargs)
        except TypeError as error:
            raise ValueError(f"timm's {backbone} does not take backbone_kwargs {kwargs}: {error}") from error
    reductions = probe.feature_info.reduction()
    if not set(strides) <= set(reductions):
        raise ValueError(f"{backbone} has features at strides {reductions}; {strides} are needed")
    # a stride can occur twice: the last stage at that stride is the deepest; not every network counts from 0
    indices = tuple(probe.feature_info.out_indices[len(reductions) - 1 - reductions[::-1].index(s)] for s in strides)
    net: Any = timm.create_model(backbone, pretrained=False, features_only=True, out_indices=indices, **kwargs)
    # timm's EfficientNet family keeps, and runs, the stages after the last feature
    if isinstance(getattr(net, "blocks", None), nn.Sequential):
        last = int(net.feature_info.module_name()[-1].split(".")[1])
        net.blocks = net.blocks[: last + 1]
    return net
