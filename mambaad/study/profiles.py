"""The settings all runs of a profile share, as the base run that each table row then changes.

- quick: synthetic images, the embedded encoder, small images, few steps. Downloads nothing.
- subset: images, encoder and length that the user names.
- paper: the six data sets with the paper's settings.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mambaad.config import (
    METHOD_CONFIGS,
    OWN_METHODS,
    DataConfig,
    ModelConfig,
    RunConfig,
    TrainConfig,
    for_encoder,
    small_form,
    to_dict,
)
from mambaad.files import write_text

PROFILES = ("quick", "subset", "paper")
NOTES = {
    "quick": "quick profile, synthetic data: shows that the pipeline runs, not the paper's numbers",
    "subset": "subset profile: a part of the data, another encoder or another length than the paper's",
    "paper": "the paper's settings",
}
"""What a reader has to know about every number of a profile."""

BACKBONES = {
    "ResNet18": ("resnet18", "resnet18.tv_in1k"),
    "ResNet34": ("resnet34", "resnet34.bt_in1k"),
    "ResNet50": ("resnet50", "resnet50.tv_in1k"),
    "WideResNet50": ("wide_resnet50_2", "wide_resnet50_2.tv_in1k"),
}
"""Table 4's encoders: timm model and weights tag. The paper's ResNet34 weights are known (file resnet34-43635321);
for the other three neither paper nor code states the weights, so torchvision's first ones are taken here."""

# -- quick: all its constants
QUICK_DEPTHS = (2, 2, 2, 2)
QUICK_DATA = DataConfig(dataset="synthetic", side=64, synthetic_seed=0, synthetic_train=40, synthetic_test=24)
QUICK_TRAIN = TrainConfig(
    steps=120, batch_size=8, lr=5e-3, warmup_steps=20, decay_at=0.8, decay=0.1, clip_norm=10.0, seed=42
)
QUICK_DROP_PATH = 0.0  # stochastic depth only slows so short a training down
QUICK_DIAD_STEPS = 160  # 48 of them for its autoencoder, before all else
EMBEDDED_ENCODER = Path(__file__).resolve().parents[1] / "assets" / "embedded_encoder.json"


def quick_base(encoder_file: Path | None = None) -> RunConfig:
    """The quick profile's main run.

    Args:
        encoder_file: description of the embedded encoder; default: the package's own.

    Raises:
        FileNotFoundError: the package lies there without it.
    """
    encoder = _read_encoder(encoder_file or EMBEDDED_ENCODER)
    model = ModelConfig(
        backbone=encoder["backbone"],
        backbone_kwargs=encoder["backbone_kwargs"],
        mean=tuple(encoder["mean"]),
        std=tuple(encoder["std"]),
        depths=QUICK_DEPTHS,
        drop_path=QUICK_DROP_PATH,
    )
    return RunConfig(model=model, encoder_weights="embedded", data=QUICK_DATA, train=QUICK_TRAIN)


def quick_methods() -> dict[str, RunConfig]:
    """The other methods' runs of the quick profile, by method: its images, encoder and steps, their own recipes.

    UniAD and SimpleNet take ten times their published learning rate, a choice for so short a training; DeSTSeg's
    follows the batch, as its loss is summed over it. DiAD is the reduced one, with a recipe of its own, since it
    learns an autoencoder first.
    """
    base = quick_base()
    encoder = {name: getattr(base.model, name) for name in ("backbone", "backbone_kwargs", "mean", "std")}
    found = {}
    for method in (name for name in METHOD_CONFIGS if name not in OWN_METHODS):
        changes, recipe = small_form(method, base.data.side)
        steps = QUICK_DIAD_STEPS if method == "diad" else base.train.steps
        lr = recipe.lr * (10 if method in ("uniad", "simplenet") else 1)
        if method == "destseg":
            lr *= base.train.batch_size / recipe.batch_size
        train = dataclasses.replace(recipe, steps=steps, batch_size=base.train.batch_size, seed=base.train.seed, lr=lr)
        model = for_encoder(method, {**encoder, **changes}, base.data.side)
        found[method] = dataclasses.replace(base, model=model, train=train)
    return found


