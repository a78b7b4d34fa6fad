"""UniAD: features rebuilt by a transformer that may not look at a token's neighbours (You et al., NeurIPS 2022).

Axes: B batch, S image side in pixels, h = S / 16 side in tokens, L = h * h tokens, c the encoder's channels together,
D width.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mambaad.baselines.common import check_images, evaluating
from mambaad.config import PUBLISHED_WEIGHTS, TrainConfig, UniADConfig
from mambaad.model.anomaly_map import image_score
from mambaad.model.encoder import Encoder
from mambaad.model.mambaad import Prediction

STRIDES = (2, 4, 8, 16)


class UniAD(nn.Module):
    """Frozen encoder, neighbour-masked encoder and layer-wise query decoder.

    Args:
        config: architecture; the default is the published one at 256 pixels.
        weights: the encoder's weights, as for `Encoder`.

    Raises:
        ValueError: a configuration that cannot be built.
        EncoderWeightsError: weights that are unavailable or do not fit.
    """

    score_pool = 16
    """Pixels: an image's score is the maximum of its map after averaging over squares of this side."""

    def __init__(self, config: UniADConfig | None = None, weights: str | Path = PUBLISHED_WEIGHTS["uniad"]) -> None:
        super().__init__()
        self.config = config or UniADConfig()
        self.encoder = Encoder(self.config.backbone, weights, self.config.backbone_kwargs, STRIDES)
        self.transformer = FeatureTransformer(sum(self.encoder.channels), self.config)

    def encode(self, images: Float[Tensor, "B 3 S S2"]) -> list[Tensor]:
        """Images -> encoder features at strides 2, 4, 8, 16."""
        side = check_images(images)
        if side != self.config.side:
            raise ValueError(f"the position tables are for images of {self.config.side} pixels, got {side}")
        return list(self.encoder(images))

    def join(self, features: Sequence[Tensor]) -> Float[Tensor, "B c h h"]:
        """Features of all strides, resized to stride 16, as one map."""
        side = self.config.side // 16
        return torch.cat(
            [F.interpolate(f, size=(side, side), mode="bilinear", align_corners=True) for f in features], dim=1
        )

    def forward(self, images: Float[Tensor, "B 3 S S2"]) -> tuple[Float[Tensor, "B c h h"], Float[Tensor, "B c h h"]]:
        """Images -> joined features and their reconstruction."""
        features = self.join(self.encode(images))
        return features, self.transformer(features)

    def loss(self, images: Float[Tensor, "B 3 S S2"], progress: float = 0.0) -> Float[Tensor, ""]:
        """Mean squared error to the features without jitter."""
        return self.loss_from_features(self.encode(images))

    def loss_from_features(self, features: Sequence[Tensor]) -> Float[Tensor, ""]:
        """`loss` for encoder features."""
        joined = self.join(features)
        return F.mse_loss(self.transformer(joined), joined)

    def optimizers(self, train: TrainConfig) -> list[torch.optim.Optimizer]:
        """AdamW on the transformer; vectors are not decayed."""
        trained = list(self.transformer.parameters())
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": train.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return [torch.optim.AdamW(groups, lr=train.lr, betas=train.betas)]

    def predict(self, images: Float[Tensor, "B 3 S S2"]) -> Prediction:
        """Distance of features and reconstruction per token, resized, not smoothed; the score is the maximum of its
        averages over 16 x 16 pixels."""
        with evaluating(self):
            features, rebuilt = self(images)
            maps = distance_map(features, rebuilt, self.config.side)
            return Prediction(maps, image_score(maps, self.score_pool))


def distance_map(
    features: Float[Tensor, "B c h h"], rebuilt: Float[Tensor, "B c h h"], side: int
) -> Float[Tensor, "B S S"]:
    """Euclidean distance over channels, resized to `side` pixels."""
    distance = (rebuilt - features).square().sum(1, keepdim=True).sqrt()
    return F.interpolate(distance, size=(side, side), mode="bilinear", align_corners=True)[:, 0]


