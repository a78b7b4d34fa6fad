"""The methods that the paper compares MambaAD with (tables 1 and 6), and a memory bank, which needs no training::

    rd4ad        reverse distillation (Deng and Li, CVPR 2022)
    uniad        reconstruction by a transformer (You et al., NeurIPS 2022)
    simplenet    a discriminator of noisy features (Liu et al., CVPR 2023)
    destseg      a student that sees through synthetic anomalies (Zhang et al., CVPR 2023)
    diad         latent diffusion guided by the image (He et al., AAAI 2024)
    memory_bank  nearest neighbours, after PatchCore (Roth et al., CVPR 2022)
    mambaad      the paper's own, `mambaad.model.MambaAD`
    mambaad_bank  both, their maps added: not published, for a short training on a CPU

`Method` says what training, evaluation and prediction ask of each.  Importing this package imports none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mambaad.baselines.method import Method
from mambaad.config import (
    METHOD_CONFIGS,
    METHODS,
    DiADConfig,
    MethodConfig,
    ModelConfig,
    RD4ADConfig,
    UniADConfig,
    method_of,
)
from mambaad.config.parse import parse, shortened
from mambaad.model.checkpoint import CheckpointError, check_fits, load_checkpoint, read_checkpoint, state_of

__all__ = [
    "CLASSES",
    "Method",
    "build_method",
    "keeps_features",
    "load_method",
    "method_class",
    "start_from_stable_diffusion",
]

CLASSES: dict[str, tuple[str, str]] = {
    "mambaad": ("mambaad.model.mambaad", "MambaAD"),
    "rd4ad": ("mambaad.baselines.rd4ad", "RD4AD"),
    "uniad": ("mambaad.baselines.uniad", "UniAD"),
    "simplenet": ("mambaad.baselines.simplenet", "SimpleNet"),
    "destseg": ("mambaad.baselines.destseg", "DeSTSeg"),
    "diad": ("mambaad.baselines.diad.method", "DiAD"),
    "memory_bank": ("mambaad.baselines.memory_bank", "MemoryBank"),
    "mambaad_bank": ("mambaad.baselines.mambaad_bank", "MambaADBank"),
}
"""Module and class of every method."""


def method_class(name: str) -> Any:
    """The class of a method.  Raises ValueError for a name that is not in `CLASSES`."""
    if name not in CLASSES:
        raise ValueError(f"the method must be one of {', '.join(CLASSES)}; got {name!r}")
    module, attribute = CLASSES[name]
    return getattr(import_module(module), attribute)


def keeps_features(config: ModelConfig | MethodConfig) -> bool:
    """Whether a method's training in steps takes no more of an image than its encoder's features."""
    return hasattr(method_class(method_of(config)), "loss_from_features")


def build_method(config: ModelConfig | MethodConfig, weights: str | Path) -> Method:
    """The untrained network of a method.

    Args:
        config: its settings, which name the method.
        weights: of the frozen encoder, as for `mambaad.model.Encoder`.

    Raises:
        ValueError: a configuration that cannot be built.
        EncoderWeightsError: weights that are unavailable or do not fit.
    """
    return cast(Method, method_class(method_of(config))(config, weights))


def load_method(path_or_content: str | Path | Mapping[str, Any], device: str | torch.device = "cpu") -> Method:
    """The trained network of a checkpoint of any method, in eval mode on `device`.

    MambaAD's checkpoints may also be published state dicts, see `mambaad.load_checkpoint`.

    Raises:
        CheckpointError: unreadable file; settings or tensors that do not fit.
    """
    content = read_checkpoint(path_or_content) if isinstance(path_or_content, str | Path) else path_or_content
    settings = content.get("config")
    name = settings.get("method", "mambaad") if isinstance(settings, Mapping) else "mambaad"
    if name == "mambaad":
        return cast(Method, load_checkpoint(content, device))
    if not isinstance(name, str) or name not in METHOD_CONFIGS:
        raise CheckpointError(
            f"the checkpoint is of the method {shortened(name)}, and there are {', '.join(METHODS)}: it is damaged, or "
            "of another version of this library"
        )
    try:
        config = parse(METHOD_CONFIGS[name], settings)
        state = {str(key): value for key, value in state_of(content).items() if isinstance(value, Tensor)}
        check_fits(lambda: cast(nn.Module, build_method(config, weights="random")), _blocks(config), state)
        model = build_method(config, weights="random")
        model.load_state_dict(state)
    except ValueError as error:
        raise CheckpointError(f"the checkpoint does not fit the method {name!r}: {error}") from error
    return cast(Method, model.to(device).eval())


def start_from_stable_diffusion(model: Any, path: str | Path | None) -> None:
    """Fill DiAD with Stable Diffusion's weights from the file that its config names; see `diad.weights`.

    Raises:
        CheckpointError: no file, another file, or one that does not fit.
    """
    from mambaad.baselines.diad.weights import load_named

    load_named(model, path)


def _blocks(config: MethodConfig) -> int:
    """Blocks whose number the settings choose: each has tensors of its own."""
    if isinstance(config, UniADConfig):
        return config.layers
    if isinstance(config, DiADConfig):
        levels = len(config.multipliers), len(config.autoencoder_multipliers)
        return config.blocks * levels[0] + config.autoencoder_blocks * levels[1]
    return config.embedding_blocks + sum(config.decoder_blocks) if isinstance(config, RD4ADConfig) else 0
