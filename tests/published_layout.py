"""State dicts under the published names, in both dialects."""

import torch

import mambaad
from mambaad.config import ModelConfig
from mambaad.model import scan_order

SMALL = ModelConfig(
    backbone="resnet18", backbone_kwargs={"channels": (8, 16, 32, 64)}, depths=(2, 2, 2, 2), scan="zigzag", directions=4
)
SS2D = {
    "in_proj.weight": "in_proj.weight",
    "conv.weight": "conv2d.weight",
    "conv.bias": "conv2d.bias",
    "x_proj": "x_proj_weight",
    "dt_proj": "dt_projs_weight",
    "dt_bias": "dt_projs_bias",
    "A_log": "A_logs",
    "D": "Ds",
    "norm.weight": "out_norm.weight",
    "norm.bias": "out_norm.bias",
    "out_proj.weight": "out_proj.weight",
}
FUSION = {"down_8": "1", "down_16": "2", "lateral_8": "21", "lateral_16": "31", "fuse": "f"}


def publish(model: mambaad.MambaAD, dialect: int) -> dict[str, torch.Tensor]:
    """A state dict under the published names, written out from the table of names and not by inverting the library."""
    published = {}
    for key, value in model.state_dict().items():
        part = key.split(".")
        if part[0] == "encoder":
            name = ".".join(["net_t", *part[2:]])
        elif part[:2] == ["half_fpn", "bottlenecks"]:
            layer = f"downsample.{part[4]}" if part[3] == "shortcut" else f"{('conv', 'bn')[int(part[4])]}{part[3][-1]}"
            name = f"mff_oce.bn_layer.{part[2]}.{layer}.{part[5]}"
        elif part[0] == "half_fpn":
            name = f"mff_oce.{('conv', 'bn')[int(part[2])]}{FUSION[part[1]]}.{part[3]}"
        elif part[1] == "expands":
            name = ".".join(["net_s.layers_up", str(int(part[2]) + 1), "upsample", *part[3:]])
        else:
            lss = f"net_s.layers_up.{part[2]}.blocks.{part[3]}"
            if part[4] == "merge":
                name = f"{lss}.finalconv11.{part[5]}"
            elif part[4] == "local":
                kernel = (5, 7)[int(part[5])]
                called = 3 if kernel == 7 and dialect == 2 else kernel
                layer = {"0": f"conv1b{called}", "1": f"conv{kernel}{kernel}", "2": f"conv1a{called}"}[part[6]]
                name = f"{lss}.{layer}.0.{part[8]}"
            elif part[6] == "norm":
                name = f"{lss}.smm_blocks.{part[5]}.ln_1.{part[7]}"
            else:
                rest = ".".join(part[7:])
                name = f"{lss}.smm_blocks.{part[5]}.self_attention.{SS2D[rest]}"
                if rest in ("A_log", "D"):
                    value = value.flatten(0, 1)
                if rest == "D":
                    assert isinstance(model.config.scan, str)
                    order = scan_order(model.config.scan, 8 * 2 ** int(part[2]))
                    table = name.removesuffix("Ds") + "scans.index_flat"
                    published[table], published[table + "_inv"] = order.view(1, 1, -1), order.argsort().view(1, 1, -1)
        published[name] = value
        if dialect == 2 and name.endswith("conv77.0.weight"):
            published[name.replace("conv77", "conv33")] = torch.zeros(value.shape[0], 1, 3, 3)
    return published
