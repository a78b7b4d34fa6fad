"""The network of the reliability scripts: small enough to be trained and killed hundreds of times."""

from mambaad.config import ModelConfig

NETWORK = ModelConfig(
    backbone="resnet18",
    backbone_kwargs={"channels": (8, 8, 16, 32)},
    depths=(1, 1, 1, 1),
    hss_per_lss=1,
    directions=2,
    state_size=4,
)
