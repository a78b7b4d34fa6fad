"""A training step at the scale of the runs on real images, with the encoder in every step or its features kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mambaad.benchmarks.model import scan_share
from mambaad.benchmarks.timing import interleaved
from mambaad.config import ModelConfig, TrainConfig
from mambaad.model import MambaAD
from mambaad.model.encoder_weights import named_encoder

DEPTHS = (2, 2, 2, 2)
TRAIN = TrainConfig()
EVERY_STEP, KEPT = "in every step", "kept"


def training_benchmark(
    repeats: int = 15,
    device: str = "cpu",
    side: int = 128,
    batch: int = 8,
    configs: Mapping[str, ModelConfig] | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Time a whole training step of MambaAD: encoder (or its features, kept), forward, loss, backward and AdamW.

    Random weights, since times do not depend on them.  All steps alternate.

    Args:
        configs: networks by encoder; None: with EfficientNet-Lite0 and with ResNet18, decoder depths 2, 2, 2, 2.

    Returns: rows (encoder, its features, times, share of the scan in the time), facts.
    """
    if configs is None:
        configs = {
            "EfficientNet-Lite0": ModelConfig(depths=DEPTHS, **(named_encoder("imagenet_lite0") or {})),
            "ResNet18": ModelConfig(depths=DEPTHS, backbone="resnet18"),
        }
    calls: dict[tuple[str, str], Callable[[], None]] = {}
    for name, config in configs.items():
        torch.manual_seed(0)
        model = MambaAD(config, weights="random").to(device).train()
        images = torch.randn(batch, 3, side, side, device=device)
        calls[name, EVERY_STEP] = _step(model, partial(model.encode, images))
        calls[name, KEPT] = _step(model, partial(list, model.encode(images)))
    times = interleaved(calls, repeats, device)
    rows = []
    for (name, features), found in times.items():
        share = scan_share(calls[name, features], device)
        rows.append({"encoder": name, "features": features, "side": side, "batch": batch, **found, "scan_share": share})
    return rows, {"repeats": repeats, "precision": "float32", "depths": list(DEPTHS)}


def _step(model: MambaAD, features: Callable[[], Sequence[Tensor]]) -> Callable[[], None]:
    optimizers = model.optimizers(TRAIN)

    def step() -> None:
        model.loss_from_features(features()).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step
