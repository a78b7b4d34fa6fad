"""Parameters and FLOPs of a configuration, without running it.  Paper: tables 3, 4 and 6.

Counted as the published numbers are (fvcore's convention): multiply-accumulates of convolutions, linear layers and
the two einsum projections of SS2D, plus norms at 5 (LayerNorm, GroupNorm), 4 (InstanceNorm) and 2 (BatchNorm) per
element; of the other methods, both products of attention.
The scan's recurrence, activations, additions and upsampling are not counted, nor is the memory bank's search among its
entries: positions times entries times channels, which can be more than its encoder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mambaad.baselines import build_method
from mambaad.baselines.diad.blocks import Products
from mambaad.config import (
    DeSTSegConfig,
    DiADConfig,
    MambaADBankConfig,
    MemoryBankConfig,
    MethodConfig,
    ModelConfig,
    for_encoder,
)
from mambaad.device import without_memory
from mambaad.model import SS2D, MambaAD, check_side

NORM_FLOPS = {nn.LayerNorm: 5, nn.GroupNorm: 5, nn.InstanceNorm2d: 4, nn.BatchNorm2d: 2, nn.BatchNorm1d: 2}
WHOLE_ENCODER: dict[str, dict[str, Any]] = {"uniad": {"features_only": True}, "simplenet": {}}
"""Methods whose published code builds the encoder past the last feature, and counts it: arguments for timm."""
ENCODER_PASSES = {"destseg": 2}
"""Methods whose published code runs the encoder twice, on the clean image as well, and counts that."""


@dataclass(frozen=True)
class Efficiency:
    """Totals in millions of parameters and billions of FLOPs, and the same per box of the paper's figure 2."""

    params_m: float
    """As the paper counts: with `table_params_m`."""
    flops_g: float
    boxes: dict[str, dict[str, float]]
    """encoder, half_fpn, decoder, or another method's parts: {"params_m", "flops_g"}; the decoder's `einsum_flops_g` is
    part of its flops_g, and so is the `fusion_flops_g` of DeSTSeg's segmentation. A part that runs several times for an
    image has "calls"; its flops_g are of all of them."""
    table_params_m: float
    """Integer entries of the scan tables, which the published code stores as parameters; this code does not."""
    beside_params_m: float = 0.0
    """Not in `params_m`: parts that DiAD's printed count leaves out, autoencoder and feature encoder."""
    unused_params_m: float = 0.0
    """Of `params_m`, the encoder's layers that the published code builds and never runs; this code does not build them.
    """
    repeated_flops_g: float = 0.0
    """Of `flops_g`, the encoder's second pass, which the published code makes in inference too; this code does not."""


def count(config: ModelConfig | MethodConfig | None = None, side: int = 256) -> Efficiency:
    """Parameters and FLOPs of one image of `side` x `side` pixels, for MambaAD or another method.

    Raises:
        ValueError: a configuration that cannot be built, a side the scan order cannot fill.

    Example:
        >>> counted = count(ModelConfig(), side=256)
        >>> f"{counted.params_m:.1f} M, {counted.flops_g:.1f} G"
        '25.7 M, 8.3 G'
    """
    config = config or ModelConfig()
    check_side(config, side, side)
    if isinstance(config, MambaADBankConfig):
        return _count_both(config, side)
    if isinstance(config, MethodConfig):
        return _count_method(config, side)
    with without_memory():
        model = MambaAD(config, weights="random").eval()
    flops = {"encoder": _Counter(model.encoder), "half_fpn": _Counter(model.half_fpn)}
    with without_memory():
        model.half_fpn(model.encoder(torch.empty(1, 3, side, side)))
    convolutions = {name: counter.total for name, counter in flops.items()}
    macs, einsum, tables = _decoder(model, side)
    totals = {**convolutions, "decoder": macs + einsum}
    params = {name: sum(p.numel() for p in getattr(model, name).parameters()) for name in totals}
    boxes = {name: {"params_m": params[name] / 1e6, "flops_g": totals[name] / 1e9} for name in totals}
    boxes["decoder"]["einsum_flops_g"] = einsum / 1e9
    return Efficiency(
        params_m=(sum(params.values()) + tables) / 1e6,
        flops_g=sum(totals.values()) / 1e9,
        boxes=boxes,
        table_params_m=tables / 1e6,
    )


