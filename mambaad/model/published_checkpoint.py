"""The published checkpoints: both dialects of their keys, and the architecture that their tensors tell.

A published file is a plain state dict, or a dict with the state dict under "net"; keys may carry "module.".
The two dialects differ in the names of the 7x7 branch (dialect 1: conv1b7, conv1a7; dialect 2: conv1b3, conv1a3,
beside an unused conv33).  The scan tables in them are integers and tell the scan method.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mambaad.config import SCAN_METHODS, ModelConfig
from mambaad.model.scan_order import POWER_OF_TWO_ONLY, scan_order

_SS2D = {
    "in_proj.weight": "in_proj.weight",
    "conv2d.weight": "conv.weight",
    "conv2d.bias": "conv.bias",
    "x_proj_weight": "x_proj",
    "dt_projs_weight": "dt_proj",
    "dt_projs_bias": "dt_bias",
    "A_logs": "A_log",
    "Ds": "D",
    "out_norm.weight": "norm.weight",
    "out_norm.bias": "norm.bias",
    "out_proj.weight": "out_proj.weight",
}
_FUSION = {"1": "down_8", "2": "down_16", "21": "lateral_8", "31": "lateral_16", "f": "fuse"}
_PUBLISHED = r"^(net_t|mff_oce|net_s)\."
_MODULE = r"^net_s\.layers_up\.(\d+)\.blocks\.(\d+)\."
# block and convolution counts of layer1..3, bottleneck?, width inside layer1
_RESNETS: dict[tuple[int, ...], str] = {
    (2, 2, 2, False, 64): "resnet18",
    (3, 4, 6, False, 64): "resnet34",
    (3, 4, 6, True, 64): "resnet50",
    (3, 4, 23, True, 64): "resnet101",
    (3, 4, 6, True, 128): "wide_resnet50_2",
    (3, 4, 23, True, 128): "wide_resnet101_2",
}


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or does not fit the network; the message names the keys."""


def published_key_map(state: Mapping[str, Tensor]) -> dict[str, str]:
    """This project's key for each key of a published state dict; tables and the unused conv33 have none.

    Keys of neither dialect are kept as they are, so that `load_checkpoint` can name them.
    """
    kernels = _local_kernels(state)
    renamed = {key: _rename(key, kernels) for key in state}
    return {key: new for key, new in renamed.items() if new is not None}


def rename_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict (either dialect) under this project's keys and shapes."""
    routes = next((v.shape[0] for k, v in state.items() if k.endswith("x_proj_weight")), 1)
    stacked = (".A_logs", ".Ds")  # (K * D, ...) there, (K, D, ...) here
    return {
        new: state[key].unflatten(0, (routes, -1)) if key.endswith(stacked) else state[key]
        for key, new in published_key_map(state).items()
    }


def _rename(key: str, kernels: tuple[int, ...]) -> str | None:
    if key.startswith("net_t."):
        return "encoder.net." + key.removeprefix("net_t.")
    if match := re.match(r"^mff_oce\.(conv|bn)(21|31|1|2|f)\.(.+)$", key):
        kind, name, rest = match.groups()
        return f"half_fpn.{_FUSION[name]}.{0 if kind == 'conv' else 1}.{rest}"
    if match := re.match(r"^mff_oce\.bn_layer\.(\d)\.(conv|bn)([123])\.(.+)$", key):
        block, kind, n, rest = match.groups()
        return f"half_fpn.bottlenecks.{block}.conv{n}.{0 if kind == 'conv' else 1}.{rest}"
    if match := re.match(r"^mff_oce\.bn_layer\.(\d)\.downsample\.([01])\.(.+)$", key):
        return "half_fpn.bottlenecks.{}.shortcut.{}.{}".format(*match.groups())
    if match := re.match(r"^net_s\.layers_up\.([1-3])\.upsample\.(.+)$", key):
        return f"decoder.expands.{int(match[1]) - 1}.{match[2]}"
    if match := re.match(_MODULE + r"(.+)$", key):
        stage, module, rest = match.groups()
        new = _rename_lss(rest, kernels)
        return None if new is None else f"decoder.stages.{stage}.{module}.{new}"
    return key


def _rename_lss(rest: str, kernels: tuple[int, ...]) -> str | None:
    if match := re.match(r"^smm_blocks\.(\d+)\.ln_1\.(.+)$", rest):
        return "hss.{}.norm.{}".format(*match.groups())
    if match := re.match(r"^smm_blocks\.(\d+)\.self_attention\.(.+)$", rest):
        block, name = match.groups()
        if name in ("scans.index_flat", "scans.index_flat_inv"):
            return None
        return f"hss.{block}.ss2d.{_SS2D.get(name, name)}"
    if match := re.match(r"^conv(\d)\1\.0\.(.+)$", rest):
        kernel = int(match[1])
        return f"local.{kernels.index(kernel)}.1.0.{match[2]}" if kernel in kernels else None
    if match := re.match(r"^conv1(b|a)(\d)\.0\.(.+)$", rest):
        kernel = int(match[2])
        if kernel not in kernels:  # dialect 2 calls the 1x1 convolutions of the 7x7 branch "3"
            kernel = 7
        return f"local.{kernels.index(kernel)}.{0 if match[1] == 'b' else 2}.0.{match[3]}"
    return rest.replace("finalconv11.", "merge.")


