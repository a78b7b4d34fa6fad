"""MambaAD: frozen encoder, Half-FPN, Mamba decoder.  Paper: section 3.1, figure 2 (a).

Axes: B batch, S image side in pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mambaad.config import (
    PUBLISHED_WEIGHTS,
    SIDES,
    SIDES_IN_WORDS,
    MambaADBankConfig,
    MethodConfig,
    ModelConfig,
    TrainConfig,
)
from mambaad.model.anomaly_map import anomaly_map, image_score, reconstruction_loss
from mambaad.model.decoder import Decoder
from mambaad.model.encoder import Encoder, check_batch
from mambaad.model.half_fpn import HalfFPN
from mambaad.model.hss import SS2D
from mambaad.model.scan_order import POWER_OF_TWO_ONLY
from mambaad.ops.routed_scan import Backend, check_backend

POWER_SIDES = tuple(side for side in SIDES if side.bit_count() == 1)


class Prediction(NamedTuple):
    """Per-pixel and per-image anomaly scores; larger is more anomalous. Comparable within one model only."""

    anomaly_map: Float[Tensor, "B S S"]
    score: Float[Tensor, " B"]


def check_side(config: ModelConfig | MethodConfig, height: int, width: int) -> None:
    """Raise ValueError, naming the sides allowed, if the scan orders cannot fill an image of this size.

    Methods without a scan take every side that the encoder divides.
    """
    what = "the image side"
    if isinstance(config, MambaADBankConfig) and height == width and height in SIDES:
        what = "network_side" if config.network_side < height else what
        config, height, width = config.network, *2 * (min(height, config.network_side),)
    power_of_two = []
    if isinstance(config, ModelConfig) and config.branches != "local":
        power_of_two = [method for method, _ in config.scan_methods if method in POWER_OF_TWO_ONLY]
    if power_of_two:
        allowed, sides = f"{', '.join(map(str, POWER_SIDES[:-1]))} or {POWER_SIDES[-1]}", set(POWER_SIDES)
        why = f" (the {' and '.join(power_of_two)} curve fills power-of-two sides only)"
    else:
        allowed, sides = SIDES_IN_WORDS, set(SIDES)
        why = ""
    if height != width:
        raise ValueError(f"images must be square with a side of {allowed} pixels{why}, got {height} x {width}")
    if height not in sides:
        raise ValueError(f"{what} must be {allowed} pixels{why}, got {height}")


class MambaAD(nn.Module):
    """The whole network.

    Args:
        config: architecture; the default is the paper's main model.
        weights: encoder weights: a timm tag, a local file, "embedded" or "random" (see `Encoder`).

    Raises:
        ValueError: a configuration that cannot be built.
        EncoderWeightsError: weights that are unavailable or do not fit; never replaced by others silently.

    Example:
        >>> config = ModelConfig(backbone="resnet18", depths=(1, 1, 1, 1), hss_per_lss=1, directions=2)
        >>> model = MambaAD(config, weights="random").eval()
        >>> encoder_features, decoder_features = model(torch.zeros(1, 3, 64, 64))
        >>> [tuple(features.shape[1:]) for features in decoder_features]
        [(64, 16, 16), (128, 8, 8), (256, 4, 4)]
        >>> model.predict(torch.zeros(1, 3, 64, 64)).anomaly_map.shape
        torch.Size([1, 64, 64])
    """

    def __init__(self, config: ModelConfig | None = None, weights: str | Path = PUBLISHED_WEIGHTS["mambaad"]) -> None:
        super().__init__()
        self.config = config or ModelConfig()
        self.encoder = Encoder(self.config.backbone, weights, self.config.backbone_kwargs)
        # Quicker than contiguous for these encoders on a CPU; fusion and decoder gain nothing by it.
        self.encoder.to(memory_format=torch.channels_last)
        self.half_fpn = HalfFPN(self.encoder.channels)
        self.decoder = Decoder(self.config, self.encoder.channels)
        for module in self.half_fpn.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def set_scan_backend(self, backend: Backend) -> None:
        """Run the scan of every HSS block by a backend of `mambaad.ops.routed_scan`; a new model has "auto".

        Args:
            backend: a name in `mambaad.ops.routed_scan.backends()`, "auto" (the fastest for the tensors at hand), or a
                function with the seven tensors of `routed_scan`, such as one that looks at them.

        Raises:
            ValueError: unknown name.
            RuntimeError: a backend that cannot run here, with the reason and the remedy.
        """
        check_backend(backend)
        for module in self.modules():
            if isinstance(module, SS2D):
                module.backend = backend

    def forward(self, images: Float[Tensor, "B 3 S S2"]) -> tuple[list[Tensor], list[Tensor]]:
        """Images normalised with the encoder's mean and std -> (encoder_features, decoder_features).

        Both are lists of three at strides 4, 8, 16: (B, c1, S/4, S/4), (B, c2, S/8, S/8), (B, c3, S/16, S/16).

        Raises:
            ValueError: images that are not square, or of a side the scan order cannot fill.
        """
        encoder_features = self.encode(images)
        return encoder_features, self.reconstruct(encoder_features)

    def encode(self, images: Float[Tensor, "B 3 S S2"]) -> list[Tensor]:
        """Normalised images -> encoder_features, without gradient.  Raises as `forward`."""
        check_batch(images)
        check_side(self.config, *images.shape[-2:])
        return self.encoder(images.contiguous(memory_format=torch.channels_last))

    def reconstruct(self, encoder_features: Sequence[Tensor]) -> list[Tensor]:
        """encoder_features -> decoder_features: all that is trained, for features computed before."""
        return self.decoder(self.half_fpn(encoder_features))

    def loss(self, images: Float[Tensor, "B 3 S S2"], progress: float = 0.0) -> Float[Tensor, ""]:
        """Training loss of normalised defect-free images, see `reconstruction_loss`."""
        return self.loss_from_features(self.encode(images))

    def loss_from_features(self, features: Sequence[Tensor]) -> Float[Tensor, ""]:
        """`loss` for encoder features computed before."""
        return reconstruction_loss(features, self.reconstruct(features))

    def optimizers(self, train: TrainConfig) -> list[torch.optim.Optimizer]:
        """AdamW on fusion and decoder, in the published groups."""
        groups = parameter_groups(self, train.weight_decay)
        return [torch.optim.AdamW(groups, lr=train.lr, betas=train.betas, fused=True)]

    @torch.no_grad()
    def predict(self, images: Float[Tensor, "B 3 S S2"]) -> Prediction:
        """Anomaly maps and scores of normalised images, in eval mode (the model's mode is left as it was)."""
        training = self.training
        self.eval()
        try:
            encoder_features, decoder_features = self(images)
            maps = self.anomaly_map(encoder_features, decoder_features, images.shape[-1])
        finally:
            self.train(training)
        return Prediction(maps, image_score(maps))

    def anomaly_map(self, encoder: Sequence[Tensor], decoder: Sequence[Tensor], side: int) -> Float[Tensor, "B S S"]:
        """Features -> anomaly maps at `side` pixels, by the distance and smoothing of the model's settings."""
        return anomaly_map(encoder, decoder, side, self.config.sigma, self.config.distance)

    def normalize(self, images: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B 3 S S2"]:
        """RGB images in 0..1 -> network input."""
        mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (self.config.mean, self.config.std))
        return (images - mean) / std


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters with and without weight decay, as the published optimiser splits them.

    Exempt: 1-d tensors, names ending in ".bias", and the scan's D (1-d in the published code).  A_log and the bias of
    the step size are decayed there, unlike in Mamba's own convention.
    """
    decayed: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            free = parameter.ndim <= 1 or name.endswith((".bias", ".D"))
            (exempt if free else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]