def count_method(name: str, side: int = 256) -> Efficiency:
    """`count` of a method as published: its own backbone and sizes.

    Raises:
        ValueError: unknown method.

    Example:
        >>> counted = count_method("rd4ad")
        >>> f"{counted.params_m:.1f} M, {counted.flops_g:.1f} G"
        '80.6 M, 28.4 G'
    """
    if name == "mambaad":
        return count(side=side)
    return _count_method(for_encoder(name, {}, side), side)


def _count_diad(config: DiADConfig, side: int) -> Efficiency:
    """One image: encoded, denoised in all sampling steps, decoded, compared; parameters of denoiser and guide alone."""
    with without_memory():
        model: Any = build_method(config, "random").eval()
        auto = model.autoencoder
        children = {"denoiser": model.denoiser, "guide": model.guide, "encoder": model.encoder}
        halves = {
            "autoencoder_encode": (auto.encoder, auto.quant_conv),
            "autoencoder_decode": (auto.decoder, auto.post_quant_conv),
        }
        parts = {name: (part,) for name, part in children.items()} | halves
        counters = {name: [_Counter(module) for module in modules] for name, modules in parts.items()}
        images = torch.empty(1, 3, side, side)
        latents = auto.encode(images).mean
        auto.decode(latents)
        model.noise_in(latents, torch.zeros(1), images)
        model.encoder(images)
    calls = dict.fromkeys(("denoiser", "guide"), config.sampling_steps) | {"encoder": 2}
    boxes = {
        name: {
            "params_m": sum(p.numel() for module in modules for p in module.parameters()) / 1e6,
            "flops_g": sum(counter.total for counter in counters[name]) * calls.get(name, 1) / 1e9,
            "calls": calls.get(name, 1),
        }
        for name, modules in parts.items()
    }
    printed = boxes["denoiser"]["params_m"] + boxes["guide"]["params_m"]
    return Efficiency(
        params_m=printed,
        flops_g=sum(box["flops_g"] for box in boxes.values()),
        boxes=boxes,
        table_params_m=0.0,
        beside_params_m=sum(box["params_m"] for box in boxes.values()) - printed,
    )


def _count_both(config: MambaADBankConfig, side: int) -> Efficiency:
    """MambaAD at its side and the bank at the whole one, each with an encoder."""
    encoder = {name: getattr(config, name) for name in ("backbone", "backbone_kwargs", "mean", "std")}
    network = count(config.network, min(side, config.network_side))
    bank = count(MemoryBankConfig(**encoder, entries=config.entries), side)
    return Efficiency(
        params_m=network.params_m + bank.params_m,
        flops_g=network.flops_g + bank.flops_g,
        boxes={**network.boxes, **{f"bank_{name}": box for name, box in bank.boxes.items()}},
        table_params_m=network.table_params_m,
    )


def _count_method(config: MethodConfig, side: int) -> Efficiency:
    if isinstance(config, DiADConfig):
        return _count_diad(config, side)
    with without_memory():
        model: Any = build_method(config, "random").eval()
        if isinstance(config, MemoryBankConfig):  # a bank of full size
            model.entries = torch.zeros(config.entries, len(model.mean))
        counters = {name: _Counter(child) for name, child in model.named_children()}
        fusion = _Counter(model.segmentation.head[0].fusion[0]) if isinstance(config, DeSTSegConfig) else None
        model(torch.empty(1, 3, side, side))
    boxes = {
        name: {"params_m": sum(p.numel() for p in child.parameters()) / 1e6, "flops_g": counters[name].total / 1e9}
        for name, child in model.named_children()
    }
    if fusion is not None:
        boxes["segmentation"]["fusion_flops_g"] = fusion.total / 1e9
    unused = 0.0
    if config.method in WHOLE_ENCODER:
        import timm

        with without_memory():
            whole = timm.create_model(config.backbone, **WHOLE_ENCODER[config.method], **config.backbone_kwargs)
        unused = sum(p.numel() for p in whole.parameters()) / 1e6 - boxes["encoder"]["params_m"]
    repeated = (ENCODER_PASSES.get(config.method, 1) - 1) * boxes["encoder"]["flops_g"]
    return Efficiency(
        params_m=sum(box["params_m"] for box in boxes.values()) + unused,
        flops_g=sum(box["flops_g"] for box in boxes.values()) + repeated,
        boxes=boxes,
        table_params_m=0.0,
        unused_params_m=unused,
        repeated_flops_g=repeated,
    )


