"""A drawing of the network and what stands behind each of its boxes, for the book's network map.

Shapes, parameters and FLOPs come from the library (`mambaad.efficiency`), the drawing knows only names.
"""

from __future__ import annotations

import html
from typing import Any

from torch import nn

from mambaad.config import ModelConfig
from mambaad.device import without_memory
from mambaad.efficiency import count, module_flops
from mambaad.model import MambaAD
from mambaad.model.decoder import decoder_widths

STRIDES = (32, 16, 8, 4)

# name, label, second line, x, y, width, height in the drawing of 380 x 700
_BOXES: tuple[tuple[str, str, str, int, int, int, int], ...] = (
    ("encoder", "encoder", "frozen", 10, 22, 92, 40),
    ("encoder4", "stride 4", "", 10, 82, 92, 34),
    ("encoder8", "stride 8", "", 10, 142, 92, 34),
    ("encoder16", "stride 16", "", 10, 202, 92, 34),
    ("fusion", "Half-FPN", "to stride 32", 10, 266, 92, 44),
    ("stage32", "stage, stride 32", "not compared", 236, 266, 134, 44),
    ("stage16", "stage, stride 16", "", 236, 202, 134, 34),
    ("stage8", "stage, stride 8", "", 236, 142, 134, 34),
    ("stage4", "stage, stride 4", "", 236, 82, 134, 34),
    ("distance", "1 − cos", "", 134, 142, 70, 34),
    ("map", "map, score", "", 124, 22, 90, 40),
    ("hss", "HSS blocks", "", 30, 370, 120, 34),
    ("local5", "branch 5 × 5", "", 158, 370, 98, 34),
    ("local7", "branch 7 × 7", "", 264, 370, 98, 34),
    ("merge", "concatenate, conv 1 × 1 to w, + input", "", 30, 424, 332, 32),
    ("norm", "LayerNorm", "", 30, 512, 88, 32),
    ("in_proj", "Linear, w to 4w", "", 140, 512, 110, 32),
    ("conv", "conv 3 × 3, SiLU", "", 30, 560, 120, 32),
    ("scan", "scan, K routes", "", 30, 606, 120, 34),
    ("gate", "gate", "", 214, 606, 70, 34),
    ("out_proj", "Linear, 2w to w", "", 250, 656, 120, 32),
)
_ARROWS = (
    "M56 62V80",
    "M56 116V140",
    "M56 176V200",
    "M56 236V264",
    "M102 288H234",
    "M303 266V238",
    "M303 202V178",
    "M303 142V118",
    "M102 99H120L134 146",
    "M102 159H132",
    "M102 219H120L134 172",
    "M236 99H218L204 146",
    "M236 159H206",
    "M236 219H218L204 172",
    "M169 142V64",
    "M90 404V422",
    "M207 404V422",
    "M313 404V422",
    "M118 528H138",
    "M150 544V552H90V558",
    "M240 544V604",
    "M90 592V604",
    "M150 623H212",
    "M284 623H310V654",
)


