"""A run of seconds: a small network, six steps on one synthetic category."""

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

QUIETLY = Execution(device="cpu", progress=False)