def paper_base(dataset: str = "mvtec_ad", backbone: str = "ResNet34") -> RunConfig:
    """The paper's settings (section 4.1: 500 epochs, batch 16, learning rate 0.005, weight decay 1e-4, 256 pixels)
    for a data set and one of `BACKBONES`.

    The schedule (a tenth of the learning rate after 80 % of the epochs) and clipping at 5 are the published code's.
    """
    timm_name, weights = BACKBONES[backbone]
    data = DataConfig(dataset=dataset, side=256)
    return RunConfig(model=ModelConfig(backbone=timm_name), encoder_weights=weights, data=data, train=TrainConfig())


@dataclass(frozen=True, kw_only=True)
class SubsetOptions:
    """What the subset profile's user names. The data root itself is not part of it: it differs between machines."""

    dataset: str = "mvtec_ad"
    """A name in `mambaad.data.DATASETS`."""
    categories: tuple[str, ...] = ()
    """Categories, all in one model; empty: all of the data root."""
    index_hash: str = ""
    """Hash of the data root's files (`mambaad.data.contents`), so that runs on other files get another name."""
    side: int = 256
    """Side of the images in pixels."""
    encoder_weights: str = "embedded"
    """A timm tag, "embedded", "random", or the name of a local file (its place differs between machines)."""
    backbone: str = ""
    """timm model name of the encoder; empty for the embedded one."""
    backbone_kwargs: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    """Input mean and standard deviation of the encoder; None: ImageNet's, or the embedded encoder's own."""
    depths: tuple[int, ...] = (3, 4, 6, 3)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", tuple(self.categories))
        object.__setattr__(self, "depths", tuple(self.depths))
        if self.encoder_weights == "embedded" and self.backbone:
            raise ValueError(
                f"backbone={self.backbone!r} has no embedded weights: name its weights in encoder_weights, "
                "or leave backbone empty for the embedded encoder"
            )
        if "/" in self.encoder_weights or "\\" in self.encoder_weights:
            raise ValueError(
                f"encoder_weights={self.encoder_weights!r} must be a file name without folders, the same on every "
                "machine; the file itself is passed as encoder_file to the run"
            )
        if self.encoder_weights != "embedded" and not self.backbone:
            raise ValueError(f"backbone is needed beside encoder_weights={self.encoder_weights!r}: a timm model name")

    def base(self) -> RunConfig:
        """The main run on this subset."""
        values: dict[str, Any] = {"depths": self.depths}
        if self.encoder_weights == "embedded":
            encoder = _read_encoder(EMBEDDED_ENCODER)
            values |= {k: encoder[k] for k in ("backbone", "backbone_kwargs", "mean", "std")}
        else:
            values |= {"backbone": self.backbone, "backbone_kwargs": self.backbone_kwargs}
        values |= {k: v for k, v in (("mean", self.mean), ("std", self.std)) if v is not None}
        data = DataConfig(dataset=self.dataset, categories=self.categories, side=self.side, index_hash=self.index_hash)
        return RunConfig(model=ModelConfig(**values), encoder_weights=self.encoder_weights, data=data, train=self.train)


def save_subset(options: SubsetOptions, results: Path) -> Path:
    """Write the options to `<results>/subset.json`, where reports find them without the data at hand."""
    return write_text(results / "subset.json", json.dumps(to_dict(options), indent=2) + "\n")


def load_subset(results: Path) -> SubsetOptions:
    """The inverse of `save_subset`.

    Raises:
        FileNotFoundError: no subset study was started in this results folder.
    """
    path = results / "subset.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: the subset profile's data, encoder and length are not known yet; "
            "start it with mambaad.study.profiles.save_subset or 'mambaad reproduce --profile subset'"
        )
    values = json.loads(path.read_text())
    return SubsetOptions(**{**values, "train": TrainConfig(**values["train"])})


def run_in(base: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """A base run with some fields of its network changed."""
    return dataclasses.replace(base, model=dataclasses.replace(base.model, **changes))


def _read_encoder(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: the package was installed without its embedded encoder")
    return json.loads(path.read_text())
