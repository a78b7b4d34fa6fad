"""The frozen ImageNet encoder.  Paper: section 3.1 and table 4.

Features at strides 4, 8 and 16 of any timm CNN that has them; what comes after stride 16 is not built.
Always in eval mode and without gradient, also while the decoder trains.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

STRIDES = (4, 8, 16)
ASSETS = Path(__file__).resolve().parents[1] / "assets"
EMBEDDED_WEIGHTS = ASSETS / "embedded_encoder.safetensors"
WAYS_OUT = (
    'pass a local .safetensors or .pth file, the name "embedded" for the small encoder of this package, '
    'or "random" for an untrained encoder'
)


class EncoderWeightsError(ValueError):
    """The encoder's weights could not be had or do not fit."""


def embedded_encoder() -> dict[str, Any]:
    """What the package's own small encoder is: backbone, backbone_kwargs, mean, std, sha256 and how it was trained."""
    return json.loads(EMBEDDED_WEIGHTS.with_suffix(".json").read_text())


class Encoder(nn.Module):
    """timm CNN cut after stride 16.

    Args:
        backbone: timm model name without tag.
        weights: timm tag ("resnet34.bt_in1k"), a .safetensors or .pth file, "embedded", or "random".
        backbone_kwargs: passed on to timm.

    Raises:
        ValueError: the backbone is unknown to timm or has no features at strides 4, 8, 16.
        EncoderWeightsError: see `load_weights`.
    """

    def __init__(
        self, backbone: str, weights: str | Path = "random", backbone_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.net = _build(backbone, dict(backbone_kwargs or {}))
        info = self.net.feature_info
        self.channels: tuple[int, ...] = tuple(info.channels())
        load_weights(self.net, backbone, weights)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Encoder":
        """Stays in eval mode: its BatchNorm statistics are ImageNet's."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 S S"]) -> list[Tensor]:
        """Normalised images -> features (B, c1, S/4, S/4), (B, c2, S/8, S/8), (B, c3, S/16, S/16)."""
        return list(self.net(images))


def _build(backbone: str, kwargs: dict[str, Any]) -> Any:
    if not timm.is_model(backbone) or "." in backbone:
        raise ValueError(
            f"backbone must be a timm model name without a weights tag, such as 'resnet34'; got {backbone!r}"
        )
    with torch.device("meta"):
        probe: Any = timm.create_model(backbone, features_only=True, **kwargs)
    reductions = probe.feature_info.reduction()
    if not set(STRIDES) <= set(reductions):
        raise ValueError(f"{backbone} has features at strides {reductions}; {STRIDES} are needed")
    # a stride can occur twice: the last stage at that stride is the deepest
    indices = tuple(len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES)
    net: Any = timm.create_model(backbone, pretrained=False, features_only=True, out_indices=indices, **kwargs)
    # timm's EfficientNet family keeps, and runs, the stages after the last feature
    if isinstance(getattr(net, "blocks", None), nn.Sequential):
        last = int(net.feature_info.module_name()[-1].split(".")[1])
        net.blocks = net.blocks[: last + 1]
    return net


def load_weights(net: nn.Module, backbone: str, weights: str | Path) -> None:
    """Fill `net` in place from a timm tag, a local file, "embedded", or leave it as it is ("random").

    Raises:
        EncoderWeightsError: unreachable or unknown tag, missing file, or tensors that do not fit the network.
            Nothing is ever replaced by other weights silently.
    """
    if str(weights) == "random":
        return
    if str(weights) == "embedded":
        state = load_file(EMBEDDED_WEIGHTS)
    elif str(weights).endswith((".safetensors", ".pth", ".pt", ".bin")):
        state = _read_file(Path(weights))
    else:
        state = _from_hub(backbone, str(weights))
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    own = net.state_dict()
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
    return ".".join(parts[:2]) if parts[0] in ("blocks", "stages") else parts[0]


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise EncoderWeightsError(f"the encoder weights file {path} does not exist: {WAYS_OUT}")
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    return state.get("state_dict", state)


def _from_hub(backbone: str, tag: str) -> dict[str, Tensor]:
    known = ", ".join(timm.list_models(backbone + ".*", pretrained=True)) or "none"
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
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(tag)
    repo = getattr(config, "hf_hub_id", None)
    if not repo:
        return False
    names = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(str(repo), name), str) for name in names)
