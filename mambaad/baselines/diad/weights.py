"""Published Stable Diffusion 1.x weights to start from, in a file of their original layout.

A file is safetensors, or a torch file read with `weights_only=True`: nothing in it is ever executed.  Its tensors have
the names of the original code, under `first_stage_model.` (autoencoder), `model.diffusion_model.` (denoiser) and
`cond_stage_model.` (text encoder, for the constant context).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mambaad.baselines.diad.guide import copy_encoder_half
from mambaad.baselines.diad.text import PREFIX, empty_prompt
from mambaad.model.checkpoint import CheckpointError, read_checkpoint
from mambaad.model.encoder_weights import weights_file_name

if TYPE_CHECKING:
    from mambaad.baselines.diad.method import DiAD

PARTS = {"first_stage_model.": "autoencoder", "model.diffusion_model.": "denoiser"}


def load_named(model: DiAD, path: str | Path | None) -> None:
    """`load_stable_diffusion` from the file that the model's config names.

    Raises:
        CheckpointError: no file, another one, or one that does not fit.
    """
    name = model.config.diffusion_weights
    if path is None or not Path(path).is_file():
        raise CheckpointError(f"the run starts from Stable Diffusion's weights {name}: pass the file, got {path}")
    if (found := weights_file_name(path)) != name:
        raise CheckpointError(f"the run starts from Stable Diffusion's weights {name}, and the file is {found}")
    load_stable_diffusion(model, path)


def load_stable_diffusion(model: DiAD, path: str | Path) -> None:
    """Fill autoencoder and denoiser, the guide from the denoiser, and the context unless it is learned.

    Args:
        model: DiAD of the published size.
        path: .safetensors, or a torch file of tensors and plain values (.ckpt, .pth, .pt, .bin).

    Raises:
        CheckpointError: unreadable, of another layout, or tensors that are missing, have no place or another shape.
    """
    state = _read(Path(path))
    for prefix, part in PARTS.items():
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        _fill(getattr(model, part), own, part, prefix, path)
    copy_encoder_half(model.guide, model.denoiser)
    if not model.config.learned_context:
        _fill_context(model, state, path)


def _fill_context(model: DiAD, state: dict[str, Tensor], path: str | Path) -> None:
    own = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
    try:
        context = empty_prompt(own)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} holds no CLIP text encoder that can be read, for the constant context: tensors named {PREFIX}... "
            f"were expected ({error})"
        ) from error
    if context.shape != model.context.shape:
        raise CheckpointError(
            f"the text encoder in {path} gives a context of {tuple(context.shape)}, DiAD's is "
            f"{tuple(model.context.shape)}"
        )
    with torch.no_grad():
        model.context.copy_(context)


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise CheckpointError(f"the weights {path} do not exist")
        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is not a safetensors file ({error})") from error
    try:
        content = read_checkpoint(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; a .safetensors file of the same weights can be read") from error
    state = content.get("state_dict", content)
    return {str(key): value for key, value in state.items() if isinstance(value, Tensor)}


def _fill(module: nn.Module, state: dict[str, Tensor], part: str, prefix: str, path: str | Path) -> None:
    if not state:
        raise CheckpointError(
            f"{path} holds no {part}: tensors named {prefix}... were expected, the original layout of Stable "
            "Diffusion 1.x (the diffusers layout has other names)"
        )
    own = module.state_dict()
    problems = {
        "missing": [key for key in own if key not in state],
        "without a place": [key for key in state if key not in own],
        "of another shape": [key for key in own if key in state and own[key].shape != state[key].shape],
    }
    found = [f"{len(keys)} {what} (first: {prefix}{keys[0]})" for what, keys in problems.items() if keys]
    if found:
        raise CheckpointError(
            f"{path} does not fit DiAD's {part} (width {own_width(module)}): tensors {', '.join(found)}"
        )
    module.load_state_dict({key: value.float() for key, value in state.items()})


def own_width(module: nn.Module) -> int:
    """Width of the module's first convolution."""
    return next(m.out_channels for m in module.modules() if isinstance(m, nn.Conv2d))