class FeatureTransformer(nn.Module):
    """Rebuilds a feature map: projection, masked encoder and decoder, projection back."""

    def __init__(self, channels: int, config: UniADConfig) -> None:
        super().__init__()
        self.side, self.jitter = config.side // 16, config.jitter
        tokens, width = self.side**2, config.width
        self.rows = nn.Parameter(torch.rand(self.side, width // 2))
        self.columns = nn.Parameter(torch.rand(self.side, width // 2))
        self.input = nn.Linear(channels, width)
        # Copies, as published: attention's packed projections and the decoder's queries start equal in all layers;
        # every Linear is drawn anew below.
        self.encoder = _copies(_EncoderLayer(config), config.layers)
        self.decoder = _copies(_DecoderLayer(config, tokens), config.layers)
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, channels)
        neighbours = self.side // 2 if config.neighbours is None else config.neighbours
        self.register_buffer("mask", neighbour_mask(self.side, neighbours), persistent=False)
        self.mask: Tensor
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self, features: Float[Tensor, "B c h h"], noise: Float[Tensor, "L B c"] | None = None
    ) -> Float[Tensor, "B c h h"]:
        """Features -> their reconstruction.

        Args:
            noise: standard normal, for the jitter; None: drawn anew in training, none in eval mode.
        """
        tokens = features.flatten(2).permute(2, 0, 1)
        if noise is None and self.training and self.jitter:
            # drawn in one order, however the features lie in memory
            noise = tokens.new_empty(tokens.shape[1], tokens.shape[0], tokens.shape[2]).transpose(0, 1).normal_()
        if noise is not None:
            # Published: the norm is divided by the number of channels, not by its root.
            tokens = tokens + self.jitter * tokens.norm(dim=2, keepdim=True) / tokens.shape[2] * noise
        position = self._positions()
        x = self.input(tokens)
        for layer in self.encoder:
            x = layer(x, position, self.mask)
        memory = out = x
        for layer in self.decoder:
            out = layer(memory, out, position, self.mask)
        rebuilt = self.output(self.norm(out))
        return rebuilt.permute(1, 2, 0).unflatten(2, (self.side, self.side))

    def _positions(self) -> Float[Tensor, "L 1 D"]:
        """Of token (r, c): the entry of its column, then that of its row."""
        rows = self.rows[:, None].expand(-1, self.side, -1)
        columns = self.columns[None].expand(self.side, -1, -1)
        return torch.cat([columns, rows], dim=2).flatten(0, 1)[:, None]


class _EncoderLayer(nn.Module):
    """Masked self-attention and feed-forward, each followed by its norm."""

    def __init__(self, config: UniADConfig) -> None:
        super().__init__()
        self.attention = _attention(config)
        self.feedforward = _feedforward(config)
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "L B D"], position: Float[Tensor, "L 1 D"], mask: Bool[Tensor, "L L"]
    ) -> Float[Tensor, "L B D"]:
        x = self.norm1(x + self.drop(attend(self.attention, x, x, position, mask)))
        return self.norm2(x + self.drop(self.feedforward(x)))


class _DecoderLayer(nn.Module):
    """Learned queries attend to the encoder's memory, then to the previous decoder layer."""

    def __init__(self, config: UniADConfig, tokens: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(tokens, config.width))
        self.attention1, self.attention2 = _attention(config), _attention(config)
        self.feedforward = _feedforward(config)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(config.width) for _ in range(3))
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self,
        memory: Float[Tensor, "L B D"],
        previous: Float[Tensor, "L B D"],
        position: Float[Tensor, "L 1 D"],
        mask: Bool[Tensor, "L L"],
    ) -> Float[Tensor, "L B D"]:
        x = self.queries[:, None].expand_as(memory)
        x = self.norm1(x + self.drop(attend(self.attention1, x, memory, position, mask)))
        x = self.norm2(x + self.drop(attend(self.attention2, x, previous, position, mask)))
        return self.norm3(x + self.drop(self.feedforward(x)))


def _attention(config: UniADConfig) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(config.width, config.heads, dropout=config.dropout)


def _feedforward(config: UniADConfig) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(config.width, config.feedforward),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.feedforward, config.width),
    )


def attend(
    attention: nn.MultiheadAttention,
    x: Float[Tensor, "L B D"],
    values: Float[Tensor, "L B D"],
    position: Float[Tensor, "L 1 D"],
    mask: Bool[Tensor, "L L"],
) -> Float[Tensor, "L B D"]:
    """Attention of x to `values`; the position is added to queries and keys only."""
    return attention(x + position, values + position, values, attn_mask=mask, need_weights=False)[0]


def _copies(layer: nn.Module, number: int) -> nn.ModuleList:
    return nn.ModuleList(copy.deepcopy(layer) for _ in range(number))


def neighbour_mask(side: int, neighbours: int) -> Bool[Tensor, "L L"]:
    """True where a token may not look: within `neighbours` // 2 rows and columns, itself included.

    Raises:
        ValueError: a token would see nothing.
    """
    reach = neighbours // 2
    if reach >= side // 2:  # the token in the middle is the first to lose all others
        raise ValueError(f"a neighbour mask of {neighbours} leaves some of the {side} x {side} tokens nothing to see")
    place = torch.arange(side)
    near = (place[:, None] - place).abs() <= reach
    return (near[:, None, :, None] & near[None, :, None, :]).reshape(side**2, side**2)
