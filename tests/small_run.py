"""A run of seconds: a small network, six steps on one synthetic category."""

from typing import Any

from mambaad.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from mambaad.engine.execution import Execution

MODEL = ModelConfig(
    backbone="resnet18",
    backbone_kwargs={"channels": (8, 8, 16, 32)},
    depths=(1, 1, 1, 1),
    hss_per_lss=1,
    directions=2,
    state_size=4,
)

RUN = RunConfig(
    model=MODEL,
    encoder_weights="random",
    data=DataConfig(side=64, categories=("gear",)),
    train=TrainConfig(steps=6, batch_size=4, lr=1e-3, seed=3),
)

SMALL_DIAD: dict[str, Any] = {
    "autoencoder_width": 32,
    "autoencoder_multipliers": (1, 1, 1),
    "autoencoder_blocks": 1,
    "latent_scale": None,
    "sample_latents": False,
    "width": 32,
    "multipliers": (1, 2),
    "blocks": 1,
    "attention": (2,),
    "heads": 4,
    "context_tokens": 1,
    "context_width": 16,
    "learned_context": True,
    "hint_widths": (8, 8, 8),
    "steps": 40,
    "sampling_steps": 4,
    "autoencoder_share": 0.5,
    "autoencoder_lr": 1.0,
}

QUIETLY = Execution(device="cpu", progress=False)
