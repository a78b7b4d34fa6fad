"""The method: training in two phases, prediction.  Paper: section 3, figure 2.  Axes: see the package."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mambaad.baselines.common import check_images, evaluating
from mambaad.baselines.diad.autoencoder import Autoencoder, Gaussian
from mambaad.baselines.diad.denoiser import UNet
from mambaad.baselines.diad.diffusion import add_noise, alphas_cumprod, ddim, ddim_times
from mambaad.baselines.diad.guide import SemanticGuide, copy_encoder_half
from mambaad.config import PUBLISHED_WEIGHTS, DiADConfig, TrainConfig
from mambaad.model.anomaly_map import anomaly_map, image_score
from mambaad.model.encoder import Encoder
from mambaad.model.mambaad import Prediction

SIGMA = 5.0  # pixels, at every image size
DIVERGENCE_WEIGHT = 1e-6
AUTOENCODER_BETAS = (0.5, 0.9)


class DiAD(nn.Module):
    """Autoencoder, denoiser and guide; a frozen encoder compares image and reconstruction.

    The autoencoder's loss is L1 and the weighted divergence: the published one adds LPIPS and, late, a discriminator.
    The noise of prediction is drawn from the config's seed, the same for every image, where the published code draws
    it anew. The image's score is the map's maximum, as the benchmark takes it for every method (DiAD's own is that of
    the map averaged eight times over 8 x 8 pixels).

    Args:
        config: architecture; the default is the published one, 1.4 billion parameters. `small_form` is smaller.
        weights: the encoder's weights, as for `mambaad.model.Encoder`.

    Raises:
        ValueError: a configuration that cannot be built.
        EncoderWeightsError: weights that are unavailable or do not fit.
    """

    trains_in_phases = True
    """In every step, some parameters have no gradient."""
    latent_scale: Tensor
    shares: Tensor

    def __init__(self, config: DiADConfig | None = None, weights: str | Path = PUBLISHED_WEIGHTS["diad"]) -> None:
        super().__init__()
        self.config = config or DiADConfig()
        self.encoder = Encoder(self.config.backbone, weights, self.config.backbone_kwargs)
        self.autoencoder = Autoencoder(self.config)
        self.denoiser = UNet(self.config)
        self.guide = SemanticGuide(self.config)
        copy_encoder_half(self.guide, self.denoiser)
        if not self.config.train_encoder_half:
            for part in (self.denoiser.time_embed, self.denoiser.input_blocks, self.denoiser.middle_block):
                part.requires_grad_(False)
        self.context = nn.Parameter(
            torch.zeros(self.config.context_tokens, self.config.context_width),
            requires_grad=self.config.learned_context,
        )
        self.register_buffer("latent_scale", torch.tensor(self.config.latent_scale or 1.0))
        shares = torch.from_numpy(alphas_cumprod(self.config.steps)).float()
        self.register_buffer("shares", shares, persistent=False)
        self._drawn: dict[int, Tensor] = {}

    def forward(self, images: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, "B 3 S S2"]:
        """Images -> what the guided diffusion makes of them."""
        self._check(images)
        noise = self._noise(images)
        gaussian = self.autoencoder.encode(images)
        latents = self._latents(gaussian, noise[0])
        shares = alphas_cumprod(self.config.steps)
        # the last of the buffer `shares`, as a number that a graph can keep
        noisy = add_noise(latents, noise[1].expand_as(latents), float(np.float32(shares[-1])))

        def noise_in(z: Tensor, t: int) -> Tensor:
            return self.noise_in(z, torch.full((z.shape[0],), float(t), device=z.device), images)

        times = ddim_times(self.config.steps, self.config.sampling_steps)
        clean = ddim(noisy, shares, times, noise_in)
        return self.autoencoder.decode(clean / self.latent_scale)

    def noise_in(
        self, latents: Float[Tensor, "B 4 h h2"], t: Float[Tensor, " B"], images: Float[Tensor, "B 3 S S2"]
    ) -> Float[Tensor, "B 4 h h2"]:
        """The noise that the denoiser, guided by the images, finds in the latents at their times."""
        context = self.context.expand(latents.shape[0], -1, -1)
        controls = self.guide.used(self.guide(latents, t, context, images))
        return self.denoiser(latents, t, context, controls)

    def loss(self, images: Float[Tensor, "B 3 S S2"], progress: float = 0.0) -> Float[Tensor, ""]:
        """The autoencoder's loss in the first share of the steps, then the diffusion's."""
        self._check(images)
        if progress < self.config.autoencoder_share:
            return self.autoencoder_loss(images)
        return self.diffusion_loss(images)

    def autoencoder_loss(self, images: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, ""]:
        """Mean absolute difference of image and reconstruction, and the weighted divergence of the latents."""
        gaussian = self.autoencoder.encode(images)
        if self.config.latent_scale is None:
            self.latent_scale.copy_(1 / gaussian.mean.detach().float().std())
        rebuilt = self.autoencoder.decode(gaussian.sample(torch.randn_like(gaussian.mean)))
        return F.l1_loss(rebuilt, images) + DIVERGENCE_WEIGHT * gaussian.divergence()

    def diffusion_loss(self, images: Float[Tensor, "B 3 S S2"]) -> Float[Tensor, ""]:
        """Mean squared error of the noise, at times drawn uniformly.  The autoencoder is frozen."""
        with torch.no_grad():
            gaussian = self.autoencoder.encode(images)
            latents = self._latents(gaussian, torch.randn_like(gaussian.mean))
        noise = torch.randn_like(latents)
        t = torch.randint(self.config.steps, (len(latents),), device=latents.device)
        noisy = add_noise(latents, noise, self.shares[t][:, None, None, None])
        return F.mse_loss(self.noise_in(noisy, t.float(), images), noise)

    def optimizers(self, train: TrainConfig) -> list[torch.optim.Optimizer]:
        """Adam on the autoencoder; AdamW on the guide, the denoiser's decoder half and a learned context."""
        parts = (self.guide, self.denoiser)
        diffusion = [p for part in parts for p in part.parameters() if p.requires_grad]
        diffusion += [self.context] if self.config.learned_context else []
        return [
            torch.optim.Adam(
                self.autoencoder.parameters(),
                lr=train.lr * self.config.autoencoder_lr,
                betas=AUTOENCODER_BETAS,
            ),
            torch.optim.AdamW(diffusion, lr=train.lr, betas=train.betas, weight_decay=train.weight_decay),
        ]

    def predict(self, images: Float[Tensor, "B 3 S S2"]) -> Prediction:
        """Distance between the encoder's features of image and reconstruction."""
        with evaluating(self):
            side = self._check(images)
            maps = anomaly_map(self.encoder(images), self.encoder(self(images)), side, SIGMA)
            return Prediction(maps, image_score(maps))

    def _check(self, images: Tensor) -> int:
        """The side of square images.  Raises ValueError for one that the levels do not divide, or that leaves a single
        position at the guide's smallest side, too few for InstanceNorm."""
        factor = 2 ** (len(self.config.autoencoder_multipliers) + len(self.config.multipliers) - 2)
        side = check_images(images)
        if side % factor or side == factor:
            raise ValueError(
                f"images for this DiAD must have a side divisible by {factor} and above it, in pixels, got {side}"
            )
        return side

    def _latents(self, gaussian: Gaussian, noise: Tensor) -> Tensor:
        drawn = gaussian.sample(noise) if self.config.sample_latents else gaussian.mean
        return drawn * self.latent_scale

    def _noise(self, images: Tensor) -> Tensor:
        """Two draws for one latent; all images of a batch share them, so that the batch's size does not matter."""
        side = images.shape[-1] // 2 ** (len(self.config.autoencoder_multipliers) - 1)
        if side not in self._drawn:  # once: a graph keeps the values, not the draw
            generator = torch.Generator().manual_seed(self.config.noise_seed)
            shape = (2, 1, self.config.latent_channels, side, side)
            self._drawn[side] = torch.randn(shape, generator=generator, device="cpu")
        return self._drawn[side].to(images.device)
