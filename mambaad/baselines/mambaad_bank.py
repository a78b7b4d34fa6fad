"""MambaAD and a memory bank in one map: not the paper's method, but this library's default on a CPU.

On small sets neither is better throughout: a short training leaves much unexplained that a bank has seen, and the bank
is blind where the network is not.  Each map is standardised by what it says of good images that neither has seen; their
weighted mean is the map.  Evidence: `results/own_parts`, and the book's page *Bring your own data*.

Axes: B batch, S image side in pixels, P parts of the map, s side the network sees.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mambaad.baselines.common import check_images, evaluating
from mambaad.baselines.memory_bank import MemoryBank
from mambaad.config import MambaADBankConfig, MemoryBankConfig, TrainConfig
from mambaad.model.anomaly_map import gaussian_filter, image_score, unsmoothed_map
from mambaad.model.encoder import Encoder
from mambaad.model.mambaad import MambaAD, Prediction
from mambaad.ops.routed_scan import Backend

SMALLEST = 1e-12  # of a part's deviation


class MambaADBank(nn.Module):
    """MambaAD at a small side, a memory bank at the whole one, both on one kind of encoder.

    Trained as MambaAD is; `finish` then fills the bank and finds each part's mean and deviation on good images.

    Args:
        config: network, bank, and the parts of the map.
        weights: the encoder's weights, as for `Encoder`.

    Raises:
        ValueError: a configuration that cannot be built.
        EncoderWeightsError: weights that are unavailable or do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: MambaADBankConfig, weights: str | Path = "imagenet_lite0") -> None:
        super().__init__()
        self.config = config
        encoder = {name: getattr(config, name) for name in ("backbone", "backbone_kwargs", "mean", "std")}
        self.network = MambaAD(config.network, weights)
        self.bank = MemoryBank(MemoryBankConfig(**encoder, entries=config.entries), weights)
        self.register_buffer("mean", torch.zeros(len(config.parts)))
        self.register_buffer("std", torch.ones(len(config.parts)))

    @property
    def encoder(self) -> Encoder:
        """The network's."""
        return self.network.encoder

    def shrink(self, images: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B 3 s s2"]:
        """The images as the network sees them."""
        side = min(check_images(images), self.config.network_side)
        if side == images.shape[-1]:
            return images
        return F.adaptive_avg_pool2d(images, side)

    def set_scan_backend(self, backend: Backend) -> None:
        """As `MambaAD.set_scan_backend`."""
        self.network.set_scan_backend(backend)

    def encode(self, images: Float[Tensor, "B 3 S S2"]) -> list[Tensor]:
        """Normalised images -> the encoder's features of the shrunk images, at strides 4, 8, 16 of their side."""
        return self.network.encode(self.shrink(images))

    def loss(self, images: Float[Tensor, "B 3 S S2"], progress: float = 0.0) -> Float[Tensor, ""]:
        """MambaAD's loss of the shrunk images."""
        return self.network.loss(self.shrink(images), progress)

    def loss_from_features(self, features: Sequence[Tensor]) -> Float[Tensor, ""]:
        """`loss`, for features computed before."""
        return self.network.loss_from_features(features)

    def optimizers(self, train: TrainConfig) -> list[torch.optim.Optimizer]:
        """MambaAD's."""
        return self.network.optimizers(train)

    @torch.no_grad()
    def finish(self, images: Iterable[Tensor], held: Iterable[Tensor], number: int, side: int, seed: int) -> None:
        """Fill the bank, then standardise the parts of the map.

        Args:
            images: normalised good images (B, 3, side, side), all that were trained on, batch by batch.
            held: good images that were not.
            number: of `images`.
            side: of all of them, in pixels.
            seed: of the bank's entries.

        Raises:
            ValueError: no images were held out.
        """
        with evaluating(self):
            self.bank.fit((self.bank.encode(batch) for batch in images), number, side, seed)
            total = torch.zeros(len(self.config.parts), dtype=torch.float64)
            squares, pixels = torch.zeros_like(total), 0
            for batch in held:
                parts = self.parts(batch).cpu().double()  # MPS has no float64
                total += parts.sum((0, 2, 3))
                squares += parts.square().sum((0, 2, 3))
                pixels += parts[:, 0].numel()
        if not pixels:
            raise ValueError(
                "this method needs good images that it is not trained on, and got none: give three good images or more"
            )
        self.mean.copy_(total / pixels)
        self.std.copy_((squares / pixels - (total / pixels).square()).clamp(min=0).sqrt().clamp(min=SMALLEST))

    def parts(self, images: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B P S S2"]:
        """Images -> the parts of their map, neither standardised nor smoothed."""
        side = check_images(images)
        small = self.shrink(images)
        encoder, decoder = self.network(small)
        found = []
        for part in self.config.parts:
            if part == "bank":
                distances = F.interpolate(
                    self.bank(images)[:, None], size=(side, side), mode="bilinear", align_corners=False
                )
                found.append(distances[:, 0])
            else:
                found.append(unsmoothed_map(encoder, decoder, side, part))
        return torch.stack(found, 1)

    def forward(self, images: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B S S2"]:
        """Images -> the weighted mean of the standardised parts.

        Raises:
            ValueError: the bank is empty: training was not finished, and no checkpoint was loaded.
        """
        standardised = (self.parts(images) - self.mean[:, None, None]) / self.std[:, None, None]
        others, share = len(self.config.parts) - 1, self.config.bank_share if len(self.config.parts) > 1 else 1.0
        weights = [share if part == "bank" else (1 - share) / others for part in self.config.parts]
        return (standardised * standardised.new_tensor(weights)[:, None, None]).sum(1)

    def predict(self, images: Float[Tensor, "B 3 S S2"]) -> Prediction:
        """The weighted mean of the standardised parts, smoothed, and made positive as other methods' maps are; the
        score is its maximum: about the number of deviations by which it exceeds a good pixel."""
        with evaluating(self):
            maps = F.softplus(gaussian_filter(self(images), self.config.sigma))  # keeps the order
            return Prediction(maps, image_score(maps))