def _local_kernels(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Depthwise kernels in use: 3 counts only where no 7x7 branch borrows its name (dialect 2)."""
    kernels = {int(m[1]) for k in state if (m := re.search(r"\.conv(\d)\1\.0\.weight$", k))}
    if 7 in kernels and not any(".conv1b7." in k for k in state):
        kernels.discard(3)
    return tuple(sorted(kernels))


def is_published(state: Mapping[str, Any]) -> bool:
    """Whether some key is a published one, of either dialect."""
    return any(re.match(_PUBLISHED, str(key).removeprefix("module.")) for key in state)


def published_dialect(state: Mapping[str, Any]) -> int | None:
    """1 or 2 by the names of the 7x7 branch; None for keys that are not published ones."""
    if not is_published(state):
        return None
    return 2 if any(".conv1b3." in key or ".conv33." in key for key in state) else 1


def infer_config(state: Mapping[str, Tensor]) -> ModelConfig:
    """The architecture of a published state dict, from its keys and shapes.

    Raises:
        CheckpointError: an encoder that is none of the known ResNets, a missing scan table, or one of no known order.
    """
    blocks = tuple(len({k.split(".")[2] for k in state if k.startswith(f"net_t.layer{i}.")}) for i in (1, 2, 3))
    bottleneck = "net_t.layer1.0.conv3.weight" in state
    inner = state["net_t.layer1.0.conv2.weight"].shape[0] if "net_t.layer1.0.conv2.weight" in state else 0
    backbone = _RESNETS.get((*blocks, bottleneck, inner))
    if backbone is None:
        raise CheckpointError(
            f"the encoder (blocks {blocks}, bottleneck {bottleneck}, inner width {inner}) is none of "
            f"{', '.join(_RESNETS.values())}: pass config=ModelConfig(...)"
        )
    sizes: dict[int, dict[int, set[int]]] = {}
    for key in state:
        if match := re.match(_MODULE, key):
            module = sizes.setdefault(int(match[1]), {}).setdefault(int(match[2]), set())
            if hss := re.search(r"\.smm_blocks\.(\d+)\.", key):
                module.add(int(hss[1]))
    per_module = [[len(sizes[s][m]) for m in sorted(sizes[s])] for s in sorted(sizes)]
    kernels = _local_kernels(state)
    has_hss = any(n for stage in per_module for n in stage)
    if not has_hss or len(per_module) != 4:
        raise CheckpointError(
            f"no HSS blocks in four decoder stages were found ({per_module}): pass config=ModelConfig(...)"
        )
    depths = tuple(sum(stage) for stage in per_module)
    published_rule = all(
        n == (3 if d % 3 == 0 else 2) for d, stage in zip(depths, per_module, strict=True) for n in stage
    )
    x_proj = next(v for k, v in state.items() if k.endswith("x_proj_weight"))
    a_log = next(v for k, v in state.items() if k.endswith("A_logs"))
    return ModelConfig(
        backbone=backbone,
        depths=depths,
        hss_per_lss=None if published_rule else per_module[0][0],
        branches="both" if kernels else "global",
        local_kernels=kernels or (5, 7),
        local_conv="dwconv_1x1" if not kernels or any(".conv1b" in k for k in state) else "dwconv",
        scan=_infer_scan(state),
        directions=x_proj.shape[0],
        state_size=a_log.shape[1],
    )


def _infer_scan(state: Mapping[str, Tensor]) -> str:
    tables = {k: v.flatten() for k, v in state.items() if k.endswith("scans.index_flat")}
    if not tables:
        raise CheckpointError("the checkpoint has no scan tables (scans.index_flat): pass config=ModelConfig(scan=...)")
    key, table = max(tables.items(), key=lambda item: item[1].numel())  # the largest tells the orders apart best
    side = math.isqrt(table.numel())
    for method in SCAN_METHODS:
        fits = method not in POWER_OF_TWO_ONLY or side & (side - 1) == 0
        if fits and torch.equal(scan_order(method, side), table.cpu()):
            return method
    raise CheckpointError(
        f"the scan table {key} is none of {', '.join(SCAN_METHODS)}: pass config=ModelConfig(scan=...)"
    )
