"""Reading and writing checkpoints: this project's own, and the published ones (`published_checkpoint`).

Files are read with `weights_only=True`: nothing in a file is ever executed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mambaad.config import ModelConfig, to_dict
from mambaad.files import atomic_path
from mambaad.model.mambaad import MambaAD
from mambaad.model.published_checkpoint import CheckpointError, infer_config, is_published, rename_published

__all__ = ["CheckpointError", "load_checkpoint", "read_checkpoint", "save_checkpoint"]

FORMAT = "mambaad-checkpoint-1"

# Training states hold metrics beside the tensors, as numpy numbers: data, but not on torch's own list of it.
# A scalar is pickled as its dtype and bytes; both names of its module are in use, before and after numpy 2.
_SCALAR = np.float64(0).__reduce__()[0]
_NUMPY_NUMBERS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64", "bool")),
]


def save_checkpoint(path: str | Path, model: Any, extra: Mapping[str, Any] | None = None) -> None:
    """Write the model, of any method, with its config, atomically. `extra` may hold plain values and tensors.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from mambaad import ModelConfig
        >>> model = MambaAD(ModelConfig(backbone="resnet18", depths=(1, 1, 1, 1), hss_per_lss=1), weights="random")
        >>> with TemporaryDirectory() as folder:
        ...     save_checkpoint(Path(folder) / "model.pth", model)
        ...     loaded = load_checkpoint(Path(folder) / "model.pth")
        >>> loaded.config == model.config
        True
    """
    content = {"format": FORMAT, "config": to_dict(model.config), "state_dict": model.state_dict(), **(extra or {})}
    write_checkpoint(path, content)


def write_checkpoint(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint's content atomically; the same content gives the same bytes."""
    # by name, torch.save would put the temporary name into the file
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(dict(content), file)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU.

    Raises:
        CheckpointError: no such file, not a torch file, or one that holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"the checkpoint {path} does not exist")
    try:
        with torch.serialization.safe_globals(_NUMPY_NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # arbitrary bytes make the restricted unpickler fail in arbitrary ways
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{path} is not a checkpoint of tensors and plain values and was not loaded ({reason})"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; a dict with a state dict was expected")
    return content


def load_checkpoint(
    path_or_state_dict: str | Path | Mapping[str, Any],
    device: str | torch.device = "cpu",
    config: ModelConfig | None = None,
) -> MambaAD:
    """The model of a checkpoint, in eval mode on `device`.

    Args:
        path_or_state_dict: a file, or its content: this project's checkpoint, or a published state dict of either
            dialect, plain or under "net", with or without "module.".
        config: the architecture, where it cannot be told from the tensors; by default it is stored in the
            checkpoint (ours) or inferred (published: skip connections and ImageNet normalisation are taken as given).

    Raises:
        CheckpointError: unreadable file; keys missing, unexpected or of a wrong shape, each named.
    """
    content = read_checkpoint(path_or_state_dict) if isinstance(path_or_state_dict, str | Path) else path_or_state_dict
    state = content.get("state_dict", content.get("net", content))
    state = {str(k).removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)}
    if not state:
        raise CheckpointError(
            "the checkpoint holds no tensors: a state dict, or a dict with one under 'net', was expected"
        )
    if "method" in content.get("config", ()):
        raise CheckpointError(
            f"the checkpoint is of the method {content['config']['method']!r}: "
            "load it with mambaad.baselines.load_method"
        )
    if config is None and "config" in content:
        config = ModelConfig(**content["config"])
    if is_published(state):
        config = config or infer_config(state)
        state = rename_published(state)
    if config is None:
        raise CheckpointError("the state dict tells no architecture: pass config=ModelConfig(...)")
    model = MambaAD(config, weights="random")
    _check_keys(model.state_dict(), state)
    model.load_state_dict(state)
    return model.to(device).eval()


def _check_keys(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    problems = {
        "missing": [k for k in own if k not in state],
        "unexpected": [k for k in state if k not in own],
        "of wrong shape": [
            f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
            for k in own
            if k in state and own[k].shape != state[k].shape
        ],
    }
    found = [f"{len(keys)} {what}: {', '.join(keys)}" for what, keys in problems.items() if keys]
    if found:
        raise CheckpointError("the checkpoint does not fit the network; keys " + "; ".join(found))