def network_boxes(config: ModelConfig | None = None, side: int = 256) -> dict[str, dict[str, Any]]:
    """What each box of the drawing is: title, equation, shapes, parameters (M), FLOPs (10⁹) and source file.

    LSS module and HSS block are those of the finest stage.
    """
    config = config or ModelConfig()
    with without_memory():
        model = MambaAD(config, weights="random").eval()
    counted = count(config, side)
    channels = model.encoder.channels
    widths = decoder_widths(channels)
    kernels = config.local_kernels
    at = {stride: side // stride for stride in STRIDES}

    def box(title: str, equation: str, shape: str, file: str, params: float, flops: float) -> dict[str, Any]:
        entry = {"title": title, "equation": equation, "shape": shape, "file": file}
        return {**entry, "params_m": params, "flops_g": flops}

    def part(title: str, equation: str, shape: str, file: str, tokens: int, *modules: nn.Module) -> dict[str, Any]:
        params = sum(p.numel() for module in modules for p in module.parameters())
        return box(title, equation, shape, file, params / 1e6, sum(sum(module_flops(m, tokens)) for m in modules) / 1e9)

    def size(channels: int, stride: int) -> str:
        return f"{channels} × {at[stride]} × {at[stride]}"

    image = f"3 × {side} × {side}"
    whole = counted.boxes
    found = {
        "encoder": box(
            f"Encoder ({config.backbone})",
            "x₁, x₂, x₃ = E(image), never trained",
            f"{image} → {', '.join(size(c, s) for c, s in zip(channels, (4, 8, 16), strict=True))}",
            "mambaad/model/encoder.py",
            whole["encoder"]["params_m"],
            whole["encoder"]["flops_g"],
        ),
        "fusion": box(
            "Half-FPN",
            "y₁ = ReLU(conv(x₁)); y₂ = ReLU(conv(x₂)) + y₁; y₃ = ReLU(conv(y₂)) + ReLU(conv(x₃)); "
            "three bottlenecks of ReLU(conv(y₃))",
            f"three scales → {size(widths[0], 32)}",
            "mambaad/model/half_fpn.py",
            whole["half_fpn"]["params_m"],
            whole["half_fpn"]["flops_g"],
        ),
        "distance": box("Distance", "dᵢ = 1 − cos(encoderᵢ, decoderᵢ), at every token", "three scales", "", 0.0, 0.0),
        "map": box(
            "Anomaly map and score",
            "map = Gauss₄(Σᵢ enlarge(dᵢ)) / 9; score = max(map)",
            f"three scales → {side} × {side} → one number",
            "",
            0.0,
            0.0,
        ),
    }
    for name in ("distance", "map"):
        found[name]["file"] = "mambaad/model/anomaly_map.py"
    for channel, stride in zip(channels, (4, 8, 16), strict=True):
        found[f"encoder{stride}"] = box(
            f"Encoder features, stride {stride}", "", size(channel, stride), "mambaad/model/encoder.py", 0.0, 0.0
        )
    for i, (stride, width, depth) in enumerate(zip(STRIDES, widths, config.depths, strict=True)):
        tokens, stage = at[stride] ** 2, model.decoder.stages[i]
        sizes = config.lss_sizes(depth)
        entry = part(
            f"Decoder stage, stride {stride}",
            ("patch expand, then " if i else "")
            + f"{_count(len(sizes), 'LSS module')} of {_count(sizes[0], 'HSS block')}",
            f"{at[stride]} × {at[stride]} × {width}",
            "mambaad/model/decoder.py",
            tokens,
            stage,
        )
        if i:  # the Linear of the patch expansion works before upsampling
            expand: Any = model.decoder.expands[i - 1]
            before = part("", "", "", "", tokens // 4, expand.expand), part("", "", "", "", tokens, expand.norm)
            for key in ("params_m", "flops_g"):
                entry[key] += sum(extra[key] for extra in before)
        found[f"stage{stride}"] = entry
    stages: Any = model.decoder.stages
    lss = stages[-1][0]
    width, tokens, token_map = widths[-1], at[4] ** 2, f"{at[4]} × {at[4]}"
    hss, ss2d, kept = lss.hss[0], lss.hss[0].ss2d, f"{token_map} × {width}"
    model_file = "mambaad/model/"
    found["hss"] = part(
        f"HSS blocks (here {len(lss.hss)})", "x ← x + SS2D(LayerNorm(x))", kept, model_file + "hss.py", tokens, *lss.hss
    )
    for name, kernel, branch in zip(("local5", "local7"), kernels, lss.local, strict=True):
        found[name] = part(
            f"Local branch {kernel} × {kernel}",
            f"1 × 1, depthwise {kernel} × {kernel}, 1 × 1; each with InstanceNorm and SiLU",
            kept,
            model_file + "lss.py",
            tokens,
            branch,
        )
    found["merge"] = part(
        "Merge",
        "x + conv₁ₓ₁(concat(global, 5 × 5, 7 × 7))",
        f"{token_map} × {3 * width} → {kept}",
        model_file + "lss.py",
        tokens,
        lss.merge,
    )
    inner = f"{token_map} × {2 * width}"
    for name, title, equation, shape, module in (
        ("norm", "LayerNorm", "over the channels of each token", kept, hss.norm),
        ("in_proj", "Linear", "u, z = halves of W·token", f"{kept} → {inner} (u), {inner} (z)", ss2d.in_proj),
        ("conv", "Depthwise convolution", "u ← SiLU(conv₃ₓ₃(u))", inner, ss2d.conv),
        ("gate", "Gate", "y = LN(Σₖ yₖ) · SiLU(z)", inner, ss2d.norm),
        ("out_proj", "Linear", "token = W·y, added to the block's input", f"{inner} → {kept}", ss2d.out_proj),
    ):
        found[name] = part(title, equation, shape, model_file + "hss.py", tokens, module)
    own = sum(p.numel() for p in (ss2d.x_proj, ss2d.dt_proj, ss2d.dt_bias, ss2d.A_log, ss2d.D))
    found["scan"] = box(
        f"Scan along {config.directions} routes ({config.scan_text})",
        "hₜ = exp(δₜA) hₜ₋₁ + δₜBₜuₜ; yₜ = ⟨Cₜ, hₜ⟩ + D uₜ; δ = softplus(dt + bias)",
        f"{config.directions} sequences of {tokens} tokens × {2 * width}",
        "mambaad/ops/routed_scan",
        own / 1e6,
        module_flops(ss2d, tokens)[1] / 1e9,
    )
    return found


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number > 1)}"


def network_svg() -> str:
    """The drawing: the whole network, the LSS module, the HSS block.  Boxes carry their name in `data-box`."""
    parts = [
        '<svg class="network-map" viewBox="0 0 380 700" role="group" aria-label="Drawing of the network: encoder, '
        'Half-FPN, decoder stages at strides 32 to 4, LSS module and HSS block">'
        '<defs><marker id="map-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="tip" d="M0 0 8 4 0 8z"/></marker></defs>'
    ]
    for y, title in ((14, "The network"), (350, "A stage is a chain of LSS modules (width w)"), (496, "HSS block")):
        parts.append(f'<text class="heading" x="10" y="{y}">{title}</text>')
    parts.append('<rect class="frame" x="10" y="358" width="360" height="108" rx="8"/>')
    parts.append('<rect class="frame" x="10" y="502" width="366" height="194" rx="8"/>')
    parts += [f'<path class="arrow" d="{path}" marker-end="url(#map-tip)"/>' for path in _ARROWS]
    parts.append('<text x="248" y="580">z</text><text x="70" y="556">u</text>')
    for name, label, second, x, y, width, height in _BOXES:
        kind = "frozen" if name.startswith("encoder") else "box"
        middle = y + height / 2 + (4 if not second else -3)
        parts.append(
            f'<g data-box="{name}"><rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'
            f'<text x="{x + width / 2}" y="{middle}" text-anchor="middle">{html.escape(label)}</text>'
        )
        if second:
            parts.append(
                f'<text class="muted" x="{x + width / 2}" y="{middle + 14}" text-anchor="middle">{second}</text>'
            )
        parts.append("</g>")
    return "".join(parts) + "</svg>"
