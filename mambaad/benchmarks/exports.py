"""Exported graphs of the network beside PyTorch: time per image, size, difference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mambaad.config import MambaADBankConfig, ModelConfig
from mambaad.config.presets import preset
from mambaad.inference.export import export
from mambaad.model import MambaAD


def exports_benchmark(
    repeats: int = 25,
    device: str = "cpu",
    side: int = 128,
    formats: Sequence[str] = ("onnx", "onnx_native", "onnx_unrolled", "torch"),
    config: ModelConfig | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Export a network in every format and time one image, from bytes to map and score, beside PyTorch's own run.

    Random weights, since times do not depend on them.  Calls of a graph and of PyTorch alternate, so each format has a
    PyTorch of its own beside it.

    Args:
        config: the network; None: that of the preset `laptop`.

    Returns: rows (format, times, times as long as PyTorch, file size, largest relative difference), facts.

    Raises:
        ValueError: a device other than the CPU.
        ExportError: a graph that cannot be made here, or that differs from PyTorch.
    """
    if torch.device(device).type != "cpu":
        raise ValueError(f"exported graphs are timed on the CPU, got {device}")
    if config is None:
        laptop = preset("laptop").run.model
        assert isinstance(laptop, MambaADBankConfig)
        config = laptop.network
    torch.manual_seed(0)
    model = MambaAD(config, weights="random").eval()
    images = torch.randint(256, (2, side, side, 3), dtype=torch.uint8)
    rows = []
    for format in formats:
        with TemporaryDirectory() as folder:
            record = export(model, Path(folder) / "graph", images, format=format, repeats=repeats)
        times = record["milliseconds_per_image"]
        rows.append(
            {
                "format": format,
                "side": side,
                "median_ms": times["exported"],
                "pytorch_median_ms": times["pytorch"],
                "times_pytorch": times["exported"] / times["pytorch"],
                "megabytes": record["bytes"] / 1e6,
                "max_relative_difference": max(record["compared"]["max_relative_difference"].values()),
            }
        )
    packages = record["environment"]["export_packages"]
    return rows, {"repeats": repeats, "encoder": config.backbone, "depths": config.depths, "export_packages": packages}
