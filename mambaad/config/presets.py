"""Named settings of a whole run: "paper", what is published, and "laptop" and "laptop_fine", what pays on a CPU.

The reproduction uses the published settings alone.  What the others hold was decided on development sets; the evidence
is `results/own_parts`, described in the book's page *Bring your own data*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mambaad.config.methods import PUBLISHED_WEIGHTS, MambaADBankConfig, method_of
from mambaad.config.model import ModelConfig, one_of
from mambaad.config.run import DataConfig, RunConfig, for_encoder, published_recipe, small_form

LITE0_ENCODER: Mapping[str, Any] = {
    # TensorFlow's padding, and pixels in 0..255 shifted by 127 and divided by 128: as the weights were trained
    "backbone": "efficientnet_lite0",
    "backbone_kwargs": {"pad_type": "same"},
    "mean": (127 / 255,) * 3,
    "std": (128 / 255,) * 3,
}
"""What goes with the weights "imagenet_lite0", as `ModelConfig` takes it."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings with a name.

    Example:
        >>> preset("laptop").run.encoder_weights
        'imagenet_lite0'
        >>> preset("paper").run == RunConfig()
        True
    """

    name: str
    purpose: str
    """In one sentence."""
    run: RunConfig
    """Everything but the images: of `run.data`, `side` alone counts."""
    features: str = "off"
    """How the frozen encoder's features are kept during training, as `Execution.features`."""

    def on(self, data: DataConfig) -> RunConfig:
        """The preset's run on some images, at the preset's side."""
        return replace(self.run, data=replace(data, side=self.run.data.side))

    def with_method(self, method: str) -> Preset:
        """The same for another method, with its own recipe; on a laptop with its encoder and a side that suits it, and
        DiAD reduced (`small_form`).

        Raises ValueError for an unknown method.
        """
        if method == method_of(self.run.model):
            return self
        recipe = published_recipe(method)
        train = replace(recipe, holdout=max(recipe.holdout, self.run.train.holdout))
        if self.name == "paper":
            encoder = LITE0_ENCODER if PUBLISHED_WEIGHTS[method] == "imagenet_lite0" else {}
            model: Any = ModelConfig() if method == "mambaad" else for_encoder(method, encoder, self.run.data.side)
            return replace(
                self, run=replace(self.run, model=model, encoder_weights=PUBLISHED_WEIGHTS[method], train=train)
            )
        side = BANK_SIDE if method == "memory_bank" or self.name == "laptop_fine" else NETWORK_SIDE
        if method == "mambaad":
            model = LAPTOP_NETWORK
            train = published_recipe("mambaad_bank")
        else:
            changes, recipe = small_form(method, side)
            model = for_encoder(method, {**LITE0_ENCODER, **changes}, side)
            train = replace(recipe, holdout=train.holdout)
        return replace(self, run=replace(self.run, model=model, train=train, data=DataConfig(side=side)))


NETWORK_SIDE, BANK_SIDE = 128, 256
LAPTOP_NETWORK = ModelConfig(depths=(2, 2, 2, 2), **LITE0_ENCODER)
LAPTOP = RunConfig(
    model=MambaADBankConfig(**LITE0_ENCODER, network=LAPTOP_NETWORK, network_side=NETWORK_SIDE),
    encoder_weights="imagenet_lite0",
    data=DataConfig(side=BANK_SIDE),
    train=published_recipe("mambaad_bank"),
)
LAPTOP_FINE = replace(
    LAPTOP,
    model=MambaADBankConfig(**LITE0_ENCODER, network=LAPTOP_NETWORK, network_side=BANK_SIDE),
    train=replace(LAPTOP.train, steps=1500),
)

PRESETS: dict[str, Preset] = {
    "paper": Preset(name="paper", purpose="the published network, encoder, side and recipe", run=RunConfig()),
    "laptop": Preset(
        name="laptop",
        purpose="a small MambaAD and a memory bank in one map, with an ImageNet encoder from an installed package",
        run=LAPTOP,
        features="float32",
    ),
    "laptop_fine": Preset(
        name="laptop_fine",
        purpose="as laptop, but the network sees 256 pixels, for small defects; a step costs four times as much",
        run=LAPTOP_FINE,
        features="float32",
    ),
}


def preset(name: str) -> Preset:
    """A preset by its name.  Raises ValueError for an unknown one."""
    one_of("preset", name, tuple(PRESETS))
    return PRESETS[name]


HELD_OUT = 0.1
"""Share of the good images of one's own parts that sets the threshold, at least."""
FINE_MINUTES = 20
"""From how many minutes on the fine preset is taken: a step costs four times as much as one of `laptop`."""


def default_preset(device: str, minutes: float | None = None) -> Preset:
    """The preset where none is named.

    Args:
        device: what runs it, resolved: "cuda" or "cuda:1" take the published settings, "cpu" and "mps" the laptop's.
        minutes: the time for it, if that is limited; with `FINE_MINUTES` or more it is "laptop_fine".
    """
    if device.startswith("cuda"):
        return PRESETS["paper"]
    return PRESETS["laptop" if minutes is None or minutes < FINE_MINUTES else "laptop_fine"]