class _Counter:
    """Counts what a module's convolutions, products and norms do in the next forward pass."""

    def __init__(self, module: nn.Module) -> None:
        self.total = 0
        for child in module.modules():
            child.register_forward_hook(self._add)

    def _add(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, Products):
            queries, keys = inputs[0], inputs[1]
            self.total += 2 * queries.numel() * keys.shape[-2]
        elif isinstance(module, nn.MultiheadAttention):
            self.total += _attention_flops(inputs[0], inputs[1], module.embed_dim)
        elif isinstance(module, nn.ConvTranspose2d):
            self.total += inputs[0].numel() * module.out_channels // module.groups * math.prod(module.kernel_size)
        elif isinstance(output, torch.Tensor):
            self.total += _flops(module, output.numel())


def _attention_flops(query: torch.Tensor, key: torch.Tensor, width: int) -> int:
    """Four projections and both matrix products; (tokens, batch, width)."""
    queries, keys, batch = len(query), len(key), query.shape[1]
    return batch * width * (2 * queries * width + 2 * keys * width + 2 * queries * keys)


def _flops(module: nn.Module, outputs: int) -> int:
    """FLOPs of one layer for a number of output elements."""
    if isinstance(module, nn.Conv2d):
        return outputs * module.in_channels // module.groups * math.prod(module.kernel_size)
    if isinstance(module, nn.Linear):
        return outputs * module.in_features
    return next((n * outputs for kind, n in NORM_FLOPS.items() if isinstance(module, kind)), 0)


def _decoder(model: MambaAD, side: int) -> tuple[int, int, int]:
    """(layers, einsum, entries of the scan tables) of the decoder; every layer of a stage keeps the stage's size."""
    layers = einsum = tables = 0
    for i, stage in enumerate(model.decoder.stages):
        tokens = (side * 2**i // 32) ** 2
        parts = [module_flops(stage, tokens)]
        if i:
            expand: Any = model.decoder.expands[i - 1]
            # its Linear works before upsampling
            parts += [module_flops(expand.expand, tokens // 4), module_flops(expand.norm, tokens)]
        layers += sum(part[0] for part in parts)
        einsum += sum(part[1] for part in parts)
        tables += 2 * tokens * sum(isinstance(module, SS2D) for module in stage.modules())  # order and its inverse
    return layers, einsum, tables


def module_flops(module: nn.Module, tokens: int) -> tuple[int, int]:
    """FLOPs of a part of the decoder that keeps its number of tokens: (layers, the einsums of SS2D)."""
    layers = einsum = 0
    for child in module.modules():
        if isinstance(child, SS2D):
            k, inner, rank = child.dt_proj.shape
            einsum += tokens * k * inner * (sum(child.sizes) + rank)
        elif isinstance(child, nn.Linear):
            layers += _flops(child, tokens * child.out_features)
        elif isinstance(child, nn.Conv2d):
            layers += _flops(child, tokens * child.out_channels)
        elif isinstance(child, nn.LayerNorm):
            layers += _flops(child, tokens * math.prod(child.normalized_shape))
        elif isinstance(child, nn.InstanceNorm2d):
            layers += _flops(child, tokens * child.num_features)
    return layers, einsum
