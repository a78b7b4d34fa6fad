"""Reading and writing checkpoints: this project's own, and the published ones (`published_checkpoint`).

Files are read with `weights_only=True`: nothing in a file is ever executed.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mambaad.config import ModelConfig, to_dict
from mambaad.config.parse import parse
from mambaad.device import without_memory
from mambaad.files import atomic_path
from mambaad.model.mambaad import MambaAD
from mambaad.model.published_checkpoint import CheckpointError, infer_config, is_published, rename_published

__all__ = ["CheckpointError", "load_checkpoint", "read_checkpoint", "save_checkpoint"]

FORMAT = "mambaad-checkpoint-1"
TRAINING_FILES = "training_files"
"""Where a checkpoint holds the hashes of the images it was trained on (`mambaad.data.contents`)."""

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
    """Write a checkpoint's content atomically; the same content gives the same bytes.

    Raises OSError where it cannot be written, on a full disk for one.
    """
    try:
        # by name, torch.save would put the temporary name into the file
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save(dict(content), file)
    except RuntimeError as error:
        reason = error.__context__  # torch hides what the system said behind its own count of bytes
        if isinstance(reason, OSError):
            raise OSError(reason.errno, reason.strerror, str(path)) from error
        raise


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
    except MemoryError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # arbitrary bytes make the restricted unpickler fail in arbitrary ways
        # torch's own message explains how to read the file without this guard: not repeated
        raise CheckpointError(
            f"{path} is not a checkpoint of tensors and plain values and was not loaded ({type(error).__name__}): it "
            "is damaged, of another program, or holds code; take the file that training wrote or the authors published"
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
        CheckpointError: unreadable file; settings that are none; keys missing, unexpected, of a wrong shape or type, by
            name.
    """
    content = read_checkpoint(path_or_state_dict) if isinstance(path_or_state_dict, str | Path) else path_or_state_dict
    state = state_of(content)
    state = {str(k).removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)}
    if not state:
        raise CheckpointError(
            "the checkpoint holds no tensors: a state dict, or a dict with one under 'net', was expected"
        )
    stored = content.get("config")
    if isinstance(stored, Mapping) and "method" in stored:
        raise CheckpointError(
            f"the checkpoint is of the method {stored['method']!r}: load it with mambaad.baselines.load_method"
        )
    if config is None and "config" in content:
        try:
            config = parse(ModelConfig, stored)
        except ValueError as error:
            raise CheckpointError(f"the checkpoint's settings cannot be used: {error}") from error
    if is_published(state):
        try:
            config = config or infer_config(state)
            state = rename_published(state)
        except CheckpointError:
            raise
        except (ValueError, RuntimeError, LookupError, StopIteration) as error:
            raise CheckpointError(
                f"the published state dict is incomplete or damaged ({_first_line(error)})"
            ) from error
    if config is None:
        raise CheckpointError("the state dict tells no architecture: pass config=ModelConfig(...)")
    check_fits(lambda: MambaAD(config, weights="random"), sum(config.depths), state)
    model = MambaAD(config, weights="random")
    model.load_state_dict(state)
    return model.to(device).eval()


def state_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict in a checkpoint's content.  Raises CheckpointError for anything else in its place."""
    state = content.get("state_dict", content.get("net", content))
    if not isinstance(state, Mapping):
        raise CheckpointError(f"the checkpoint's state dict is a {type(state).__name__}; tensors by name were expected")
    return state


def check_fits(build: Callable[[], nn.Module], blocks: int, state: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError, naming keys, if tensors are not those of a network, whose building may be expensive.

    The settings in a file may ask for more than there is of memory or time: the network is built without memory first.

    Args:
        blocks: that it has at least, each with tensors of its own.
    """
    if blocks > len(state):
        raise CheckpointError(f"the checkpoint's settings have {blocks} blocks, and it holds {len(state)} tensors")
    try:
        with without_memory():
            network = build()
    except Exception as error:  # settings of an encoder go to timm, which fails in its own ways
        raise CheckpointError(f"the checkpoint's settings cannot be built: {_first_line(error)}") from error
    _check_keys(network.state_dict(), state)


def _check_keys(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    shared = [k for k in own if k in state]
    # a memory bank, alone or as a part, has as many entries as were fitted
    free = {k: int(k.rpartition(".")[2] == "entries") for k in shared}
    shapes = {k: (own[k].shape[free[k] :], state[k].shape[free[k] :]) for k in shared}
    problems = {
        "missing": [k for k in own if k not in state],
        "unexpected": [k for k in state if k not in own],
        "of wrong shape": [
            f"{k} {tuple(there)} instead of {tuple(wanted)}" for k, (wanted, there) in shapes.items() if wanted != there
        ],
        "of wrong type": [
            f"{k} {state[k].dtype}, {state[k].layout}"
            for k in shared
            if state[k].is_floating_point() != own[k].is_floating_point()
            or state[k].is_complex()
            or state[k].layout != torch.strided
        ],
    }
    found = [f"{len(keys)} {what}: {_some(keys)}" for what, keys in problems.items() if keys]
    if found:
        raise CheckpointError("the checkpoint does not fit the network; keys " + "; ".join(found))


def _some(keys: list[str], number: int = 5) -> str:
    more = f" and {len(keys) - number} more" if len(keys) > number else ""
    return ", ".join(keys[:number]) + more


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
